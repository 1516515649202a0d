"""Where output goes: libraries to a log, what people read to the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from backsplit.store.disk import disk_errors


@contextmanager
def output_to(log: Path | None) -> Iterator[TextIO]:
    """Send all that libraries print to a log file; gives the terminal for what people read.

    Works on file descriptors, so that C++ code and child processes are caught too.
    """
    if log is None:
        yield sys.stderr
        return
    with disk_errors(log.parent):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.open("ab").close()
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with log.open("ab") as stream, os.fdopen(os.dup(saved[1]), "w") as terminal:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        try:
            yield terminal
        finally:
            with suppress(OSError):  # of a full disk: what failed for it is told on the terminal
                sys.stdout.flush()
                sys.stderr.flush()
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            for descriptor in saved:
                os.close(descriptor)
