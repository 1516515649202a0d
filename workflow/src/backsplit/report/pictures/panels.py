"""Panels of a picture: a slice of image and labels becomes pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from backsplit.report.pictures.key import Key
from backsplit.report.pictures.planes import (
    AXIAL,
    Focus,
    Plane,
    oriented_box,
    oriented_slice,
    pixel_spacing,
)
from backsplit.scheme.colours import FILL
from backsplit.volume import Array, Grid
from backsplit.volume.intensity import is_ct

CT_WINDOW = (-160.0, 240.0)
"""Soft tissue, HU: centre 40, width 400."""
LUNG_WINDOW = (-1350.0, 150.0)
"""HU: centre -600, width 1500; for a lesion with lung round it."""
LUNG_BELOW = -400.0
"""HU; no tissue but lung has a median below it."""
LUNG_REACH = 5
"""Voxels round a lesion's box that count as its surroundings."""
GREY_STEP = 6
"""Grey values are rounded to it: noise that no eye sees makes half of a picture's bytes."""
ZOOM_LEAST_MM = 70.0
ZOOM_FACTOR = 2.2
TRIM_SHARE = 0.03
"""Margin kept round the body, as a share of the slice."""
BODY_PART = 0.1
"""A part of a slice with less than this share of the largest one is no limb."""
TRIM_GREY = 25
"""Grey value (0 to 255) above which a pixel is no air."""


@dataclass(frozen=True)
class Slice:
    """A slice of image and labels, turned for the reader.

    Attributes
    ----------
    grey : windowed image, uint8 (rows, columns)
    labels : ids (rows, columns)
    spacing : mm between rows and between columns
    """

    grey: Array
    labels: Array
    spacing: tuple[float, float]

    def size_mm(self) -> tuple[float, float]:
        """Height and width, mm."""
        rows, columns = self.grey.shape
        return rows * self.spacing[0], columns * self.spacing[1]

    def crop(self, rows: slice, columns: slice) -> Slice:
        """Give a part of it."""
        return Slice(self.grey[rows, columns], self.labels[rows, columns], self.spacing)


def present(labels: Array, count: int) -> Array:
    """Tell which ids a label map holds, (count,)."""
    present = np.zeros(max(count, int(labels.max()) + 1), dtype=bool)
    for part in labels:  # slice by slice, as lookups need eight bytes a voxel
        present[part] = True
    return present[:count]


