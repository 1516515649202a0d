"""Headers of text (NRRD, MetaImage): their fields, and where the voxels lie that they describe.

Libraries trust such headers: ITK crashes on endless lines, opens whatever file the header names,
and fills what is missing with zeros. Here a header is read by its format's own definition, the
bytes are held against it, and what is not understood is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

import numpy as np

from backsplit.errors import CaseError, Code, shown
from backsplit.volume.grid import Array
from backsplit.volume.packed import GZIP_BITS, GZIP_MAGIC, ZLIB_BITS, inflate, unpack_bzip2

ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")

HEADER_BYTES = 1 << 19
"""Headers have some twenty lines; more than this without an end is no header. In a `.seg.nrrd`
each segment has eight lines, of some 1000 bytes together: there may be several hundred."""

LINE_BYTES = 10_000
"""No field is that long; 3D Slicer writes one of 3000 (`Segmentation_ConversionParameters`)."""

Encoding = Literal["raw", "deflate", "bzip2"]
"""How voxels are packed; deflate is the stream that gzip and zlib wrap differently."""


@dataclass(frozen=True)
class TextHeader:
    """Fields of a header.

    Attributes
    ----------
    path : the file
    fields : by key in small letters; NRRD's own keys (`key:=value`) have their letters
    end : first byte behind the header
    """

    path: Path
    fields: Mapping[str, str]
    end: int

    def numbers(self, *keys: str) -> list[float] | None:
        """Numbers of the first of these fields that is there; None where none is."""
        text = next((self.fields[key] for key in keys if key in self.fields), None)
        return None if text is None else [float(word) for word in text.split()]


@dataclass(frozen=True)
class StoredVoxels:
    """Where the voxels lie, and how.

    Attributes
    ----------
    path : the file that holds them: the header's own, or one beside it
    offset : their first byte; None for what ends with the file
    encoding : how they are packed
    dtype : their type, in the file's byte order
    size : of the volume as it is stored, first axis fastest
    """

    path: Path
    offset: int | None
    encoding: Encoding
    dtype: np.dtype[Any]
    size: tuple[int, ...]

    @property
    def length(self) -> int:
        """Bytes of the voxels, unpacked."""
        return math.prod(self.size) * self.dtype.itemsize

    def require_whole(self) -> None:
        """Hold the size of the file against what the header says, where that is stored as it is.

        Raises
        ------
        ValueError
        """
        if self.encoding == "raw":
            found = self.path.stat().st_size - (self.offset or 0)
            if found < self.length or (self.offset is not None and found > self.length):
                raise ValueError(f"{found} bytes of voxels where the header says {self.length}")

    def read(self) -> Array:
        """Read the voxels, last axis first, in this machine's byte order.

        Raises
        ------
        ValueError, OSError, MemoryError, isal_zlib.error
            They are not as many bytes as the header says, or the stream is damaged.
        """
        self.require_whole()
        if self.encoding == "raw":
            whole = self.path.stat().st_size
            start = whole - self.length if self.offset is None else self.offset
            array = np.fromfile(self.path, self.dtype, math.prod(self.size), offset=start)
        else:
            array = self._unpacked().view(self.dtype)
        return array.astype(self.dtype.newbyteorder("="), copy=False).reshape(self.size[::-1])

    def _unpacked(self) -> Array:
        packed = self.path.read_bytes()[self.offset or 0 :]
        if self.encoding == "bzip2":
            raw = unpack_bzip2(packed, self.length)
        else:
            bits = GZIP_BITS if packed.startswith(GZIP_MAGIC) else ZLIB_BITS
            raw = inflate(packed, self.length, bits=bits)
        if len(raw) < self.length:
            raise ValueError(f"{len(raw)} bytes of voxels where the header says {self.length}")
        return raw


def read_lines(path: Path, last_key: str | None) -> tuple[list[str], int]:
    """Lines of a header, and the first byte behind it.

    Parameters
    ----------
    path : the file
    last_key : key of the last line, in small letters; None where an empty line ends the header
        (or the file does)

    Raises
    ------
    CaseError
        FILE_UNREADABLE: no end, or endless lines.
    """
    with path.open("rb") as stream:
        start = stream.read(HEADER_BYTES)
    lines: list[str] = []
    end = 0
    for raw in start.split(b"\n"):
        line = raw.decode("latin-1").strip()
        end += len(raw) + 1
        if last_key is None and not line and lines:
            return lines, end
        if len(raw) > LINE_BYTES:
            raise bad_header(path, f"a line of more than {LINE_BYTES} bytes in its header")
        lines.append(line)
        if last_key is not None and line.lower().startswith(last_key):
            return lines, end
    if len(start) == HEADER_BYTES:
        raise bad_header(path, "a header without an end")
    return lines, len(start)


def collect(path: Path, pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Fields of a header; one that is given twice must have the same value.

    Raises
    ------
    CaseError
        FILE_UNREADABLE.
    """
    fields: dict[str, str] = {}
    for key, value in pairs:
        if fields.setdefault(key, value) != value:
            raise bad_header(path, f"two fields {shown(key, 80)!r} in its header")
    return fields


def file_beside(path: Path, name: str) -> Path:
    """The file beside a header that holds its voxels.

    Raises
    ------
    CaseError
        FILE_UNREADABLE for a path that leads elsewhere; FILE_MISSING.
    """
    outside = len(PurePosixPath(name).parts) != 1 or len(PureWindowsPath(name).parts) != 1
    if outside or name in ("..", "."):
        raise bad_header(path, f"its data in {name[:80]!r}, which is not next to it")
    data = path.parent / name
    if not data.is_file():
        raise CaseError(
            Code.FILE_MISSING,
            f"{path} has its voxels in the file {name[:200]!r}, which is not next to it",
            "put it there: header and voxels belong together",
        )
    return data


def bad_header(path: Path, what: str) -> CaseError:
    """Say which part of a header cannot be used."""
    return CaseError(Code.FILE_UNREADABLE, f"{path} has {what}", "replace it with an intact file")
