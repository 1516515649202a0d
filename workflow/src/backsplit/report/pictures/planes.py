"""Planes through a patient: which slice to show, and how a radiologist expects to see it."""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np

from backsplit.volume import Array, Grid

SEARCH_SIDE = 160
"""Voxels per axis that a search for a good slice looks at; larger volumes are subsampled."""


@dataclass(frozen=True)
class Plane:
    """One of the three standard planes in the radiological convention.

    Patient axes are 0 right to left, 1 anterior to posterior, 2 inferior to superior.

    Attributes
    ----------
    name : axial, coronal or sagittal
    normal : patient axis that the plane cuts
    down, across : patient axis and direction (1 or -1) of the picture's rows and columns
    marks : sides of the patient at the top, bottom, left and right of the picture
    """

    name: str
    normal: int
    down: tuple[int, int]
    across: tuple[int, int]
    marks: tuple[str, str, str, str]


AXIAL = Plane("axial", 2, (1, 1), (0, 1), ("A", "P", "R", "L"))
CORONAL = Plane("coronal", 1, (2, -1), (0, 1), ("S", "I", "R", "L"))
SAGITTAL = Plane("sagittal", 0, (2, -1), (1, 1), ("S", "I", "A", "P"))
PLANES = (AXIAL, CORONAL, SAGITTAL)


@dataclass(frozen=True)
class Focus:
    """Where to look in a volume.

    Attributes
    ----------
    index : voxel (z, y, x) that the three planes go through
    lesions : number of connected lesion components (26 neighbours)
    low, high : first and last voxel (z, y, x) of the largest lesion; None without a lesion
    """

    index: tuple[int, int, int]
    lesions: int = 0
    low: tuple[int, int, int] | None = None
    high: tuple[int, int, int] | None = None


def oriented_slice(array: Array, grid: Grid, plane: Plane, index: tuple[int, int, int]) -> Array:
    """Cut a volume along a plane and turn the slice as a radiologist expects it.

    The patient's right is on the left of the picture; anterior or superior is on top; a sagittal
    slice looks to the left. Oblique volumes are shown along their nearest axes.

    Parameters
    ----------
    array : any volume (z, y, x)
    grid : where it lies
    plane : which plane
    index : voxel (z, y, x) that the plane goes through
    """
    normal, _ = grid.array_axis(plane.normal)
    rows, row_sign = _signed_axis(grid, plane.down)
    columns, column_sign = _signed_axis(grid, plane.across)
    cut: Array = np.take(array, index[normal], axis=normal)
    if rows > columns:
        cut = cut.T
    return cut[::row_sign, ::column_sign]


def pixel_spacing(grid: Grid, plane: Plane) -> tuple[float, float]:
    """Distance in mm between the rows and between the columns of an oriented slice."""
    rows, _ = grid.array_axis(plane.down[0])
    columns, _ = grid.array_axis(plane.across[0])
    return grid.spacing[2 - rows], grid.spacing[2 - columns]


def oriented_box(
    grid: Grid, plane: Plane, low: tuple[int, int, int], high: tuple[int, int, int]
) -> tuple[slice, slice]:
    """Rows and columns of an oriented slice that a box of voxels covers (both ends included)."""
    return (
        _oriented_range(grid, plane.down, low, high),
        _oriented_range(grid, plane.across, low, high),
    )


def find_focus(labels: Array, target_count: int, ignore_id: int | None) -> Focus:
    """Find the voxel to show: in the largest lesion, else where most structures are.

    Parameters
    ----------
    labels : ids (z, y, x)
    target_count : ids 1..T are lesions
    ignore_id : id that is no structure, or None
    """
    lesion = (labels != 0) & (labels <= target_count)
    if lesion.any():
        return focus_on(lesion)
    return Focus(_richest_voxel(labels, ignore_id))


def focus_on(mask: Array) -> Focus:
    """Look through the slices, one for each axis, that cut most of a mask's largest component.

    Parameters
    ----------
    mask : bool (z, y, x), with at least one voxel
    """
    ends = [_ends(np.asarray(mask.any(axis=tuple({0, 1, 2} - {axis})))) for axis in range(3)]
    inner = mask[tuple(slice(first, last + 1) for first, last in ends)]
    components, count = cc3d.connected_components(
        np.ascontiguousarray(inner), connectivity=26, return_N=True
    )
    sizes = np.zeros(count + 1, np.int64)
    for part in components:  # slice by slice: bincount needs eight bytes a voxel
        sizes += np.bincount(part.ravel(), minlength=count + 1)
    largest = components == int(np.argmax(sizes[1:])) + 1
    index, low, high = [], [], []
    for axis, (start, _) in enumerate(ends):
        profile = np.count_nonzero(largest, axis=tuple({0, 1, 2} - {axis}))
        first, last = _ends(profile > 0)
        index.append(start + _middle_of_highest(profile))
        low.append(start + first)
        high.append(start + last)
    return Focus(
        (index[0], index[1], index[2]), count, (low[0], low[1], low[2]), (high[0], high[1], high[2])
    )


def _richest_voxel(labels: Array, ignore_id: int | None) -> tuple[int, int, int]:
    """Voxel whose three slices hold most structures; of equals those with most labelled voxels."""
    steps = [-(-size // SEARCH_SIDE) for size in labels.shape]
    small = labels[tuple(slice(None, None, step) for step in steps)].astype(np.int64)
    if ignore_id is not None:
        small[small == ignore_id] = 0
    count = int(small.max()) + 1
    index = []
    for axis, step in enumerate(steps):
        rows = np.moveaxis(small, axis, 0).reshape(small.shape[axis], -1)
        keys = rows + count * np.arange(len(rows))[:, None]
        voxels = np.bincount(keys.ravel(), minlength=count * len(rows)).reshape(-1, count)[:, 1:]
        score = np.count_nonzero(voxels, axis=1) + voxels.sum(axis=1) / (rows.shape[1] + 1)
        index.append(min(step * _middle_of_highest(score), labels.shape[axis] - 1))
    return (index[0], index[1], index[2])


def _middle_of_highest(profile: Array) -> int:
    """Position of the highest value; the middle one where several are equal."""
    highest = np.flatnonzero(profile == profile.max())
    return int(highest[len(highest) // 2])


def _ends(present: Array) -> tuple[int, int]:
    """First and last position that is true."""
    positions = np.flatnonzero(present)
    return int(positions[0]), int(positions[-1])


def _signed_axis(grid: Grid, towards: tuple[int, int]) -> tuple[int, int]:
    """Array axis that runs along a patient axis, and 1 or -1 for the wanted direction."""
    axis, sign = grid.array_axis(towards[0])
    return axis, sign * towards[1]


def _oriented_range(
    grid: Grid, towards: tuple[int, int], low: tuple[int, int, int], high: tuple[int, int, int]
) -> slice:
    axis, sign = _signed_axis(grid, towards)
    if sign > 0:
        return slice(low[axis], high[axis] + 1)
    size = grid.shape[axis]
    return slice(size - 1 - high[axis], size - low[axis])
