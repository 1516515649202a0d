"""From logits to labels, as nnU-Net makes them: resampled by order 1, then the largest channel.

nnU-Net resamples all channels to float16 arrays and takes the first of the largest
(`resample_data_or_seg`, `LabelManager.convert_logits_to_segmentation`). Two roundings decide which
of two near channels wins, so both are kept: the sum over the corners of a voxel in SciPy's order
(`volume/zoom.py`), and then float16. What differs is that no resampled channel is ever whole: a
piece of the image is done in all channels before the next. On the CPU the loops are compiled; on a
GPU torch does the same operations there, one channel of a piece at a time, in pieces that fit into
half of the memory that is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backsplit.volume import Array
from backsplit.volume.compiled import Compiled
from backsplit.volume.threads import in_pieces
from backsplit.volume.zoom import Axis, linear_axis, nearest_as_linear

PLANES = 8
"""Planes of a piece on the CPU."""
BLOCK = 64
"""Voxels of a row that are looked at together."""
COPIES = 8
"""Float64 copies of a piece that the operations on a GPU hold at the same time, with room."""


@dataclass(frozen=True)
class Lattice:
    """Where the voxels of an image lie between those of the logits.

    Attributes
    ----------
    axes : of z, y and x
    """

    axes: tuple[Axis, Axis, Axis]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the image, (z, y, x)."""
        z, y, x = (len(axis.low) for axis in self.axes)
        return z, y, x


def lattice(given: Sequence[int], wanted: Sequence[int], nearest: int | None) -> Lattice:
    """Lay an image of shape `wanted` over logits of shape `given`, both (z, y, x).

    Parameters
    ----------
    nearest : axis along which the nearest plane is taken (nnU-Net's separate z), or None
    """
    z, y, x = (
        nearest_as_linear(size, want) if axis == nearest else linear_axis(size, want, centred=True)
        for axis, (size, want) in enumerate(zip(given, wanted, strict=True))
    )
    return Lattice((z, y, x))


def largest_channel(logits: Any, to: Lattice | None) -> Array:  # noqa: ANN401 (torch, late)
    """Index of the largest channel in each voxel of the image; the first of equal ones.

    Parameters
    ----------
    logits : tensor (channel, z, y, x), on any device
    to : the image's voxels, or None where they are those of the logits

    Returns
    -------
    labels
        uint8, uint16 beyond 256 channels, (z, y, x).
    """
    if logits.device.type == "cuda":
        return largest_channel_on_device(logits, to)
    logits = logits.cpu()
    kind = np.min_scalar_type(len(logits) - 1)
    labels = np.empty(tuple(logits.shape[1:]) if to is None else to.shape, kind)
    if to is None:
        _largest_as_they_are(logits, labels)
    else:
        _largest_resampled(logits, to, labels)
    return labels


def regions(
    logits: Any,  # noqa: ANN401
    to: Lattice | None,
    order: Sequence[int],
    probability: Callable[[Any], Any],
) -> Array:
    """Write each region's value where its probability is above one half; the last one wins.

    Parameters
    ----------
    logits : tensor (region, z, y, x), on any device
    to : as `largest_channel`
    order : value of each region (`regions_class_order`)
    probability : of a tensor of logits (`LabelManager.inference_nonlin`)

    Returns
    -------
    labels
        uint8, uint16 beyond 255, (z, y, x).
    """
    if logits.device.type != "cuda":
        logits = logits.cpu()
    shape = tuple(logits.shape[1:]) if to is None else to.shape
    labels = np.zeros(shape, np.min_scalar_type(max(order)))
    for start, stop in _device_pieces(logits, to):
        for channel, value in enumerate(order):
            values = piece(logits[channel], to, start, stop)
            inside = probability(values.float()) > 0.5
            labels[start:stop][inside.cpu().numpy()] = value
    return labels


def largest_channel_on_device(logits: Any, to: Lattice | None) -> Array:  # noqa: ANN401
    """`largest_channel` by torch alone, where the logits are."""
    import torch

    kind = np.min_scalar_type(len(logits) - 1)
    shape = tuple(logits.shape[1:]) if to is None else to.shape
    labels = np.empty(shape, kind)
    for start, stop in _device_pieces(logits, to):
        best = piece(logits[0], to, start, stop)
        winner = torch.zeros(best.shape, dtype=torch.int16, device=logits.device)
        for channel in range(1, len(logits)):
            values = piece(logits[channel], to, start, stop)
            winner.masked_fill_(values > best, channel)
            torch.maximum(best, values, out=best)
        labels[start:stop] = winner.cpu().numpy()
    return labels


