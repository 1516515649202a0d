"""Noise on auxiliary labels, in mm; lesions and ignored voxels stay as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from itertools import product

import numpy as np
from scipy import ndimage

from backsplit.study.arms import Noise, NoiseKind
from backsplit.volume import Array
from backsplit.volume.distance import distance_mm

Spacing = tuple[float, float, float]
"""Voxel sides in the order of the array's axes, mm, (z, y, x)."""

Box = tuple[slice, slice, slice]

ELASTIC_KNOTS_MM = 40.0
"""Distance of the knots of elastic deformation: neighbouring organs move together."""
JITTER_KNOTS_MM = 8.0
"""Least distance of the knots of a jittered boundary …"""
JITTER_KNOTS_FACTOR = 3.0
"""… and in standard deviations of the jitter, so that the boundary bends but does not tear."""
SPLINE_VARIANCE = (151 / 315) ** 3
"""Variance of a uniform cubic B-spline in 3D whose coefficients have variance 1, averaged over a
cell: the integral of the squared basis function, 151/315 an axis."""
SLAB_VOXELS = 2**21
"""Voxels that are warped at a time."""


def noisy(
    labels: Array, spacing: Spacing, ids: Mapping[str, int], noise: Noise, case: str
) -> Array:
    """Make the auxiliary labels of a case worse.

    What a lesion hides is filled with the label of the nearest voxel first, so that the noise does
    not show where lesions are; then lesions and ignored voxels are laid on top again.

    Parameters
    ----------
    labels : label map, (z, y, x); ids below those of the structures are targets, above `ignore`
    spacing : mm, (z, y, x)
    ids : name of each auxiliary structure to its id
    noise : what is done
    case : its name decides the draws, with the seed

    Returns
    -------
    made
        Of the same shape and type; every voxel that is no structure and no background is as it was.
    """
    if not ids or not np.isin(labels, list(ids.values())).any():
        return labels.copy()
    full = beneath(labels, spacing, ids)
    made = _KINDS[noise.kind](full, spacing, ids, noise, case)
    return laid_on_top(labels, made, ids)


def kept_dice(clean: Array, made: Array, ids: Mapping[str, int]) -> dict[str, float]:
    """Dice of each structure that the clean map has, between both maps (z, y, x)."""
    most = max(int(clean.max()), int(made.max()), *ids.values(), 0) + 1
    before, after = (np.bincount(m.reshape(-1), minlength=most) for m in (clean, made))
    both = np.bincount(clean[clean == made], minlength=most)
    return {
        name: float(2 * both[i] / (before[i] + after[i])) for name, i in ids.items() if before[i]
    }


