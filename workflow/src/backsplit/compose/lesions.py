"""Single lesions: connected components, or the instances that the lesion file tells apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np

from backsplit.volume import Array, Grid

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Instance:
    """One lesion.

    Attributes
    ----------
    number : 1, 2, … over the case, or the lesion file's own value
    target : id of its target
    voxels : how many
    box : where it lies in the volume, (z, y, x)
    centroid_mm : (x, y, z), LPS
    """

    number: int
    target: int
    voxels: int
    box: Box
    centroid_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Instances:
    """All lesions of a case, and which voxel belongs to which.

    Attributes
    ----------
    found : the lesions
    numbers : number of each voxel, 0 elsewhere, in `box` only
    box : the box of all lesions in the volume
    """

    found: tuple[Instance, ...]
    numbers: Array
    box: Box

    def mask(self, instance: Instance, box: Box) -> Array:
        """Mask of one lesion in a box that holds it wholly."""
        result = np.zeros([s.stop - s.start for s in box], bool)
        inner = tuple(slice(i.start - b.start, i.stop - b.start) for i, b in _pairs(instance, box))
        own = tuple(
            slice(i.start - b.start, i.stop - b.start) for i, b in _pairs(instance, self.box)
        )
        result[inner] = self.numbers[own] == instance.number
        return result


def _pairs(instance: Instance, box: Box) -> list[tuple[slice, slice]]:
    return list(zip(instance.box, box, strict=True))


def find_instances(
    labels: Array, places: Array, targets: int, grid: Grid, given: Array | None = None
) -> Instances:
    """Tell the lesions of a label map apart.

    Parameters
    ----------
    labels : the label map, (z, y, x); ids 1 … `targets` are lesions
    places : flat indices among which all lesion voxels are
    targets : number of targets
    grid : where it lies
    given : numbers that the lesion file gives itself, (z, y, x); else 26-connected components
        of equal target are lesions, numbered in the order of cc3d's scan
    """
    box = _box_of(places, labels.shape)
    if box is None:
        nothing = np.zeros((0, 0, 0), np.uint16)
        return Instances((), nothing, (slice(0, 0), slice(0, 0), slice(0, 0)))
    ids = np.where(labels[box] <= targets, labels[box], 0)
    if given is None:
        numbers = cc3d.connected_components(ids, connectivity=26)
    else:
        numbers = np.where(ids > 0, given[box], 0)
    statistics = cc3d.statistics(numbers)
    start = np.array([s.start for s in box])
    found = []
    for number in np.flatnonzero(statistics["voxel_counts"]).tolist():
        if number == 0:
            continue
        own = statistics["bounding_boxes"][number]
        inside = numbers[own] == number
        centroid = grid.to_mm(np.asarray(statistics["centroids"][number]) + start)
        found.append(
            Instance(
                number,
                int(ids[own][inside][0]),
                int(statistics["voxel_counts"][number]),
                _shifted(own, start),
                (float(centroid[0]), float(centroid[1]), float(centroid[2])),
            )
        )
    return Instances(tuple(found), numbers, box)


def _box_of(places: Array, shape: Sequence[int]) -> Box | None:
    """Smallest box round flat indices; None where there are none."""
    if not len(places):
        return None
    z, y, x = (
        slice(int(axis.min()), int(axis.max()) + 1) for axis in np.unravel_index(places, shape)
    )
    return z, y, x


def grown(box: Box, by_mm: float, grid: Grid) -> Box:
    """A box that is larger by so many mm on each side (at least a voxel), cut off at the grid."""
    spacing = grid.spacing[::-1]
    sides = [
        slice(
            max(0, side.start - int(np.ceil(by_mm / s)) - 1),
            min(n, side.stop + int(np.ceil(by_mm / s)) + 1),
        )
        for side, s, n in zip(box, spacing, grid.shape, strict=True)
    ]
    return sides[0], sides[1], sides[2]


def _shifted(box: Sequence[slice], start: Array) -> Box:
    z, y, x = (slice(s.start + int(o), s.stop + int(o)) for s, o in zip(box, start, strict=True))
    return z, y, x
