"""Files of a data set: linked or copied, marked as ours, others removed."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from backsplit.errors import Code, RunError
from backsplit.store.disk import atomic_path, disk_errors
from backsplit.store.provenance import digest, file_sha256, read_json, write_json
from backsplit.store.results import VOLUME_ENDING
from backsplit.volume import (
    Array,
    Geometry,
    Grid,
    LabelNames,
    read_labels,
    read_volume,
    save_nifti,
)
from backsplit.volume.nifti import read_header
from backsplit.volume.read import UNREADABLE
from backsplit.volume.resample import resample_image

NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What a file system says that keeps no symbolic links (FAT, some shares of Windows)."""


def image_name(case: str, channel: int) -> str:
    """File of a case's channel."""
    return f"{case}_{channel:04d}{VOLUME_ENDING}"


def label_name(case: str) -> str:
    """File of a case's label map."""
    return f"{case}{VOLUME_ENDING}"


def _link(target: Path, leads_to: str) -> None:
    try:
        target.symlink_to(leads_to)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        raise RunError(
            Code.LINKS_UNSUPPORTED,
            f"the disk of {target.parent} does not support symbolic links ({error.strerror})",
            "set export.nnunet.mode to copy, and export.bids.mode if there is one",
        ) from error


def keep_only(folder: Path, names: set[str]) -> None:
    """Make a folder, and remove from it what is no longer part of the data set."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.iterdir():
        if stale.name not in names:
            stale.unlink()


class Converted:
    """Files of a data set that were converted, by name, with the SHA-256 of what was written.

    A file that is still there, made from the same, and the same bytes is not converted again.

    Parameters
    ----------
    path : where that is noted
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.before: dict[str, str] = read_json(path)
        except (OSError, ValueError):
            self.before = {}
        self.now: dict[str, str] = {}

    def holds(self, target: Path, mark: str) -> bool:
        """Whether a file need not be made again."""
        if not _is_marked(target, mark) or self.before.get(target.name) != file_sha256(target):
            return False
        self.now[target.name] = self.before[target.name]
        return True

    def note(self, target: Path) -> None:
        """Note a file that was written."""
        self.now[target.name] = file_sha256(target)

    def save(self) -> None:
        """Write what was noted; where nothing was, there is no note."""
        if self.now:
            write_json(self.path, dict(sorted(self.now.items())))
        else:
            self.path.unlink(missing_ok=True)


def place_image(
    target: Path, source: Path, geometry: Geometry, grid: Grid, converted: Converted, *, link: bool
) -> None:
    """Link or copy an image; write a new file where trainers would read another one than we do."""
    same = geometry.grid.is_same(grid)
    if same and geometry.faithful and geometry.reads_alike:
        link_or_copy(target, source, link=link)
        return
    mark = _mark(source, grid)
    if converted.holds(target, mark):
        return
    volume = read_volume(source)
    if same:
        _save(target, volume.array, grid, mark, geometry.like(source))
    else:
        _save(target, resample_image(volume, grid).array, grid, mark)
    converted.note(target)


def place_labels(
    target: Path,
    source: Path,
    table: Array | None,
    converted: Converted,
    named: Callable[[Array], LabelNames],
) -> None:
    """Copy a label map, or write it with other ids by looking them up.

    Parameters
    ----------
    target, source : file of the data set, and the composed label map
    table : id to the id in the data set; None where they are the same
    converted : what was written before
    named : names and colours of the ids that a label map of the data set holds; they follow from
        those that the source has in its header, and from `table`
    """
    if table is None:
        link_or_copy(target, source, link=False)
        return
    mark = _mark(source, table.tolist())
    if converted.holds(target, mark):
        return
    labels = read_labels(source)
    array = table[labels.array]
    _save(target, array, labels.grid, mark, like=source, names=named(array))
    converted.note(target)


def _save(
    target: Path,
    array: Array,
    grid: Grid,
    mark: str,
    like: Path | None = None,
    names: LabelNames | None = None,
) -> None:
    target.unlink(missing_ok=True)
    with atomic_path(target) as temporary:
        save_nifti(temporary, array, grid, like, description=mark, names=names)


def _mark(source: Path, settings: object) -> str:
    """What a file of ours was made from, short enough for a NIfTI header."""
    return f"backsplit {digest([file_sha256(source), str(settings)])[:32]}"


def _is_marked(target: Path, mark: str) -> bool:
    if target.is_symlink() or not target.is_file():
        return False
    try:
        return read_header(target).description == mark
    except UNREADABLE:
        return False  # is rewritten


def link_or_copy(target: Path, source: Path, *, link: bool, inside: Path | None = None) -> None:
    """Make a file the same as another one, unless it is.

    Parameters
    ----------
    target, source : the files; where `source` is a link, what it leads to is meant
    link : a symbolic link, or a copy
    inside : a link to what lies in this folder is relative, so that the folder can be moved
    """
    wanted = Path(os.path.realpath(source))
    if link:
        leads_to = str(wanted)
        if inside is not None and wanted.is_relative_to(os.path.realpath(inside)):
            leads_to = os.path.relpath(wanted, os.path.realpath(target.parent))
        if target.is_symlink() and str(target.readlink()) == leads_to:
            return
        with disk_errors(target.parent):
            target.unlink(missing_ok=True)
            _link(target, leads_to)
        return
    if target.is_file() and not target.is_symlink() and file_sha256(target) == file_sha256(source):
        return
    target.unlink(missing_ok=True)
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
