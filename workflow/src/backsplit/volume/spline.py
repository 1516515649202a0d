"""Cubic splines through an image, as skimage's `resize` of order 3 draws them, piece by piece.

`resize(image, shape, 3, mode="edge", anti_aliasing=False)` is `scipy.ndimage.zoom` with
`grid_mode=True` and `mode="nearest"`, cut off at the lowest and highest value of its input. SciPy
turns the image into a spline's coefficients by a recursive filter forth and back along each axis
(Unser, Aldroubi, Eden: B-spline signal processing, IEEE Trans. Signal Process. 41, 1993), then sums
over 64 of them a voxel. Here one axis is done after the other, four coefficients each, in float64;
the sums have another order, so that results differ by rounding, about 1e-15 of the values.

In memory are the image, the result, and `BAND` planes of float64. Beyond the image its edge goes
on for ever; SciPy lets it go on for 12 voxels and mirrors it then, which is the same to 1e-14.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from backsplit.volume.compiled import Compiled
from backsplit.volume.grid import Array
from backsplit.volume.threads import in_pieces
from backsplit.volume.zoom import nearest_axis, positions

Put = Callable[[int, Array], None]

MARGIN = 26
"""What lies n voxels away counts 0.268 (the filter's pole) to the power of n, here 1e-15."""
BAND = 64
"""Planes of the image that are worked on at a time, beside the margins."""
COLUMNS = 256
"""Columns along the first axis that are filtered at a time: they fit a processor's cache."""


def resize_cubic(image: Array, shape: tuple[int, int, int]) -> Array:
    """Resample a volume by a cubic spline in all three axes.

    Parameters
    ----------
    image : float32 (z, y, x), contiguous
    shape : wanted, (z, y, x)

    Returns
    -------
    resized
        float32, within the image's own range of values.
    """
    out = np.empty(shape, np.float32)
    low, high = float(image.min()), float(image.max())
    depth = len(image)
    if shape[0] == depth:  # a spline goes through its points
        _planes(image, np.arange(depth), shape, lambda i, plane: _store(plane, low, high, out[i]))
        return out
    z = positions(depth, shape[0], centred=True)
    z_index, z_weights = _taps(z)
    band = np.empty((0, *shape[1:]))
    first = 0  # plane of the image that `band` begins with
    done = 0  # planes of the result
    while done < shape[0]:
        start = max(0, int(np.floor(z[done])) - 1 - MARGIN)
        stop = min(depth, start + BAND + 2 * MARGIN)
        kept = band[start - first :][: stop - start]
        fresh = np.arange(start + len(kept), stop)
        band = np.concatenate([kept, np.empty((len(fresh), *shape[1:]))])
        first = start
        _into(image, fresh, shape, band[len(kept) :])
        # what ends in the margin waits for the planes that come next
        last = shape[0]
        if stop < depth:
            last = int(np.searchsorted(z_index, stop - MARGIN - 4, side="right"))
        _along_first(band, z_index[done:last] - start, z_weights[done:last], low, high,
                     out[done:last])  # fmt: skip
        done = last
    return out


def resize_planes(image: Array, shape: tuple[int, int, int]) -> Array:
    """Resample each plane by a cubic spline, and take the nearest plane (nnU-Net's separate z).

    Parameters
    ----------
    image : float32 (z, y, x), contiguous
    shape : wanted, (z, y, x)

    Returns
    -------
    resized
        float32; each plane within the range of values of the one that it comes from.
    """
    out = np.empty(shape, np.float32)
    index = nearest_axis(len(image), shape[0], centred=True)
    wanted = np.unique(index)

    def store(number: int, plane: Array) -> None:
        source = image[wanted[number]]
        low, high = float(source.min()), float(source.max())
        first, last = np.searchsorted(index, [wanted[number], wanted[number] + 1])
        _store(plane, low, high, out[first])
        out[first + 1 : last] = out[first]

    _planes(image, wanted, shape, store)
    return out


def _into(image: Array, planes: Array, shape: tuple[int, int, int], band: Array) -> None:
    """Resize planes in their two axes, float64, into `band`."""

    def put(number: int, plane: Array) -> None:
        band[number] = plane

    _planes(image, planes, shape, put)


def _planes(image: Array, planes: Array, shape: tuple[int, int, int], put: Put) -> None:
    """Resize planes in their two axes and hand each of them to `put(number, plane)`."""
    _, height, width = image.shape
    y_index, y_weights = _taps(positions(height, shape[1], centred=True))
    x_index, x_weights = _taps(positions(width, shape[2], centred=True))

    def work(start: int, stop: int) -> None:
        tall = np.empty((height + 4, width))
        wide = np.empty((width + 4, shape[1]))
        plane = np.empty(shape[1:])
        for number in range(start, stop):
            tall[2:-2] = image[planes[number]]
            if shape[1] == height:
                wide[2:-2] = tall[2:-2].T
            else:
                _filter(tall, height)
                _turned(tall, y_index, y_weights, wide[2:-2])
            if shape[2] == width:
                plane[:] = wide[2:-2].T
            else:
                _filter(wide, width)
                _turned(wide, x_index, x_weights, plane)
            put(number, plane)

    in_pieces(work, len(planes), least=1)


def _along_first(
    band: Array, index: Array, weights: Array, low: float, high: float, out: Array
) -> None:
    """Resample along the first axis; `out` gets float32 between `low` and `high`."""
    flat, flat_out = band.reshape(len(band), -1), out.reshape(len(out), -1)

    def work(start: int, stop: int) -> None:
        lines = np.empty((len(band) + 4, COLUMNS))
        for column in range(start * COLUMNS, min(stop * COLUMNS, flat.shape[1]), COLUMNS):
            end = min(column + COLUMNS, flat.shape[1])
            part = lines[:, : end - column]
            part[2:-2] = flat[:, column:end]
            _filter(part, len(band))
            _bounded(part, index, weights, low, high, flat_out[:, column:end])

    in_pieces(work, -(-flat.shape[1] // COLUMNS))


def _taps(place: Array) -> tuple[Array, Array]:
    """First of the four coefficients of each place, and their weights (n, 4)."""
    start = np.floor(place)
    y = place - start
    z = 1.0 - y
    weights = np.empty((len(place), 4))
    weights[:, 0] = z * z * z / 6.0
    weights[:, 1] = (y * y * (y - 2.0) * 3.0 + 4.0) / 6.0
    weights[:, 2] = (z * z * (z - 2.0) * 3.0 + 4.0) / 6.0
    weights[:, 3] = 1.0 - weights[:, 0] - weights[:, 1] - weights[:, 2]
    return start.astype(np.int64) - 1, weights


@Compiled
def _filter(lines: Array, count: int) -> None:
    """Turn values in rows 2 to `count + 2` into coefficients in all `count + 4` rows, in place.

    The recursion goes from row to row, for all columns at a time. Before the first value and after
    the last one their own values go on for ever, so that both recursions start in closed form.
    """
    pole = np.sqrt(3.0) - 2.0
    for k in range(lines.shape[1]):
        steady = 6.0 * lines[2, k] / (1.0 - pole)
        lines[0, k] = steady
        lines[1, k] = steady
    for i in range(2, count + 2):
        for k in range(lines.shape[1]):
            lines[i, k] = 6.0 * lines[i, k] + pole * lines[i - 1, k]
    # after the last value v the causal part decays towards 6 v / (1 - pole)
    for k in range(lines.shape[1]):
        last = (lines[count + 1, k] - pole * lines[count, k]) / 6.0
        steady = 6.0 * last / (1.0 - pole)
        away = (lines[count + 1, k] - steady) * pole
        lines[count + 2, k] = steady + away
        away *= pole
        lines[count + 3, k] = last - away * pole / (1.0 - pole * pole)
    for i in range(count + 2, -1, -1):
        for k in range(lines.shape[1]):
            lines[i, k] = pole * (lines[i + 1, k] - lines[i, k])


@Compiled
def _turned(lines: Array, index: Array, weights: Array, out: Array) -> None:
    """Sum four rows for each place, and turn the plane over: row j becomes column j."""
    for j in range(len(index)):
        i = index[j] + 2
        a, b, c, d = weights[j]
        for k in range(lines.shape[1]):
            out[k, j] = (
                a * lines[i, k] + b * lines[i + 1, k] + c * lines[i + 2, k] + d * lines[i + 3, k]
            )


@Compiled
def _bounded(
    lines: Array, index: Array, weights: Array, low: float, high: float, out: Array
) -> None:
    """Sum four rows for each place, as float32 between `low` and `high`."""
    for j in range(len(index)):
        i = index[j] + 2
        a, b, c, d = weights[j]
        for k in range(lines.shape[1]):
            value = (
                a * lines[i, k] + b * lines[i + 1, k] + c * lines[i + 2, k] + d * lines[i + 3, k]
            )
            out[j, k] = min(max(value, low), high)


@Compiled
def _store(plane: Array, low: float, high: float, out: Array) -> None:
    """Round a plane to float32, between `low` and `high`."""
    for j in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[j, k] = min(max(plane[j, k], low), high)
