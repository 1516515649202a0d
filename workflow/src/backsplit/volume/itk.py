"""NRRD and MetaImage, read by ITK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from backsplit.errors import CaseError, Code
from backsplit.volume import text_header
from backsplit.volume.geometry import Geometry, bad_spacing, orthonormal, require_3d
from backsplit.volume.grid import Grid, Volume

sitk.ProcessObject.SetGlobalWarningDisplay(False)


def itk_geometry(path: Path) -> Geometry:
    """Read the grid from the header.

    Raises
    ------
    CaseError
        NOT_3D, SPACING_INVALID, ORIENTATION_UNKNOWN, DIRECTION_SHEARED; FILE_UNREADABLE for a
        header that ITK must not see.
    RuntimeError
        What ITK can not read.
    """
    if path.suffix.lower() in text_header.ENDINGS:
        text_header.require_sane_header(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    dimension = reader.GetDimension()
    size = require_3d(path, reader.GetSize(), int(reader.GetNumberOfComponents()))
    x, y, z = (float(s) for s in reader.GetSpacing()[:3])
    if not np.isfinite([x, y, z]).all() or min(x, y, z) <= 0:
        raise bad_spacing(path, f"a spacing of {x:g} x {y:g} x {z:g} mm")
    if path.suffix.lower() in (".nrrd", ".nhdr") and not reader.HasMetaDataKey("NRRD_space"):
        raise CaseError(
            Code.ORIENTATION_UNKNOWN,
            f"{path} names no patient space (the field `space` is missing), so left and right "
            "are a guess",
            "write it anew with `space: left-posterior-superior`",
        )
    direction = np.reshape(reader.GetDirection(), (dimension, dimension))[:3, :3]
    rotation, repaired = orthonormal(path, direction, size, (x, y, z))
    origin = reader.GetOrigin()
    grid = Grid(
        size,
        (x, y, z),
        (float(origin[0]), float(origin[1]), float(origin[2])),
        tuple(float(cosine) for cosine in rotation.ravel()),
    )
    return Geometry(grid, tuple(repaired), faithful=not repaired)


def read_with_itk(path: Path) -> Volume:
    """Read a volume; raises as `itk_geometry`."""
    grid = itk_geometry(path).grid
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return Volume(array.reshape(grid.shape), grid)