def choose_window(image: Array, focus: Focus) -> tuple[float, float]:
    """Lowest and highest intensity to show.

    Soft tissue of a CT, or lung where the lesion has lung round it; of any other image the 1st to
    99th percentile.
    """
    steps = [-(-size // 96) for size in image.shape]
    some = image[tuple(slice(None, None, step) for step in steps)].astype(np.float64)
    some = some[np.isfinite(some)]
    if some.size == 0:
        return 0.0, 1.0
    if is_ct(float(some.min())):
        return LUNG_WINDOW if _lies_in_lung(image, focus) else CT_WINDOW
    low, high = np.percentile(some, [1, 99])
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1)


def _lies_in_lung(image: Array, focus: Focus) -> bool:
    """Whether a CT has lung round the largest lesion."""
    if focus.low is None or focus.high is None:
        return False
    box = [
        slice(max(0, low - LUNG_REACH), high + 1 + LUNG_REACH)
        for low, high in zip(focus.low, focus.high, strict=True)
    ]
    # air outside the body is darker than lung: it says nothing about the lesion
    values = image[tuple(box)]
    tissue = values[values > -950]
    return bool(tissue.size and np.median(tissue) < LUNG_BELOW)


def cut(
    image: Array, labels: Array, grid: Grid, plane: Plane, focus: Focus, window: tuple[float, float]
) -> Slice:
    """Cut image and labels along a plane through the focus; `window` becomes black to white."""
    grey = windowed(oriented_slice(image, grid, plane, focus.index), window)
    return Slice(grey, oriented_slice(labels, grid, plane, focus.index), pixel_spacing(grid, plane))


def windowed(values: Array, window: tuple[float, float]) -> Array:
    """Grey values (0 to 255) of intensities; `window` becomes black to white."""
    low, high = window
    share = np.clip((np.nan_to_num(values.astype(np.float64), nan=low) - low) / (high - low), 0, 1)
    return np.asarray(np.rint(share * 255).astype(np.uint8))


def body_box(part: Slice, ignore_id: int | None) -> tuple[slice, slice]:
    """Rows and columns of the body, and of what is labelled, in a slice: no air, no couch."""
    from scipy import ndimage  # a report without pictures of faults need not load it

    structures = (
        part.labels > 0 if ignore_id is None else (part.labels > 0) & (part.labels != ignore_id)
    )
    tissue = part.grey > TRIM_GREY
    # couches and blankets are thinner than this, or hang on by less
    solid = ndimage.binary_opening(tissue, iterations=3) if min(tissue.shape) > 20 else tissue
    parts, count = ndimage.label(solid)
    if count > 1:
        sizes = np.bincount(parts.ravel())[1:]
        solid = np.isin(parts, 1 + np.flatnonzero(sizes > BODY_PART * sizes.max()))
    return box_with_margin((solid if count else tissue) | structures)


def box_with_margin(shown: Array) -> tuple[slice, slice]:
    """Rows and columns of what a mask (rows, columns) shows, with a margin; all of an empty one."""
    if not shown.any():
        return slice(None), slice(None)
    rows, columns = (
        _with_margin(np.flatnonzero(shown.any(axis=1 - axis)), size)
        for axis, size in enumerate(shown.shape)
    )
    return rows, columns


def _with_margin(positions: Array, size: int) -> slice:
    margin = 1 + round(TRIM_SHARE * size)
    return slice(max(0, int(positions[0]) - margin), int(positions[-1]) + 1 + margin)


def enlarged(axial: Slice, grid: Grid, focus: Focus, aspect: float) -> Slice | None:
    """Give the surroundings of the largest lesion in the axial slice; None without a lesion.

    Parameters
    ----------
    axial : the whole axial slice
    grid : of the volume
    focus : where the lesion is
    aspect : width of the part in mm over its height
    """
    if focus.low is None or focus.high is None:
        return None
    box = oriented_box(grid, AXIAL, focus.low, focus.high)
    extent = [(s.stop - s.start) * mm for s, mm in zip(box, axial.spacing, strict=True)]
    height = max(ZOOM_LEAST_MM, ZOOM_FACTOR * extent[0], ZOOM_FACTOR * extent[1] / aspect)
    return axial.crop(*around(axial, box, (height, height * aspect)))


def around(part: Slice, box: tuple[slice, slice], wanted_mm: tuple[float, float]) -> list[slice]:
    """Rows and columns of so many mm round the middle of a box, within the slice."""
    ranges = []
    for side, size_mm, mm, size in zip(box, wanted_mm, part.spacing, part.grey.shape, strict=True):
        voxels = min(size, max(2, round(size_mm / mm)))
        start = min(max((side.start + side.stop - voxels) // 2, 0), size - voxels)
        ranges.append(slice(start, start + voxels))
    return ranges


def _fit(part: Slice, box: tuple[int, int]) -> tuple[int, int]:
    """Height and width in px that fill a box without distortion."""
    height, width = part.size_mm()
    scale = min(box[0] / height, box[1] / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def plain(part: Slice, box: tuple[int, int]) -> Array:
    """Scale the image to a box, RGB (y, x, 3)."""
    height, width = _fit(part, box)
    grey = Image.fromarray(part.grey).resize((width, height), Image.Resampling.BILINEAR)
    levels = (np.asarray(grey) // GREY_STEP * GREY_STEP).astype(np.uint8)
    return np.repeat(levels[:, :, None], 3, axis=2)


def labelled(part: Slice, box: tuple[int, int], key: Key) -> Array:
    """Scale the image with structures in colour, `ignore` hatched; targets, fat, bone as lines."""
    pixels = plain(part, box).astype(np.float64)
    height, width = pixels.shape[:2]
    labels = nearest(part.labels, (height, width))
    targets = (labels > 0) & (labels <= key.target_count)
    structures = (labels > 0) & ~targets
    if key.ignore_id is not None:
        ignored = labels == key.ignore_id
        structures &= ~ignored
        stripes = np.add.outer(np.arange(height), np.arange(width)) % 8 < 2
        pixels[ignored & stripes] = key.colours[key.ignore_id]
    palette = np.asarray(key.colours, dtype=np.float64)
    lines = np.array([key.kind(label) == "outline" for label in range(len(key.names))])
    filled = structures & ~lines[np.minimum(labels, len(lines) - 1)]
    pixels[filled] = (1 - FILL) * pixels[filled] + FILL * palette[labels[filled]]
    edges = structures & _borders(labels)
    pixels[edges] = 0.3 * pixels[edges] + 0.7 * palette[labels[edges]]
    _outline_targets(pixels, labels, targets, key)
    return np.asarray(np.rint(pixels).astype(np.uint8))


def nearest(labels: Array, size: tuple[int, int]) -> Array:
    """Labels scaled to (rows, columns): each pixel has that of the voxel in its middle."""
    rows, columns = (
        (np.arange(new) * 2 + 1) * old // (2 * new)
        for new, old in zip(size, labels.shape, strict=True)
    )
    return labels[np.ix_(rows, columns)]


def _borders(labels: Array) -> Array:
    """Pixels whose right or lower neighbour has another label."""
    borders = np.zeros(labels.shape, dtype=bool)
    borders[:-1] |= labels[:-1] != labels[1:]
    borders[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return borders


def _outline_targets(pixels: Array, labels: Array, targets: Array, key: Key) -> None:
    """Draw a line round each target, outside of it, so that even a tiny one stays visible."""
    from scipy import ndimage

    disc = ndimage.generate_binary_structure(2, 1)
    if targets.any():
        casing = ndimage.binary_dilation(targets, disc, iterations=3) & ~targets
        pixels[casing] = 0
    for target in range(1, key.target_count + 1):
        mine = labels == target
        if not mine.any():
            continue
        line = ndimage.binary_dilation(mine, disc, iterations=2) & ~targets
        # where two targets touch there is no room outside: the first one draws the line
        between = mine & ndimage.binary_dilation(targets & (labels > target), disc, iterations=2)
        pixels[line | between] = key.colours[target]
