"""Single lesions: connected components, or the instances that the lesion file tells apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np

from backsplit.volume import Array, Grid

Box = tuple[slice, slice, slice]


BLOCK = 16
"""Lesions are told apart first by blocks of so many voxels a side, then voxel by voxel: what lies
in blocks that do not touch does not touch, and most of a volume is never looked at."""


@dataclass(frozen=True)
class Instance:
    """One lesion.

    Attributes
    ----------
    number : 1, 2, … over the case, or the lesion file's own value; those of a second file follow
    target : id of its target
    places : flat indices of its voxels in the volume
    box : where it lies in the volume, (z, y, x)
    centroid_mm : (x, y, z), LPS
    """

    number: int
    target: int
    places: Array
    box: Box
    centroid_mm: tuple[float, float, float]

    @property
    def voxels(self) -> int:
        """How many voxels it has."""
        return len(self.places)

    def mask(self, box: Box, shape: Sequence[int]) -> Array:
        """Mask of the lesion in a box of the volume that holds it wholly."""
        mask = np.zeros([side.stop - side.start for side in box], bool)
        index = np.unravel_index(self.places, shape)
        mask[tuple(i - side.start for i, side in zip(index, box, strict=True))] = True
        return mask


@dataclass(frozen=True)
class Given:
    """Numbers that lesion files give to single lesions.

    Attributes
    ----------
    values : of the files, (z, y, x)
    numbers : [value, id]: number of the lesion that a voxel of that value and id belongs to
    """

    values: Array
    numbers: Array

    def at(self, places: Array, ids: Array) -> Array:
        """Numbers at flat indices with these ids."""
        return np.asarray(self.numbers[self.values.reshape(-1)[places], ids], np.int64)


def find_instances(
    labels: Array, places: Array, targets: int, grid: Grid, given: Given | None = None
) -> list[Instance]:
    """Tell the lesions of a label map apart.

    Parameters
    ----------
    labels : the label map, (z, y, x); ids 1 … `targets` are lesions
    places : flat indices among which all lesion voxels are, rising
    targets : number of targets
    grid : where it lies
    given : what the lesion files themselves tell apart; else 26-connected components of equal
        target are lesions, numbered by where they begin
    """
    ids = labels.reshape(-1)[places]
    here = (ids > 0) & (ids <= targets)
    places, ids = places[here], ids[here]
    if not len(places):
        return []
    index = np.stack(np.unravel_index(places, labels.shape))
    numbers = _components(index, ids) if given is None else given.at(places, ids)
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    return [
        _instance(int(numbers[mine[0]]), int(ids[mine[0]]), places[mine], index[:, mine], grid)
        for mine in np.split(order, starts[1:])
    ]


def _instance(number: int, target: int, places: Array, index: Array, grid: Grid) -> Instance:
    z, y, x = (slice(int(axis.min()), int(axis.max()) + 1) for axis in index)
    centroid = grid.to_mm(index.mean(axis=1))
    where = (float(centroid[0]), float(centroid[1]), float(centroid[2]))
    return Instance(number, target, places, (z, y, x), where)


def _components(index: Array, ids: Array) -> Array:
    """Number of the 26-connected component of equal id of each voxel, 1, 2, … by first voxel.

    Parameters
    ----------
    index : voxels, (3, n), in rising order
    ids : their labels, (n,)
    """
    blocks = tuple(index // BLOCK)
    coarse = np.zeros([int(axis.max()) + 1 for axis in blocks], np.uint8)
    coarse[blocks] = 1
    regions = cc3d.connected_components(coarse, connectivity=26)[blocks]
    numbers = np.zeros(len(ids), np.int64)
    count = 0
    for region in range(1, int(regions.max()) + 1):
        mine = np.flatnonzero(regions == region)
        local = index[:, mine] - index[:, mine].min(axis=1, keepdims=True)
        part = np.zeros(local.max(axis=1) + 1, ids.dtype)
        part[tuple(local)] = ids[mine]
        found = cc3d.connected_components(part, connectivity=26)[tuple(local)]
        numbers[mine] = found + count
        count += int(found.max())
    _, first, which = np.unique(numbers, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[which] + 1


def grown(box: Box, by_mm: float, grid: Grid) -> Box:
    """A box that is larger by so many mm on each side (at least a voxel), cut off at the grid."""
    spacing = grid.spacing_zyx
    sides = [
        slice(
            max(0, side.start - int(np.ceil(by_mm / s)) - 1),
            min(n, side.stop + int(np.ceil(by_mm / s)) + 1),
        )
        for side, s, n in zip(box, spacing, grid.shape, strict=True)
    ]
    return sides[0], sides[1], sides[2]
