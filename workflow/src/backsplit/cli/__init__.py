"""The command `backsplit`: verbs, thin around the package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from backsplit import __version__

VERBS = {
    "init": "start",
    "run": "run",
    **dict.fromkeys(("check", "cases", "segment", "compose", "measure"), "stages"),
    **dict.fromkeys(("judge", "export", "pages", "report", "manifest"), "stages"),
    **dict.fromkeys(("labels", "status", "retry", "clean"), "questions"),
    **dict.fromkeys(("explain", "verify", "licences", "schema"), "questions"),
    "view": "view",
}
"""Verb to the module that has it, in the order of `--help`."""

GROUPS = ("demo", "weights", "train", "study")
"""Modules whose verbs come after the module's own name."""


class Verbs(Mapping[str, Any]):
    """Every verb: a job, of which there are many, loads the module of its own alone."""

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 (a command of Typer's)
        module = name if name in GROUPS else VERBS[name]
        group = get_group(import_module(f"backsplit.cli.{module}").app)
        if name not in GROUPS:
            return group.commands[name]
        group.name = name  # the help asks for it
        return group

    def __iter__(self) -> Iterator[str]:
        return iter((*VERBS, *GROUPS))

    def __len__(self) -> int:
        return len(VERBS) + len(GROUPS)


class Backsplit(TyperGroup):
    """The command itself."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401
        super().__init__(**settings)
        self.commands: Mapping[str, Any] = Verbs()  # type: ignore[assignment]


app = typer.Typer(
    cls=Backsplit,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"backsplit {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Split the background of lesion data sets into anatomy."""
