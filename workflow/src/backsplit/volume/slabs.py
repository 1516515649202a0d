"""Volumes slab by slab, for those who would rather not hold a whole one in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from isal import igzip

from backsplit.volume.formats import Format, require_format
from backsplit.volume.grid import Array
from backsplit.volume.nifti import parse_header
from backsplit.volume.read import UNREADABLE, read_geometry, read_volume, unreadable


def read_slabs(path: Path, depth: int) -> Iterator[Array]:
    """Voxels of a volume, `depth` slices (z, y, x) at a time; the last slab may be thinner.

    NIfTI files are unpacked as they are read; any other format is read whole.

    Raises
    ------
    CaseError
        As `read_volume`.
    """
    try:
        found, packed = (Format.DICOM, False) if path.is_dir() else require_format(path)
        if found is Format.NIFTI:
            yield from _nifti_slabs(path, depth, packed=packed)
            return
    except UNREADABLE as error:
        raise unreadable(path, error) from None
    whole = read_volume(path).array
    for start in range(0, len(whole), depth):
        yield whole[start : start + depth]


def _nifti_slabs(path: Path, depth: int, *, packed: bool) -> Iterator[Array]:
    slices, rows, columns = read_geometry(path).grid.shape
    with path.open("rb") as file:
        header = parse_header(file, packed=packed)
        file.seek(0)
        stream: BinaryIO = igzip.GzipFile(fileobj=file) if packed else file
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
