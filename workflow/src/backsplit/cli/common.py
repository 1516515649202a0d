"""What all verbs share: options, and errors as one clear message."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from backsplit.errors import BacksplitError
from backsplit.work.progress import RUN_VARIABLE

FIRST_CONFIGS = (Path("mine/config.yaml"), Path("config/config.yaml"))
"""Where a configuration is looked for where none was used before: `init` writes the first."""

LAST_CONFIG = Path(".backsplit/last_config")
"""Names the configuration that was last given, in the folder where that was."""

ACTION_NEEDED, CRASHED, CASES_LOST = 1, 70, 3
"""Exit statuses: an error that the message explains; a fault of ours; cases refused or failed."""


def chosen_config(context: typer.Context, given: Path) -> Path:
    """The configuration that was given, else the last one, else the first that is there."""
    if context.resilient_parsing:  # a shell asks what there is
        return given
    if given != DEFAULT_CONFIG:
        if RUN_VARIABLE not in os.environ and given.exists():
            with suppress(OSError):  # it is a convenience
                LAST_CONFIG.parent.mkdir(exist_ok=True)
                LAST_CONFIG.write_text(f"{given.absolute()}\n", "utf-8")
        return given
    found = next((path for path in known_configs() if path.exists()), FIRST_CONFIGS[-1])
    if found.is_absolute() and found.is_relative_to(Path.cwd()):
        found = found.relative_to(Path.cwd())
    typer.echo(f"[backsplit] configuration: {found}", err=True)
    return found


def known_configs() -> Iterator[Path]:
    """Configurations that may be meant where none is given, the likeliest first."""
    with suppress(OSError, UnicodeDecodeError):
        yield Path(LAST_CONFIG.read_text("utf-8").strip())
    yield from FIRST_CONFIGS


ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        help="Configuration (YAML).",
        show_default="last one used in this folder, else mine/config.yaml, else config/config.yaml",
        callback=chosen_config,
    ),
]
BatchOption = Annotated[
    str | None, typer.Option("--batch", help="Only this batch of cases. Default: all of them.")
]
LogOption = Annotated[Path | None, typer.Option("--log", help="File for the output of libraries.")]
DEFAULT_CONFIG = Path()


@contextmanager
def errors(log: Path | None) -> Iterator[Callable[[str], None]]:
    """Turn our errors into one clear message and exit status 1; what is none of ours into 70.

    Where there is a log it has the error too. A job of a run prints there alone: the run reads it.
    """
    from backsplit.cli.output import output_to

    alone = log is not None and RUN_VARIABLE in os.environ
    try:
        with output_to(log) as terminal:
            logging.basicConfig(
                level=logging.INFO if log else logging.WARNING,
                stream=sys.stderr,
                format="%(levelname)s %(name)s: %(message)s",
            )
            try:
                yield partial(print, file=sys.stderr if alone else terminal, flush=True)
            except (typer.Exit, typer.Abort):
                raise
            except Exception as error:
                if log is not None:
                    _tell(error)
                raise
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if not alone:
            _tell(error)
        raise typer.Exit(ACTION_NEEDED if _explained(error) else CRASHED) from None


def _explained(error: Exception) -> BacksplitError | None:
    """One of our errors; None where it is a fault of ours."""
    from backsplit.store.disk import disk_error

    if isinstance(error, OSError):
        return disk_error(error, error.filename or "the results")
    return error if isinstance(error, BacksplitError) else None


def _tell(error: Exception) -> None:
    explained = _explained(error)
    if explained is None:
        traceback.print_exception(error)
        print("this is a bug in backsplit; please report it", file=sys.stderr)  # noqa: T201
    else:
        typer.echo(f"backsplit: {explained}", err=True)
