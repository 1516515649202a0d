"""Measures of every label of a case at once: what `measures.parquet` says of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cc3d
import numpy as np
import pandas as pd

from backsplit.measure.filled import Filled
from backsplit.measure.passes import (
    DIRECTIONS,
    SEVERAL,
    gather_cavities,
    gather_components,
    gather_edges,
    gather_intensities,
    gather_shapes,
)
from backsplit.volume import Array, Grid
from backsplit.volume.grid import SIDES

LARGE_ML = 0.1
LARGE_SHARE = 0.05
"""A component counts as large from both of these on: crumbs of a segmenter are smaller."""

MOST_BINS = 1 << 16
"""Percentiles are exact for integers that span as many values, else to this part of the range."""

PERCENTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


_INTENSITIES = ("mean", "sd", "minimum", "maximum", "p05", "p25", "p50", "p75", "p95")
_EDGES = ("edge_inside", "edge_outside", "edge_step", "texture", "shared_fraction")
_COMPONENTS = (
    *("components", "components_large", "largest_fraction", "stray_fraction", "spread_mm"),
)
_CENTROID = ("centroid_x", "centroid_y", "centroid_z")
_BOXES = tuple(f"box_{axis}_{end}" for axis in "xyz" for end in ("min", "max"))
_BORDERS = tuple(f"border_{side}" for side in SIDES)
_BLUNT = tuple(f"blunt_{side}" for side in SIDES)
_AXES = ("axis_1_mm", "axis_2_mm", "axis_3_mm")

COLUMNS = (
    *("case", "source", "structure", "voxels", "volume_ml"),
    *(*_INTENSITIES, *_EDGES, *_COMPONENTS, *_CENTROID, *_BOXES, *_BORDERS, *_BLUNT),
    *("touches_border", "holes_ml", "surface_mm2", "compactness", *_AXES),
)


def measure(
    image: Array, labels: Array, names: Sequence[str], grid: Grid, filled: Filled | None = None
) -> pd.DataFrame:
    """Measure every label at once.

    Parameters
    ----------
    image : intensities, (z, y, x)
    labels : ids, (z, y, x), unsigned
    names : name of each id, beginning with background; of background only size and intensity
        are measured
    grid : where both lie
    filled : the same label map with lesions given to their hosts, in which parts and holes are
        counted

    Returns
    -------
    table
        A row for each name in their order, empty structures included (voxels 0, the rest NaN or
        0), with `COLUMNS` but case and source:

        voxels, volume_ml
            size
        mean, sd, minimum, maximum, p05, p25, p50, p75, p95
            of the image's intensities, in its unit; `sd` divides by n; a percentile is the
            lowest value that so many voxels do not exceed
        edge_inside, edge_outside, edge_step
            mean intensity of the voxels on both sides of the surface's faces, and mean absolute
            difference across a face; faces of the volume are left out
        texture
            mean absolute difference of two neighbours within
        shared_fraction
            share of the surface that another structure lies next to
        components, components_large, largest_fraction
            26-connected; large ones have `LARGE_ML` and `LARGE_SHARE` of the structure;
            share of the largest; of a host with its lesions
        stray_fraction
            share of the components but the largest that do not reach the volume's border: beyond
            it nothing can connect them
        spread_mm
            from the centroid of the largest component to that of the furthest other large one
        centroid_*, box_*
            mm in patient axes (LPS: +x left, +y posterior, +z superior); boxes go from outer
            edge to outer edge of the voxels and are exact on grids along these axes
        border_*, touches_border
            voxels on that face of the volume; whether there are any
        blunt_*
            area of the structure's own outermost layer to that side, over the mean area of its
            layers along that axis: near 0 for what tapers off, 1 for a tube, above 1 for what was
            cut off
        axis_1_mm, axis_2_mm, axis_3_mm
            standard deviation of the place of its voxels along its principal axes, longest first
            (square roots of ITK's principal moments)
        holes_ml
            background that the structure, with its lesions, alone encloses (6-connected)
        surface_mm2, compactness
            by Crofton's formula over 13 directions (Lehmann & Legland 2012), and
            (36 pi V^2)^(1/3) / surface: 1 for a ball, less for anything else
    """
    count = len(names)
    sums = np.zeros((count, 10), np.int64)
    boxes = np.zeros((count, 3, 2), np.int64)
    boxes[:, :, 0] = np.iinfo(np.int64).max
    boxes[:, :, 1] = -1
    faces = np.zeros((count, 3, 2), np.int64)
    cuts = np.zeros((count, len(DIRECTIONS)), np.int64)
    gather_shapes(labels, DIRECTIONS, sums, boxes, faces, cuts)
    voxels = sums[:, 0].copy()
    voxels[0] = labels.size - voxels[1:].sum()
    volume = voxels * grid.voxel_ml
    surface = _surface_mm2(cuts, grid)
    with np.errstate(invalid="ignore", divide="ignore"):
        centroid = grid.to_mm(sums[:, 1:4] / sums[:, :1])
        compactness = (36 * np.pi * (volume * 1000) ** 2) ** (1 / 3) / surface
    parted, holes = _parts_and_holes(labels, filled, boxes, voxels, grid)
    border = _borders(faces, grid)
    parts: dict[tuple[str, ...], Any] = {
        ("structure",): [list(names)],
        ("voxels", "volume_ml"): [voxels, volume],
        _INTENSITIES: _intensities(image, labels, voxels).T,
        _EDGES: _edges(image, labels, count, grid).T,
        _COMPONENTS: parted.T,
        _CENTROID: centroid.T,
        _BOXES: _boxes_mm(boxes, voxels, grid).T,
        _BORDERS: border.T,
        _BLUNT: _blunt(labels, boxes, voxels, grid).T,
        ("touches_border",): [border.any(axis=1)],
        ("holes_ml",): [holes * grid.voxel_ml],
        ("surface_mm2", "compactness"): [surface, np.where(voxels > 0, compactness, np.nan)],
        _AXES: _axes_mm(sums, grid).T,
    }
    columns = {
        name: column
        for group, values in parts.items()
        for name, column in zip(group, values, strict=True)
    }
    for name in ("surface_mm2", "compactness"):
        columns[name][0] = np.nan
    for name in ("components", "components_large"):
        columns[name] = columns[name].astype(np.int64)
    return pd.DataFrame({name: columns[name] for name in COLUMNS[2:]})


def _intensities(image: Array, labels: Array, voxels: Array) -> Array:
    """Mean, sd, minimum, maximum and percentiles of each id, (id, 9)."""
    count = len(voxels)
    low, high = float(image.min()), float(image.max())
    whole = image.dtype.kind in "iu"
    width = 1.0 if whole and high - low < MOST_BINS else max(high - low, 1e-30) / MOST_BINS
    bins = np.zeros((count, min(MOST_BINS, int((high - low) / width) + 1)), np.uint32)
    sums = np.zeros((count, 2))
    ends = np.tile([np.inf, -np.inf], (count, 1))
    gather_intensities(image.reshape(-1), labels.reshape(-1), low, width, bins, sums, ends)
    result = np.full((count, 4 + len(PERCENTILES)), np.nan)
    for label in np.flatnonzero(voxels):
        n = int(voxels[label])
        mean = sums[label, 0] / n
        spread = max(sums[label, 1] / n - mean**2, 0.0)
        ranks = np.ceil(np.array(PERCENTILES) * n)
        steps = np.searchsorted(np.cumsum(bins[label], dtype=np.int64), ranks)
        # of a bin of integers the value itself, of a bin of real numbers its middle
        at = low + (steps if width == 1.0 and whole else steps + 0.5) * width
        result[label] = [mean + low, spread**0.5, *ends[label], *np.clip(at, *ends[label])]
    return result


def _edges(image: Array, labels: Array, count: int, grid: Grid) -> Array:
    """Intensity inside, outside, step, texture, shared share of each id's surface, (id, 5)."""
    x, y, z = grid.spacing
    edges = np.zeros((count, 7))
    gather_edges(image, labels, np.array([x * y, x * z, y * z]), edges)
    edges[0] = np.nan
    surface, inner = (np.where(edges[:, i] > 0, edges[:, i], np.nan) for i in (0, 5))
    return np.stack(
        [*(edges[:, 1:4].T / surface), edges[:, 6] / inner, edges[:, 4] / surface], axis=1
    )


def _axes_mm(sums: Array, grid: Grid) -> Array:
    """Standard deviations along the principal axes, (id, 3), mm, longest first."""
    result = np.full((len(sums), 3), np.nan)
    for label in np.flatnonzero(sums[1:, 0]) + 1:
        n, mean = sums[label, 0], sums[label, 1:4] / sums[label, 0]
        zz, yy, xx, zy, zx, yx = sums[label, 4:] / n
        moments = np.array([[zz, zy, zx], [zy, yy, yx], [zx, yx, xx]]) - np.outer(mean, mean)
        spacing = np.asarray(grid.spacing_zyx)
        spread = np.linalg.eigvalsh(moments * np.outer(spacing, spacing))
        result[label] = np.sqrt(np.maximum(spread[::-1], 0.0))
    return result


def _around(boxes: Array) -> tuple[slice, slice, slice]:
    """The part of a volume that holds every box, and one voxel more."""
    low = boxes[:, :, 0].min(axis=0, initial=np.iinfo(np.int64).max)
    high = boxes[:, :, 1].max(axis=0, initial=-1)
    if (high < 0).any():
        return (slice(0, 0),) * 3
    z, y, x = (slice(max(0, int(a) - 1), int(b) + 2) for a, b in zip(low, high, strict=True))
    return z, y, x


def _parts_and_holes(
    labels: Array, filled: Filled | None, boxes: Array, voxels: Array, grid: Grid
) -> tuple[Array, Array]:
    """Components, (id, 5) as `_components` has them, and voxels of holes of each id, (id,)."""
    count = len(voxels)
    if filled is None:
        inside = _around(boxes[1:])
        outer = _outer(inside, labels.shape)
        return _components(labels[inside], outer, voxels, grid), _holes(labels[inside], count)
    sizes = np.zeros(max(count, len(filled.gained)), np.int64)
    sizes[:count] = voxels
    sizes[: len(filled.gained)] += filled.gained
    changed = np.array([[side.start, side.stop - 1] for side in filled.box])
    inside = _around(np.concatenate([boxes[1:], changed[None]]))
    array = filled.array[inside]
    parted = _components(array, _outer(inside, labels.shape), sizes, grid)[:count]
    holes = _holes(array, len(sizes))[:count]
    for label in filled.lost:  # a target's own parts are those of its lesions
        inside = _around(boxes[label : label + 1])
        own = np.where(labels[inside] == label, labels[inside], 0)
        parted[label] = _components(own, _outer(inside, labels.shape), voxels, grid)[label]
    return parted, holes


def _outer(box: tuple[slice, slice, slice], shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Faces of a box (axis, first or last index) that lie on a face of the volume."""
    first = [(axis, 0) for axis, side in enumerate(box) if side.start == 0]
    return first + [(axis, -1) for axis, side in enumerate(box) if side.stop >= shape[axis]]


def _components(
    labels: Array, outer: Sequence[tuple[int, int]], voxels: Array, grid: Grid
) -> Array:
    """Components, large ones, share of the largest, stray share, spread, (id, 5)."""
    result = np.zeros((len(voxels), 5))
    result[:, 2:] = np.nan
    if not labels.size:
        return result
    found, number = cc3d.connected_components(labels, connectivity=26, return_N=True)
    owner = np.zeros(number + 1, np.int64)
    sums = np.zeros((number + 1, 4), np.int64)
    gather_components(labels, found, owner, sums)
    at_border = np.zeros(number + 1, bool)
    for axis, end in outer:
        at_border[found.take(end, axis)] = True
    order = np.argsort(owner[1:], kind="stable") + 1
    for mine in np.split(order, np.flatnonzero(np.diff(owner[order])) + 1):
        if not len(mine):
            continue
        label, sizes = int(owner[mine[0]]), sums[mine, 0]
        least = max(LARGE_ML / grid.voxel_ml, LARGE_SHARE * voxels[label])
        places = grid.to_mm(sums[mine, 1:] / sizes[:, None])
        largest = int(np.argmax(sizes))
        away = np.linalg.norm(places - places[largest], axis=1)
        large, stray = sizes >= least, ~at_border[mine]
        stray[largest] = False
        shares = np.array([sizes[largest], sizes[stray].sum()]) / voxels[label]
        result[label] = [len(mine), large.sum(), *shares, away[large].max(initial=0.0)]
    return result


def _holes(labels: Array, count: int) -> Array:
    """Voxels of background that one label alone encloses, (id,)."""
    holes = np.zeros(count, np.int64)
    if not labels.size:
        return holes
    found, number = cc3d.connected_components(labels == 0, connectivity=6, return_N=True)
    owner, voxels = np.zeros(number + 1, np.int64), np.zeros(number + 1, np.int64)
    gather_cavities(labels, found, owner, voxels)
    closed = (owner != SEVERAL) & (owner > 0)
    np.add.at(holes, owner[closed], voxels[closed])
    return holes


def _boxes_mm(boxes: Array, voxels: Array, grid: Grid) -> Array:
    """Lowest and highest x, y, z of each id's outer voxel edges, (id, 6), mm, LPS."""
    result = np.full((len(voxels), 6), np.nan)
    for label in np.flatnonzero(voxels[1:]) + 1:
        low, high = boxes[label, :, 0] - 0.5, boxes[label, :, 1] + 0.5
        corners = np.array([[(low, high)[(c >> a) & 1][a] for a in range(3)] for c in range(8)])
        mm = grid.to_mm(corners)
        result[label] = np.stack([mm.min(axis=0), mm.max(axis=0)], axis=1).ravel()
    return result


def _borders(faces: Array, grid: Grid) -> Array:
    """Voxels on each face of the volume, in the order of `SIDES`, (id, 6)."""
    columns = []
    for patient_axis in range(3):
        axis, sign = grid.array_axis(patient_axis)
        ends = (0, 1) if sign > 0 else (1, 0)
        columns += [faces[:, axis, end] for end in ends]
    return np.stack(columns, axis=1)


def _blunt(labels: Array, boxes: Array, voxels: Array, grid: Grid) -> Array:
    """Area of the outermost layer over that of the mean layer, by `SIDES`, (id, 6)."""
    result = np.full((len(voxels), 6), np.nan)
    for label in np.flatnonzero(voxels[1:]) + 1:
        inside = tuple(slice(low, high + 1) for low, high in boxes[label])
        for patient_axis in range(3):
            axis, sign = grid.array_axis(patient_axis)
            layers = int(boxes[label, axis, 1] - boxes[label, axis, 0] + 1)
            for end, index in enumerate((0, layers - 1)[::sign]):
                layer = labels[inside].take(index, axis)
                area = int((layer == label).sum())
                result[label, 2 * patient_axis + end] = area * layers / voxels[label]
    return result


_WEIGHTS = 2 * np.repeat([0.04577789120476, 0.03698062787608, 0.03519563978232], [3, 6, 4])
"""Share of the sphere of directions next to each of `DIRECTIONS` and its opposite (Lehmann &
Legland 2012), for cubic voxels; used for others too, as ITK does."""


def _surface_mm2(cuts: Array, grid: Grid) -> Array:
    """Surface of each id by Crofton's formula, (id,), mm2."""
    steps = np.linalg.norm(DIRECTIONS * np.asarray(grid.spacing_zyx), axis=1)
    per_cut = 4 * _WEIGHTS * grid.voxel_ml * 1000 / steps / 2
    return np.asarray(cuts @ per_cut)
