"""Write volumes atomically; the same input gives the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from isal import isal_zlib

from backsplit.store.disk import atomic_path
from backsplit.volume.formats import Format, read_head
from backsplit.volume.grid import Array, Grid
from backsplit.volume.label_names import LabelNames, names_extension
from backsplit.volume.nifti import (
    FIRST_VOXEL,
    NiftiHeader,
    byte_order,
    label_header,
    parse_header,
)

GZIP_LEVEL = 2
CHUNK_BYTES = 1 << 24

EXTENDED, NOT_EXTENDED = b"\1\0\0\0", b"\0\0\0\0"
"""What follows the header: whether an extension comes before the voxels."""


def write_labels(path: Path, array: Array, grid: Grid, like: Path | None = None) -> None:
    """Write a label map as .nii.gz, atomically.

    Parameters
    ----------
    array : unsigned integers, (z, y, x)
    grid : where it lies
    like : NIfTI image whose geometry fields are taken over to the bit, so that every reader
        places both alike, whichever of qform and sform it believes
    """
    with atomic_path(path) as temporary:
        save_nifti(temporary, array, grid, like)


def save_nifti(
    path: Path,
    array: Array,
    grid: Grid,
    like: Path | None = None,
    description: str = "backsplit label map",
    names: LabelNames | None = None,
) -> None:
    """Write gzipped NIfTI-1 in place, in chunks, without a time stamp in the gzip header.

    Parameters
    ----------
    array : numbers, (z, y, x)
    grid, like : as `write_labels`
    description : the header's `descrip`, at most 79 bytes
    names : names and colours of labels, for an extension of the header
    """
    if array.shape != grid.shape:
        raise ValueError(f"array has shape {array.shape}, its grid {grid.shape}")
    record = label_header(grid, array.dtype, _header_of(like), description)
    order = byte_order(record)
    extension = b"" if names is None else names_extension(names, order)
    record["vox_offset"] = FIRST_VOXEL + len(extension)
    header = record.tobytes() + (EXTENDED if extension else NOT_EXTENDED) + extension
    data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder(order))
    stream = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, 16 + 15)
    voxels = data.reshape(-1).view(np.uint8).data
    with path.open("wb") as file:
        file.write(stream.compress(header))
        for start in range(0, len(voxels), CHUNK_BYTES):
            file.write(stream.compress(voxels[start : start + CHUNK_BYTES]))
        file.write(stream.flush())


def _header_of(path: Path | None) -> NiftiHeader | None:
    """Header of a NIfTI file; None for any other format."""
    if path is None or path.is_dir():
        return None
    head = read_head(path)
    return parse_header(head.content) if head.format is Format.NIFTI else None
