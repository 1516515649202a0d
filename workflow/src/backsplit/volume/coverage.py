"""Which voxels of an image another grid covers: outside it, nothing was looked for."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from backsplit.store.sidecars import CoverageEntry
from backsplit.volume.grid import Array, Grid
from backsplit.volume.same_lattice import find_lattice

Box = tuple[slice, slice, slice]

Parts = tuple[Grid, ...]
"""Grids on all of which a class was looked for; empty for the whole image."""

SLACK_VOXELS = 1e-4
"""A centre this close to the edge of a grid counts as inside: headers are rounded."""


def parts_of_classes(entries: Iterable[CoverageEntry]) -> dict[str, Parts]:
    """Classes that were looked for in a part of the image only, and the grids of that part."""
    found: dict[str, Parts] = {}
    for entry in entries:
        grid = Grid(entry.size, entry.spacing, entry.origin, entry.direction)
        for name in entry.classes:
            found[name] = (*found.get(name, ()), grid)
    return found


def covers(grid: Grid, reference: Grid) -> bool:
    """Whether every voxel of the reference has its centre in a voxel of the grid.

    Both are boxes, so the corners decide.
    """
    lattice = find_lattice(grid, reference)
    if lattice is None:
        index = grid.to_index(reference.corners_mm())
        return all(bool(_inside(index[:, axis], grid.shape[axis]).all()) for axis in range(3))
    return all(
        first <= 0 and first + length >= whole
        for first, length, whole in zip(lattice.offset, lattice.shape, reference.shape, strict=True)
    )


def covered(grid: Grid, reference: Grid, box: Box) -> Array:
    """Voxels of the reference whose centres are in a voxel of the grid.

    Parameters
    ----------
    grid : what may cover them
    reference : grid of the image
    box : the part of the image to answer for

    Returns
    -------
    covered
        bool (z, y, x), shape of the box
    """
    places = [np.arange(side.start, side.stop) for side in box]
    lattice = find_lattice(grid, reference)
    if lattice is not None:
        z, y, x = (
            (place >= first) & (place < first + length)
            for place, first, length in zip(places, lattice.offset, lattice.shape, strict=True)
        )
        return np.asarray(z[:, None, None] & y[:, None] & x)
    # the index on the grid is linear in that on the reference: one term an axis
    origin = grid.to_index(reference.to_mm(np.zeros(3)))
    steps = grid.to_index(reference.to_mm(np.eye(3))) - origin
    result = np.ones([len(place) for place in places], bool)
    for axis, length in enumerate(grid.shape):
        z, y, x = (place * step for place, step in zip(places, steps[:, axis], strict=True))
        result &= _inside(origin[axis] + z[:, None, None] + y[:, None] + x, length)
    return result


def covered_by_all(parts: Iterable[Grid], reference: Grid, box: Box | None = None) -> Array:
    """Voxels of a box, or of the image, that all grids cover; every voxel if there are no grids."""
    z, y, x = (slice(0, length) for length in reference.shape)
    box = box or (z, y, x)
    shape = [side.stop - side.start for side in box]
    masks = [covered(grid, reference, box) for grid in parts]
    return np.asarray(np.logical_and.reduce([np.ones(shape, bool), *masks]))


def _inside(index: Array, length: int) -> Array:
    """Whether continuous indices along an axis lie within its voxels."""
    return np.asarray((index >= -0.5 - SLACK_VOXELS) & (index <= length - 0.5 + SLACK_VOXELS))
