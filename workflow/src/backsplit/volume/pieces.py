"""Whole volumes piece by piece: tables, counts and searches at the speed of memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from backsplit.volume.grid import Array

PIECE = 1 << 19
"""Voxels per piece: a few such pieces of one byte fit a processor's cache."""


def pieces(count: int) -> Iterator[slice]:
    """Slices of a flat array, each of at most `PIECE` voxels."""
    for start in range(0, count, PIECE):
        yield slice(start, start + PIECE)


def apply_table(table: Array, values: Array) -> Array:
    """`table[values]` for a flat piece; one byte to one byte goes by `bytes.translate`."""
    if values.dtype == np.uint8 and table.dtype == np.uint8:
        full = np.zeros(256, np.uint8)
        full[: len(table)] = table
        return np.frombuffer(bytearray(values.data).translate(full.tobytes()), np.uint8)
    return np.asarray(table[values])


def count_values(array: Array, length: int | None = None) -> Array:
    """How often each of 0 … length - 1 occurs in an array of unsigned integers of 16 bits at most.

    Without a length, as far as the largest that it holds. NumPy's `bincount` of a whole volume
    makes eight bytes of each voxel first, and `unique` sorts it.
    """
    if length is None:
        length = int(array.max(initial=0)) + 1
    flat = array.reshape(-1)
    counts = np.zeros(length, np.int64)
    for at in pieces(len(flat)):
        piece = flat[at]
        if not piece.any():
            counts[0] += len(piece)
        elif piece.dtype == np.uint8 and len(piece) % 2 == 0:
            pairs = np.bincount(piece.view(np.uint16), minlength=256 * 256).reshape(256, 256)
            both = pairs.sum(axis=0) + pairs.sum(axis=1)
            counts[:256] += both[:length] if length < 256 else both
        else:
            counts += np.bincount(piece, minlength=length)
    return counts


def values_in(array: Array) -> list[int]:
    """Values other than 0 that an array holds, in order; as `count_values`."""
    return [value for value in np.flatnonzero(count_values(array)).tolist() if value]


def places_of(array: Array) -> Array:
    """Flat indices of the voxels that are not 0."""
    flat = array.reshape(-1)
    found = [at.start + np.flatnonzero(flat[at]) for at in pieces(len(flat)) if flat[at].any()]
    return np.concatenate(found) if found else np.zeros(0, np.int64)
