"""Write volumes atomically; the same input gives the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import isal_zlib

from backsplit.disk import atomic_path
from backsplit.volume.grid import Array, Grid
from backsplit.volume.read import NIFTI_ENDINGS

GZIP_LEVEL = 2
CHUNK_BYTES = 1 << 24


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
) -> None:
    """Write gzipped NIfTI-1 in place, in chunks, without a time stamp in the gzip header.

    Parameters
    ----------
    array : numbers, (z, y, x)
    grid, like : as `write_labels`
    description : the header's `descrip`, at most 79 bytes
    """
    if array.shape != grid.shape:
        raise ValueError(f"array has shape {array.shape}, its grid {grid.shape}")
    header = _nifti_header(like) or _header_of(grid)
    header.set_data_dtype(array.dtype)
    header.set_data_shape(grid.size)
    header["vox_offset"] = 352
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_min"], header["cal_max"] = 0, 0
    header["descrip"] = description.encode()
    data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder(header.endianness))
    stream = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, 16 + 15)
    voxels = data.reshape(-1).view(np.uint8).data
    with path.open("wb") as file:
        file.write(stream.compress(header.binaryblock + b"\0" * 4))
        for start in range(0, len(voxels), CHUNK_BYTES):
            file.write(stream.compress(voxels[start : start + CHUNK_BYTES]))
        file.write(stream.flush())


def _nifti_header(path: Path | None) -> Any | None:  # noqa: ANN401 (nibabel is untyped)
    """Header of a NIfTI-1 file; None for any other format."""
    if path is None or not path.name.endswith(NIFTI_ENDINGS):
        return None
    image: Any = nib.load(path)
    header = image.header.copy()
    return header if type(header) is nib.Nifti1Header else None


def _header_of(grid: Grid) -> Any:  # noqa: ANN401
    header = nib.Nifti1Header()
    header.set_data_shape(grid.size)
    header.set_qform(grid.affine_ras, code=1)
    header.set_sform(grid.affine_ras, code=1)
    header.set_xyzt_units("mm")
    return header
