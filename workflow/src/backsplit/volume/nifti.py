"""NIfTI headers as they stand in the file: read, checked for what no reader can use, written.

Layouts and codes: the official nifti1.h and nifti2.h. Libraries mend what they find wrong (a
spacing of 0 becomes 1) and say nothing; here nothing is mended, so that the geometry gate sees it.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from backsplit.volume.grid import Array, Grid
from backsplit.volume.packed import first_bytes

NIFTI_ENDINGS = (".nii", ".nii.gz")

HEADER_1_BYTES, HEADER_2_BYTES = 348, 540

FIRST_VOXEL = HEADER_1_BYTES + 4
"""Where voxels begin at the earliest: behind the header and four bytes about extensions."""

_NIFTI_1 = np.dtype(
    [
        *(("sizeof_hdr", "i4"), ("data_type", "S10"), ("db_name", "S18"), ("extents", "i4")),
        *(("session_error", "i2"), ("regular", "S1"), ("dim_info", "u1"), ("dim", "i2", 8)),
        *(("intent_p1", "f4"), ("intent_p2", "f4"), ("intent_p3", "f4"), ("intent_code", "i2")),
        *(("datatype", "i2"), ("bitpix", "i2"), ("slice_start", "i2"), ("pixdim", "f4", 8)),
        *(("vox_offset", "f4"), ("scl_slope", "f4"), ("scl_inter", "f4"), ("slice_end", "i2")),
        *(("slice_code", "u1"), ("xyzt_units", "u1"), ("cal_max", "f4"), ("cal_min", "f4")),
        *(("slice_duration", "f4"), ("toffset", "f4"), ("glmax", "i4"), ("glmin", "i4")),
        *(("descrip", "S80"), ("aux_file", "S24"), ("qform_code", "i2"), ("sform_code", "i2")),
        *(("quatern", "f4", 3), ("qoffset", "f4", 3), ("srow", "f4", (3, 4))),
        *(("intent_name", "S16"), ("magic", "S4")),
    ]
)

_NIFTI_2 = np.dtype(
    [
        *(("sizeof_hdr", "i4"), ("magic", "S8"), ("datatype", "i2"), ("bitpix", "i2")),
        *(("dim", "i8", 8), ("intent_p1", "f8"), ("intent_p2", "f8"), ("intent_p3", "f8")),
        *(("pixdim", "f8", 8), ("vox_offset", "i8"), ("scl_slope", "f8"), ("scl_inter", "f8")),
        *(("cal_max", "f8"), ("cal_min", "f8"), ("slice_duration", "f8"), ("toffset", "f8")),
        *(("slice_start", "i8"), ("slice_end", "i8"), ("descrip", "S80"), ("aux_file", "S24")),
        *(("qform_code", "i4"), ("sform_code", "i4"), ("quatern", "f8", 3), ("qoffset", "f8", 3)),
        *(("srow", "f8", (3, 4)), ("slice_code", "i4"), ("xyzt_units", "i4")),
        *(("intent_code", "i4"), ("intent_name", "S16"), ("dim_info", "u1"), ("unused", "S15")),
    ]
)

_LAYOUTS: dict[bytes, tuple[np.dtype[Any], bytes]] = {
    np.array(length, f"{order}i4").tobytes(): (layout.newbyteorder(order), magic)
    for length, layout, magic in (
        (HEADER_1_BYTES, _NIFTI_1, b"n+1"),
        (HEADER_2_BYTES, _NIFTI_2, b"n+2"),
    )
    for order in ("<", ">")
}
"""How a header begins (its length, in the file's byte order) to its fields and its mark."""

_TYPES = {
    **{2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8"},
    **{256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"},
}
"""Codes of numbers; others are colours, complex or single bits."""

_CODES = {np.dtype(kind): code for code, kind in _TYPES.items()}

QUATERNION_ROUNDING = 3 * float(np.finfo(np.float32).eps)
"""By so much the squares of three components of a float32 quaternion may exceed 1."""

HALF_TURN = 1e-7
"""Below it the square of the fourth component is rounding's, and counts as 0: nifti1_io.c, and so
ITK. nibabel takes 0 up to QUATERNION_ROUNDING, which turns a volume by up to 0.07 degrees."""

FORM_CODES = range(6)
"""Of sform and qform: 0 is none, then scanner, aligned, Talairach, MNI 152, template."""

MOST_VOXELS = 32767
"""Of a side: NIfTI-1 counts in 16 bits."""

SMALLEST_SLOPE = float(np.finfo(np.float64).eps)
"""ITK takes a smaller one for 0, and a slope of 0 for 1."""

_SEVERAL_COMPONENTS = range(1003, 1016)
"""Intent codes of vectors, matrices and other values of several numbers; ITK goes by some."""

MM = 2
"""NIFTI_UNITS_MM."""


@dataclass(frozen=True)
class NiftiHeader:
    """What a header says.

    Attributes
    ----------
    record : all its fields, in the file's byte order
    size : voxels along each axis, as many axes as it says
    spacing : `pixdim` of the first three axes
    unit : code of the unit of lengths
    sform, qform : 4x4 matrices from voxel (x, y, z) to mm in RAS; None where the code is 0; NaN
        where readers go by different rules: a code that there is not, a quaternion that is none,
        a sign of the third axis other than 1, -1 and 0 (which counts as 1)
    dtype : type of the voxels, in the file's byte order
    offset : first byte of the voxels
    slope, intercept : of the voxels' values
    """

    record: Any
    size: tuple[int, ...]
    spacing: tuple[float, float, float]
    unit: int
    sform: Array | None
    qform: Array | None
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float

    @property
    def version(self) -> int:
        """1 or 2."""
        return 1 if self.record.dtype.itemsize == HEADER_1_BYTES else 2

    @property
    def reads_alike(self) -> bool:
        """Whether nibabel and ITK, by which trainers read, give the voxels that we give.

        nibabel gives as many axes as the header says, and wants the mark to its last byte. Where
        the slope is 0, ITK still adds the intercept; one below its epsilon it takes for 0. A matrix
        of several components it does not open.
        """
        record = self.record
        slope, intercept = float(record["scl_slope"]), float(record["scl_inter"])
        known = (
            abs(slope) >= SMALLEST_SLOPE and math.isfinite(slope) and math.isfinite(intercept)
        ) or (not abs(slope) > 0 and not abs(intercept) > 0)  # 0 or NaN: there is none
        return (
            self.version == 1
            and len(self.size) == 3
            and known
            and bytes(record["magic"]) == b"n+1"
            and int(record["intent_code"]) not in _SEVERAL_COMPONENTS
        )

    def values(self, stored: Array) -> Array:
        """Values of stored voxels: slope and intercept applied, in the machine's byte order."""
        if (self.slope, self.intercept) == (1.0, 0.0):
            return stored.astype(self.dtype.newbyteorder("="), copy=False)
        scaled: Array = stored.astype(np.float32 if self.dtype.itemsize <= 2 else np.float64)
        scaled *= self.slope
        scaled += self.intercept
        return scaled

    @property
    def description(self) -> str:
        """The field `descrip`."""
        return bytes(self.record["descrip"]).decode("latin-1")


def read_header(path: Path) -> NiftiHeader:
    """Read the header of a NIfTI file, gzip or not.

    Raises
    ------
    ValueError, OSError, EOFError, isal_zlib.error
        It is no NIfTI header, or says of the voxels what can not be.
    """
    return parse_header(first_bytes(path, HEADER_2_BYTES)[0])


def parse_header(content: bytes) -> NiftiHeader:
    """Read a header from how a file begins (unpacked, `HEADER_2_BYTES` suffice).

    Raises as `read_header`.
    """
    record = _record(content)
    axes = int(record["dim"][0])
    if not 1 <= axes <= 7:
        raise ValueError(f"it says that it has {axes} axes")
    x, y, z = (float(length) for length in record["pixdim"][1:4])
    slope, intercept = _scaling(record)
    return NiftiHeader(
        record,
        tuple(int(n) for n in record["dim"][1 : axes + 1]),
        (x, y, z),
        int(record["xyzt_units"]) % 8,  # the bits above are the unit of time
        _sform(record) if record["sform_code"] else None,
        _qform(record) if record["qform_code"] else None,
        _dtype(record),
        _offset(record),
        slope,
        intercept,
    )


def label_header(grid: Grid, dtype: np.dtype[Any], like: NiftiHeader | None, text: str) -> Any:  # noqa: ANN401
    """Fields of a NIfTI-1 header for voxels on a grid.

    Parameters
    ----------
    grid : where they lie
    dtype : their type
    like : header whose geometry, and all else that is not of the voxels, is taken over to the
        bit; one of NIfTI-2 does not fit and is left aside
    text : for `descrip`, at most 79 bytes
    """
    record: Any = like.record.copy() if like and like.version == 1 else _record_of(grid)
    record["dim"] = [3, *grid.size, 1, 1, 1, 1]
    record["pixdim"][4:] = 1
    record["datatype"], record["bitpix"] = _CODES[dtype.newbyteorder("=")], 8 * dtype.itemsize
    record["scl_slope"], record["scl_inter"] = 1, 0
    record["cal_min"], record["cal_max"] = 0, 0
    record["descrip"] = text.encode()
    record["magic"], record["intent_code"], record["intent_name"] = b"n+1", 0, b""
    for parameter in ("intent_p1", "intent_p2", "intent_p3"):
        record[parameter] = 0
    return record


def byte_order(record: Any) -> Literal["<", ">"]:  # noqa: ANN401 (a NumPy record)
    """Byte order of a header's fields, `<` or `>`."""
    native = record.dtype["sizeof_hdr"].isnative
    return "<" if native == (sys.byteorder == "little") else ">"


def _record(content: bytes) -> Any:  # noqa: ANN401
    """Fields of a header in whichever layout and byte order it has."""
    if content[:4] not in _LAYOUTS:
        raise ValueError("it does not begin with the length of a NIfTI header")
    layout, magic = _LAYOUTS[content[:4]]
    if len(content) < layout.itemsize:
        raise ValueError("its header is cut off")
    record = np.frombuffer(content, layout, 1)[0].copy()
    found = bytes(record["magic"])
    if found[:3] != magic:
        raise ValueError(f"it has the mark {found[:4]!r} where one file has {magic!r}")
    return record


def _dtype(record: Any) -> np.dtype[Any]:  # noqa: ANN401
    code = int(record["datatype"])
    if code not in _TYPES:
        raise ValueError(f"voxels are of type {code}, not numbers")
    return np.dtype(f"{byte_order(record)}{_TYPES[code]}")


def _offset(record: Any) -> int:  # noqa: ANN401
    offset = float(record["vox_offset"])
    if not math.isfinite(offset) or offset < int(record["sizeof_hdr"]) + 4:
        raise ValueError(f"its voxels begin at byte {offset:g}, inside the header")
    return int(offset)


def _scaling(record: Any) -> tuple[float, float]:  # noqa: ANN401
    """Slope and intercept; a slope of 0 means that there are none."""
    slope, intercept = float(record["scl_slope"]), float(record["scl_inter"])
    if slope == 0 or not math.isfinite(slope):
        return 1.0, 0.0
    if not math.isfinite(intercept):
        raise ValueError(f"its values are shifted by {intercept}")
    return slope, intercept


def _sform(record: Any) -> Array:  # noqa: ANN401
    if record["sform_code"] not in FORM_CODES:
        return np.full((4, 4), np.nan)
    return np.vstack([record["srow"].astype(float), [0, 0, 0, 1]])


def _qform(record: Any) -> Array:  # noqa: ANN401
    """Method 2 of nifti1.h: rotation, spacing, offset; NaN where no quaternion can be meant."""
    b, c, d = (float(part) for part in record["quatern"])
    rest = 1.0 - (b * b + c * c + d * d)
    known = record["qform_code"] in FORM_CODES and record["pixdim"][0] in (-1, 0, 1)
    if not known or not rest > -QUATERNION_ROUNDING:
        return np.full((4, 4), np.nan)
    a = math.sqrt(rest) if rest >= HALF_TURN else 0.0
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    lengths = record["pixdim"][1:4].astype(float)
    if record["pixdim"][0] < 0:
        lengths[2] = -lengths[2]
    affine = np.eye(4)
    with np.errstate(invalid="ignore"):  # lengths may be anything yet
        affine[:3, :3] = rotation * lengths / (a * a + b * b + c * c + d * d)
    affine[:3, 3] = record["qoffset"]
    return affine


def _record_of(grid: Grid) -> Any:  # noqa: ANN401
    """A new header, with qform and sform of the grid."""
    record = np.zeros(1, _NIFTI_1.newbyteorder("<"))[0]
    affine = grid.affine_ras
    rotation = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    sign = 1 if np.linalg.det(rotation) > 0 else -1
    rotation[:, 2] *= sign
    record["sizeof_hdr"], record["regular"], record["magic"] = HEADER_1_BYTES, b"r", b"n+1"
    record["pixdim"] = [sign, *grid.spacing, 1, 1, 1, 1]
    record["xyzt_units"] = MM
    record["qform_code"] = record["sform_code"] = 1
    record["quatern"] = _quaternion(rotation)[1:]
    record["qoffset"] = affine[:3, 3]
    record["srow"] = affine[:3]
    return record


def _quaternion(rotation: Array) -> Array:
    """Quaternion (a, b, c, d) with a >= 0 of the nearest rotation (Bar-Itzhack 2000)."""
    xx, yx, zx, xy, yy, zy, xz, yz, zz = rotation.ravel()
    matrix = np.array(
        [
            [xx - yy - zz, yx + xy, zx + xz, yz - zy],
            [yx + xy, yy - xx - zz, zy + yz, zx - xz],
            [zx + xz, zy + yz, zz - xx - yy, xy - yx],
            [yz - zy, zx - xz, xy - yx, xx + yy + zz],
        ]
    )
    values, vectors = np.linalg.eigh(matrix)
    b, c, d, a = vectors[:, np.argmax(values)]
    return np.array([a, b, c, d]) * (-1 if a < 0 else 1)
