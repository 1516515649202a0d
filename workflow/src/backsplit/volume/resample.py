"""From one grid of a patient to another: labels by label-aware interpolation, images linearly."""

from __future__ import annotations

import cc3d
import numpy as np

from backsplit.errors import CaseError, Code
from backsplit.volume.grid import Array, Grid, Volume
from backsplit.volume.same_lattice import find_lattice

MIN_OVERLAP = 0.5
"""Share of the smaller of two boxes that must lie in the other: PET and CT of a patient overlap
nearly wholly, a head and a pelvis not at all."""

EDGE_VOXELS = 0.5
"""A labelled voxel may stick out of the grid by that much of a voxel of its own."""


def overlap_fraction(first: Grid, second: Grid) -> float:
    """Share of the smaller grid's voxels whose centres lie in the other, from 9³ sample points."""
    smaller, larger = sorted((first, second), key=lambda g: g.voxel_ml * float(np.prod(g.size)))
    axes = [np.linspace(0, n - 1, 9) for n in smaller.shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return float(_inside(points, smaller, larger, 0.0).mean())


def require_overlap(what: str, grid: Grid, reference: Grid) -> None:
    """Refuse a volume of another place in the body, or of another patient.

    Raises
    ------
    CaseError
        GRID_NO_OVERLAP.
    """
    share = overlap_fraction(grid, reference)
    if share < MIN_OVERLAP:
        raise CaseError(
            Code.GRID_NO_OVERLAP,
            f"{what} overlaps the image by {share:.0%}; at least {MIN_OVERLAP:.0%} is needed",
            "check that both are of the same patient and frame of reference",
        )


def require_labels_inside(what: str, labels: Array, grid: Grid, reference: Grid) -> None:
    """Refuse a label map of which a labelled voxel would be lost outside the grid.

    Raises
    ------
    CaseError
        GRID_NO_OVERLAP.
    """
    lost = _count_outside(labels, grid, reference)
    if lost:
        raise CaseError(
            Code.GRID_NO_OVERLAP,
            f"{what} has {lost} labelled voxels outside the image",
            "use the image that it was drawn on, or crop it",
        )


def _count_outside(labels: Array, grid: Grid, reference: Grid) -> int:
    """Labelled voxels beyond the edge: to the voxel on one lattice, else with some slack."""
    if (lattice := find_lattice(grid, reference)) is not None:
        return lattice.count_outside(labels)
    if _inside(_surface_box(labels), grid, reference, EDGE_VOXELS).all():
        return 0
    index = np.argwhere(labels != 0)
    return int((~_inside(index, grid, reference, EDGE_VOXELS)).sum())


def resample_labels(labels: Array, grid: Grid, to: Grid) -> Array:
    """Put a label map on another grid.

    Linear interpolation of each label's indicator, the largest wins (ITK's
    LabelImageGenericInterpolate with a linear interpolator): smoother than nearest neighbour, and
    exact where the lattices coincide. Edges get rounder: what is a few voxels thick shrinks, which
    is why lesions go by `resample_lesions`.

    Parameters
    ----------
    labels : values, uint8 or uint16, (z, y, x), on `grid`
    grid, to : from where to where; what lies outside `grid` becomes 0
    """
    return _resampled(labels, grid, to, "sitkLabelLinear", 0)


def resample_lesions(labels: Array, grid: Grid, to: Grid) -> Array:
    """Put lesions on another grid so that each keeps its volume.

    Interpolation and a threshold shrink what is small: a cube of 3x3x3 voxels loses a third when
    its voxels are halved. Here each 26-connected component of a value covers voxels of the new
    grid by some share (linear interpolation, averaged over the voxel), and as many voxels as its
    volume asks for are taken, the most covered first; at least one.

    Parameters
    ----------
    labels : values, uint8 or uint16, (z, y, x), on `grid`
    grid, to : from where to where
    """
    result = np.zeros(to.shape, labels.dtype)
    best = np.zeros(to.shape, np.float32)
    components = cc3d.connected_components(labels.copy(), connectivity=26)
    boxes = cc3d.statistics(components)["bounding_boxes"]
    for number in range(1, len(boxes)):
        box = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in boxes[number])
        mask = components[box] == number
        value = labels[box][mask][0]
        start = np.array([s.start for s in box])
        where, share = _coverage(mask, start, grid, to)
        if where is None:
            continue
        count = max(1, round(float(share.sum())))
        chosen = _most_covered(share, to)[:count]
        index = np.unravel_index(chosen, share.shape)
        better = share[index] > best[where][index]
        index = tuple(i[better] for i in index)
        best[where][index] = share[index]
        result[where][index] = value
    return result


