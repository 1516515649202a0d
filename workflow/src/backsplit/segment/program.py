"""Run a program: no shell, in a folder of its own, for a limited time, and all of it ended."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from backsplit.config.command import IMAGES, OUTPUTS
from backsplit.segment import guard

log = logging.getLogger(__name__)

GRACE_S = 5.0
"""A program that is told to end has this long to do so."""

MOST_SAID = 1 << 16
"""Bytes that are read of an answer."""

LONGEST_LINE = 1 << 14
"""Bytes of a line that are read at once: a program may write without ever ending a line."""


@contextmanager
def working_folder() -> Iterator[Path]:
    """A folder with `images` and `outputs`, which is removed with all that is in it."""
    folder = Path(tempfile.mkdtemp(prefix="backsplit-")).resolve()
    try:
        for name in (IMAGES, OUTPUTS):
            (folder / name).mkdir()
        yield folder
    finally:
        for left in guard.remove(folder):
            log.warning("%s", left)


def cut_links(folder: Path) -> None:
    """Remove links that lead out of a working folder: no reader follows them to other files.

    A program in a container sees nothing of the machine, and a link is not to show it to us.
    """
    for place, folders, names in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *names)):
            real = Path(os.path.realpath(path))
            if path.is_symlink() and not real.is_relative_to(folder):
                with suppress(OSError):
                    path.unlink()


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Attributes
    ----------
    status : exit status; below 0 the signal that ended it; None where it took too long
    last : the last line that it wrote
    """

    status: int | None
    last: str

    @property
    def is_well(self) -> bool:
        """Whether it says that all went well."""
        return self.status == 0


def run_program(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    seconds: float,
    name: str,
    stop: Sequence[str] = (),
) -> Ended:
    """Run a program to its end, or until its time is over.

    It leads a process group of its own, which is ended with it: what it started does not stay. If
    this process is killed, a guard beside it ends the program and removes the folder.

    Parameters
    ----------
    arguments : the program, as a path, and its arguments; no shell reads them
    folder : that it works in
    environment : its variables
    seconds : that it may take
    name : of the segmenter, for the log, where all that it writes goes
    stop : command that ends what does not belong to its process group (a container)

    Raises
    ------
    OSError
        It cannot be started.
    """
    with _ended_with_us(), _guarded(folder, stop) as guarded:
        process = _start(arguments, folder, environment, subprocess.PIPE, subprocess.STDOUT)
        lines = _Lines(process, name)
        try:
            guarded(process.pid)
            lines.begin()
            status = _wait(process, seconds, stop)
        finally:
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()
            lines.finish()
    return Ended(status, lines.last)


def ask_program(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    seconds: float,
    stop: Sequence[str] = (),
) -> tuple[int | None, str]:
    """Run a program for what it prints; it ends as in `run_program`, with all that it started.

    It prints into files, which are read when it has ended: a child that keeps its output open
    delays nothing.

    Returns
    -------
    status, said
        Exit status, or None if it took too long; what it wrote to standard output, or else to
        standard error.

    Raises
    ------
    OSError
        It cannot be started.
    """
    with (
        (folder / "stdout").open("w+b") as out,
        (folder / "stderr").open("w+b") as err,
        _ended_with_us(),
        _guarded(folder, stop) as guarded,
    ):
        process = _start(arguments, folder, environment, out, err)
        try:
            guarded(process.pid)
            status = _wait(process, seconds, stop)
        finally:
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read(MOST_SAID).decode("utf-8", "replace").strip())
    return status, said[0] or said[1]


def _start(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    stdout: IO[bytes] | int,
    stderr: IO[bytes] | int,
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 (a list, no shell)
        list(arguments),
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        process_group=0,
    )


def _wait(process: subprocess.Popen[bytes], seconds: float, stop: Sequence[str]) -> int | None:
    """Exit status of a program; None where its time is over, and it was told to end."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        guard.call(stop)
        _signal_group(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        return None
    except BaseException:
        guard.call(stop)
        raise


class _Lines:
    """Passes on what a program writes to the log, and keeps the last line."""

    def __init__(self, process: subprocess.Popen[bytes], name: str) -> None:
        self.process = process
        self.name = name
        self.last = ""
        self.thread = threading.Thread(target=self._read, daemon=True)

    def begin(self) -> None:
        """Read from now on."""
        self.thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with suppress(ValueError, OSError):  # closed
            while raw := self.process.stdout.readline(LONGEST_LINE):
                text = raw.decode("utf-8", "replace").rstrip()
                shown = text.rpartition("\r")[2]  # a progress bar as it was left
                shown = "".join(c if c.isprintable() or c == "\t" else "?" for c in shown)
                if shown.strip():
                    self.last = shown.strip()
                    log.info("%s: %s", self.name, shown)

    def finish(self) -> None:
        """Take in what is left; somebody who left the group may hold the pipe open."""
        if self.thread.ident is not None:  # it has begun
            self.thread.join(GRACE_S)


def _signal_group(number: int, what: signal.Signals) -> None:
    """Send a signal to the group that a process leads or led, if any of it is there."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(number, what)


@contextmanager
def _guarded(folder: Path, stop: Sequence[str]) -> Iterator[Callable[[int], None]]:
    """Have a process wait beside this one, which ends the program where this one is killed.

    Yields
    ------
    guarded
        Tells it the process group that the program leads.
    """
    beside = subprocess.Popen(  # noqa: S603 (our own script)
        [sys.executable, "-I", "-S", str(Path(guard.__file__)), str(folder), *stop],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what is sent to our group does not end it
        text=True,
    )

    def tell(what: object) -> None:
        assert beside.stdin is not None
        with suppress(OSError):
            print(what, file=beside.stdin, flush=True)

    try:
        yield tell
    finally:
        tell(guard.DONE)
        beside.communicate()


@contextmanager
def _ended_with_us() -> Iterator[None]:
    """While a program runs, what would end this process interrupts it: the program ends first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, interrupt)}
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not under nohup
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
