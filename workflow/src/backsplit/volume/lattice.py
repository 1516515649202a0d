"""Voxels of one lattice that are voxels of another one: cropped, flipped or reordered."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from backsplit.errors import CaseError, Code
from backsplit.volume.grid import SNAP_VOXELS, Array, Grid


def on_lattice(origin: Array, steps: Array, counts: Array, grid: Grid) -> tuple[Array, Array]:
    """Index of a lattice's first voxel on a grid, and of the step along each of its axes.

    Parameters
    ----------
    origin : its first voxel, mm, LPS
    steps : (k, 3) from a voxel to the next one along each axis, mm, LPS
    counts : (k,) voxels along each axis

    Returns
    -------
    start, steps
        Whole numbers, (3,) and (k, 3), (z, y, x); `start` may lie outside the grid.

    Raises
    ------
    ValueError
        A voxel is further than `SNAP_VOXELS` from one of the grid.
    """
    start = grid.to_index(origin[None])[0]
    along = grid.to_index(origin + steps) - start
    whole, whole_steps = np.rint(start), np.rint(along)
    off = np.abs(start - whole) + (np.abs(along - whole_steps) * (counts - 1)[:, None]).sum(axis=0)
    single = np.abs(whole_steps)
    if off.max() > SNAP_VOXELS or (single.sum(axis=1) != 1).any() or single.sum(axis=0).max() > 1:
        raise ValueError(f"its voxels are up to {off.max():.2g} voxels off the image's")
    return whole.astype(int), whole_steps.astype(int)


def place(path: Path, held: Array, start: Array, steps: Array, mask: Array) -> None:
    """Set the voxels of a grid that a lattice's voxels are.

    Parameters
    ----------
    path : the file, for messages
    held : bool, of the lattice
    start, steps : as `on_lattice` gives them
    mask : bool (z, y, x), on the grid; changed

    Raises
    ------
    CaseError
        GRID_NO_OVERLAP when one lies outside the grid.
    """
    index = np.argwhere(held) @ steps + start
    outside = ((index < 0) | (index >= mask.shape)).any(axis=1)
    if outside.any():
        raise CaseError(
            Code.GRID_NO_OVERLAP,
            f"{path} has {int(outside.sum())} labelled voxels outside the image",
            "use the image that it was drawn on, or crop it",
        )
    mask[tuple(index.T)] = True
