"""Who is at work on a results folder: two at once never write the same files.

A claim is a lock of the operating system on a file in `results/.locks`. It ends with its process,
however that ends, so that none is ever left behind; on a shared disk it holds between machines,
where the file system keeps locks (NFS, GPFS, Lustre mounted with `flock`).
"""

from __future__ import annotations

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

from filelock import FileLock, Timeout

from backsplit.errors import Code, RunError
from backsplit.store.disk import NO_LOCKS, disk_errors
from backsplit.store.results import Results

log = logging.getLogger(__name__)

RUN = "run"
"""What a whole run claims; its jobs claim what they write."""

POLL_S = 1.0
"""A job that waits looks as often; each look opens a file on what may be a network disk."""

_run_claims: dict[Path, FileLock] = {}
"""Results folder to a run's claim, held until this process ends: a lock that nobody refers to is
let go. A workflow that uses ours as a module can start it several times."""


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
    folder = results.root.resolve()
    if folder in _run_claims:
        return RunClaim(None, certain=_run_claims[folder].is_locked)
    try:
        lock = _lock(results, RUN)
        with disk_errors(results.root), _named_without_locks(results.root):
            lock.acquire(blocking=False)
    except Timeout:
        problem = RunError(
            Code.RESULTS_BUSY,
            f"{results.root} is being worked on by {_owner(lock)}",
            "wait until it ends, or end it",
        )
        return RunClaim(problem, certain=False)
    except RunError as error:
        return RunClaim(error, certain=False)
    _run_claims[folder] = lock
    return RunClaim(None, certain=lock.is_locked)


@contextmanager
def claimed(results: Results, what: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the claim of one job's files; waits while another process has it, and says so.

    Parameters
    ----------
    results : folder of all outputs
    what : whose files, as `segment organs 00001`
    say : prints a line where people read it
    """
    lock = _lock(results, what.replace(" ", "-"))
    with disk_errors(results.root), _named_without_locks(results.root):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            say(f"[backsplit] {what}: {_owner(lock)} works on the same; waiting until it ends")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _lock(results: Results, name: str) -> FileLock:
    path = results.lock(name)
    with disk_errors(results.root):
        path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(
        path,
        thread_local=False,
        poll_interval=POLL_S,
        fallback_to_soft=False,  # a file that only is there would outlive its process
        on_acquired=_sign,
    )


@contextmanager
def _named_without_locks(results: Path) -> Iterator[None]:
    """Go on, with a warning, where the file system keeps no locks."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log.warning(
            "the file system of %s does not support locks, so a second run on the same "
            "folder would not be noticed; make sure that there is none",
            results,
        )


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


def _owner(lock: FileLock) -> str:
    try:
        owner = json.loads(Path(lock.lock_file).read_text("utf-8"))
        return "process {process} of {user} on {host} (since {since})".format_map(owner)
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
