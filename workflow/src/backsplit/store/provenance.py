"""Fingerprints: digests of files and of plain data, and the versions of packages."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import time
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from backsplit.errors import CaseError, Code
from backsplit.store.disk import atomic_path, parts_of

YOUNG_NS = 2_000_000_000
"""A file that was written this short a time ago is hashed each time: file systems count time in
steps (4 ms on ext4, 2 s on FAT), within which a second change would not show."""


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal text; of several parts, of all of them.

    The parts are the files of a folder, or a header and the file of its voxels.
    """
    parts = parts_of(path)
    if parts != [path]:
        return digest([[p.name, _file_sha256(p)] for p in parts if p.is_file()])
    return _file_sha256(path)


def _file_sha256(path: Path) -> str:
    status = path.stat()
    touched = max(status.st_mtime_ns, status.st_ctime_ns)
    if time.time_ns() - touched < YOUNG_NS:
        return _sha256(str(path))
    return _sha256_of_version(str(path), status.st_ino, status.st_size, touched)


def input_sha256(path: Path) -> str:
    """SHA-256 of what a case is made from.

    Raises
    ------
    CaseError
        FILE_MISSING when it cannot be read.
    """
    try:
        return file_sha256(path)
    except OSError as error:
        raise CaseError(
            Code.FILE_MISSING,
            f"{path} cannot be read ({error.strerror})",
            "restore it, or rerun the previous stage",
        ) from None


@lru_cache(maxsize=4096)
def _sha256_of_version(path: str, _inode: int, _size: int, _touched_ns: int) -> str:
    """Hash once per process: the same image is an input of several results."""
    return _sha256(path)


def _sha256(path: str) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(parts: object) -> str:
    """SHA-256 of plain data (dicts, lists, text, numbers).

    The order of a dict counts: ids, values and precedence follow the order of the configuration.
    """
    text = json.dumps(parts, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any) -> Any:  # noqa: ANN401 (whatever a slice of the configuration is made of)
    """Typed inputs as plain data, for a fingerprint: every field, in order.

    Raises
    ------
    TypeError
        It holds what has no fixed form, such as a set.
    """
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        pairs = [[key, plain(held)] for key, held in value.items()]
        return dict(pairs) if all(isinstance(key, str) for key in value) else pairs
    if isinstance(value, list | tuple):
        return [plain(held) for held in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{type(value).__name__} cannot be part of a fingerprint")


def versions(*packages: str) -> dict[str, str]:
    """Installed versions by package name."""
    return {name: _version(name) for name in packages}


@lru_cache
def _version(package: str) -> str:
    """Look a package up once a process: it takes a millisecond or more."""
    return importlib.metadata.version(package)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write JSON atomically; short lists of numbers stay on one line."""
    text = json.dumps(data, indent=1, ensure_ascii=False)
    text = re.sub(r"\[([\d\s,.eE+-]+)\]", lambda m: f"[{' '.join(m[1].split())}]", text)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", "utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    data: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return data
