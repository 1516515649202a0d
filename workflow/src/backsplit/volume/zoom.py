"""`scipy.ndimage.zoom` of order 0 and 1 with `mode="nearest"`, bit for bit, piece by piece.

SciPy sums over the eight corners of a voxel in the order of the axes, and multiplies each corner by
the weight of the first axis, then of the second, then of the third
(`NI_ZoomShift`, scipy/ndimage/src/ni_interpolation.c). The same operations in the same order give
the same bits. What differs: nothing is turned into float64 as a whole, no order of axes in memory
is slow, and the loop runs on all cores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backsplit.volume.compiled import Compiled
from backsplit.volume.grid import Array
from backsplit.volume.threads import in_pieces


@dataclass(frozen=True)
class Axis:
    """Where the voxels of one axis of the output lie on that of the input.

    Attributes
    ----------
    low, high : indices of the two neighbours, int64 (n,)
    weight_low, weight_high : their weights, float64 (n,); they sum to 1
    """

    low: Array
    high: Array
    weight_low: Array
    weight_high: Array

    def turned(self, size: int) -> Axis:
        """The same places on an input of `size` voxels that lies the other way round in memory."""
        low, high = size - 1 - self.low, size - 1 - self.high
        return Axis(low, high, self.weight_low, self.weight_high)


def positions(size: int, wanted: int, *, centred: bool) -> Array:
    """Coordinates of `wanted` voxels on an axis of `size` voxels.

    Parameters
    ----------
    centred : whether the boxes of voxels are laid on each other (`grid_mode`, as skimage's
        `resize`) or the centres of the outermost voxels (SciPy's default)
    """
    place = np.arange(wanted, dtype=np.float64)
    if centred:
        place = (place + 0.5) * (size / wanted) - 0.5
    elif wanted > 1:
        place = place * ((size - 1) / (wanted - 1))
    return place


def linear_axis(size: int, wanted: int, *, centred: bool = False) -> Axis:
    """Places and weights of order 1; outside the input, which `centred` boxes reach, its edge."""
    place = positions(size, wanted, centred=centred)
    low = np.floor(place)
    weight_low = 1.0 - (place - low)
    start = low.astype(np.int64)
    low_inside, high_inside = (np.clip(index, 0, size - 1) for index in (start, start + 1))
    return Axis(low_inside, high_inside, weight_low, 1.0 - weight_low)


def nearest_axis(size: int, wanted: int, *, centred: bool = False) -> Array:
    """Indices of order 0, int64 (wanted,)."""
    place = np.floor(positions(size, wanted, centred=centred) + 0.5)
    return np.clip(place, 0, size - 1).astype(np.int64)


def nearest_as_linear(size: int, wanted: int) -> Axis:
    """Order 0 (centred) in the form of order 1: the whole weight lies on one voxel."""
    index = nearest_axis(size, wanted, centred=True)
    return Axis(index, index, np.ones(wanted), np.zeros(wanted))


def zoom_linear(image: Array, axes: tuple[Axis, Axis, Axis], out: Array) -> None:
    """Resample an image by order 1; x is SciPy's first axis, z its last.

    Parameters
    ----------
    image : (z, y, x), finite
    axes : of z, y and x
    out : (z, y, x); a value is cut off to a whole number first, as by `astype(np.int32)`
    """
    z, y, x = axes
    in_pieces(
        lambda start, stop: _linear(
            image, z.low, z.high, z.weight_low, z.weight_high, y.low, y.high, y.weight_low,
            y.weight_high, x.low, x.high, x.weight_low, x.weight_high, out, start, stop,
        ),
        len(out),
    )  # fmt: skip


def zoom_nearest(
    labels: Array, index: tuple[Array, Array, Array], table: Array, out: Array
) -> None:
    """Write `table[labels[index]]` to `out`: order 0, and new values.

    Parameters
    ----------
    labels : unsigned integers (z, y, x)
    index : for each axis of `out`, where its voxels lie in `labels`
    table : value to value
    out : (z, y, x)
    """
    in_pieces(
        lambda start, stop: _nearest(labels, index[0], index[1], index[2], table, out, start, stop),
        len(out),
    )


@Compiled
def _linear(
    image: Array,
    z_low: Array,
    z_high: Array,
    z_weight_low: Array,
    z_weight_high: Array,
    y_low: Array,
    y_high: Array,
    y_weight_low: Array,
    y_weight_high: Array,
    x_low: Array,
    x_high: Array,
    x_weight_low: Array,
    x_weight_high: Array,
    out: Array,
    start: int,
    stop: int,
) -> None:
    """Planes `start` to `stop` of `out`. What weighs nothing is left out: it adds 0."""
    for i in range(start, stop):
        near, far = image[z_low[i]], image[z_high[i]]
        a, b = z_weight_low[i], z_weight_high[i]
        for j in range(out.shape[1]):
            near_low, near_high = near[y_low[j]], near[y_high[j]]
            far_low, far_high = far[y_low[j]], far[y_high[j]]
            c, d = y_weight_low[j], y_weight_high[j]
            if b == 0.0:
                for k in range(out.shape[2]):
                    p, q = x_low[k], x_high[k]
                    e, f = x_weight_low[k], x_weight_high[k]
                    value = 0.0
                    value += ((near_low[p] * e) * c) * a
                    value += ((near_high[p] * e) * d) * a
                    value += ((near_low[q] * f) * c) * a
                    value += ((near_high[q] * f) * d) * a
                    out[i, j, k] = int(value)
            else:
                for k in range(out.shape[2]):
                    p, q = x_low[k], x_high[k]
                    e, f = x_weight_low[k], x_weight_high[k]
                    value = 0.0
                    value += ((near_low[p] * e) * c) * a
                    value += ((far_low[p] * e) * c) * b
                    value += ((near_high[p] * e) * d) * a
                    value += ((far_high[p] * e) * d) * b
                    value += ((near_low[q] * f) * c) * a
                    value += ((far_low[q] * f) * c) * b
                    value += ((near_high[q] * f) * d) * a
                    value += ((far_high[q] * f) * d) * b
                    out[i, j, k] = int(value)


@Compiled
def _nearest(
    labels: Array, z: Array, y: Array, x: Array, table: Array, out: Array, start: int, stop: int
) -> None:
    """Planes `start` to `stop` of `out`; a row that repeats the one before is copied."""
    for i in range(start, stop):
        if i > start and z[i] == z[i - 1]:
            out[i] = out[i - 1]
            continue
        plane = labels[z[i]]
        for j in range(out.shape[1]):
            if j > 0 and y[j] == y[j - 1]:
                out[i, j] = out[i, j - 1]
                continue
            row = plane[y[j]]
            for k in range(out.shape[2]):
                out[i, j, k] = table[row[x[k]]]
