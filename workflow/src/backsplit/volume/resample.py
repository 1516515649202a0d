"""From one grid of a patient to another: labels by label-aware interpolation, images linearly."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from backsplit.errors import CaseError, Code
from backsplit.volume.grid import Array, Grid, Volume

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
            f"{what} shares {share:.0%} of its place with the image, at least {MIN_OVERLAP:.0%} "
            "are needed; check that both are of one patient and one frame of reference",
        )


def require_labels_inside(what: str, labels: Array, grid: Grid, reference: Grid) -> None:
    """Refuse a label map of which a labelled voxel would be lost outside the grid.

    Raises
    ------
    CaseError
        GRID_NO_OVERLAP.
    """
    shell = _surface_box(labels)
    outside = ~_inside(shell, grid, reference, EDGE_VOXELS)
    if outside.any():
        index = np.argwhere(labels != 0)
        lost = int((~_inside(index, grid, reference, EDGE_VOXELS)).sum())
        if lost:
            raise CaseError(
                Code.GRID_NO_OVERLAP,
                f"{what} has {lost} labelled voxels outside the image; give the image that it was "
                "drawn on, or crop it",
            )


def resample_labels(labels: Array, grid: Grid, to: Grid) -> Array:
    """Put a label map on another grid.

    Linear interpolation of each label's indicator, the largest wins (ITK's
    LabelImageGenericInterpolate with a linear interpolator): smoother than nearest neighbour, and
    exact where the lattices coincide.

    Parameters
    ----------
    labels : values, uint8 or uint16, (z, y, x), on `grid`
    grid, to : from where to where; what lies outside `grid` becomes 0
    """
    moved = sitk.Resample(
        _as_itk(labels, grid), _reference(to), sitk.Transform(), sitk.sitkLabelLinear, 0
    )
    return np.asarray(sitk.GetArrayFromImage(moved))


def resample_image(volume: Volume, to: Grid) -> Volume:
    """Put an image on another grid, linearly; outside it takes its lowest value (air)."""
    image = volume.array.astype(np.float32)
    lowest = float(image.min())
    moved = sitk.Resample(
        _as_itk(image, volume.grid), _reference(to), sitk.Transform(), sitk.sitkLinear, lowest
    )
    return Volume(np.asarray(sitk.GetArrayFromImage(moved)), to)


def _inside(index_zyx: Array, grid: Grid, other: Grid, slack_voxels: float) -> Array:
    """Whether positions given in indices of `grid` lie in the box of voxels of `other`."""
    inverse = np.linalg.inv(other.affine_lps)
    mm = grid.to_mm(index_zyx)
    index = mm @ inverse[:3, :3].T + inverse[:3, 3]
    slack = 0.5 + slack_voxels * max(grid.spacing) / np.asarray(other.spacing)
    return np.asarray(((index > -slack) & (index < np.asarray(other.size) - 1 + slack)).all(axis=1))


def _surface_box(labels: Array) -> Array:
    """Corners of the box of labelled voxels, (8, 3) indices (z, y, x); none where all are 0."""
    if not labels.any():
        return np.zeros((0, 3))
    ranges = []
    for axis in range(3):
        hit = np.flatnonzero(labels.any(axis=tuple(a for a in range(3) if a != axis)))
        ranges.append((hit[0], hit[-1]))
    return np.array([[z, y, x] for z in ranges[0] for y in ranges[1] for x in ranges[2]])


def _as_itk(array: Array, grid: Grid) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    return image


def _reference(grid: Grid) -> sitk.Image:
    image = sitk.Image(list(grid.size), sitk.sitkUInt8)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    return image
