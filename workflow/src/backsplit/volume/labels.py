"""Label files as they are: values, the names that a file gives itself, and voxels with several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

import numpy as np

from backsplit.config.base import MOST_LABEL
from backsplit.errors import CaseError, Code, shown
from backsplit.store.disk import is_there
from backsplit.volume.drawn import Drawn, drawn_voxels
from backsplit.volume.grid import Array, Grid
from backsplit.volume.pieces import count_values
from backsplit.volume.planes import is_dicom_file
from backsplit.volume.read import read_geometry, read_grid, read_labels
from backsplit.volume.seg_nrrd import SlicerSegments, is_slicer_file
from backsplit.volume.segments import SegmentFile, unreadable


@dataclass(frozen=True)
class LabelMap:
    """What a label file says.

    Attributes
    ----------
    array : values, uint8 or uint16, (z, y, x)
    grid : where they lie
    names : names that the file itself gives to its values (DICOM, 3D Slicer); empty for others
    overlaps : value to the values that share its voxels: masks that overlap are kept by giving
        each combination a value of its own, above all others
    notes : what was done to have it on its grid, for the user
    drawn : value to what the source itself says of it, before any conversion; a value that means
        several has none of its own, each of them is counted whole. It stays as it was when
        the map is put on another grid.
    own_names : name in `names` to the file's own, where the file calls several segments alike
    """

    array: Array
    grid: Grid
    names: Mapping[str, int] = field(default_factory=dict)
    overlaps: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    drawn: Mapping[int, Drawn] = field(default_factory=dict)
    own_names: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def counts(self) -> Array:
        """How many voxels have each value: 0, 1, … to the largest that the map holds."""
        return count_values(self.array)

    @property
    def values(self) -> list[int]:
        """Values that the map holds, other than 0."""
        return [value for value in np.flatnonzero(self.counts).tolist() if value]

    def voxels_of(self, values: Iterable[int]) -> int:
        """How many voxels have one of these values."""
        return sum(int(self.counts[value]) for value in values if value < len(self.counts))

    def values_of(self, wanted: int | str) -> list[int]:
        """Values that a value, or a name or wildcard, means; none if the file lacks it.

        A file without names may hold any value.
        """
        if isinstance(wanted, int):
            return [wanted] if not self.names or wanted in self.names.values() else []
        return [
            value
            for name, value in self.names.items()
            if fnmatchcase(name, wanted) or fnmatchcase(self.own_names.get(name, name), wanted)
        ]


def read_label_grid(path: Path, grid: Grid) -> Grid:
    """Grid of a label file, from its header; segments and regions are put on `grid` if they can."""
    if segment_file(path) is not None:
        return grid
    file = _slicer_file(path)
    return read_grid(path) if file is None else file.target_grid(grid)


def segment_file(path: Path) -> Path | None:
    """The DICOM-SEG or RTSTRUCT that a path is, or that is the only object in a folder.

    Raises
    ------
    CaseError
        SERIES_AMBIGUOUS for a folder that holds more than that.
    """
    if not is_there(path):
        return None  # whoever reads it says what is wrong
    files = [p for p in (sorted(path.iterdir()) if path.is_dir() else [path]) if is_dicom_file(p)]
    if not files:
        return None
    from backsplit.volume.dicom_segments import is_segments

    found = [p for p in files if is_segments(p)]
    if found and len(files) > 1:
        raise CaseError(
            Code.SERIES_AMBIGUOUS,
            f"{path} holds {len(files)} DICOM files, of which {shown(found[0].name)} has segments",
            f"use the file itself: {shown(found[0])}",
        )
    return found[0] if found else None


def read_label_map(
    path: Path, grid: Grid, wanted: Iterable[int | str] | None = None, *, is_mask: bool = False
) -> LabelMap:
    """Read a label file of any format on its own grid (segments and regions: put on `grid`).

    Parameters
    ----------
    path : NIfTI, NRRD, MetaImage, DICOM-SEG, RTSTRUCT, a segmentation of 3D Slicer, or a folder of
        DICOM slices
    grid : the image's grid
    wanted : numbers, names and wildcards of the segments to read, of a file that names its
        segments; others are named and not read. None reads all.
    is_mask : as in `read_labels`

    Raises
    ------
    CaseError
        As `read_labels` and `SegmentFile`.
    """
    if (found := segment_file(path)) is not None:
        from backsplit.volume.dicom_segments import open_segments

        return _read_segments(open_segments(found), grid, wanted)
    if (slicer := _slicer_file(path)) is not None:
        return _read_segments(slicer, slicer.target_grid(grid), wanted)
    labels = read_labels(path, is_mask=is_mask)
    is_dicom = path.is_dir() or is_dicom_file(path)
    notes = read_geometry(path).notes if is_dicom else ()
    drawn: dict[int, Drawn] = {}
    whole = LabelMap(labels.array, labels.grid, notes=notes, drawn=drawn)
    drawn.update(drawn_voxels(whole.counts, whole.grid))  # the map keeps its counts
    return whole


def _slicer_file(path: Path) -> SegmentFile | None:
    """The segmentation of 3D Slicer that a file is."""
    if not is_there(path) or path.is_dir() or not is_slicer_file(path):
        return None  # whoever reads it says what is wrong
    try:
        return SlicerSegments(path)
    except CaseError:
        raise
    except Exception as error:  # whatever its header makes of it
        raise unreadable(path, error) from None


def _read_segments(file: SegmentFile, grid: Grid, wanted: Iterable[int | str] | None) -> LabelMap:
    patterns = None if wanted is None else list(wanted)
    chosen = [
        segment
        for segment in file.segments
        if patterns is None
        or any(
            segment.number == p
            if isinstance(p, int)
            else fnmatchcase(segment.name, p) or fnmatchcase(segment.own, p)
            for p in patterns
        )
    ]
    drawn: dict[int, Drawn] = {}
    notes: list[str] = []

    def masks() -> Iterator[tuple[int, Array]]:  # one at a time: there may be a hundred
        for segment in chosen:
            read = file.read(segment, grid)
            drawn[segment.number] = read.drawn
            notes.extend(read.notes)
            yield segment.number, read.mask

    highest = max((segment.number for segment in file.segments), default=0)
    array, overlaps = stack_masks(masks(), grid.shape, highest)
    names = {segment.name: segment.number for segment in file.segments}
    own_names = {
        segment.name: segment.own for segment in file.segments if segment.name != segment.own
    }
    return LabelMap(array, grid, names, overlaps, tuple(notes), drawn, own_names)


def stack_masks(
    masks: Iterable[tuple[int, Array]], shape: tuple[int, ...], highest: int
) -> tuple[Array, dict[int, tuple[int, ...]]]:
    """Put masks on one map without losing anything where they overlap.

    Parameters
    ----------
    masks : (value, mask) pairs, each taken once; bool arrays of `shape`; values differ, are >= 1
    shape : (z, y, x)
    highest : the largest value; combinations are numbered from the one above

    Returns
    -------
    array, overlaps
        uint8 or uint16 values; `overlaps` names the values that each combination means, in
        the order of `masks`.

    Raises
    ------
    CaseError
        LABEL_UNDECLARED when values and combinations together need more than 16 bits.
    """
    array = np.zeros(shape, np.uint16)
    members: dict[int, tuple[int, ...]] = {}
    known: dict[tuple[int, ...], int] = {}
    free = highest + 1
    for value, mask in masks:
        members[value] = (value,)
        known[(value,)] = value
        held = array[mask]
        table = np.zeros(free, np.uint16)
        for holder in np.flatnonzero(np.bincount(held)).tolist():
            combination = (*members[holder], value) if holder else (value,)
            if combination not in known:
                known[combination] = free
                members[free] = combination
                free += 1
            if free > MOST_LABEL:
                raise CaseError(
                    Code.LABEL_UNDECLARED,
                    f"masks overlap in more than {MOST_LABEL - highest} ways",
                    "read them with several segmenters",
                )
            table[holder] = known[combination]
        array[mask] = table[held]
    narrow = array.astype(np.min_scalar_type(free - 1), copy=False)
    return narrow, {value: m for value, m in members.items() if len(m) > 1}
