"""Who is at work on a results folder: two at once never write the same files.

A claim is a lock of the operating system on a file in `results/.locks`. It ends with its process,
however that ends, so that none is ever left behind; on a shared disk it holds between machines,
where the file system keeps locks (NFS, GPFS, Lustre mounted with `flock`).
"""

from __future__ import annotations

import fcntl
import getpass
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backsplit.errors import Code, RunError
from backsplit.store.disk import NO_LOCKS, disk_errors
from backsplit.store.results import Results

log = logging.getLogger(__name__)

RUN = "run"
"""What a whole run claims; its jobs claim what they write."""


@dataclass(frozen=True)
class RunClaim:
    """Whether a run may write to a results folder.

    Attributes
    ----------
    problem : why not; None where it may
    certain : nobody else is at work, as far as locks tell
    """

    problem: RunError | None
    certain: bool


def claim_run(results: Results) -> RunClaim:
    """Claim a results folder until this process ends; does not wait."""
    path = results.lock(RUN)
    try:
        with disk_errors(results.root):
            handle = _open(path)
    except RunError as error:
        return RunClaim(error, certain=False)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = _owner(path)
        os.close(handle)
        problem = RunError(
            Code.RESULTS_BUSY,
            f"{results.root} is being worked on by {owner}",
            "wait until it ends, or end it",
        )
        return RunClaim(problem, certain=False)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log.warning("%s", _without_locks(results.root))
        return RunClaim(None, certain=False)
    try:
        with disk_errors(results.root):
            _sign(handle)
    except RunError as error:
        return RunClaim(error, certain=True)
    return RunClaim(None, certain=True)  # the handle stays open: it is the claim


@contextmanager
def claimed(results: Results, what: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the claim of one job's files; waits while another process has it, and says so.

    Parameters
    ----------
    results : folder of all outputs
    what : whose files, as `segment organs 00001`
    say : prints a line where people read it
    """
    path = results.lock(what.replace(" ", "-"))
    with disk_errors(results.root):
        handle = _open(path)
    try:
        _wait_for(handle, path, what, say)
        with disk_errors(results.root):
            _sign(handle)
        yield
    finally:
        os.close(handle)


def _wait_for(handle: int, path: Path, what: str, say: Callable[[str], None]) -> None:
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"[backsplit] {what}: {_owner(path)} works on the same; waiting until it ends")
            fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log.warning("%s", _without_locks(path.parent.parent))


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _sign(handle: int) -> None:
    """Write down who holds a claim, for messages only."""
    owner = {
        "user": _user(),
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(owner).encode(), 0)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        return f"user {os.getuid()}"


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text("utf-8"))
        return "process {process} of {user} on {host} (since {since})".format_map(owner)
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _without_locks(results: Path) -> str:
    return (
        f"the file system of {results} keeps no locks: a second run on the same folder is not "
        "noticed; take care that there is none"
    )
