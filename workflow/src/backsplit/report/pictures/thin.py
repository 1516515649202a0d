"""A case made small enough for a page: cropped to the body, few voxels, no lesion lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from backsplit.report.pictures.levels import CT, Levels, choose_levels
from backsplit.volume import Array, Grid, read_grid, read_slabs, require_same_grid
from backsplit.volume.body import body_mask
from backsplit.volume.pieces import apply_table

VOXELS_MOST = 14_000_000
"""Voxels of the body on a page: at half resolution those of 512 x 512 x 400."""
SIDE_MOST = 640
"""Voxels along a side."""
SLAB_VOXELS = 1 << 21
"""Voxels that are read at a time."""
LOOK_SIDE = 128
"""Voxels a side that a first look at an image takes."""
AIR_HU = -500.0
MARGIN = 0.02
"""Margin kept round the body, as a share of its side."""
RARE = 64
"""A label with fewer voxels on the page than this could vanish: none of its voxels is left out."""

Three = tuple[int, int, int]


@dataclass(frozen=True)
class Frame:
    """How the voxels of a page lie in a volume.

    A page's volume is ordered as a radiologist reads it: slices from head to feet, rows from
    anterior to posterior, columns from the patient's right to left. Oblique volumes are shown
    along their nearest axes.

    Attributes
    ----------
    grid : of the volume
    steps : voxels of the volume (z, y, x) that become one
    low, high : first and one past the last of these larger voxels (z, y, x) that are shown
    """

    grid: Grid
    steps: Three
    low: Three
    high: Three

    @property
    def axes(self) -> tuple[tuple[int, bool], ...]:
        """Array axis of the page's slices, rows and columns, and whether it is turned round."""
        (slices, up), (rows, back), (columns, left) = (self.grid.array_axis(i) for i in (2, 1, 0))
        return (slices, up > 0), (rows, back < 0), (columns, left < 0)

    @property
    def shape(self) -> Three:
        """Slices, rows and columns of the page's volume."""
        return _three([self.high[axis] - self.low[axis] for axis, _ in self.axes])

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance between slices, rows and columns."""
        return tuple(self.grid.spacing_zyx[axis] * self.steps[axis] for axis, _ in self.axes)

    @property
    def numbers(self) -> list[tuple[int, int, int]]:
        """For slices, rows and columns: the volume's index, from 1, of the first; step; and all."""
        found = []
        for axis, turned in self.axes:
            step = self.steps[axis]
            first = self.high[axis] - 1 if turned else self.low[axis]
            index = min(first * step + step // 2, self.grid.shape[axis] - 1)
            found.append((index + 1, -step if turned else step, self.grid.shape[axis]))
        return found

    def oriented(self, thin: Array) -> Array:
        """The shown part of a thinned volume (z, y, x), as the page shows it; contiguous."""
        part = thin[tuple(slice(a, b) for a, b in zip(self.low, self.high, strict=True))]
        turned = part.transpose([axis for axis, _ in self.axes])
        return np.ascontiguousarray(
            turned[tuple(slice(None, None, -1 if turn else 1) for _, turn in self.axes)]
        )

    def place(self, index_zyx: tuple[float, ...]) -> tuple[float, ...]:
        """Slice, row and column (continuous, 0.5 in the middle of the first) of a voxel."""
        found = []
        for axis, turned in self.axes:
            at = (index_zyx[axis] + 0.5) / self.steps[axis]
            found.append(self.high[axis] - at if turned else at - self.low[axis])
        return tuple(round(at, 2) for at in found)


def read_image(path: Path) -> tuple[Array, Grid, Levels]:
    """Read an image as levels.

    Returns
    -------
    levels, grid, meaning
        uint8 (z, y, x); where they lie; what they mean.
    """
    grid = read_grid(path)
    steps = [-(-n // LOOK_SIDE) for n in grid.shape]
    levels = np.empty(grid.shape, np.uint8)
    looked = []
    start = 0
    for slab in read_slabs(path, _depth(grid, 1)):
        levels[start : start + len(slab)] = CT.of(slab)
        looked.append(slab[-start % steps[0] :: steps[0], :: steps[1], :: steps[2]].ravel())
        start += len(slab)
    meaning = choose_levels(np.concatenate(looked))
    if meaning is not CT:
        start = 0
        for slab in read_slabs(path, _depth(grid, 1)):
            levels[start : start + len(slab)] = meaning.of(slab)
            start += len(slab)
    return levels, grid, meaning


def frame_of(levels: Array, grid: Grid, meaning: Levels) -> Frame:
    """Frame on the body, with as few voxels as a page can hold.

    Parameters
    ----------
    levels : of the image, (z, y, x)
    grid : where they lie
    meaning : of the levels
    """
    looks = _three([-(-n // LOOK_SIDE) for n in grid.shape])
    look = np.ascontiguousarray(levels[tuple(slice(None, None, step) for step in looks)])
    spacing = tuple(s * n for s, n in zip(grid.spacing, looks[::-1], strict=True))
    small = replace(
        grid, size=_three(look.shape[::-1]), spacing=(spacing[0], spacing[1], spacing[2])
    )
    body = body_mask(look, small, meaning.of_one(AIR_HU) if meaning is CT else "otsu")
    first, last = [], []
    for low, high, step, size in zip(*_ends(body), looks, grid.shape, strict=True):
        margin = step + round(MARGIN * (high - low) * step)
        first.append(max(0, low * step - margin))
        last.append(min(size, high * step + margin))
    steps = _steps([b - a for a, b in zip(first, last, strict=True)], grid.spacing_zyx)
    low_zyx = _three([a // n for a, n in zip(first, steps, strict=True)])
    return Frame(
        grid, steps, low_zyx, _three([-(-b // n) for b, n in zip(last, steps, strict=True)])
    )


def widened(frame: Frame, labelled: Array) -> Frame:
    """The frame with all that is labelled in a thinned label map (z, y, x) in it.

    A lesion or a leaked organ outside the body is what a reader must see.
    """
    if not labelled.any():
        return frame
    low, high = _ends(labelled != 0)
    return replace(
        frame,
        low=_three([min(a, b) for a, b in zip(low, frame.low, strict=True)]),
        high=_three([max(a, b) for a, b in zip(high, frame.high, strict=True)]),
    )


def thin_image(levels: Array, steps: Three) -> Array:
    """Mean of each block of voxels, uint8; blocks that the edge cuts off count its voxels twice."""
    if steps == (1, 1, 1):
        return levels
    kind = np.uint16 if np.prod(steps) <= 256 else np.uint32
    thin = []
    for at in range(0, len(levels), steps[0]):
        slab = levels[at : at + steps[0]]
        total = _summed(_summed(slab.sum(axis=0, dtype=kind), steps[1], 0), steps[2], 1)
        thin.append((total // (len(slab) * steps[1] * steps[2])).astype(np.uint8))
    return np.stack(thin)


def thin_labels(path: Path, grid: Grid, steps: Three, ranks: Mapping[int, int]) -> Array:
    """Read a label map: of each block of voxels the label in its middle, or one that has a rank.

    Parameters
    ----------
    path : the file
    grid : of its image
    steps : voxels (z, y, x) of a block
    ranks : labels of which no voxel may be lost, with a rank from 1 to 255; of several in a block
        the highest rank is kept

    Raises
    ------
    CaseError
        When it cannot be read, or lies on another grid.
    """
    require_same_grid(str(path), read_grid(path), grid, "its image")
    table = np.zeros(2 + max(ranks, default=0), np.uint8)  # the last is that of all labels above
    for label, rank in ranks.items():
        table[label] = rank
    columns = _middles(grid.shape[2], steps[2])
    rows = _middles(grid.shape[1], steps[1])
    thin = []
    for slab in read_slabs(path, _depth(grid, steps[0])):
        part = slab[_middles(len(slab), steps[0])][:, rows][:, :, columns]
        if ranks and steps != (1, 1, 1):
            for position, plane in enumerate(slab):
                _keep(part[position // steps[0]], plane, steps, table)
        thin.append(part)
    return np.concatenate(thin)


def _keep(part: Array, plane: Array, steps: Three, table: Array) -> None:
    """Put the labels of highest rank of a slice into the thinned slice that it is a part of."""
    values = np.ascontiguousarray(plane).ravel()
    ranks = _ranks(values, table)
    found = np.flatnonzero(ranks)
    if not len(found):
        return
    found = found[np.argsort(ranks[found], kind="stable")]  # of several the last is written
    rows, columns = np.divmod(found, plane.shape[1])
    rows //= steps[1]
    columns //= steps[2]
    higher = ranks[found] >= _ranks(part[rows, columns], table)
    part[rows[higher], columns[higher]] = values[found[higher]]


def _ranks(values: Array, table: Array) -> Array:
    if values.dtype == np.uint8:
        return apply_table(table[:256], values)
    return np.asarray(table[np.minimum(values, len(table) - 1)])


def _middles(count: int, step: int) -> Array:
    """The middle one of each `step` places; the last group may be smaller."""
    return np.minimum(np.arange(0, count, step) + step // 2, count - 1)


def _summed(plane: Array, step: int, axis: int) -> Array:
    """Sums of `step` rows or columns each; the last one is repeated where it does not divide."""
    lacking = -plane.shape[axis] % step
    if lacking:
        plane = np.pad(plane, [(0, lacking if axis == i else 0) for i in (0, 1)], "edge")
    total = plane[::step].copy() if axis == 0 else plane[:, ::step].copy()
    for offset in range(1, step):
        total += plane[offset::step] if axis == 0 else plane[:, offset::step]
    return np.asarray(total)


def _steps(extent: Sequence[int], spacing: Sequence[float]) -> Three:
    """How many voxels (z, y, x) become one: the finest axis is thinned first."""
    steps = [1, 1, 1]
    while True:
        sides = [-(-n // s) for n, s in zip(extent, steps, strict=True)]
        long = [axis for axis in range(3) if sides[axis] > SIDE_MOST]
        if not long and int(np.prod(sides)) <= VOXELS_MOST:
            return _three(steps)
        axis = min(long or range(3), key=lambda i: (spacing[i] * steps[i], -i))
        steps[axis] += 1


def _depth(grid: Grid, step: int) -> int:
    """Slices of a slab: whole blocks of them."""
    return step * max(1, SLAB_VOXELS // (grid.shape[1] * grid.shape[2] * step))


def _ends(mask: Array) -> tuple[list[int], list[int]]:
    """First, and one past the last place along each axis; all of an empty mask."""
    if not mask.any():
        return [0, 0, 0], list(mask.shape)
    places = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return [int(p[0]) for p in places], [int(p[-1]) + 1 for p in places]


def _three(values: Sequence[int]) -> Three:
    z, y, x = (int(value) for value in values)
    return z, y, x
