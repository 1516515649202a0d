"""Read volumes: NIfTI, NRRD and MetaImage by their content, with no trust in headers or names."""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np

from backsplit.config.base import MOST_LABEL
from backsplit.errors import CaseError, Code, shown
from backsplit.store.disk import is_there
from backsplit.volume import metaimage, nrrd, text_header
from backsplit.volume.formats import Format, Head, read_head
from backsplit.volume.geometry import Geometry, nifti_geometry
from backsplit.volume.grid import Array, Grid, Volume
from backsplit.volume.nifti import NIFTI_ENDINGS, NiftiHeader, parse_header
from backsplit.volume.packed import CORRUPT, INFLATE_BYTES, inflate
from backsplit.volume.text_header import StoredVoxels

INTEGER_TOLERANCE = 1e-3
"""A float label file is accepted when every value is that near to an integer."""

VOLUME_ENDINGS = (*NIFTI_ENDINGS, *text_header.ENDINGS)
"""How names end by which a folder is searched for volumes; reading goes by content."""

UNREADABLE: tuple[type[Exception], ...] = (
    MemoryError,
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    CORRUPT,
)
"""What readers raise for a file that is no volume."""


def read_geometry(path: Path) -> Geometry:
    """Read the grid of a volume from its header, and what had to be done to have it.

    Raises
    ------
    CaseError
        FILE_MISSING, FILE_UNREADABLE, NOT_3D, SPACING_INVALID, ORIENTATION_UNKNOWN,
        ORIENTATION_AMBIGUOUS or DIRECTION_SHEARED.
    """
    _require_file(path)
    try:
        head = _head(path)
        if head.format is Format.DICOM:
            from backsplit.volume.series import series_geometry

            return series_geometry(path)
        if head.format is Format.NIFTI:
            return nifti_geometry(path, parse_header(head.content), packed=head.packed)
        return _by_text_header(path, head.format)[0]
    except UNREADABLE as error:
        raise unreadable(path, error) from None


def read_grid(path: Path) -> Grid:
    """Read the grid of a volume from its header alone; raises as `read_geometry`."""
    return read_geometry(path).grid


def read_volume(path: Path) -> Volume:
    """Read a 3D volume (NIfTI, NRRD, MetaImage, a folder of DICOM slices, a multi-frame object).

    Raises
    ------
    CaseError
        As `read_geometry` and `read_series`.
    """
    _require_file(path)
    try:
        head = _head(path)
        if head.format is Format.DICOM:
            from backsplit.volume.series import read_series

            return read_series(path)
        if head.format is Format.NIFTI:
            header = parse_header(head.content)
            grid = nifti_geometry(path, header, packed=head.packed).grid
            voxels = _voxels(header, path.read_bytes(), packed=head.packed)
            return Volume(voxels.reshape(grid.shape), grid)
        geometry, stored = _by_text_header(path, head.format)
        return Volume(stored.read().reshape(geometry.grid.shape), geometry.grid)
    except UNREADABLE as error:
        raise unreadable(path, error) from None


def read_labels(path: Path, *, is_mask: bool = False) -> Volume:
    """Read a label file as integers (uint8 where the values fit, else uint16).

    Parameters
    ----------
    path : as `read_volume`
    is_mask : the file stands for one thing: where its voxels but 0 all have one value above 0 that
        is no integer (1/255, 0.996), they become 1

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
        if is_mask and _is_mask_of_a_fraction(array):
            return Volume((array != 0).astype(np.uint8), volume.grid)
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
            f"{path} holds the value {highest:.0f}; the maximum is {MOST_LABEL}",
            "renumber it, or correct the path if it is an image",
        )
    return Volume(array.astype(np.min_scalar_type(int(highest)), copy=False), volume.grid)


def _head(path: Path) -> Head:
    return Head(Format.DICOM, False, b"") if path.is_dir() else read_head(path)


def _by_text_header(path: Path, found: Format) -> tuple[Geometry, StoredVoxels]:
    """The grid and the voxels' place of a NRRD or MetaImage file; data of one piece are whole."""
    if found is Format.NRRD:
        header = nrrd.read_nrrd_header(path)
        stored, geometry = nrrd.nrrd_voxels(header), nrrd.nrrd_geometry(header)
    else:
        header = metaimage.read_meta_header(path)
        stored, geometry = metaimage.meta_voxels(header), metaimage.meta_geometry(header)
    stored.require_whole()
    return geometry, stored


def _is_mask_of_a_fraction(array: Array) -> bool:
    """Whether all voxels but 0 have one value, finite and above 0, and that is no integer."""
    held = array[array != 0]
    if not len(held) or not (held == held[0]).all():
        return False
    value = float(held[0])
    whole = abs(value - max(1.0, np.rint(value))) <= INTEGER_TOLERANCE
    return value > 0 and np.isfinite(value) and not whole


def _voxels(header: NiftiHeader, content: bytes, *, packed: bool) -> Array:
    """Voxels of a NIfTI file, (…, z, y, x), slope and intercept applied.

    ITK fills what a truncated .nii.gz lacks with zeros, turns NaN into 0, and says nothing of
    either. Here the gzip stream's checksum and the number of bytes are held against the header,
    and NaN stays NaN.
    """
    count, dtype = math.prod(header.size), header.dtype
    length = header.offset + count * dtype.itemsize
    raw = inflate(content, length, INFLATE_BYTES) if packed else content
    if len(raw) < length:
        raise ValueError(f"{len(raw)} bytes where the header says {length}")
    return header.values(np.frombuffer(raw, dtype, count, header.offset).reshape(header.size[::-1]))


def _require_file(path: Path) -> None:
    if not is_there(path):
        raise CaseError(
            Code.FILE_MISSING, f"{shown(path)} does not exist", "fix the path in the table"
        )


def unreadable(path: Path, error: Exception) -> CaseError:
    """Say that a file is no volume, with the reader's own reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1] if lines else type(error).__name__
    return CaseError(
        Code.FILE_UNREADABLE,
        f"{path} cannot be read as a NIfTI, NRRD or MetaImage volume ({reason[:200]})",
        "check that it is complete: fetch or convert it again",
    )
