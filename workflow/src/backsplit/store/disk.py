"""The disk of the results: files that appear whole, what it refuses, leftovers of the killed."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from backsplit.errors import Code, RunError

PART = ".part-"
"""How names of files begin that are being written."""

NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What a file system says that keeps no locks (Lustre without the mount option `flock`)."""

_REFUSED = {
    errno.ENOSPC: (Code.DISK_FULL, "the disk of {place} is full", "make room"),
    errno.EDQUOT: (Code.DISK_FULL, "your quota on the disk of {place} is used up", "make room"),
    errno.EROFS: (Code.RESULTS_READ_ONLY, "{place} is on a read-only disk", "make it writable"),
}
_DENIED = (Code.RESULTS_READ_ONLY, "you may not write to {place}", "change its permissions")


def disk_error(error: OSError, place: Path | str) -> RunError | None:
    """What is to be said of a disk that takes nothing more; None for any other failure.

    Every case would fail the same way, so it ends the job, not the case.
    """
    if error.errno not in _REFUSED:
        return None
    return _told(*_REFUSED[error.errno], place)


@contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Name the folder that cannot be written to in the block.

    Raises
    ------
    RunError
        DISK_FULL or RESULTS_READ_ONLY.
    """
    try:
        yield
    except PermissionError as error:
        raise _told(*_DENIED, place) from error
    except OSError as error:
        told = disk_error(error, place)
        if told is None:
            raise
        raise told from error


def _told(code: Code, what: str, remedy: str, place: Path | str) -> RunError:
    kept = "then start again: what is done is kept"
    return RunError(code, what.format(place=place), f"{remedy}, {kept}")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its place when the block ends well.

    A reader sees the old file or the whole new one, never half of it; after an error no file of
    another name is left, after a kill one that `remove_leftovers` knows to be nobody's.

    Raises
    ------
    RunError
        DISK_FULL or RESULTS_READ_ONLY.
    """
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = _open_temporary(path)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:  # of reading too: only what a disk says of writing is told here
        told = disk_error(error, path.parent)
        if told is None:
            raise
        raise told from error
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def private_file(folder: Path, suffix: str, text: str) -> Iterator[Path]:
    """Keep a text for the block in a file that its owner alone can read.

    After a kill `remove_leftovers` removes it.

    Raises
    ------
    OSError
        It cannot be written, or the file system has no permissions.
    """
    handle, path = _open_temporary(folder / f"private{suffix}")
    try:
        if os.fstat(handle).st_mode & 0o077:
            raise PermissionError(errno.EPERM, "others could read the file", str(path))
        os.write(handle, text.encode())
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _open_temporary(path: Path) -> tuple[int, Path]:
    """Make a file that is locked for as long as its writer lives."""
    suffix = "".join(path.suffixes[-2:])
    while True:
        handle, name = tempfile.mkstemp(prefix=PART, suffix=suffix, dir=path.parent)
        with suppress(OSError):  # without locks leftovers stay, harmlessly
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:  # else taken for a leftover before it was locked
            return handle, Path(name)
        os.close(handle)


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove the temporary files below a folder whose writers were killed.

    The kernel knows: a writer holds a lock on its file, also on another machine. Where the file
    system has no locks everything is left.

    Returns
    -------
    removed
        The files.
    """
    removed = []
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names if name.startswith(PART)):
            with suppress(OSError):
                handle = os.open(path, os.O_RDWR)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                    removed.append(path)
                finally:
                    os.close(handle)
    return removed


def is_there(path: Path) -> bool:
    """Whether a path leads to a file or folder; not so with one that no file system could take."""
    try:
        return path.is_file() or path.is_dir()
    except (OSError, ValueError):  # too long; with a NUL
        return False


def parts_of(path: Path) -> list[Path]:
    """Files that an input consists of: a folder's; a header, and the voxels beside it.

    Raises
    ------
    OSError
        It cannot be read.
    """
    if path.is_dir():
        return sorted(path.iterdir())
    if path.suffix.lower() not in DETACHED:
        return [path]
    with path.open("rb") as stream:
        named = _DATA.search(stream.read(DETACHED_BYTES))
    data = path.parent / os.fsdecode(named[1]).strip() if named else path
    return [path, data] if data != path and is_there(data) and data.is_file() else [path]


def input_times(path: Path) -> list[list[object]]:
    """Name, size and times of each file that an input consists of (see `parts_of`).

    Raises
    ------
    OSError
        It cannot be read.
    """
    status = path.stat()
    if path.suffix.lower() in DETACHED or stat.S_ISDIR(status.st_mode):
        return [file_times(part) for part in parts_of(path)]
    return [_times(path, status)]  # asked once: a plan does so for every file of a data set


def file_times(path: Path, *, follow: bool = True) -> list[object]:
    """Name, size and times of a file, which tell a change without reading it.

    The change time tells an edit that kept size and time, which can be set. Without `follow` they
    are those of a link itself.
    """
    return _times(path, path.stat(follow_symlinks=follow))


def _times(path: Path, status: os.stat_result) -> list[object]:
    return [path.name, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def files_below(folder: Path, *, follow: bool = True) -> list[Path]:
    """All files below a folder, sorted; links to folders are followed, to each folder once.

    Without `follow` no link is followed, and each is listed: in a container's folder `/etc/mtab`
    leads to another file than here.
    """
    found: list[Path] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=follow):
        folders.sort()
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        paths = [Path(place, name) for name in (names if follow else (*names, *folders))]
        found += [p for p in paths if (not follow and p.is_symlink()) or p.is_file()]
    return sorted(found)


@dataclass(frozen=True)
class Link:
    """A link that is not followed: where it leads counts, not what is there.

    Attributes
    ----------
    path : of the link itself
    leads_to : its target, as written in the link
    """

    path: Path
    leads_to: str


DETACHED = (".mhd", ".nhdr")
"""Headers of MetaImage and NRRD that have their voxels in a file beside them."""

DETACHED_BYTES = 1 << 16

_DATA = re.compile(rb"^[ \t]*(?:ElementDataFile[ \t]*=|data ?file:)([^\r\n]+)", re.M | re.I)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