def generator(seed: int, *words: str) -> np.random.Generator:
    """Random numbers that depend on a seed and some words, and on nothing done before."""
    digest = hashlib.sha256("\0".join([str(seed), *words]).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def beneath(labels: Array, spacing: Spacing, ids: Mapping[str, int]) -> Array:
    """Labels without targets: each of their voxels takes the label of the nearest other voxel.

    Parameters
    ----------
    labels : label map, (z, y, x); ids from 1 to below the first structure's are targets
    spacing : mm, (z, y, x)
    ids : name of each auxiliary structure to its id
    """
    filled = labels.copy()
    targets = (labels > 0) & (labels < min(ids.values()))
    numbers, count = ndimage.label(targets, ndimage.generate_binary_structure(3, 3))
    for number, box in enumerate(ndimage.find_objects(numbers, count), start=1):
        near = wider(box, 1, labels.shape)  # the nearest other voxel is at most one from the box
        hole, mine = targets[near], numbers[near] == number
        if hole.all():
            filled[near][mine] = 0
            continue
        index = ndimage.distance_transform_edt(
            hole, sampling=spacing, return_distances=False, return_indices=True
        )
        filled[near][mine] = labels[near][tuple(axis[mine] for axis in index)]
    return filled


def laid_on_top(labels: Array, made: Array, ids: Mapping[str, int]) -> Array:
    """Put everything that is no auxiliary structure of one map on top of another.

    Raises
    ------
    AssertionError
        A target or an ignored voxel was added or moved.
    """
    structures = np.zeros(max(int(labels.max()), int(made.max()), *ids.values()) + 1, bool)
    structures[list(ids.values())] = True
    own = (labels > 0) & ~structures[labels]
    result = np.where(structures[made], made, 0).astype(labels.dtype)
    result[own] = labels[own]
    assert np.array_equal((result > 0) & ~structures[result], own)
    return result


def wider(
    box: tuple[slice, ...], voxels: int | tuple[int, int, int], shape: tuple[int, ...]
) -> Box:
    """A box widened by a number of voxels on each side, within a volume of that shape."""
    by = (voxels,) * 3 if isinstance(voxels, int) else voxels
    z, y, x = (
        slice(max(0, side.start - more), min(size, side.stop + more))
        for side, more, size in zip(box, by, shape, strict=True)
    )
    return z, y, x


def structure_boxes(labels: Array, ids: Mapping[str, int]) -> Iterator[tuple[str, int, Box]]:
    """Name, id and box of each structure that a map has, the one of most voxels first."""
    counts = np.bincount(labels.reshape(-1), minlength=max(ids.values()) + 1)
    boxes = ndimage.find_objects(labels)
    for name, label in sorted(ids.items(), key=lambda item: (-counts[item[1]], item[0])):
        if counts[label]:
            yield name, label, boxes[label - 1]


def smooth_field(
    box: Box, shape: tuple[int, ...], spacing: Spacing, knots_mm: float, rng: np.random.Generator
) -> Callable[[slice], Array]:
    """A smooth random field, isotropic in mm, of mean 0 and variance 1.

    A uniform cubic B-spline with independent normal coefficients.

    Parameters
    ----------
    box : where the field is needed, voxels
    shape : of the volume
    spacing : mm, (z, y, x)
    knots_mm : distance of the coefficients
    rng : where they come from

    Returns
    -------
    values
        Gives the values of some slices of the box, (slices, rows, columns), float32.
    """
    step = np.asarray(spacing) / knots_mm
    sides = [side.stop - side.start for side in box]
    size = [int(np.ceil(n * s)) + 5 for n, s in zip(sides, step, strict=True)]
    knots = rng.standard_normal(size).astype(np.float32) / np.float32(np.sqrt(SPLINE_VARIANCE))

    def values(slices: slice) -> Array:
        first, count = slices.start, slices.stop - slices.start
        return np.asarray(
            ndimage.affine_transform(
                knots,
                step,
                offset=[2 + first * step[0], 2, 2],
                output_shape=(count, *sides[1:]),
                order=3,
                prefilter=False,
            )
        )

    return values


def _grow(labels: Array, spacing: Spacing, ids: Mapping[str, int], noise: Noise, _: str) -> Array:
    """Background within the distance of a structure becomes the nearest one."""
    made = labels.copy()
    nearest = np.full(labels.shape, np.inf, np.float32)
    reach = _voxels(noise.amount, spacing)
    for _name, label, tight in structure_boxes(labels, ids):
        box = wider(tight, reach, labels.shape)
        away = distance_mm(labels[box] != label, spacing)
        mine = (labels[box] == 0) & (away <= noise.amount) & (away < nearest[box])
        nearest[box][mine] = away[mine]
        made[box][mine] = label
    return made


def _shrink(labels: Array, spacing: Spacing, ids: Mapping[str, int], noise: Noise, _: str) -> Array:
    """Voxels within the distance of what is known to be something else become background."""
    made = labels.copy()
    ignored = labels > max(ids.values())
    for _name, label, tight in structure_boxes(labels, ids):
        box = wider(tight, 1, labels.shape)
        mine = labels[box] == label
        depth = distance_mm(mine | ignored[box], spacing)
        made[box][mine & (depth <= noise.amount)] = 0
    return made


def _shift(
    labels: Array, spacing: Spacing, ids: Mapping[str, int], noise: Noise, case: str
) -> Array:
    """Each structure moves in a direction of its own; smaller ones lie on larger ones."""
    made = np.where(labels > max(ids.values()), labels, 0)
    steps = _shifts(noise.amount, spacing)
    for name, label, tight in structure_boxes(labels, ids):
        step = steps[generator(noise.seed, case, "shift", name).integers(len(steps))]
        box = wider(tight, (int(abs(step[0])), int(abs(step[1])), int(abs(step[2]))), labels.shape)
        # at the edge of the image a structure goes on as it ends
        source = [
            np.clip(np.arange(side.start, side.stop) - by, 0, size - 1)
            for side, by, size in zip(box, step, labels.shape, strict=True)
        ]
        made[box][labels[np.ix_(*source)] == label] = label
    return made


def _shifts(amount: float, spacing: Spacing) -> Array:
    """Shifts by whole voxels, (n, 3), as long as wanted to half a voxel's smallest side."""
    reach = _voxels(amount, spacing)
    steps = np.array(list(product(*(range(-r, r + 1) for r in reach))))
    length = np.linalg.norm(steps * spacing, axis=1)
    return np.asarray(steps[np.abs(length - amount) <= min(spacing) / 2 + 1e-9])


def _jitter(
    labels: Array, spacing: Spacing, ids: Mapping[str, int], noise: Noise, case: str
) -> Array:
    """Every boundary moves along its normal, by a normal deviate."""
    knots_mm = max(JITTER_KNOTS_MM, JITTER_KNOTS_FACTOR * noise.amount)
    return _warp(labels, spacing, ids, noise.amount, knots_mm, noise, case)


def _elastic(
    labels: Array, spacing: Spacing, ids: Mapping[str, int], noise: Noise, case: str
) -> Array:
    """Everything is displaced together, smoothly; the amount is the root mean square."""
    deviation = noise.amount / np.sqrt(3)
    return _warp(labels, spacing, ids, deviation, ELASTIC_KNOTS_MM, noise, case)


def _warp(
    labels: Array,
    spacing: Spacing,
    ids: Mapping[str, int],
    deviation: float,
    knots_mm: float,
    noise: Noise,
    case: str,
) -> Array:
    """Displace labels by a random field of that standard deviation along each axis, mm."""
    made = labels.copy()
    if not deviation:
        return made
    # six deviations: what lies further away from a structure than that is never reached by one
    box = wider(_common_box(labels, ids), _voxels(6 * deviation, spacing), labels.shape)
    fields = [
        smooth_field(box, labels.shape, spacing, knots_mm, generator(noise.seed, case, *words))
        for words in ((noise.kind, "z"), (noise.kind, "y"), (noise.kind, "x"))
    ]
    sides = [side.stop - side.start for side in box]
    rows = [np.arange(side.start, side.stop, dtype=np.float32) for side in box]
    thickness = max(1, SLAB_VOXELS // (sides[1] * sides[2]))
    for first in range(0, sides[0], thickness):
        slab = slice(first, min(sides[0], first + thickness))
        places = np.ix_(rows[0][slab], rows[1], rows[2])
        source = []
        for axis, (place, field) in enumerate(zip(places, fields, strict=True)):
            moved = place + field(slab) * np.float32(deviation / spacing[axis])
            source.append(np.clip(np.rint(moved).astype(np.int32), 0, labels.shape[axis] - 1))
        z = slice(box[0].start + slab.start, box[0].start + slab.stop)
        made[z, box[1], box[2]] = labels[tuple(source)]
    return made


def _drop(labels: Array, _: Spacing, ids: Mapping[str, int], noise: Noise, case: str) -> Array:
    """Each structure becomes background with the probability `amount`."""
    gone = [
        label
        for name, label in ids.items()
        if generator(noise.seed, case, "drop", name).random() < noise.amount
    ]
    return np.where(np.isin(labels, gone), 0, labels)


def _swap(labels: Array, _: Spacing, ids: Mapping[str, int], noise: Noise, __: str) -> Array:
    """The structures of each pair change their labels, where a case has both."""
    table = np.arange(max(int(labels.max()), *ids.values()) + 1, dtype=labels.dtype)
    there = np.bincount(labels.reshape(-1), minlength=len(table)) > 0
    for first, second in noise.pairs:
        if first in ids and second in ids and there[ids[first]] and there[ids[second]]:
            table[[ids[first], ids[second]]] = table[[ids[second], ids[first]]]
    return np.asarray(table[labels])


def _voxels(mm: float, spacing: Spacing) -> tuple[int, int, int]:
    """A distance in voxels along each axis, rounded up."""
    z, y, x = (int(np.ceil(mm / side)) for side in spacing)
    return z, y, x


def _common_box(labels: Array, ids: Mapping[str, int]) -> Box:
    """The box that holds every structure."""
    boxes = [box for _, _, box in structure_boxes(labels, ids)]
    z, y, x = (
        slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes))
        for axis in range(3)
    )
    return z, y, x


_KINDS: Mapping[NoiseKind, Callable[..., Array]] = {
    "grow": _grow,
    "shrink": _shrink,
    "shift": _shift,
    "jitter": _jitter,
    "elastic": _elastic,
    "drop": _drop,
    "swap": _swap,
}
