"""The command `backsplit`: verbs, thin around the package."""

from __future__ import annotations

from typing import Annotated

import typer

from backsplit import __version__
from backsplit.cli import demo, questions, run, stages, start, study, train, view, weights

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(start.app)
app.add_typer(run.app)
app.add_typer(stages.app)
app.add_typer(questions.app)
app.add_typer(view.app)
app.add_typer(demo.app, name="demo")
app.add_typer(weights.app, name="weights")
app.add_typer(train.app, name="train")
app.add_typer(study.app, name="study")


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
