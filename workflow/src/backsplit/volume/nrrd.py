"""NRRD (https://teem.sourceforge.net/nrrd/format.html): one scalar volume in patient axes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from backsplit.errors import CaseError, Code
from backsplit.volume.geometry import Geometry, bad_spacing, geometry_of_axes, require_3d
from backsplit.volume.grid import Array
from backsplit.volume.text_header import (
    Encoding,
    StoredVoxels,
    TextHeader,
    bad_header,
    collect,
    file_beside,
    read_lines,
)

_TYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, "
    "int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
_DTYPES = {name: dtype for dtype, names in _TYPES.items() for name in names.split(", ")}

_ENCODINGS: dict[str, Encoding] = {
    **{"raw": "raw", "gzip": "deflate", "gz": "deflate", "bzip2": "bzip2", "bz2": "bzip2"},
}

_TO_LPS = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (1, 1, 1)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1, -1, 1)),
}
"""Patient spaces that the format knows, and the signs of their axes in LPS."""

_ORDERS = {"little": "<", "big": ">"}


def read_nrrd_header(path: Path) -> TextHeader:
    """Fields of a NRRD header.

    Raises
    ------
    CaseError
        FILE_UNREADABLE.
    """
    lines, end = read_lines(path, None)
    pairs = []
    for line in lines[1:]:
        if line.startswith("#"):
            continue
        own = line.partition(":=")
        key, sign, value = own if own[1] else line.partition(":")
        if sign:
            pairs.append((key if own[1] else key.strip().lower(), value.strip()))
    return TextHeader(path, collect(path, pairs), end)


def nrrd_voxels(header: TextHeader) -> StoredVoxels:
    """Where and how the voxels are stored.

    Raises
    ------
    CaseError
        FILE_UNREADABLE, FILE_MISSING, NOT_3D.
    ValueError
        What the header says is impossible.
    """
    path, fields = header.path, header.fields
    name = fields.get("data file", fields.get("datafile"))
    if name is not None and (name.lower().split(" ")[0] == "list" or "%" in name):
        raise bad_header(path, f"its data in several files ({name[:80]!r})")
    data = path if name is None else file_beside(path, name)
    encoding = fields.get("encoding", "")
    if encoding.lower() not in _ENCODINGS:
        raise bad_header(path, f"the encoding {encoding[:80]!r} (raw, gzip and bzip2 can be read)")
    stored = _ENCODINGS[encoding.lower()]
    kind = fields.get("type", "").lower()
    if kind not in _DTYPES:
        raise ValueError(f"voxels are of type {kind[:80]!r}, not numbers")
    dtype = np.dtype(_DTYPES[kind])
    if dtype.itemsize > 1:
        order = fields.get("endian", "").lower()
        if order not in _ORDERS:
            raise ValueError(f"the field endian is {order[:80]!r}, not little or big")
        dtype = dtype.newbyteorder(_ORDERS[order])  # type: ignore[arg-type]
    offset = _offset(header, 0 if name is not None else header.end, stored, data)
    return StoredVoxels(data, offset, stored, dtype, _sizes(header))


def nrrd_geometry(header: TextHeader, least: int = 2) -> Geometry:
    """The grid that a header states; sides have at least `least` voxels.

    Raises
    ------
    CaseError
        NOT_3D, SPACING_INVALID, ORIENTATION_UNKNOWN, DIRECTION_SHEARED.
    ValueError
        What the header says is impossible.
    """
    path, fields = header.path, header.fields
    sizes = _sizes(header)
    space = fields.get("space", "").lower()
    if space not in _TO_LPS or "space directions" not in fields:
        require_3d(path, sizes)
        missing = "space" if space not in _TO_LPS else "space directions"
        raise CaseError(
            Code.ORIENTATION_UNKNOWN,
            f"{path} does not name a patient space (the field `{missing}` is "
            f"{fields.get(missing, 'missing')[:80]}), so left and right would be a guess",
            "rewrite it with `space: left-posterior-superior` and its `space directions`",
        )
    axes = _vectors(fields["space directions"])
    if len(axes) != len(sizes):
        raise ValueError(f"{len(axes)} space directions for {len(sizes)} axes")
    kept = [n for n, axis in enumerate(axes) if axis is not None or sizes[n] != 1]
    size = require_3d(path, [sizes[n] for n in kept], least=least)
    vectors = [axes[n] for n in kept[:3]]
    if any(vector is None for vector in vectors):
        kinds = fields.get("kinds", "no kinds")[:80]
        raise CaseError(
            Code.NOT_3D,
            f"{path} has an axis that is not spatial ({kinds}); expected one 3D volume",
            "split or convert it",
        )
    units = set(re.findall(r'"([^"]*)"', fields.get("space units", ""))) - {"mm", ""}
    if units:
        raise bad_spacing(path, f"lengths in {', '.join(sorted(units))[:80]}")
    signs = np.array(_TO_LPS[space])
    origin = _vectors(fields.get("space origin", "(0,0,0)"))
    if len(origin) != 1 or origin[0] is None:
        raise ValueError("the field space origin is not a vector")
    columns = np.stack([v for v in vectors if v is not None], axis=1) * signs[:, None]
    return geometry_of_axes(path, size, columns, origin[0] * signs)


def _sizes(header: TextHeader) -> tuple[int, ...]:
    sizes = tuple(int(word) for word in header.fields.get("sizes", "").split())
    if len(sizes) != int(header.fields.get("dimension", "0")):
        raise ValueError(
            f"sizes are {len(sizes)} numbers, the dimension "
            f"{header.fields.get('dimension', 'missing')[:80]}"
        )
    return sizes


def _vectors(text: str) -> list[Array | None]:
    """Vectors of three numbers; None where the file says `none`."""
    words = re.findall(r"\([^()]*\)|[^\s()]+", text)
    vectors: list[Array | None] = []
    for word in words:
        if word == "none":
            vectors.append(None)
            continue
        numbers = [float(number) for number in word.strip("()").split(",")]
        if len(numbers) != 3 or word[0] != "(":
            raise ValueError(f"{word[:80]!r} is not a vector of three numbers")
        vectors.append(np.array(numbers))
    return vectors


def _offset(header: TextHeader, start: int, encoding: Encoding, data: Path) -> int | None:
    """First byte of the voxels, behind the lines and bytes that the header says to skip."""
    lines = int(header.fields.get("line skip", header.fields.get("lineskip", "0")))
    skip = int(header.fields.get("byte skip", header.fields.get("byteskip", "0")))
    if encoding != "raw" and (lines or skip):
        raise ValueError("it skips lines or bytes of compressed data")
    if skip == -1:
        return None
    if skip < 0 or lines < 0:
        raise ValueError(f"it skips {lines} lines and {skip} bytes")
    if lines:
        with data.open("rb") as stream:
            stream.seek(start)
            start += sum(len(stream.readline()) for _ in range(min(lines, 10_000)))
    return start + skip
