"""Ends a program whose job was killed, and removes its working folder.

A job ends its program itself however it ends, except by SIGKILL, which a process cannot catch. So
this script, which needs only the standard library, runs beside each program as its own process:

    python -I -S guard.py FOLDER [COMMAND ARGUMENT ...]

Standard input gives it the program's process group, and `done` when the program has ended. If
standard input closes without `done`, the job is gone: the script kills the group, runs COMMAND
(which removes a container, as that is outside the group), and removes FOLDER.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

DONE = "done"
STOP_S = 120.0
"""How long a container engine may take to remove a container, s."""


def main(told: Iterable[str], folder: str, stop: Sequence[str]) -> None:
    """Read from the job until it closes the stream, then clean up unless it said `DONE`.

    Parameters
    ----------
    told : lines: the process group's id, then `DONE`
    folder : working folder of the program
    stop : command that ends what is outside the process group; empty for none
    """
    lines = [line.strip() for line in told]
    if DONE in lines:
        return
    for line in lines:
        with suppress(OSError):
            os.killpg(int(line), signal.SIGKILL)
    call(stop)
    remove(Path(folder))


def call(stop: Sequence[str]) -> None:
    """Run the command that ends what is in no process group, if there is one."""
    if stop:
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(stop, capture_output=True, timeout=STOP_S, check=False)  # noqa: S603


def remove(folder: Path) -> list[str]:
    """Remove a folder, read-only parts too; nothing that a link in it leads to is touched.

    Returns
    -------
    left
        What could not be removed, and why.
    """
    with suppress(OSError):
        folder.chmod(0o700)
    for place, folders, _ in os.walk(folder):  # which lists a folder when this is done
        for path in (Path(place, name) for name in folders):
            if not path.is_symlink():
                with suppress(OSError):
                    path.chmod(0o700)
    left: list[str] = []
    shutil.rmtree(
        folder, onerror=lambda _, path, why: left.append(f"{path} cannot be removed ({why[1]})")
    )
    return left


if __name__ == "__main__":
    main(sys.stdin, sys.argv[1], sys.argv[2:])
