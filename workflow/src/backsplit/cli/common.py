"""What all verbs share: options, and errors as one clear message."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from backsplit.errors import BacksplitError

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="Configuration (YAML).", show_default=True)
]
BatchOption = Annotated[
    str | None, typer.Option("--batch", help="Only this batch of cases. Default: all of them.")
]
LogOption = Annotated[Path | None, typer.Option("--log", help="File for all that libraries print.")]
DEFAULT_CONFIG = Path("config/config.yaml")


@contextmanager
def errors(log: Path | None) -> Iterator[Callable[[str], None]]:
    """Turn our errors into one clear message and exit status 1."""
    from backsplit.cli.output import output_to
    from backsplit.store.disk import disk_error

    try:
        with output_to(log) as terminal:
            logging.basicConfig(
                level=logging.INFO if log else logging.WARNING,
                stream=sys.stderr,
                format="%(levelname)s %(name)s: %(message)s",
            )
            try:
                yield partial(print, file=terminal, flush=True)
            except BacksplitError as error:
                if log is not None:  # the terminal is told below
                    logging.error("%s", error)
                raise
    except OSError as error:
        told = disk_error(error, error.filename or "the results")
        if told is None:
            raise
        typer.echo(f"backsplit: {told}", err=True)
        raise typer.Exit(1) from None
    except BacksplitError as error:
        typer.echo(f"backsplit: {error}", err=True)
        raise typer.Exit(1) from None
