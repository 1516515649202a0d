"""What of a folder is in no case, and why: nothing is left out without a word."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from backsplit.start.found import Found
from backsplit.start.names import counted, stem
from backsplit.start.readers.dicom import may_be_dicom

OTHERWISE = "not part of this layout"

MOST_GROUPS = 20
"""So many kinds of files are listed."""


def left_out(root: Path, found: Found) -> list[str]:
    """Volumes and DICOM files below a folder that no case uses, in groups, with the reason."""
    used = _used(found)
    groups: Counter[tuple[str, str]] = Counter()
    for path in _files(root):
        if path in used or path.parent in used:
            continue
        if stem(path.name) is None and not may_be_dicom(path):
            continue
        name = path.relative_to(root).as_posix()
        why = next((why for p, why in found.unused if _fits(name, p)), OTHERWISE)
        groups[(_kind(name), why)] += 1
    lines = [
        f"{counted(count, 'file')} {kind}: {why}"
        for (kind, why), count in groups.most_common(MOST_GROUPS)
    ]
    rest = sum(count for _, count in groups.most_common()[MOST_GROUPS:])
    return [*lines, *([f"{counted(rest, 'file')} of other kinds: {OTHERWISE}"] if rest else [])]


def _used(found: Found) -> set[Path]:
    """Files and folders that cases name."""
    used: set[Path] = set()
    for case in found.cases:
        used |= {*case.images.values(), *case.lesions.values()}
        used |= {case.lesion} if case.lesion is not None else set()
        for column, path in case.columns.items():
            named = [g for g in found.given.values() if "{name}" in g.path]
            read = [given for given in named if f"{{{column}}}" in given.path]
            for given in read:
                tail = given.path.partition("}")[2]
                called = given.files.values() or given.names
                used |= {Path(f"{path}{tail.replace('{name}', name)}") for name in called}
            used |= set() if read else {path}
    return used


def _files(root: Path) -> Iterator[Path]:
    """Files below a folder, through links as well, but no folder twice."""
    seen = {root.resolve()}
    for folder, folders, files in os.walk(root, followlinks=True):
        inside = {name: (Path(folder) / name).resolve() for name in folders}
        folders[:] = sorted(n for n in folders if not n.startswith(".") and inside[n] not in seen)
        seen.update(inside[name] for name in folders)
        yield from (Path(folder) / name for name in sorted(files))


def _fits(name: str, pattern: str) -> bool:
    """Whether a path fits a pattern, from the root or from any folder."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*/{pattern}")


def _kind(name: str) -> str:
    """A path with its numbers left open, so that files of a kind are one group."""
    *folders, file = name.split("/")
    shown = [folder if not re.search(r"\d", folder) else "*" for folder in folders]
    return "/".join([*shown, re.sub(r"\d+", "#", file)])
