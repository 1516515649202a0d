"""One lattice of voxels described twice: axes in another order or direction, cropped or padded.

What lies on the image's own voxels needs no interpolation: it is reordered, cropped and padded,
and every voxel keeps its value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backsplit.volume.grid import SNAP_MM, Array, Grid

DRIFT_VOXELS = 0.5
"""No corner of the other grid may lie as far as this from its voxel of the reference: each voxel
is then nearest to one voxel, and no two to the same."""

ANCHOR_VOXELS = 0.1
"""A corner, or the centre, must lie that near to its voxel. Rounding of a spacing or a cosine lets
corners drift apart from one that is shared, and one decimal of an origin is a tenth of a voxel of
half a millimetre; a shift of all voxels by a larger fraction is no rounding but another grid."""

SPACING_SHARE = 0.01
"""Spacings may differ by that share: 5 and 5.1 mm in twenty slices drift by less than half a
voxel, but no rounding makes one of the other."""

SPACING_DECIMALS = (2, 3, 4)
"""To so many decimals headers are rounded: 0.78 for 0.78125, which is 0.6 mm in 512 voxels. Where
both volumes have the same size and share a corner, that is the same volume described coarsely: one
resampled to 0.78 mm would have 513 voxels."""

FLOAT32 = 1e-6
"""Relative; what float32 rounds away of a spacing."""


@dataclass(frozen=True)
class Lattice:
    """How the voxels of one grid lie on the lattice of another, the reference.

    Attributes
    ----------
    axes : for each axis (z, y, x) of the reference, the axis of the other array along it
    flipped : for each axis of the reference, whether the other array runs the other way
    offset : index in the reference, (z, y, x), of the first voxel of the array so reordered
    shape : of the array so reordered
    reference : shape of the reference, (z, y, x)
    drift_mm : largest distance of a corner from its voxel of the reference
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    offset: tuple[int, int, int]
    shape: tuple[int, int, int]
    reference: tuple[int, int, int]
    drift_mm: float

    @property
    def covers(self) -> bool:
        """Whether both have the same voxels, none more and none less."""
        return self.offset == (0, 0, 0) and self.shape == self.reference

    @property
    def shifts(self) -> bool:
        """Whether both have the same size, but one lies some whole voxels aside.

        Nobody crops a volume to its own size: a header is wrong, or it is of another series.
        """
        return self.shape == self.reference and not self.covers

    def take(self, array: Array, outside: float = 0) -> Array:
        """Values of an array on the other grid, on the reference; `outside` where it has none."""
        moved = self._reordered(array)
        if self.covers:
            return np.ascontiguousarray(moved)
        result = np.full(self.reference, outside, array.dtype)
        into, part = self._common()
        result[into] = moved[part]
        return result

    def count_outside(self, array: Array) -> int:
        """Voxels other than 0 that the reference does not hold."""
        if self.covers:
            return 0
        _, part = self._common()
        return int(np.count_nonzero(array) - np.count_nonzero(self._reordered(array)[part]))

    def describe(self) -> str:
        """What was done, as `axes reordered, axes flipped, cropped`."""
        ends = [o + n for o, n in zip(self.offset, self.shape, strict=True)]
        short = any(o > 0 for o in self.offset) or any(
            end < n for end, n in zip(ends, self.reference, strict=True)
        )
        long = any(o < 0 for o in self.offset) or any(
            end > n for end, n in zip(ends, self.reference, strict=True)
        )
        parts = {
            "axes reordered": self.axes != (0, 1, 2),
            "axes flipped": any(self.flipped),
            "padded": short,
            "cropped": long,
        }
        return ", ".join(part for part, done in parts.items() if done) or "header rounded"

    def _reordered(self, array: Array) -> Array:
        steps = tuple(slice(None, None, -1 if flip else None) for flip in self.flipped)
        return array.transpose(self.axes)[steps]

    def _common(self) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Slices of what both hold, in the reference and in the reordered array."""
        into, part = [], []
        for offset, length, whole in zip(self.offset, self.shape, self.reference, strict=True):
            first, last = max(0, offset), max(0, min(whole, offset + length))
            first = min(first, last)
            into.append(slice(first, last))
            part.append(slice(max(0, first - offset), max(0, last - offset)))
        return tuple(into), tuple(part)


def find_lattice(grid: Grid, reference: Grid) -> Lattice | None:
    """How the voxels of a grid lie on a reference's lattice; None where they do not.

    Parameters
    ----------
    grid, reference : the grids; neither need hold the other
    """
    step = np.linalg.inv(reference.affine_lps) @ grid.affine_lps
    turn, first = step[:3, :3], step[:3, 3]  # from voxel (x, y, z) to voxel of the reference
    order = _signed_permutation(turn)
    if order is None or not _are_near(grid, reference, order):
        return None
    corners = _corners(grid)
    off = corners @ (turn - order).T + first  # a whole number for all where the lattice is one
    offset = np.rint(off[-1])
    away = np.abs(off - offset).max(axis=1)
    slack = max(ANCHOR_VOXELS, SNAP_MM / min(reference.spacing))
    if away.max() >= DRIFT_VOXELS or away.min() > slack:
        whole = np.where(order.sum(axis=1) < 0, np.array(reference.size) - 1, 0)
        if not _is_coarse(grid, reference, turn, order, off - whole, slack):
            return None
        offset = whole
    drift = (off - offset) @ (np.diag(reference.spacing))
    return _lattice(grid, reference, order, offset, float(np.linalg.norm(drift, axis=1).max()))


def _lattice(grid: Grid, reference: Grid, order: Array, offset: Array, drift_mm: float) -> Lattice:
    columns = np.abs(order).argmax(axis=1)  # axis of the grid along each axis of the reference
    flipped = order.sum(axis=1) < 0
    size = np.array(grid.size)[columns]
    start = np.where(flipped, offset - size + 1, offset).astype(int)
    x, y, z = (2 - int(column) for column in columns)
    return Lattice(
        (z, y, x),
        (bool(flipped[2]), bool(flipped[1]), bool(flipped[0])),
        (int(start[2]), int(start[1]), int(start[0])),
        (int(size[2]), int(size[1]), int(size[0])),
        reference.shape,
        drift_mm,
    )


def _signed_permutation(turn: Array) -> Array | None:
    """Nearest matrix with one 1 or -1 in each row and column; None if none is near."""
    order = np.rint(turn)
    if not (np.abs(turn - order) < DRIFT_VOXELS / 2).all():
        return None
    one = np.abs(order)
    if (one > 1).any() or (one.sum(axis=0) != 1).any() or (one.sum(axis=1) != 1).any():
        return None
    return np.asarray(order)


def _are_near(grid: Grid, reference: Grid, order: Array) -> bool:
    """Whether the spacings are those of the reference, as near as any rounding leaves them."""
    ratio = np.array(grid.spacing) / np.array(reference.spacing)[np.abs(order).argmax(axis=0)]
    return bool((np.abs(ratio - 1) <= SPACING_SHARE).all())


def _is_coarse(
    grid: Grid, reference: Grid, turn: Array, order: Array, off: Array, slack: float
) -> bool:
    """Whether one grid is the other whole one, with its spacing rounded.

    Parameters
    ----------
    turn, order : from voxel to voxel of the reference, and the nearest signed permutation
    off : how far corners and centre, (9, 3), are from their voxels of the reference, in voxels
    """
    rows = np.abs(order).argmax(axis=0)  # axis of the reference along each axis of the grid
    if tuple(np.array(reference.size)[rows]) != grid.size:
        return False
    lengths = np.array(reference.spacing)[rows]
    if not all(_is_rounded(a, b) for a, b in zip(grid.spacing, lengths, strict=True)):
        return False
    corners = _corners(grid)
    unrounded = turn * (lengths / np.array(grid.spacing)) - order
    for corner, gap in zip(corners, off, strict=True):
        rest = (corners - corner) @ unrounded.T + gap
        if np.abs(gap).max() <= slack and np.abs(rest).max() < DRIFT_VOXELS:
            return True
    return False


def _is_rounded(first: float, second: float) -> bool:
    """Whether one of two lengths is the other one, rounded (or both are equal)."""
    return abs(first - second) <= FLOAT32 * second or any(
        abs(round(a, decimals) - b) <= FLOAT32 * b
        for a, b in ((first, second), (second, first))
        for decimals in SPACING_DECIMALS
    )


def _corners(grid: Grid) -> Array:
    """Indices (x, y, z) of the eight corner voxels and, last, of the centre, (9, 3)."""
    far = np.array(grid.size) - 1.0
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * far
    return np.vstack([corners, far / 2])


def header_is_lost(grid: Grid, reference: Grid) -> bool:
    """Whether a grid is what an array gets that is saved without its header.

    It has the reference's size, default axes, and spacing 1 or origin 0 where the reference has
    another one, and does not cover the reference's voxels.
    """
    direction = np.reshape(grid.direction, (3, 3))
    upright = any(
        np.allclose(direction, np.diag(signs), atol=FLOAT32) for signs in ((1, 1, 1), (-1, -1, 1))
    )
    if not upright or sorted(grid.size) != sorted(reference.size):
        return False
    lattice = find_lattice(grid, reference)
    if lattice is not None and lattice.covers:
        return False
    unit, zero = np.ones(3), np.zeros(3)
    no_spacing = np.allclose(grid.spacing, unit) and not np.allclose(reference.spacing, unit)
    no_origin = np.allclose(grid.origin, zero, atol=FLOAT32) and not np.allclose(
        reference.origin, zero, atol=SNAP_MM
    )
    return no_spacing or no_origin
