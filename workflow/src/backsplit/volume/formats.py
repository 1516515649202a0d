"""Which format a file is of, by its content; names are only looked at to word a message."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from backsplit.errors import CaseError, Code, shown
from backsplit.volume.packed import first_bytes

HEAD_BYTES = 4096
"""All formats show what they are within so many bytes."""

NIFTI_LENGTHS = {348, 540}
"""Of a header, NIfTI-1 and 2; its first four bytes, in the file's byte order. 348 is Analyze's
as well."""


class Format(Enum):
    """What can be read."""

    NIFTI = "NIfTI"
    NRRD = "NRRD"
    META = "MetaImage"
    DICOM = "DICOM"


class Head(NamedTuple):
    """How a file begins.

    Attributes
    ----------
    format : what it is
    packed : whether gzip is around it
    content : its first bytes, at most `HEAD_BYTES`; of a packed file, unpacked
    """

    format: Format
    packed: bool
    content: bytes


_PICTURE = "give the volume that it was made from: a picture has no spacing and no orientation"
_ARRAY = "write it as NIfTI with its affine: nibabel.save(nibabel.Nifti1Image(array, affine), name)"
_CONVERT = "convert it: nib-convert {file} {nifti}"
_UNPACK = "unpack it, and give the volume in it"
_AGAIN = "download it again: this is what a server sent in its place"
_ORIGINAL = "convert it again from the original: Analyze does not say which side is left"


@dataclass(frozen=True)
class _Other:
    """A format that is not read: how it begins, and what to do about it."""

    name: str
    pattern: re.Pattern[bytes]
    remedy: str


def _begins(name: str, pattern: bytes, remedy: str) -> _Other:
    return _Other(name, re.compile(pattern, re.DOTALL), remedy)


_OTHERS = (
    _begins("a PNG picture", rb"\x89PNG\r\n", _PICTURE),
    _begins("a JPEG picture", rb"\xff\xd8\xff", _PICTURE),
    _begins("a JPEG 2000 picture", rb"\0\0\0\x0cjP  ", _PICTURE),
    _begins("a TIFF picture", rb"II[*+]\0|MM\0[*+]", _PICTURE),
    _begins("a GIF picture", rb"GIF8[79]a", _PICTURE),
    _begins("an HDF5 file (MINC 2, MATLAB 7.3, .h5)", rb"\x89HDF\r\n", _CONVERT),
    _begins("a netCDF file (MINC 1)", rb"CDF[\x01\x02\x05]", _CONVERT),
    _begins("a FreeSurfer volume (MGH)", rb"\0\0\0\x01\0\0.{10}\0\0\0[\0-\x03]", _CONVERT),
    _begins("a NumPy array", rb"\x93NUMPY", _ARRAY),
    _begins("a MATLAB file", rb"MATLAB \d", _ARRAY),
    _begins("a ZIP archive (.zip, .npz)", rb"PK\x03\x04", _UNPACK),
    _begins("a tar archive", rb".{257}ustar", _UNPACK),
    _begins("compressed with bzip2", rb"BZh[1-9]", _UNPACK),
    _begins("compressed with xz", rb"\xfd7zXZ\0", _UNPACK),
    _begins("compressed with Zstandard", rb"\x28\xb5\x2f\xfd", _UNPACK),
    _begins("a 7-Zip archive", rb"7z\xbc\xaf", _UNPACK),
    _begins("a PDF document", rb"%PDF-", _PICTURE),
    _begins("a VTK file", rb"# vtk DataFile|\s*(<\?xml.{0,200})?<VTKFile", _ARRAY),
    _begins(
        "a Git LFS pointer, not the file itself",
        rb"version https://git-lfs",
        "fetch its content: git lfs pull --include {file}",
    ),
    _begins(
        "a git-annex pointer, not the file itself",
        rb"(/annex/objects/|(\.\./)*\.git/annex/objects/)",
        "fetch its content: git annex get {file}",
    ),
    _begins("a web page (HTML)", rb"(?i:\s*(<!doctype html|<html))", _AGAIN),
    _begins("an XML text", rb"\s*<\?xml", _AGAIN),
    _begins("a JSON text", rb"\s*[\[{]\s*[\"\[{\d]", _AGAIN),
)

_META = re.compile(rb"^[ \t]*(ObjectType|NDims)[ \t]*=", re.MULTILINE)
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]+")


def read_head(path: Path) -> Head:
    """Read how a file begins; what has a format that is not read is refused.

    Raises
    ------
    CaseError
        FILE_UNREADABLE for whatever is not read, with the format that was found.
    OSError, EOFError, isal_zlib.error
        It cannot be opened, or its gzip stream is damaged.
    """
    content, packed = first_bytes(path, HEAD_BYTES)
    found = _format(path, content, "gzip around " if packed else "")
    if packed and found is not Format.NIFTI:
        raise _refused(path, f"it is {found.value} with gzip around all of it", _UNPACK)
    return Head(found, packed, content)


def _format(path: Path, head: bytes, around: str) -> Format:
    if head.startswith(b"NRRD000"):
        return Format.NRRD
    if {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")} & NIFTI_LENGTHS:
        _require_one_file(path, head)
        return Format.NIFTI
    if head[128:132] == b"DICM":
        return Format.DICOM
    if _META.search(head) and head[:1] not in b"<{[":
        return Format.META
    for other in _OTHERS:
        if other.pattern.match(head):
            remedy = other.remedy.format(file=_quoted(path), nifti=_quoted(_as_nifti(path)))
            raise _refused(path, f"it is {around}{other.name}", remedy)
    if _half_of_pair(path):
        _require_one_file(path, _header_of_pair(path))
    if _TEXT.fullmatch(head) and len(head) > 3:
        raise _refused(path, f"it is {around}a text: {_excerpt(head)}", _AGAIN)
    raise _refused(
        path,
        f"it begins with the bytes {head[:8].hex(' ')}" if head else "it is empty",
        "check that it is complete: fetch or convert it again",
    )


def _require_one_file(path: Path, head: bytes) -> None:
    """Refuse the header, or the voxels, of a pair of files; `head` is how the header begins."""
    if not _half_of_pair(path) or b"n+" in (head[344:346], head[4:6]):
        return
    if head[344:347] == b"ni1" or head[4:7] == b"ni2":
        remedy = _CONVERT.format(file=_quoted(path), nifti=_quoted(_as_nifti(path)))
        raise _refused(path, "it is one half of a NIfTI pair (.hdr and .img)", remedy)
    raise _refused(path, "it is one half of an Analyze 7.5 pair (.hdr and .img)", _ORIGINAL)


def _half_of_pair(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith((".hdr", ".img"))


def _header_of_pair(path: Path) -> bytes:
    """How the header beside a file of voxels begins; nothing if there is none."""
    name = re.sub(r"(?i)\.img(\.gz)?$", "", path.name)
    for ending in (".hdr", ".HDR", ".hdr.gz", ".HDR.GZ"):
        header = path.with_name(name + ending)
        if header.is_file():
            return first_bytes(header, HEAD_BYTES)[0]
    return b""


def _refused(path: Path, what: str, remedy: str) -> CaseError:
    return CaseError(
        Code.FILE_UNREADABLE,
        f"{shown(path)} is not a NIfTI, NRRD or MetaImage volume: {what}",
        remedy,
    )


def _excerpt(head: bytes) -> str:
    line = " ".join(head[:200].decode("latin-1").split())
    return repr(line[:40] + ("…" if len(line) > 40 else ""))


def _as_nifti(path: Path) -> Path:
    return path.with_name(f"{path.name.split('.')[0]}.nii.gz")


def _quoted(path: Path) -> str:
    return shlex.quote(shown(path))
