"""Controls: auxiliary labels of plausible shape that say nothing of the image."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from backsplit.study.arms import Control
from backsplit.study.noise import (
    Box,
    Spacing,
    beneath,
    generator,
    laid_on_top,
    smooth_field,
    structure_boxes,
    wider,
)
from backsplit.volume import Array

ROUGHNESS = 0.35
"""Standard deviation of a blob's surface, in radii of a ball of its volume."""
TRIES = 20
"""Places that are drawn for a blob; the one with most room is taken."""
LARGEST_AXIS = 3.0
"""Radii from a blob's centre to the sides of the box it is made in."""


def controlled(
    labels: Array,
    spacing: Spacing,
    ids: Mapping[str, int],
    control: Control,
    case: str,
    donor: Array,
    donor_spacing: Spacing,
) -> Array:
    """Replace the auxiliary labels of a case by shapes that say nothing of its image.

    Parameters
    ----------
    labels : label map, (z, y, x); ids below those of the structures are targets, above `ignore`
    spacing : mm, (z, y, x)
    ids : name of each auxiliary structure to its id
    control : `shuffled` takes the structures of the donor, `blobs` random shapes
    case : its name decides the draws of blobs, with the seed
    donor : label map of another patient with the same ids, on any grid
    donor_spacing : mm, (z, y, x)

    Returns
    -------
    made
        Of the same shape and type. It holds no structure that the case has not. Every voxel that
        is no structure and no background is as it was.
    """
    there = {name: i for name, i in ids.items() if (labels == i).any()}
    if not there:
        return labels.copy()
    if control.kind == "blobs":
        made = _blobs(labels, spacing, there, control, case)
    else:
        made = _of_donor(labels, spacing, there, beneath(donor, donor_spacing, ids), donor_spacing)
    return laid_on_top(labels, made, ids)


def _of_donor(
    labels: Array,
    spacing: Spacing,
    ids: Mapping[str, int],
    donor: Array,
    donor_spacing: Spacing,
) -> Array:
    """Structures of another patient, in their size; the middles of what both have coincide."""
    kept = np.zeros(int(donor.max()) + 1, labels.dtype)
    mine = [label for label in ids.values() if label < len(kept)]
    kept[mine] = mine
    structures = kept[donor]
    if not structures.any():
        return np.zeros_like(labels)
    common = np.isin(labels, np.unique(structures[structures > 0]))
    source, inside = [], []
    for axis in range(3):
        middle = _middle(common, axis)
        place = (np.arange(labels.shape[axis]) - middle) * spacing[axis] / donor_spacing[axis]
        index = np.rint(place + _middle(structures > 0, axis)).astype(int)
        size = structures.shape[axis]
        inside.append((index >= 0) & (index < size))
        source.append(np.clip(index, 0, size - 1))
    taken = structures[np.ix_(*source)]
    taken[~inside[0]] = 0
    taken[:, ~inside[1]] = 0
    taken[:, :, ~inside[2]] = 0
    return np.asarray(taken)


def _middle(mask: Array, axis: int) -> float:
    """Middle of what a mask holds along an axis, in voxels."""
    held = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
    return float(held[0] + held[-1]) / 2


def _blobs(
    labels: Array, spacing: Spacing, ids: Mapping[str, int], control: Control, case: str
) -> Array:
    """Random shapes, each of as many voxels as its structure, somewhere where structures are.

    The largest comes first; none lies on a lesion, an ignored voxel or another blob.
    """
    structures = np.isin(labels, list(ids.values()))
    free = structures | (labels == 0)
    ends = [np.flatnonzero(structures.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    made = np.zeros_like(labels)
    for name, label, _ in structure_boxes(labels, ids):
        count = int(np.count_nonzero(labels == label))
        rng = generator(control.seed, case, "blobs", name)
        radius = float(np.cbrt(3 * count * np.prod(spacing) / (4 * np.pi)))
        places = [
            tuple(int(rng.integers(held[0], held[-1] + 1)) for held in ends) for _ in range(TRIES)
        ]
        centre = max(places, key=lambda place: np.mean(free[_around(place, radius, spacing, free)]))
        box = _box_with_room(centre, LARGEST_AXIS * radius, spacing, free, count)
        field = smooth_field(box, labels.shape, spacing, radius, rng)
        places_mm = np.ix_(
            *(
                (np.arange(side.start, side.stop, dtype=np.float32) - middle) * mm
                for side, middle, mm in zip(box, centre, spacing, strict=True)
            )
        )
        away = np.sqrt(sum(np.square(place) for place in places_mm))
        depth = ROUGHNESS * radius * field(slice(0, box[0].stop - box[0].start)) - away
        room = np.flatnonzero(free[box])
        deepest = np.argpartition(-depth.reshape(-1)[room], count - 1)[:count]
        chosen = np.zeros(depth.size, bool)
        chosen[room[deepest]] = True
        made[box][chosen.reshape(depth.shape)] = label
        free[box][chosen.reshape(depth.shape)] = False
    return made


def _around(place: tuple[int, ...], reach_mm: float, spacing: Spacing, free: Array) -> Box:
    """The box that reaches this far from a voxel, within the volume."""
    by = [int(np.ceil(reach_mm / side)) for side in spacing]
    return wider(tuple(slice(i, i + 1) for i in place), (by[0], by[1], by[2]), free.shape)


def _box_with_room(
    place: tuple[int, ...], reach_mm: float, spacing: Spacing, free: Array, count: int
) -> Box:
    """A box round a voxel, so large that it holds as many free voxels as are needed."""
    box = _around(place, reach_mm, spacing, free)
    while np.count_nonzero(free[box]) < count:
        reach_mm *= 2
        box = _around(place, reach_mm, spacing, free)
    return box
