"""Volumes slab by slab, for those who would rather not hold a whole one in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from isal import igzip

from backsplit.volume.formats import Format, Head, read_head
from backsplit.volume.geometry import nifti_geometry
from backsplit.volume.grid import Array
from backsplit.volume.nifti import parse_header
from backsplit.volume.read import UNREADABLE, read_volume, unreadable


def read_slabs(path: Path, depth: int) -> Iterator[Array]:
    """Voxels of a volume, `depth` slices (z, y, x) at a time; the last slab may be thinner.

    NIfTI files are unpacked as they are read; any other format is read whole.

    Raises
    ------
    CaseError
        As `read_volume`.
    """
    try:
        head = None if path.is_dir() else read_head(path)
        if head is not None and head.format is Format.NIFTI:
            yield from _nifti_slabs(path, depth, head)
            return
    except UNREADABLE as error:
        raise unreadable(path, error) from None
    whole = read_volume(path).array
    for start in range(0, len(whole), depth):
        yield whole[start : start + depth]


def _nifti_slabs(path: Path, depth: int, head: Head) -> Iterator[Array]:
    header = parse_header(head.content)
    slices, rows, columns = nifti_geometry(path, header, packed=head.packed).grid.shape
    with path.open("rb") as file:
        stream: BinaryIO = igzip.GzipFile(fileobj=file) if head.packed else file
        _read(stream, header.offset)
        for start in range(0, slices, depth):
            shape = (min(depth, slices - start), rows, columns)
            raw = _read(stream, int(np.prod(shape)) * header.dtype.itemsize)
            yield header.values(np.frombuffer(raw, header.dtype).reshape(shape))


def _read(stream: BinaryIO, length: int) -> bytes:
    """Read so many bytes.

    Raises
    ------
    ValueError
        There are fewer.
    """
    raw = stream.read(length)
    if len(raw) < length:
        raise ValueError(f"it ends {length - len(raw)} bytes before the header says")
    return raw
