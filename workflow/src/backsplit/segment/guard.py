"""Ends a program whose job was killed, and removes its working folder.

The program's own job ends it in any other way that it may end; of SIGKILL a process learns nothing.
So this runs beside each program as a process of its own, as a script that needs the standard
library alone:

    python -I -S guard.py FOLDER [COMMAND ARGUMENT ...]

It is told the program's process group on standard input, and `done` when all is over. Where
standard input ends without that, the job is gone: the group is killed, COMMAND is run (it removes
a container, which is in no group of ours), and FOLDER goes.
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
"""A container engine has this long to end a container."""


def main(told: Iterable[str], folder: str, stop: Sequence[str]) -> None:
    """Read what the job says until it says no more.

    Parameters
    ----------
    told : lines: the number of the process group, then `DONE`
    folder : working folder of the program
    stop : command that ends what is in no process group; empty for none
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
