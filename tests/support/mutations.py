"""Broken inputs: volumes whose headers and streams were damaged, as disks, tools and people do."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator

import nibabel as nib
import numpy as np

NIFTI_FIELDS = {
    # offset, format, values
    "sizeof_hdr": (0, "i", (0, 347, 540, -1, 1543569408)),
    "dim[0]": (40, "h", (0, 1, 2, 4, 5, 7, 8, 9, -1, 32767)),
    "dim[1]": (42, "h", (0, -1, 1, 6, 13, 32767)),
    "dim[2]": (44, "h", (0, -1, 1, 13, 32767)),
    "dim[3]": (46, "h", (0, -1, 1, 13, 32767)),
    "dim[4]": (48, "h", (0, -1, 2, 32767)),
    "datatype": (70, "h", (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1536, -1, 9999)),
    "bitpix": (72, "h", (0, 1, 8, 16, 64, -8)),
    "pixdim[0]": (76, "f", (0.0, 2.0, -1.0, np.nan)),
    "pixdim[1]": (80, "f", (0.0, -1.0, 1e-30, 1e30, np.nan, np.inf)),
    "pixdim[3]": (88, "f", (0.0, -2.0, np.nan, np.inf)),
    "vox_offset": (108, "f", (0.0, 1.0, 351.5, 1e9, -352.0, np.nan)),
    "scl_slope": (112, "f", (0.0, np.nan, np.inf, -1.0, 1e30)),
    "scl_inter": (116, "f", (np.nan, np.inf, -1e30)),
    "xyzt_units": (123, "b", (0, 1, 3, 7, -1)),
    "qform_code": (252, "h", (0, 1, 9, -1)),
    "sform_code": (254, "h", (0, 2, 9, -1)),
    "quatern_b": (256, "f", (0.9, 2.0, np.nan, np.inf)),
    "qoffset_x": (268, "f", (1e9, np.nan, -np.inf)),
    "srow_x[0]": (280, "f", (0.0, np.nan, np.inf, 1e30, -2.0)),
    "srow_y[1]": (300, "f", (0.0, np.nan, 5.0)),
    "magic": (344, "4s", (b"n+2\0", b"ni1\0", b"\0\0\0\0", b"NRRD")),
}

NRRD = (
    "NRRD0004\ntype: {type}\ndimension: {dimension}\nspace: {space}\nsizes: {sizes}\n"
    "space directions: {directions}\nkinds: domain domain domain\nendian: {endian}\n"
    "encoding: {encoding}\nspace origin: {origin}\n{more}\n"
)
NRRD_FIELDS = {
    "type": ("short", "uchar", "float", "double", "block", "", "int; rm -rf x", "é"),
    "dimension": ("3", "0", "-3", "17", "x", "99999999999"),
    "space": ("left-posterior-superior", "", "mars", "right-anterior-superior"),
    "sizes": ("12 12 12", "0 12 12", "-1 12 12", "99999 99999 99999", "12 12", "a b c", "12 12 13"),
    "directions": (
        "(2,0,0) (0,2,0) (0,0,2)", "(0,0,0) (0,2,0) (0,0,2)", "(nan,0,0) (0,2,0) (0,0,2)",
        "(2,0,0) (2,0,0) (0,0,2)", "none none none", "(2,0) (0,2) (0,0)", "((((",
    ),
    "endian": ("little", "big", "middle"),
    "encoding": ("raw", "gzip", "bzip2", "hex", "ascii", "txt"),
    "origin": ("(0,0,0)", "(nan,0,0)", "(1e308,0,0)", "", "(0)"),
    "more": (
        "", "data file: ../../../etc/passwd", "data file: other.raw", "byte skip: -1", "x" * 5000,
    ),
}  # fmt: skip

META_FIELDS = {
    "ObjectType": ("Image", "Tube", ""),
    "NDims": ("3", "0", "-3", "17", "x", "99999999999"),
    "BinaryData": ("True", "False", "perhaps"),
    "BinaryDataByteOrderMSB": ("False", "True", "middle"),
    "CompressedData": ("False", "True"),
    "TransformMatrix": (
        "1 0 0 0 1 0 0 0 1", "0 0 0 0 1 0 0 0 1", "nan 0 0 0 1 0 0 0 1", "1 0 0 1 0 0 0 0 1", "1",
        "1e308 0 0 0 1 0 0 0 1", "",
    ),
    "Offset": ("0 0 0", "nan 0 0", "1e308 0 0", "0", ""),
    "ElementSpacing": ("2 2 2", "0 2 2", "-2 2 2", "nan 2 2", "1e-320 2 2", "2 2"),
    "DimSize": ("12 12 12", "0 12 12", "-1 12 12", "99999 99999 99999", "12 12", "12 12 13", "é"),
    "ElementNumberOfChannels": ("1", "3", "-1", "many"),
    "HeaderSize": ("0", "-1", "99", "-99"),
    "ElementType": ("MET_SHORT", "MET_DOUBLE", "MET_OTHER", ""),
    "ElementDataFile": ("LOCAL", "LIST", "../../../etc/passwd", "other.raw", ".", "x%03d.raw 1 2"),
}  # fmt: skip


def sound(values: np.ndarray) -> bytes:
    """A sound NIfTI file, not compressed; `values` are (x, y, z)."""
    image = nib.Nifti1Image(values, np.diag([-2.0, -2.0, 2.0, 1.0]))
    image.set_qform(image.affine, 1)
    image.set_sform(image.affine, 1)
    return image.to_bytes()


def broken(values: np.ndarray, seed: int, count: int) -> Iterator[tuple[str, str, bytes]]:
    """Damaged files, as (what was done, file ending, bytes)."""
    good = sound(values)
    for field, (offset, kind, choices) in NIFTI_FIELDS.items():
        for choice in choices:
            data = bytearray(good)
            struct.pack_into(f"<{kind}", data, offset, choice)
            yield f"{field}={choice!r}", ".nii.gz", gzip.compress(bytes(data), 1)
            yield f"{field}={choice!r}", ".nii", bytes(data)
    yield from _nrrds(values)
    yield from _metaimages(values)
    yield from _streams(good)
    rng = np.random.default_rng(seed)
    for number in range(count):
        yield f"random {number}", *_random(good, rng)


def _nrrds(values: np.ndarray) -> Iterator[tuple[str, str, bytes]]:
    payload = values.astype("<i2").tobytes(order="F")
    plain = {field: choices[0] for field, choices in NRRD_FIELDS.items()}
    for field, choices in NRRD_FIELDS.items():
        for choice in choices:
            header = NRRD.format(**{**plain, field: choice}).encode()
            body = gzip.compress(payload, 1) if choice == "gzip" else payload
            yield f"nrrd {field}={choice[:20]!r}", ".nrrd", header + body
    yield "nrrd without end", ".nrrd", b"NRRD0004\ntype: short"


def _metaimages(values: np.ndarray) -> Iterator[tuple[str, str, bytes]]:
    payload = values.astype("<i2").tobytes(order="F")
    plain = {field: choices[0] for field, choices in META_FIELDS.items()}
    for field, choices in META_FIELDS.items():
        for choice in choices:
            lines = {**plain, field: choice}
            header = "".join(f"{key} = {value}\n" for key, value in lines.items()).encode()
            packed = zlib.compress(payload)
            yield f"mha {field}={choice[:20]!r}", ".mha", header + payload
            yield f"mha {field}={choice[:20]!r}, zlib", ".mha", header + packed
    cut = "".join(
        f"{key} = {value}\n" for key, value in (plain | {"CompressedData": "True"}).items()
    )
    for share in (0.0, 0.5, 0.99):
        yield f"mha cut at {share}", ".mha", cut.encode() + packed[: int(share * len(packed))]
    yield "mha without end", ".mha", b"ObjectType = Image\nNDims = 3\n"


def _streams(good: bytes) -> Iterator[tuple[str, str, bytes]]:
    packed = gzip.compress(good, 6)
    for share in (0.0, 0.01, 0.1, 0.5, 0.9, 0.999):
        yield f"gzip cut at {share:.1%}", ".nii.gz", packed[: int(share * len(packed))]
        yield f"nifti cut at {share:.1%}", ".nii", good[: int(share * len(good))]
    yield "checksum", ".nii.gz", packed[:-8] + b"\0" * 8
    yield "two streams", ".nii.gz", packed + packed
    yield "bytes behind", ".nii.gz", packed + b"rubbish"
    yield "plain under .gz", ".nii.gz", good
    yield "gzip under .nii", ".nii", packed
    yield "text", ".nii.gz", b"<html>404 not found</html>"
    for megabytes in (64, 1024):  # a bomb: the header asks for little, the stream brings much
        bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
        parts = [bomb.compress(good)]
        parts += [bomb.compress(bytes(1 << 20)) for _ in range(megabytes)]
        yield f"bomb of {megabytes} MB", ".nii.gz", b"".join([*parts, bomb.flush()])
    huge = bytearray(good)
    struct.pack_into("<8h", huge, 40, 3, 30000, 30000, 30000, 1, 1, 1, 1)
    yield "asks for 50 TB", ".nii.gz", gzip.compress(bytes(huge))
    struct.pack_into("<8h", huge, 40, 3, 2000, 2000, 2000, 1, 1, 1, 1)
    yield "asks for 16 GB", ".nii.gz", gzip.compress(bytes(huge))
    swapped = nib.Nifti1Image.from_bytes(good).header.as_byteswapped(">")
    yield "other end first", ".nii", swapped.binaryblock + good[348:]


def _random(good: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """A few bytes of the header, or of the compressed stream, are others."""
    data = bytearray(good)
    packed = bool(rng.random() < 0.5)
    if packed and rng.random() < 0.3:
        data = bytearray(gzip.compress(good, 6))
        for at in rng.integers(0, len(data), int(rng.integers(1, 4))):
            data[at] = rng.integers(256)
        return ".nii.gz", bytes(data)
    for at in rng.integers(0, 352, int(rng.integers(1, 9))):
        data[at] = rng.integers(256)
    return (".nii.gz", gzip.compress(bytes(data), 1)) if packed else (".nii", bytes(data))
