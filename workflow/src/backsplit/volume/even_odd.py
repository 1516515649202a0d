"""Closed contours in a plane, by the even-odd rule: the pixels inside, and the area.

A point is inside where a ray from it crosses all contours together an odd number of times, so
that inner contours are holes, and contours within holes are islands.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from skimage.draw import line

from backsplit.volume.grid import Array

ON_PIXEL = 0.01
"""A vertex that lies this near to a row or column of pixel centres, in pixels, was meant to lie on
it: contours are written with two or more decimals of a mm."""

_ROUNDING = 1e-6
"""An edge between two vertices on pixel centres passes others this near, in pixels."""


def fill(contours: Sequence[Array], shape: tuple[int, int]) -> Array:
    """Pixels whose centre is inside the contours or on one of them.

    Parameters
    ----------
    contours : (n, 2) vertices (row, column) in pixels, closed by an edge from last to first. Two
        vertices are a line, which is drawn from pixel to pixel; one is its pixel.
    shape : rows and columns; what lies outside is left out

    Returns
    -------
    mask
        bool, of `shape`.
    """
    snapped = [np.where(np.abs(c - np.rint(c)) <= ON_PIXEL, np.rint(c), c) for c in contours]
    polygons = [c for c in snapped if len(c) > 2]
    mask = np.zeros(shape, bool)
    if polygons:
        starts, ends = _edges(polygons)
        mask |= _inside(starts, ends, shape)
        _mark_on_edges(mask, starts, ends)
        _mark_on_edges(mask.T, starts[:, ::-1], ends[:, ::-1])
    for contour in snapped:
        if len(contour) <= 2:
            first, last = np.rint(contour[[0, -1]]).astype(int)
            _mark(mask, *line(*first, *last))
    return mask


def area(contours: Sequence[Array], step: float) -> float:
    """Area inside the contours, by integration: independent of any pixels.

    Between two neighbouring levels of vertices, the length inside is linear in the height unless
    edges cross there, so that the middle's length times the height is exact; crossings cost less
    than `step` squared each.

    Parameters
    ----------
    contours : (n, 2) vertices in mm, closed by an edge from last to first
    step : greatest height between two levels, mm
    """
    polygons = [c for c in contours if len(c) > 2]
    if not polygons:
        return 0.0
    starts, ends = _edges(polygons)
    heights = starts[:, 0]
    levels = np.union1d(heights, np.arange(heights.min(), heights.max(), step))
    low = np.searchsorted(levels, np.minimum(starts[:, 0], ends[:, 0]))
    high = np.searchsorted(levels, np.maximum(starts[:, 0], ends[:, 0]))
    middles = (levels[:-1] + levels[1:]) / 2
    slab, position = _crossings(starts, ends, low, high, middles)
    signs = np.where(np.arange(len(slab)) % 2, 1.0, -1.0)  # an even number in each slab
    return float((signs * position * np.diff(levels)[slab]).sum())


def perimeter(contour: Array) -> float:
    """Length of a closed contour, in the unit of its vertices."""
    return float(np.linalg.norm(contour - np.roll(contour, -1, axis=0), axis=1).sum())


def _edges(polygons: Sequence[Array]) -> tuple[Array, Array]:
    """Start and end of every edge, (n, 2) each."""
    return np.concatenate(polygons), np.concatenate([np.roll(c, -1, axis=0) for c in polygons])


def _crossings(
    starts: Array, ends: Array, low: Array, high: Array, levels: Array
) -> tuple[Array, Array]:
    """Where edges cross levels low … high - 1: (number of the level, position), sorted by both."""
    count = np.maximum(high - low, 0)
    edge = np.repeat(np.arange(len(starts)), count)
    level = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + low[edge]
    (y0, x0), (y1, x1) = starts[edge].T, ends[edge].T
    position = x0 + (levels[level] - y0) * (x1 - x0) / (y1 - y0)
    order = np.lexsort((position, level))
    return level[order], position[order]


def _inside(starts: Array, ends: Array, shape: tuple[int, int]) -> Array:
    """Pixels whose centre lies between an odd crossing of its row and the next one."""
    rows, columns = shape
    low = np.ceil(np.minimum(starts[:, 0], ends[:, 0])).astype(int).clip(0, rows)
    high = np.ceil(np.maximum(starts[:, 0], ends[:, 0])).astype(int).clip(0, rows)
    row, position = _crossings(starts, ends, low, high, np.arange(rows, dtype=float))
    first = np.ceil(position[0::2]).astype(int).clip(0, columns)
    beyond = (np.floor(position[1::2]).astype(int) + 1).clip(0, columns)
    change = np.zeros((rows, columns + 1), np.int32)
    there = first < beyond
    np.add.at(change, (row[0::2][there], first[there]), 1)
    np.add.at(change, (row[0::2][there], beyond[there]), -1)
    return np.asarray(change.cumsum(axis=1)[:, :-1] > 0)


def _mark_on_edges(mask: Array, starts: Array, ends: Array) -> None:
    """Mark the pixels whose centre an edge passes through at its crossing of a row."""
    low = np.ceil(np.minimum(starts[:, 0], ends[:, 0])).astype(int).clip(0, len(mask))
    high = (np.floor(np.maximum(starts[:, 0], ends[:, 0])).astype(int) + 1).clip(0, len(mask))
    along = starts[:, 0] != ends[:, 0]  # edges along the row are found by columns
    row, position = _crossings(
        starts[along], ends[along], low[along], high[along], np.arange(len(mask), dtype=float)
    )
    on = np.abs(position - np.rint(position)) <= _ROUNDING
    _mark(mask, row[on], np.rint(position[on]).astype(int))


def _mark(mask: Array, rows: Array, columns: Array) -> None:
    there = (rows >= 0) & (rows < mask.shape[0]) & (columns >= 0) & (columns < mask.shape[1])
    mask[rows[there], columns[there]] = True