def _device_pieces(logits: Any, to: Lattice | None) -> list[tuple[int, int]]:  # noqa: ANN401
    """Ranges of planes of the image that fit into half of the memory that the device has left."""
    import torch

    shape = tuple(logits.shape[1:]) if to is None else to.shape
    plane_bytes = COPIES * 8 * max(math.prod(shape[1:]), math.prod(logits.shape[2:]))
    left = 1 << 28
    if logits.device.type == "cuda":
        unused = torch.cuda.memory_reserved(logits.device) - torch.cuda.memory_allocated(
            logits.device
        )
        left = (torch.cuda.mem_get_info(logits.device)[0] + unused) // 2
    planes = max(1, min(shape[0], left // plane_bytes))
    return [(start, min(start + planes, shape[0])) for start in range(0, shape[0], planes)]


def piece(channel: Any, to: Lattice | None, start: int, stop: int) -> Any:  # noqa: ANN401
    """Planes `start` to `stop` of a resampled channel, in the channel's own type and place."""
    import torch

    if to is None:
        return channel[start:stop].clone()
    z, y, x = to.axes
    device = channel.device
    first, last = int(z.low[start:stop].min()), int(z.high[start:stop].max())
    source = channel[first : last + 1].double()

    def on_device(axis: Axis, at: slice = slice(None)) -> list[tuple[Any, Any]]:
        pairs = ((axis.low, axis.weight_low), (axis.high, axis.weight_high))
        return [
            (torch.as_tensor(i[at], device=device), torch.as_tensor(w[at], device=device))
            for i, w in pairs
        ]

    shape = (stop - start, *to.shape[1:])
    total = torch.zeros(shape, dtype=torch.float64, device=device)
    for i, weight_z in on_device(z, slice(start, stop)):
        planes = source[i - first] * weight_z[:, None, None]
        for j, weight_y in on_device(y):
            rows = planes[:, j] * weight_y[:, None]
            for k, weight_x in on_device(x):
                total += rows[:, :, k] * weight_x
    return _rounded(total) if channel.dtype == torch.float16 else total.to(channel.dtype)


def _rounded(values: Any) -> Any:  # noqa: ANN401
    """Float64 to float16 in one rounding, to the nearest and of two to the even one, as NumPy does.

    Torch goes through float32, which rounds twice. Rounding to odd first makes the second rounding
    right (Boldo and Melquiond: Emulation of a FMA and correctly rounded sums, IEEE Trans. Comput.
    57, 2008).
    """
    import torch

    single = values.float()
    back = single.double()
    bits = single.view(torch.int32)
    bits = bits - (back.abs() > values.abs()).int()  # towards zero
    bits = bits | (back != values).int()  # what was lost makes it odd
    return bits.view(torch.float32).half()


def _largest_as_they_are(logits: Any, labels: Array) -> None:  # noqa: ANN401
    import torch

    if logits.dtype == torch.float16:
        values = logits.contiguous().numpy().view(np.int16)
        flat, out = values.reshape(len(values), -1), labels.reshape(-1)
        in_pieces(lambda start, stop: _largest_half(flat, out, start, stop), flat.shape[1], 1 << 14)
        return
    labels[:] = logits.numpy().argmax(0)


def _largest_resampled(logits: Any, to: Lattice, labels: Array) -> None:  # noqa: ANN401
    z, y, x = to.axes
    half = str(logits.dtype) == "torch.float16"

    def work(start: int, stop: int) -> None:
        shape = (stop - start, *to.shape[1:])
        out = labels[start:stop]
        out[:] = 0
        best = np.full(shape, -np.inf, np.float32)
        lowest = np.full((*shape[:2], -(-shape[2] // BLOCK)), -np.inf, np.float32)
        first, last = int(z.low[start:stop].min()), int(z.high[start:stop].max())
        height, width = logits.shape[2:]
        tops = np.empty((last + 1 - first, height, -(-width // BLOCK)), np.float32)
        rows, values, rounded = np.empty((4, width)), np.empty(BLOCK), np.empty(BLOCK)
        for channel in range(len(logits)):
            source = logits[channel, first : last + 1].float().contiguous().numpy()
            _tops(source, tops)
            _largest_linear(
                source, tops, z.low[start:stop] - first, z.high[start:stop] - first,
                z.weight_low[start:stop], z.weight_high[start:stop],
                y.low, y.high, y.weight_low, y.weight_high,
                x.low, x.high, x.weight_low, x.weight_high,
                channel, half, rows, values, values.view(np.int64), rounded, rounded.view(np.int64),
                best, lowest, out,
            )  # fmt: skip

    pieces = -(-to.shape[0] // PLANES)
    in_pieces(lambda first, last: _each(work, first, last, to.shape[0]), pieces)


def _each(work: Callable[[int, int], None], first: int, last: int, planes: int) -> None:
    for number in range(first, last):
        work(number * PLANES, min((number + 1) * PLANES, planes))


@Compiled
def _largest_half(values: Array, labels: Array, start: int, stop: int) -> None:
    """Largest channel of float16 given as int16, for a range of voxels.

    The bits of float16 are ordered as whole numbers once those of negative ones are turned over;
    minus zero is made zero.
    """
    block = 4096
    best = np.empty(block, np.int16)
    for begin in range(start, stop, block):
        end = min(begin + block, stop)
        out = labels[begin:end]
        out[:] = 0
        for channel in range(values.shape[0]):
            given = values[channel, begin:end]
            for i in range(len(given)):
                value = given[i]
                key = np.int16(value ^ ((value >> 15) & 0x7FFF)) + np.int16(value == -32768)
                key = np.int16(key)
                higher = channel == 0 or key > best[i]
                best[i] = key if higher else best[i]
                out[i] = channel if higher else out[i]


@Compiled
def _tops(source: Array, tops: Array) -> None:
    """Largest value in each run of `BLOCK` voxels of a row; `tops` is (z, y, run)."""
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            for b in range(tops.shape[2]):
                top = source[i, j, b * BLOCK]
                for k in range(b * BLOCK + 1, min((b + 1) * BLOCK, source.shape[2])):
                    top = max(top, source[i, j, k])
                tops[i, j, b] = top


@Compiled
def _largest_linear(  # noqa: PLR0912, PLR0915 (compiled functions call no others)
    source: Array,
    tops: Array,
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
    channel: int,
    half: bool,
    rows: Array,
    values: Array,
    bits: Array,
    rounded: Array,
    rounded_bits: Array,
    best: Array,
    lowest: Array,
    labels: Array,
) -> None:
    """Resample one channel of a piece; where it is above `best`, it becomes the label.

    No voxel is above the largest of its corners: where these are not above the `lowest` best of a
    run of voxels, the channel wins none of them, and nothing is computed.
    """
    for i in range(best.shape[0]):
        near, far = source[z_low[i]], source[z_high[i]]
        a, b = z_weight_low[i], z_weight_high[i]
        for j in range(best.shape[1]):
            c, d = y_weight_low[j], y_weight_high[j]
            above, below = y_low[j], y_high[j]
            near_low, near_high = near[above], near[below]
            far_low, far_high = far[above], far[below]
            for run in range(lowest.shape[2]):
                start, stop = run * BLOCK, min((run + 1) * BLOCK, best.shape[2])
                left, right = x_low[start], x_high[stop - 1]
                top = -np.inf
                for n in range(left // BLOCK, right // BLOCK + 1):
                    top = max(top, tops[z_low[i], above, n], tops[z_low[i], below, n])
                    top = max(top, tops[z_high[i], above, n], tops[z_high[i], below, n])
                if top <= lowest[i, j, run]:
                    continue
                # slices, so that no index can be negative: the loops become vector instructions
                width, count = right + 1 - left, stop - start
                r, s, t, u = rows[0, :width], rows[1, :width], rows[2, :width], rows[3, :width]
                corners = near_low[left : right + 1]
                for k in range(width):
                    r[k] = (corners[k] * a) * c
                corners = near_high[left : right + 1]
                for k in range(width):
                    s[k] = (corners[k] * a) * d
                corners = far_low[left : right + 1]
                for k in range(width):
                    t[k] = (corners[k] * b) * c
                corners = far_high[left : right + 1]
                for k in range(width):
                    u[k] = (corners[k] * b) * d
                lows, highs = x_low[start:stop], x_high[start:stop]
                es, fs = x_weight_low[start:stop], x_weight_high[start:stop]
                for k in range(count):
                    p, q, e, f = lows[k] - left, highs[k] - left, es[k], fs[k]
                    value = r[p] * e
                    value += r[q] * f
                    value += s[p] * e
                    value += s[q] * f
                    value += t[p] * e
                    value += t[q] * f
                    value += u[p] * e
                    value += u[q] * f
                    values[k] = value
                if half:
                    # to 11 bits, of two equally near ones to the even one; below 2^-14 to 2^-24
                    for k in range(count):
                        whole = bits[k]
                        whole = (whole + 0x1FFFFFFFFFF + ((whole >> 42) & 1)) & -0x40000000000
                        rounded_bits[k] = whole
                    for k in range(count):
                        value = values[k]
                        tiny = (value + 1.5 * 2.0**28) - 1.5 * 2.0**28
                        values[k] = tiny if abs(value) < 2.0**-14 else rounded[k]
                before, out = best[i, j, start:stop], labels[i, j, start:stop]
                for k in range(count):
                    value = np.float32(values[k])
                    higher = value > before[k]
                    out[k] = channel if higher else out[k]
                    before[k] = value if higher else before[k]
                floor = before[0]
                for k in range(count):
                    floor = before[k] if before[k] < floor else floor
                lowest[i, j, run] = floor
