"""Headers of text (NRRD, MetaImage), looked at before ITK reads them.

ITK trusts them: it crashes on endless lines, and opens whatever file the header names.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

from backsplit.errors import CaseError, Code

ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")

HEADER_BYTES = 1 << 16
"""Headers have some twenty lines; more than this without an end is no header."""

LINE_BYTES = 1000
"""ITK 5.4 crashes on an NRRD line of 5,000 bytes."""

_ENCODINGS = {"raw", "gzip", "gz", "bzip2", "bz2"}
"""ITK crashes on NRRD data that are said to be text and are not."""

_IN_THE_FILE = {"local", "list"}
_DATA_KEYS = {"data file", "datafile", "elementdatafile"}


def require_sane_header(path: Path) -> None:
    """Refuse a header that ITK must not see.

    Raises
    ------
    CaseError
        FILE_UNREADABLE: no end, endless lines, data as text, or in a file that is not beside the
        header.
    """
    with path.open("rb") as stream:
        for line in _lines(path, stream.read(HEADER_BYTES)):
            key, colon, value = line.partition("=" if path.suffix in (".mha", ".mhd") else ":")
            key, value = key.strip().lower(), value.strip()
            if colon and key in _DATA_KEYS:
                _require_beside(path, value)
            if colon and key == "encoding" and value.lower() not in _ENCODINGS:
                raise _bad(path, f"the encoding {value[:80]!r} (raw, gzip and bzip2 can be read)")


def _lines(path: Path, start: bytes) -> list[str]:
    """Lines of the header; the data follow an empty line (NRRD) or the data's key (MetaImage)."""
    lines: list[str] = []
    for raw in start.split(b"\n"):
        line = raw.decode("latin-1").strip()
        if path.suffix in (".nrrd", ".nhdr") and not line and lines:
            return lines
        if len(raw) > LINE_BYTES:
            raise _bad(path, f"a line of more than {LINE_BYTES} bytes in its header")
        lines.append(line)
        if line.lower().startswith("elementdatafile"):
            return lines
    if len(start) == HEADER_BYTES:
        raise _bad(path, "a header without an end")
    return lines


def _require_beside(path: Path, name: str) -> None:
    """Data lie in the file itself, or in one beside it."""
    if name.lower().split(" ")[0] in _IN_THE_FILE:
        return
    if name in ("..", ".") or len(PurePosixPath(name).parts) != 1:
        raise _bad(path, f"its data in {name[:80]!r}, which is not beside it")
    if len(PureWindowsPath(name).parts) != 1:
        raise _bad(path, f"its data in {name[:80]!r}, which is not beside it")


def _bad(path: Path, what: str) -> CaseError:
    return CaseError(Code.FILE_UNREADABLE, f"{path} has {what}", "replace it by a sound file")
