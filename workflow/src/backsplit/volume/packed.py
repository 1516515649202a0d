"""Compressed files: how one begins, and voxels held against the length that the header states."""

from __future__ import annotations

import bz2
from pathlib import Path

import numpy as np
from isal import isal_zlib

from backsplit.volume.grid import Array

GZIP_MAGIC = b"\x1f\x8b"
GZIP_BITS, ZLIB_BITS = 16 + 15, 15
"""How zlib names the two wrappings of one stream."""

INFLATE_BYTES = 1 << 20
"""Bytes that are unpacked at a time: they stay in the processor's cache."""

CORRUPT: type[Exception] = vars(isal_zlib)["error"]  # its stub calls it an instance


def first_bytes(path: Path, count: int) -> tuple[bytes, bool]:
    """First bytes of a file, unpacked where gzip is around it, and whether it is.

    Raises
    ------
    OSError, EOFError, isal_zlib.error
        It cannot be opened, or its gzip stream is cut off or damaged that early.
    """
    with path.open("rb") as stream:
        given = stream.read(count)
        if not given.startswith(GZIP_MAGIC):
            return given, False
        found, unpacking = b"", isal_zlib.decompressobj(GZIP_BITS)
        while len(found) < count:
            if not given:
                raise EOFError("the compressed stream is cut off")
            found += unpacking.decompress(given, count - len(found))
            if unpacking.eof:  # members follow each other
                given = unpacking.unused_data + stream.read(count)
                if not given.startswith(GZIP_MAGIC):
                    break
                unpacking = isal_zlib.decompressobj(GZIP_BITS)
            else:
                given = unpacking.unconsumed_tail or stream.read(count)
    return found, True


def inflate(packed: bytes, length: int, spare: int = 0, bits: int = GZIP_BITS) -> Array:
    """Unpack gzip or zlib straight into place; never more memory than the header asks for.

    Parameters
    ----------
    packed : one zlib stream, or gzip members one behind the other
    length : bytes that the header states
    spare : bytes that may follow them, which are left out
    bits : `GZIP_BITS` or `ZLIB_BITS`

    Raises
    ------
    ValueError, isal_zlib.error
        The stream is cut off, its checksum is wrong, or it goes on beyond `length + spare`.
    """
    out = np.empty(length, np.uint8)
    filled = beyond = position = 0
    while position == 0 or (
        bits == GZIP_BITS and packed[position : position + 2] == GZIP_MAGIC
    ):  # members follow each other
        stream = isal_zlib.decompressobj(bits)
        tail = b""
        while not stream.eof:
            given = tail or packed[position : position + INFLATE_BYTES]
            position += 0 if tail else len(given)
            part = stream.decompress(given, INFLATE_BYTES)
            tail = stream.unconsumed_tail
            if not given and not part and not stream.eof:
                raise ValueError("the compressed stream is cut off")
            fits = min(len(part), length - filled)
            out[filled : filled + fits] = np.frombuffer(part, np.uint8, fits)
            filled += fits
            beyond += len(part) - fits
            if beyond > spare:
                raise ValueError("the file holds more bytes than its header says")
        position -= len(stream.unused_data)
    return out[:filled]


def unpack_bzip2(packed: bytes, length: int) -> Array:
    """Unpack one bzip2 stream.

    Raises
    ------
    ValueError, OSError
        The stream is cut off or damaged, or goes on beyond `length`.
    """
    stream = bz2.BZ2Decompressor()
    part = stream.decompress(packed, length + 1)
    if len(part) > length:
        raise ValueError("the file holds more bytes than its header says")
    if not stream.eof:
        part += stream.decompress(b"", 1)  # its end and checksum
    if not stream.eof:
        raise ValueError("the compressed stream is cut off")
    return np.frombuffer(part, np.uint8)
