"""Close-ups for the page of a case: three planes through a lesion or a structure."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from backsplit.report.pictures.panels import Key, around, cut, labelled, nearest, plain
from backsplit.report.pictures.planes import (
    PLANES,
    Focus,
    focus_on,
    oriented_box,
    oriented_projection,
)
from backsplit.store.sidecars import LesionEntry
from backsplit.volume import Array, Grid

SIDE = 264
"""Side of a panel, px."""
GAP = 4
LEAST_MM = 70.0
"""A close-up shows at least as much: less of a patient can not be told where it is."""
ROOM = 1.5
"""Side of a close-up as a multiple of what it shows."""
OUTLINE = (255, 255, 255)


def close_up(
    image: Array,
    labels: Array,
    grid: Grid,
    focus: Focus,
    extent_mm: float,
    window: tuple[float, float],
    key: Key,
    whole: Array | None = None,
) -> Array:
    """Draw three planes through a focus, above without and below with the labels.

    Parameters
    ----------
    image : intensities (z, y, x)
    labels : ids (z, y, x)
    grid : where both lie
    focus : voxel that the planes go through
    extent_mm : longest side of what is to be seen
    window : lowest and highest intensity to show
    key : names and colours of the ids
    whole : mask (z, y, x) whose outline, seen through the patient, is drawn in white

    Returns
    -------
    pixels
        RGB, two rows of axial, coronal and sagittal, each `SIDE` px high and wide.
    """
    side_mm = max(LEAST_MM, ROOM * extent_mm)
    pixels = np.zeros((2 * SIDE + GAP, 3 * SIDE + 2 * GAP, 3), np.uint8)
    for number, plane in enumerate(PLANES):
        part = cut(image, labels, grid, plane, focus, window)
        middle = oriented_box(grid, plane, focus.index, focus.index)
        ranges = around(part, middle, (side_mm, side_mm))
        shown = part.crop(*ranges)
        below = labelled(shown, (SIDE, SIDE), key)
        if whole is not None:
            projection = oriented_projection(whole, grid, plane)[tuple(ranges)]
            _outline(below, nearest(projection, (below.shape[0], below.shape[1])))
        left = number * (SIDE + GAP)
        _put(pixels[:SIDE, left : left + SIDE], plain(shown, (SIDE, SIDE)))
        _put(pixels[SIDE + GAP :, left : left + SIDE], below)
    return pixels


def structure_focus(mask: Array, grid: Grid) -> tuple[Focus, float] | None:
    """Where to look at a structure and how long its box is, mm; None without a voxel."""
    if not mask.any():
        return None
    ends = []
    for axis in range(3):
        places = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        ends.append((places[-1] - places[0] + 1) * grid.spacing[2 - axis])
    return focus_on(mask), float(max(ends))


def lesion_focus(
    labels: Array, grid: Grid, target: int, lesion: LesionEntry, diameter_mm: float
) -> Focus | None:
    """Find the voxel of a lesion that lies nearest to its centroid; None where there is none.

    Parameters
    ----------
    labels : ids (z, y, x)
    grid : where they lie
    target : id of its label
    lesion : what composing noted of it
    diameter_mm : longest diameter
    """
    middle = grid.to_index(np.asarray(lesion.centroid_mm))
    reach = diameter_mm / np.array(grid.spacing_zyx) + 1
    low = np.array([start for start, _ in lesion.box_zyx])
    box = tuple(slice(start, stop) for start, stop in lesion.box_zyx)
    voxels = np.argwhere(labels[box] == target) + low
    if not len(voxels):
        return None
    best = voxels[np.argmin(((voxels - middle) ** 2).sum(axis=1))]
    near = np.clip(np.stack([best - reach / 2, best + reach / 2]).round(), 0, None).astype(int)
    near = np.minimum(near, np.array(labels.shape) - 1)
    return Focus(_triple(best), 1, _triple(near[0]), _triple(near[1]))


def _outline(pixels: Array, mask: Array) -> None:
    """Draw a white line round a mask, outside of it."""
    cross = ndimage.generate_binary_structure(2, 1)
    pixels[ndimage.binary_dilation(mask, cross) & ~mask] = OUTLINE


def _put(box: Array, panel: Array) -> None:
    """Put a panel into the middle of its box."""
    top, left = ((b - p) // 2 for b, p in zip(box.shape[:2], panel.shape[:2], strict=True))
    box[top : top + panel.shape[0], left : left + panel.shape[1]] = panel


def _triple(index: Array) -> tuple[int, int, int]:
    z, y, x = (int(i) for i in index)
    return z, y, x