def _most_covered(share: Array, grid: Grid) -> Array:
    """Flat indices by falling share; of equal ones the nearest to the middle of all come first."""
    index = np.indices(share.shape).reshape(3, -1)
    middle = (index * share.ravel()).sum(axis=1) / max(float(share.sum()), 1e-9)
    away = (((index.T - middle) * grid.spacing_zyx) ** 2).sum(axis=1)
    return np.asarray(np.lexsort((away, -np.round(share.ravel(), 6))))


def _coverage(
    mask: Array, start_zyx: Array, grid: Grid, to: Grid
) -> tuple[tuple[slice, ...] | None, Array]:
    """Share of each voxel of another grid that a mask covers, in the box where there is any.

    Parameters
    ----------
    mask : bool, (z, y, x), a part of `grid` that begins at index `start_zyx`
    """
    corners = np.array([[z, y, x] for z in (0, 1) for y in (0, 1) for x in (0, 1)], float)
    corners = corners * (np.array(mask.shape) - 1) + start_zyx
    index = to.to_index(grid.to_mm(corners))
    low = np.maximum(np.floor(index.min(axis=0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(index.max(axis=0)).astype(int) + 2, to.shape)
    if (low >= high).any():
        return None, np.zeros(0)
    where = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    # as many samples per voxel as it takes to see every voxel of the mask
    finest = min(grid.spacing)
    times = [max(2, int(np.ceil(s / finest))) for s in to.spacing_zyx]
    size = (high - low) * times
    step = 1.0 / np.array(times)
    first = low - 0.5 + step / 2
    spacing = tuple(float(s * d) for s, d in zip(to.spacing, step[::-1], strict=True))
    origin = to.to_mm(first[None])[0]
    fine = Grid(
        (int(size[2]), int(size[1]), int(size[0])),
        (spacing[0], spacing[1], spacing[2]),
        (float(origin[0]), float(origin[1]), float(origin[2])),
        to.direction,
    )
    corner = grid.to_mm(start_zyx[None].astype(float))[0]
    part = Grid(
        (mask.shape[2], mask.shape[1], mask.shape[0]),
        grid.spacing,
        (float(corner[0]), float(corner[1]), float(corner[2])),
        grid.direction,
    )
    samples = _resampled(mask.astype(np.float32), part, fine, "sitkLinear", 0.0)
    blocks = samples.reshape([n for pair in zip(high - low, times, strict=True) for n in pair])
    return where, np.asarray(blocks.mean(axis=(1, 3, 5)))


def resample_image(volume: Volume, to: Grid) -> Volume:
    """Put an image on another grid; outside it takes its lowest value (air).

    Voxels of the same lattice keep their values and type; between voxels it is linear, in float32.
    """
    if (lattice := find_lattice(volume.grid, to)) is not None:
        return Volume(lattice.take(volume.array, volume.array.min()), to)
    image = volume.array.astype(np.float32)
    lowest = float(image.min())
    return Volume(_resampled(image, volume.grid, to, "sitkLinear", lowest), to)


def _inside(index_zyx: Array, grid: Grid, other: Grid, slack_voxels: float) -> Array:
    """Whether positions given in indices of `grid` lie in the box of voxels of `other`."""
    index = other.to_index(grid.to_mm(index_zyx))
    slack = 0.5 + slack_voxels * max(grid.spacing) / np.asarray(other.spacing_zyx)
    far = np.asarray(other.shape) - 1
    return np.asarray(((index > -slack) & (index < far + slack)).all(axis=1))


def _surface_box(labels: Array) -> Array:
    """Corners of the box of labelled voxels, (8, 3) indices (z, y, x); none where all are 0."""
    if not labels.any():
        return np.zeros((0, 3))
    ranges = []
    for axis in range(3):
        hit = np.flatnonzero(labels.any(axis=tuple(a for a in range(3) if a != axis)))
        ranges.append((hit[0], hit[-1]))
    return np.array([[z, y, x] for z in ranges[0] for y in ranges[1] for x in ranges[2]])


def _resampled(array: Array, grid: Grid, to: Grid, interpolator: str, outside: float) -> Array:
    import SimpleITK as sitk  # most data sets need it for no case, and every job would load it

    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    moved = sitk.Resample(
        image,
        list(to.size),
        sitk.Transform(),
        getattr(sitk, interpolator),
        to.origin,
        to.spacing,
        to.direction,
        outside,
    )
    return np.asarray(sitk.GetArrayFromImage(moved))
