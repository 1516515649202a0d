"""Volumes and their grids: read, write, compare. The one place where (z, y, x) meets (x, y, z).

Arrays are (z, y, x). Sizes, spacings, origins and directions are (x, y, z), in mm, in ITK's
LPS patient axes: +x to the patient's left, +y to posterior, +z to superior.
"""

from __future__ import annotations

import math
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from isal import igzip
from numpy.typing import NDArray

from backsplit.errors import CaseError, Code

sitk.ProcessObject.SetGlobalWarningDisplay(False)

Array = NDArray[Any]

GRID_TOLERANCE_MM = 1e-2
"""Two grids are the same when no corner voxel lies further apart: below any segmentation's
precision, above what float32 headers round away (about 1e-4 mm at 1000 mm)."""

INTEGER_TOLERANCE = 1e-3
"""A float label file is accepted when every value is that near to an integer."""


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a volume lie in the patient.

    Attributes
    ----------
    size : number of voxels, (x, y, z)
    spacing : mm, (x, y, z)
    origin : centre of the first voxel, mm, LPS
    direction : 3x3 cosines, row-major, columns are the x, y, z axes of the volume, LPS
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the array, (z, y, x)."""
        x, y, z = self.size
        return (z, y, x)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml."""
        return float(np.prod(self.spacing)) / 1000.0

    @property
    def affine_ras(self) -> Array:
        """4x4 matrix from voxel (x, y, z) to mm in RAS, as NIfTI keeps it."""
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(self.direction, (3, 3)) * np.asarray(self.spacing)
        affine[:3, 3] = self.origin
        return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)

    def corners_mm(self) -> Array:
        """Positions of the eight corner voxels, (8, 3), mm, LPS."""
        far = np.asarray(self.size) - 1
        index = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * far
        axes = np.reshape(self.direction, (3, 3)) * np.asarray(self.spacing)
        return np.asarray(index @ axes.T + np.asarray(self.origin))

    def distance_mm(self, other: Grid) -> float:
        """Largest distance between corresponding corner voxels, mm; inf when sizes differ."""
        if self.size != other.size:
            return float("inf")
        gap = np.linalg.norm(self.corners_mm() - other.corners_mm(), axis=1)
        return float(gap.max())

    def array_axis(self, patient_axis: int) -> tuple[int, int]:
        """Array axis (of z, y, x) that runs most along a patient axis, and its sign.

        Parameters
        ----------
        patient_axis
            0 for right to left, 1 for anterior to posterior, 2 for inferior to superior.

        Returns
        -------
        axis, sign
            `axis` of the (z, y, x) array; `sign` is 1 when the index grows with the patient axis.
        """
        cosines = np.reshape(self.direction, (3, 3))
        # each image axis goes to one patient axis, so that oblique grids never name one twice
        order: dict[int, int] = {}
        strength = np.abs(cosines).copy()
        for _ in range(3):
            row, column = np.unravel_index(np.argmax(strength), (3, 3))
            order[int(row)] = int(column)
            strength[row, :] = -1
            strength[:, column] = -1
        chosen = order[patient_axis]
        return 2 - chosen, 1 if cosines[patient_axis, chosen] >= 0 else -1

    def describe(self) -> str:
        """Size and spacing for a message, as `512x512x90 voxels of 0.8x0.8x1.5 mm`."""
        size = "x".join(map(str, self.size))
        return f"{size} voxels of {'x'.join(f'{s:.4g}' for s in self.spacing)} mm"


@dataclass(frozen=True)
class Volume:
    """An array (z, y, x) and the grid that it lies on."""

    array: Array
    grid: Grid

    def __post_init__(self) -> None:
        if self.array.shape != self.grid.shape:
            raise ValueError(
                f"Volume requires an array of the grid's shape {self.grid.shape}, "
                f"got {self.array.shape}"
            )


