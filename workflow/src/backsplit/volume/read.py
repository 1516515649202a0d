"""Read volumes: NIfTI by our own reader, which trusts no header; NRRD and MetaImage by ITK."""

from __future__ import annotations

import math
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from isal import isal_zlib

from backsplit.config.base import MOST_LABEL
from backsplit.errors import CaseError, Code, shown
from backsplit.store.disk import is_there
from backsplit.volume import text_header
from backsplit.volume.geometry import Geometry, nifti_geometry
from backsplit.volume.grid import Array, Grid, Volume
from backsplit.volume.nifti import (
    NIFTI_ENDINGS,
    NiftiHeader,
    parse_header,
    read_header,
)

INTEGER_TOLERANCE = 1e-3
"""A float label file is accepted when every value is that near to an integer."""

GZIP_MAGIC = b"\x1f\x8b"

VOLUME_ENDINGS = (*NIFTI_ENDINGS, *text_header.ENDINGS)
"""How the names of files end that are read as volumes."""

INFLATE_BYTES = 1 << 20
"""Bytes that are unpacked at a time: they stay in the processor's cache."""

_CORRUPT: type[Exception] = vars(isal_zlib)["error"]  # its stub calls it an instance

UNREADABLE: tuple[type[Exception], ...] = (
    RuntimeError,
    MemoryError,
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    _CORRUPT,
)
"""What readers raise for a file that is no volume."""


def read_geometry(path: Path) -> Geometry:
    """Read the grid of a volume from its header, and what had to be done to have it.

    Raises
    ------
    CaseError
        FILE_MISSING, FILEUNREADABLE, NOT_3D, SPACING_INVALID, ORIENTATION_UNKNOWN,
        ORIENTATION_AMBIGUOUS or DIRECTION_SHEARED.
    """
    _require_file(path)
    if path.is_dir():
        from backsplit.volume.series import series_geometry

        return series_geometry(path)
    try:
        if path.name.endswith(NIFTI_ENDINGS):
            return nifti_geometry(path, read_header(path))
        from backsplit.volume.itk import itk_geometry

        return itk_geometry(path)
    except UNREADABLE as error:
        raise unreadable(path, error) from None


def read_grid(path: Path) -> Grid:
    """Read the grid of a volume from its header alone; raises as `read_geometry`."""
    return read_geometry(path).grid


def read_volume(path: Path) -> Volume:
    """Read a 3D volume (NIfTI, NRRD, MHA/MHD, a folder of DICOM slices).

    Raises
    ------
    CaseError
        As `read_geometry` and `read_series`.
    """
    _require_file(path)
    if path.is_dir():
        from backsplit.volume.series import read_series

        return read_series(path)
    try:
        if path.name.endswith(NIFTI_ENDINGS):
            content, packed = path.read_bytes(), path.name.endswith(".gz")
            header = parse_header(BytesIO(content), packed=packed)
            grid = nifti_geometry(path, header).grid
            return Volume(_voxels(header, content, packed=packed).reshape(grid.shape), grid)
        from backsplit.volume.itk import read_with_itk

        return read_with_itk(path)
    except UNREADABLE as error:
        raise unreadable(path, error) from None


def read_labels(path: Path) -> Volume:
    """Read a label file as integers (uint8 where the values fit, else uint16).

    Raises
    ------
    CaseError
        As `read_volume`, and LABEL_NOT_INTEGER when a value is further than 1e-3 from an integer
        (an interpolated mask), not finite, or negative; LABEL_UNDECLARED when it is above
        `MOST_LABEL`.
    """
    volume = read_volume(path)
    array = volume.array
    if array.dtype.kind == "f":
        rounded = np.rint(array)
        with np.errstate(invalid="ignore"):
            off = ~(np.abs(array - rounded) <= INTEGER_TOLERANCE)
        if off.any():
            raise CaseError(
                Code.LABEL_NOT_INTEGER,
                f"{path} holds the value {array[off].flat[0]:g} ({int(off.sum())} voxels are not "
                "whole numbers); a label file needs integers",
                "it may have been interpolated: make it again with nearest-neighbour interpolation",
            )
        array = rounded
    lowest, highest = array.min(), array.max()
    if lowest < 0:
        raise CaseError(
            Code.LABEL_NOT_INTEGER,
            f"{path} holds the value {lowest:g}; label values start at 0",
            "fix the file",
        )
    if highest > MOST_LABEL:
        raise CaseError(
            Code.LABEL_UNDECLARED,
            f"{path} holds the value {highest:.0f}; {MOST_LABEL} is the most",
            "renumber it, or correct the path if it is an image",
        )
    return Volume(array.astype(np.min_scalar_type(int(highest)), copy=False), volume.grid)


def _inflate(packed: bytes, length: int) -> Array:
    """Unpack gzip straight into place; never more memory than the header asks for.

    Raises
    ------
    ValueError, isal_zlib.error
        The stream is cut off, its checksum is wrong, or it goes on far beyond `length`.
    """
    out = np.empty(length, np.uint8)
    filled = beyond = position = 0
    while packed[position : position + 2] == GZIP_MAGIC:  # members follow each other
        stream = isal_zlib.decompressobj(16 + 15)
        tail = b""
        while not stream.eof:
            given = tail or packed[position : position + INFLATE_BYTES]
            position += 0 if tail else len(given)
            part = stream.decompress(given, INFLATE_BYTES)
            tail = stream.unconsumed_tail
            if not given and not part and not stream.eof:
                raise ValueError("the gzip stream is cut off")
            fits = min(len(part), length - filled)
            out[filled : filled + fits] = np.frombuffer(part, np.uint8, fits)
            filled += fits
            beyond += len(part) - fits
            if beyond > INFLATE_BYTES:
                raise ValueError("the file holds far more bytes than its header says")
        position -= len(stream.unused_data)
    return out[:filled]


def _voxels(header: NiftiHeader, content: bytes, *, packed: bool) -> Array:
    """Voxels of a NIfTI file, (…, z, y, x), slope and intercept applied.

    ITK fills what a truncated .nii.gz lacks with zeros, turns NaN into 0, and says nothing of
    either. Here the gzip stream's checksum and the number of bytes are held against the header,
    and NaN stays NaN.
    """
    count, dtype = math.prod(header.size), header.dtype
    length = header.offset + count * dtype.itemsize
    raw = _inflate(content, length) if packed else content
    if len(raw) < length:
        raise ValueError(f"{len(raw)} bytes where the header says {length}")
    array: Array = np.frombuffer(raw, dtype, count, header.offset).reshape(header.size[::-1])
    if (header.slope, header.intercept) == (1.0, 0.0):
        return array.astype(dtype.newbyteorder("="), copy=False)
    scaled: Array = array.astype(np.float32 if dtype.itemsize <= 2 else np.float64)
    scaled *= header.slope
    scaled += header.intercept
    return scaled


def _require_file(path: Path) -> None:
    if not is_there(path):
        raise CaseError(
            Code.FILE_MISSING, f"{shown(path)} is no file or folder", "fix the path in the table"
        )


def unreadable(path: Path, error: Exception) -> CaseError:
    """Say that a file is no volume, with the reader's own reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1] if lines else type(error).__name__
    return CaseError(
        Code.FILE_UNREADABLE,
        f"{path} can not be read as a NIfTI, NRRD or MetaImage volume ({reason[:200]})",
        "check that it is complete and of the format that its name says",
    )
