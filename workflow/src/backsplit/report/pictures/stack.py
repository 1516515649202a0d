"""Axial slices of a case, few and small, that a page moves through: image and overlays apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from backsplit.report.pictures.colours import IGNORE, Colour
from backsplit.report.pictures.panels import (
    FILL,
    TRIM_GREY,
    Key,
    box_with_margin,
    nearest,
    windowed,
)
from backsplit.report.pictures.planes import AXIAL, oriented_slice, pixel_spacing
from backsplit.scheme.scheme import Classes
from backsplit.volume import Array, Grid

SLICES_MOST = 64
SIDE = 256
"""Longest side of a slice, px."""
COLUMNS = 8
"""Slices beside each other in the picture that holds them all."""

EDGE = 0.85
"""Opacity of a structure's rim."""
HATCH = 0.6
"""Opacity of `ignore`."""


@dataclass(frozen=True)
class Frame:
    """Which slices are shown and which part of them, the same for the image and every label map.

    Attributes
    ----------
    grid : of the volumes
    chosen : positions along the axial axis, from head to feet
    box : rows and columns of the oriented slices: the body
    size : rows and columns of a slice, px
    """

    grid: Grid
    chosen: tuple[int, ...]
    box: tuple[slice, slice]
    size: tuple[int, int]

    @property
    def rows(self) -> int:
        """Rows of slices in the picture that holds them all."""
        return -(-len(self.chosen) // COLUMNS)

    def cut(self, volume: Array, position: int) -> Array:
        """The shown part of a slice of a volume (z, y, x), as a radiologist expects it."""
        return _axial(volume, self.grid, position)[self.box]

    def slices(self) -> list[tuple[int, float]]:
        """Of each slice its number in the volume, from 1, and how high it lies, mm in LPS."""
        axis, _ = self.grid.array_axis(2)
        middle = (np.array(self.grid.shape) - 1) / 2
        index = np.tile(middle, (len(self.chosen), 1))
        index[:, axis] = self.chosen
        heights = self.grid.to_mm(index)[:, 2]
        return [(k + 1, float(mm)) for k, mm in zip(self.chosen, heights, strict=True)]

    def place_of(self, position: int) -> int:
        """Which of the chosen slices lies nearest to a position along the axial axis."""
        return int(np.argmin(np.abs(np.array(self.chosen) - position)))


@dataclass(frozen=True)
class Paint:
    """How the values of a label map look.

    Attributes
    ----------
    fill, rim : RGBA of a value's inner pixels and of those at its edge, uint8 (value, 4)
    kept : values of which no voxel may be lost when slices are made smaller, bool (value,)
    hatched : value that is drawn as stripes, or None
    """

    fill: Array
    rim: Array
    kept: Array
    hatched: int | None = None


def frame_of(image: Array, grid: Grid, window: tuple[float, float], wanted: Iterable[int]) -> Frame:
    """Choose slices evenly from head to feet, and those that one wants to see.

    Parameters
    ----------
    image : intensities (z, y, x)
    grid : where they lie
    window : lowest and highest intensity to show
    wanted : positions along the axial axis that must be among the slices
    """
    axis, sign = grid.array_axis(2)
    chosen = np.unique(
        np.linspace(0, grid.shape[axis] - 1, min(grid.shape[axis], SLICES_MOST)).round().astype(int)
    )
    fixed: set[int] = set()
    for position in dict.fromkeys(wanted):
        free = [i for i, k in enumerate(chosen) if k not in fixed]
        if position in chosen or not free:
            continue
        chosen[min(free, key=lambda i: abs(int(chosen[i]) - position))] = position
        fixed.add(position)
    order = tuple(int(k) for k in np.sort(chosen)[::-sign])
    spacing = pixel_spacing(grid, AXIAL)
    body = np.any([windowed(_axial(image, grid, k), window) > TRIM_GREY for k in order], axis=0)
    box = box_with_margin(body)
    heights = [len(range(*part.indices(n))) for part, n in zip(box, body.shape, strict=True)]
    size_mm = [n * mm for n, mm in zip(heights, spacing, strict=True)]
    scale = SIDE / max(size_mm)
    size = (max(1, round(size_mm[0] * scale)), max(1, round(size_mm[1] * scale)))
    return Frame(grid, order, box, size)


def image_tiles(image: Array, frame: Frame, window: tuple[float, float]) -> Image.Image:
    """All slices of the image in one grey picture."""
    height, width = frame.size
    tiles = _canvas(frame, ())
    for place, position in enumerate(frame.chosen):
        grey = Image.fromarray(windowed(frame.cut(image, position), window))
        small = grey.resize((width, height), Image.Resampling.BILINEAR)
        _tile(tiles, frame, place)[:] = np.asarray(small)
    return Image.fromarray(tiles)


def label_tiles(labels: Array, frame: Frame, paint: Paint) -> Image.Image:
    """All slices of a label map in one picture, transparent where nothing is labelled."""
    tiles = _canvas(frame, (4,))
    stripes = np.add.outer(np.arange(frame.size[0]), np.arange(frame.size[1])) % 6 < 2
    for place, position in enumerate(frame.chosen):
        small = _smaller(frame.cut(labels, position), frame.size, paint.kept)
        tile = _tile(tiles, frame, place)
        rim = _rim(small)
        tile[:] = paint.fill[small]
        tile[rim] = paint.rim[small[rim]]
        if paint.hatched is not None:
            tile[(small == paint.hatched) & stripes] = paint.rim[paint.hatched]
    return Image.fromarray(tiles)


def largest_in(labels: Array, frame: Frame, count: int) -> dict[int, int]:
    """For each id that the slices show, which of them shows most of it."""
    areas = np.array(
        [np.bincount(frame.cut(labels, k).ravel(), minlength=count)[:count] for k in frame.chosen]
    )
    return {int(i): int(np.argmax(areas[:, i])) for i in np.flatnonzero(areas.any(axis=0)) if i}


def composed_paint(key: Key) -> Paint:
    """Structures filled, targets as outlines, `ignore` hatched."""
    count = max(len(key.names), 1 + int(key.ignore_id or 0))
    paint = _paint({i: key.colours[i] for i in range(1, count)}, count)
    targets = slice(1, key.target_count + 1)
    paint.fill[targets] = 0
    paint.rim[targets, 3] = 255
    paint.kept[targets] = True
    if key.ignore_id is None:
        return paint
    paint.fill[key.ignore_id] = 0
    paint.rim[key.ignore_id] = (*IGNORE, round(255 * HATCH))
    return Paint(paint.fill, paint.rim, paint.kept, key.ignore_id)


def layer_paint(
    classes: Classes,
    structures: Mapping[str, str],
    key: Key,
    overlaps: Mapping[int, tuple[int, ...]],
) -> Paint:
    """A segmenter's classes in the colours of their structures; grey what no structure takes.

    Parameters
    ----------
    classes : what the segmenter can label, name to value
    structures : class to structure
    key : names and colours of the structures
    overlaps : value of a combination to the values that overlap there; the first is shown
    """
    ids = {name: i for i, name in enumerate(key.names)}
    colours: dict[int, Colour] = {
        value: key.colours[ids[structures[name]]] if name in structures else IGNORE
        for name, value in classes.items()
    }
    for value, members in overlaps.items():
        colours[value] = colours.get(members[0], IGNORE)
    return _paint(colours, max(colours, default=0) + 1)


def _paint(colours: Mapping[int, Colour], count: int) -> Paint:
    """Paint of `count` values, and of one more that stays clear: that of all values above."""
    fill, rim = np.zeros((count + 1, 4), np.uint8), np.zeros((count + 1, 4), np.uint8)
    for value, colour in colours.items():
        fill[value] = (*colour, round(255 * FILL))
        rim[value] = (*colour, round(255 * EDGE))
    return Paint(fill, rim, np.zeros(count + 1, bool))


def _axial(volume: Array, grid: Grid, position: int) -> Array:
    axis, _ = grid.array_axis(2)
    index = [0, 0, 0]
    index[axis] = position
    return oriented_slice(volume, grid, AXIAL, (index[0], index[1], index[2]))


def _canvas(frame: Frame, channels: tuple[int, ...]) -> Array:
    height, width = frame.size
    return np.zeros((frame.rows * height, COLUMNS * width, *channels), np.uint8)


def _tile(tiles: Array, frame: Frame, place: int) -> Array:
    """View of the part of the picture that a slice has."""
    height, width = frame.size
    row, column = divmod(place, COLUMNS)
    return tiles[row * height : (row + 1) * height, column * width : (column + 1) * width]


def _smaller(labels: Array, size: tuple[int, int], kept: Array) -> Array:
    """Scale labels by the nearest voxel, but so that no voxel of `kept` values is lost."""
    known = np.minimum(labels.astype(np.int32), len(kept) - 1)
    small = nearest(known, size)
    rows, columns = np.nonzero(kept[known])
    at = rows * size[0] // labels.shape[0], columns * size[1] // labels.shape[1]
    small[at] = known[rows, columns]
    return np.asarray(small)


def _rim(labels: Array) -> Array:
    """Pixels with a neighbour of another label, of the four beside them."""
    rim = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        differ = np.diff(labels, axis=axis) != 0
        before, after = [slice(None)] * 2, [slice(None)] * 2
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        rim[tuple(before)] |= differ
        rim[tuple(after)] |= differ
    return rim