def read_grid(path: Path) -> Grid:
    """Read the grid of a volume from its header alone.

    Raises
    ------
    CaseError
        FILE_MISSING, FILE_UNREADABLE or NOT_3D.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(_existing(path)))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, error) from None
    size = tuple(int(n) for n in reader.GetSize())
    components = int(reader.GetNumberOfComponents())
    if len(size) == 4 and size[3] == 1:
        size = size[:3]
    if len(size) != 3 or min(size) < 2 or components != 1:
        shown = "x".join(map(str, size)) + (f", {components} components" if components > 1 else "")
        raise CaseError(
            Code.NOT_3D,
            f"{path} has size {shown}; one 3D volume with at least 2 voxels a side is needed; "
            "split or convert it",
        )
    direction = np.reshape(reader.GetDirection(), (reader.GetDimension(),) * 2)[:3, :3]
    x, y, z = size
    spacing = reader.GetSpacing()
    origin = reader.GetOrigin()
    return Grid(
        size=(x, y, z),
        spacing=(spacing[0], spacing[1], spacing[2]),
        origin=(origin[0], origin[1], origin[2]),
        direction=tuple(float(d) for d in direction.ravel()),
    )


def read_volume(path: Path) -> Volume:
    """Read a 3D volume (NIfTI, NRRD, MHA/MHD).

    Raises
    ------
    CaseError
        FILE_MISSING, FILE_UNREADABLE or NOT_3D.
    """
    grid = read_grid(path)
    try:
        if path.name.endswith((".nii", ".nii.gz")):
            array = _nifti_array(path)
        else:
            array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except (RuntimeError, MemoryError, OSError, EOFError, ValueError, zlib.error) as error:
        raise _unreadable(path, error) from None
    return Volume(array.reshape(grid.shape), grid)


def _nifti_array(path: Path) -> Array:
    """Voxels of a NIfTI file, (…, z, y, x), slope and intercept applied.

    ITK fills what a truncated .nii.gz lacks with zeros, turns NaN into 0, and says nothing of
    either. Here the gzip stream's checksum and the number of bytes are held against the header,
    and NaN stays NaN.
    """
    image = nib.load(path)
    raw = path.read_bytes()
    if path.name.endswith(".gz"):
        raw = igzip.decompress(raw)
    dtype = image.header.get_data_dtype()
    if dtype.fields is not None or dtype.kind not in "iuf":
        raise ValueError(f"voxels are of type {dtype}, not numbers")
    count, offset = math.prod(image.shape), int(image.dataobj.offset)
    if len(raw) < offset + count * dtype.itemsize:
        raise ValueError(
            f"{len(raw) - offset} bytes of voxels where the header says {count * dtype.itemsize}"
        )
    array = np.frombuffer(raw, dtype, count, offset).reshape(image.shape[::-1])
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    if (slope, intercept) == (1.0, 0.0):
        return array.astype(dtype.newbyteorder("="), copy=False)
    wide = np.float32 if dtype.itemsize <= 2 else np.float64
    return np.asarray(array.astype(wide) * slope + intercept)


def read_labels(path: Path) -> Volume:
    """Read a label file as integers (uint8 where the values fit, else uint16 or int32).

    Raises
    ------
    CaseError
        As `read_volume`, and LABEL_NOT_INTEGER when a value is further than 1e-3 from an integer
        (an interpolated mask), not finite, or negative.
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
                "whole numbers); a label file needs integers; it may have been interpolated: "
                "make it again with nearest-neighbour interpolation",
            )
        array = rounded
    lowest, highest = array.min(), array.max()
    if lowest < 0:
        raise CaseError(
            Code.LABEL_NOT_INTEGER,
            f"{path} holds the value {lowest:g}; label values start at 0; fix the file",
        )
    dtype = np.uint8 if highest <= 255 else np.uint16 if highest <= 65535 else np.int32
    return Volume(array.astype(dtype, copy=False), volume.grid)


def require_same_grid(what: str, grid: Grid, reference: Grid, reference_name: str) -> None:
    """Refuse a volume that is not on its case's grid.

    Raises
    ------
    CaseError
        GRID_MISMATCH, naming both grids.
    """
    distance = grid.distance_mm(reference)
    if distance <= GRID_TOLERANCE_MM:
        return
    if grid.size != reference.size:
        found = f"is {grid.describe()} but {reference_name} is {reference.describe()}"
    else:
        found = (
            f"has the size of {reference_name} but lies up to {distance:.3g} mm away from it "
            f"(spacing, origin or direction differ)"
        )
    raise CaseError(
        Code.GRID_MISMATCH, f"{what} {found}; resample it to that grid or fix the table"
    )


def write_labels(path: Path, array: Array, grid: Grid, like: Path | None = None) -> None:
    """Write a label map as .nii.gz, atomically; the same input gives the same bytes.

    Parameters
    ----------
    array : unsigned integers, (z, y, x)
    grid : where it lies
    like : NIfTI image whose geometry fields are taken over to the bit, so that every reader
        places both alike, whichever of qform and sform it believes
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(encode_nifti(array, grid, like))


def encode_nifti(array: Array, grid: Grid, like: Path | None = None) -> bytes:
    """Gzipped NIfTI-1 bytes of an unsigned integer array (z, y, x), without time stamp."""
    if array.shape != grid.shape:
        raise ValueError(f"array has shape {array.shape}, its grid {grid.shape}")
    header = _nifti_header(like) or _header_of(grid)
    header.set_data_dtype(array.dtype)
    header.set_data_shape(grid.size)
    header["vox_offset"] = 352
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_min"], header["cal_max"] = 0, 0
    header["descrip"] = b"backsplit label map"
    data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder(header.endianness))
    raw = header.binaryblock + b"\0" * 4 + data.tobytes()
    compressed: bytes = igzip.compress(raw, compresslevel=2, mtime=0)
    return compressed


def _nifti_header(path: Path | None) -> Any | None:  # noqa: ANN401 (nibabel is untyped)
    """Header of a NIfTI-1 file; None for any other format."""
    if path is None or not path.name.endswith((".nii", ".nii.gz")):
        return None
    header = nib.load(path).header.copy()
    return header if type(header) is nib.Nifti1Header else None


def _header_of(grid: Grid) -> Any:  # noqa: ANN401
    header = nib.Nifti1Header()
    header.set_data_shape(grid.size)
    header.set_qform(grid.affine_ras, code=1)
    header.set_sform(grid.affine_ras, code=1)
    header.set_xyzt_units("mm")
    return header


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its place when the block ends well.

    A reader sees the old file or the whole new one, never half of it; after an error or a kill
    no file of that name is left half-written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(path.suffixes[-2:])
    handle, name = tempfile.mkstemp(prefix=".part-", suffix=suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _existing(path: Path) -> Path:
    if not path.exists():
        raise CaseError(Code.FILE_MISSING, f"{path} does not exist; fix the path in the table")
    return path


def _unreadable(path: Path, error: Exception) -> CaseError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1] if lines else type(error).__name__
    return CaseError(
        Code.FILE_UNREADABLE,
        f"{path} can not be read as a NIfTI, NRRD or MetaImage volume ({reason[:200]}); "
        "check that it is complete and of the format that its name says",
    )
