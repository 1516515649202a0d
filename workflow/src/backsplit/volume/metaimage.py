"""MetaImage: one scalar volume with the grid that ITK gives it.

The format: https://itk.org/Wiki/ITK/MetaIO
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from backsplit.errors import CaseError, Code
from backsplit.volume.geometry import Geometry, bad_spacing, geometry_of_axes, require_3d
from backsplit.volume.text_header import (
    Encoding,
    StoredVoxels,
    TextHeader,
    bad_header,
    collect,
    file_beside,
    read_lines,
)

_DTYPES = {
    **{"met_char": "i1", "met_uchar": "u1", "met_short": "i2", "met_ushort": "u2"},
    **{"met_int": "i4", "met_uint": "u4", "met_long": "i4", "met_ulong": "u4"},
    **{"met_long_long": "i8", "met_ulong_long": "u8", "met_float": "f4", "met_double": "f8"},
}
"""MET_LONG has four bytes (metaTypes.h), whatever the machine."""

_BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_MM = {"mm", "?", ""}
_LOCAL = "local"


def read_meta_header(path: Path) -> TextHeader:
    """Fields of a MetaImage header, up to `ElementDataFile`.

    Raises
    ------
    CaseError
        FILE_UNREADABLE.
    """
    lines, end = read_lines(path, "elementdatafile")
    pairs = []
    for line in lines:
        key, sign, value = line.partition("=")
        if sign and key.strip().lower() != "comment":
            pairs.append((key.strip().lower(), value.strip()))
    return TextHeader(path, collect(path, pairs), end)


def meta_voxels(header: TextHeader) -> StoredVoxels:
    """Where and how the voxels are stored.

    Raises
    ------
    CaseError
        FILE_UNREADABLE, FILE_MISSING, NOT_3D.
    ValueError
        What the header says is impossible.
    """
    path, fields = header.path, header.fields
    name = fields.get("elementdatafile", "")
    if name.split(" ")[0].lower() == "list" or "%" in name:
        raise bad_header(path, f"its data in several files ({name[:80]!r})")
    if not name:
        raise bad_header(path, "no field ElementDataFile")
    local = name.lower() == _LOCAL
    data = path if local else file_beside(path, name)
    if not _flag(fields, "binarydata", default=True):
        raise bad_header(path, "its voxels as text (BinaryData is False)")
    encoding: Encoding = "deflate" if _flag(fields, "compresseddata", default=False) else "raw"
    slope = header.numbers("elementtointensityfunctionslope") or [1.0]
    intercept = header.numbers("elementtointensityfunctionoffset") or [0.0]
    if (slope, intercept) != ([1.0], [0.0]):
        raise bad_header(path, "a slope or offset of its values, which readers leave aside")
    kind = fields.get("elementtype", "").lower()
    if kind not in _DTYPES:
        raise ValueError(f"voxels are of type {kind[:80]!r}, not numbers")
    swapped = _flag(fields, "binarydatabyteordermsb", "elementbyteordermsb", default=False)
    dtype = np.dtype(_DTYPES[kind]).newbyteorder(">" if swapped else "<")
    skip = int(fields.get("headersize", "0"))
    if skip < -1 or (skip and (local or encoding != "raw")):
        raise ValueError(f"HeaderSize is {skip}")
    offset = None if skip == -1 else skip + (header.end if local else 0)
    return StoredVoxels(data, offset, encoding, dtype, _sizes(header))


def meta_geometry(header: TextHeader) -> Geometry:
    """The grid that a header states.

    Raises
    ------
    CaseError
        NOT_3D, SPACING_INVALID, ORIENTATION_UNKNOWN, DIRECTION_SHEARED.
    ValueError
        What the header says is impossible.
    """
    path, fields = header.path, header.fields
    sizes = _sizes(header)
    size = require_3d(path, sizes, int(fields.get("elementnumberofchannels", "1")))
    matrix = header.numbers("transformmatrix", "rotation", "orientation")
    if matrix is None:
        raise CaseError(
            Code.ORIENTATION_UNKNOWN,
            f"{path} does not say how it is oriented in the patient (the field "
            "`TransformMatrix` is missing), so left and right would be a guess",
            "if its axes run to the left, to posterior and to superior, add the line "
            "`TransformMatrix = 1 0 0 0 1 0 0 0 1` above ElementDataFile",
        )
    spacing = header.numbers("elementspacing", "elementsize")
    if spacing is None:
        raise bad_spacing(path, "no ElementSpacing")
    if fields.get("distanceunits", "mm").lower() not in _MM:
        raise bad_spacing(path, f"lengths in {fields['distanceunits'][:80]}")
    origin = header.numbers("offset", "position", "origin") or [0.0] * len(sizes)
    axes = len(sizes)
    if (len(matrix), len(spacing), len(origin)) != (axes**2, axes, axes):
        raise ValueError("TransformMatrix, ElementSpacing or Offset do not fit NDims")
    rows = np.reshape(matrix, (axes, axes))[:3, :3]  # a row for each axis of the volume
    lengths = np.array(spacing[:3])
    return geometry_of_axes(path, size, rows.T * lengths, np.array(origin[:3]), lengths)


def _flag(fields: Mapping[str, str], *keys: str, default: bool) -> bool:
    text = next((fields[key] for key in keys if key in fields), None)
    if text is None:
        return default
    if text.lower() not in _BOOLEANS:
        raise ValueError(f"{keys[0]} is {text[:80]!r}")
    return _BOOLEANS[text.lower()]


def _sizes(header: TextHeader) -> tuple[int, ...]:
    sizes = tuple(int(word) for word in header.fields.get("dimsize", "").split())
    if len(sizes) != int(header.fields.get("ndims", "0")):
        raise ValueError(
            f"DimSize is {len(sizes)} numbers, NDims {header.fields.get('ndims', 'missing')[:80]}"
        )
    return sizes
