"""Patterns for a folder of no known layout: what its files' names have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from backsplit.config.base import words
from backsplit.config.lesion_words import is_lesion
from backsplit.start.look import holds_mask
from backsplit.start.names import is_mask_name, stem

EXAMPLE = "--image ct='{case}/ct.nii.gz' --lesion '{case}/lesion.nii.gz'"

MOST_FILES = 5000
"""So many files are looked at: more say nothing else."""

ALIKE = 0.5
"""Two patterns go together when they share at least this part of their cases."""

NO_CHANNEL = {"image", "images", "imaging", "img", "scan", "volume"}
"""Words that say nothing of a channel."""

ORGANS = {"organ", "organs", "oar", "oars", "anatomy"}
"""Words for files of anatomy that somebody drew."""

Cases = Mapping[str, Path]
"""Case to the file that a pattern finds for it."""


def suggestion(root: Path) -> str:
    """Options of `init` for the images and lesions that lie in a folder, as far as names tell.

    Of all ways to leave a part of each path open, those that find files for the same cases go
    together; among them the patterns with words for masks are lesions.
    """
    found = _found(root)
    several = {p: cases for p, cases in found.items() if len(cases) > 1} or found
    masks = {p: cases for p, cases in several.items() if _is_mask(p)}
    images = {p: cases for p, cases in several.items() if not _is_mask(p)}
    lesion = max(masks, key=lambda p: _rank(p, several, images), default="")
    if not any(_alike(cases, masks[lesion]) for cases in images.values() if lesion):
        return EXAMPLE
    alike = {p: cases for p, cases in several.items() if _alike(cases, masks[lesion])}
    chosen = _distinct({p: cases for p, cases in alike.items() if p in images})
    drawn = [p for p in chosen if holds_mask(next(iter(images[p].values())))]
    drawn += [p for p in alike if p != lesion and ORGANS & set(words(p.rpartition("/")[2]))]
    chosen = [p for p in chosen if p not in drawn]
    names = [_channel(p) for p in chosen]
    if len(set(names)) < len(names):
        names = [_words(p) for p in chosen]
    options = [f"--image {n or 'ct'}='{p}'" for n, p in zip(names, chosen, strict=True)]
    options.append(f"--lesion '{lesion}'")
    return " ".join([*options, *(f"--labels given='{p}'" for p in drawn[:1])])


def _found(root: Path) -> dict[str, dict[str, Path]]:
    """Patterns that find one file a case."""
    found: dict[str, dict[str, Path]] = {}
    twice: set[str] = set()
    for path in sorted(islice(root.rglob("*"), MOST_FILES)):
        if stem(path.name) is not None:
            for pattern, case in _ways(path.relative_to(root)):
                if found.setdefault(pattern, {}).setdefault(case, path) != path:
                    twice.add(pattern)
    return {pattern: cases for pattern, cases in found.items() if pattern not in twice}


def _ways(path: Path) -> Iterator[tuple[str, str]]:
    """A path with each of its folders, or the beginning of its name, as the case.

    Folders with numbers differ from case to case: they may be any.
    """
    *folders, name = path.parts
    some = ["*" if re.search(r"\d", folder) else folder for folder in folders]
    for at, folder in enumerate(folders):
        whole = rf"(?<![A-Za-z0-9]){re.escape(folder)}(?![A-Za-z0-9])"
        rest = re.sub(whole, "{case}", name)
        for others in dict.fromkeys((tuple(folders), tuple(some))):
            yield "/".join([*others[:at], "{case}", *others[at + 1 :], rest]), folder
    plain = stem(name) or ""
    ends = [match.start() for match in re.finditer(r"[_.-]", plain)] + [len(plain)]
    for end in ends:
        if end:
            yield "/".join([*folders, "{case}" + name[end:]]), plain[:end]


def _is_mask(pattern: str) -> bool:
    return any(is_mask_name(part) or "label" in part.lower() for part in pattern.split("/"))


def _alike(one: Cases, other: Cases) -> bool:
    return len(one.keys() & other.keys()) >= ALIKE * max(len(one), len(other))


def _rank(
    pattern: str, several: Mapping[str, Cases], images: Mapping[str, Cases]
) -> tuple[bool, bool, bool, int, int]:
    """How good a pattern of masks is.

    One that finds the cases of images, is called a lesion, and names no folder with a number, which
    is that of a case; then the more files that go with it, the shorter.
    """
    cases = several[pattern]
    files = {
        path for others in several.values() if _alike(cases, others) for path in others.values()
    }
    folder, _, name = pattern.rpartition("/")
    plain = not re.search(r"\d", folder)
    paired = any(_alike(cases, others) for others in images.values())
    return paired, is_lesion(name), plain, len(files), -len(pattern)


def _distinct(patterns: Mapping[str, Cases]) -> list[str]:
    """Patterns that find files of their own: those of most cases, with `{case}` in a folder."""
    ranked = sorted(patterns, key=lambda p: (-len(patterns[p]), -p.count("{case}"), len(p), p))
    kept: list[str] = []
    seen: set[Path] = set()
    for pattern in ranked:
        files = set(patterns[pattern].values())
        if not files & seen:
            kept.append(pattern)
            seen |= files
    return sorted(kept)


def _channel(pattern: str) -> str:
    """A name for a channel: what is left of a file's name."""
    return _words(stem(pattern.rpartition("/")[2]) or "")


def _words(pattern: str) -> str:
    """The fixed words of a pattern as a name; empty where they make none."""
    name = (stem(pattern) or pattern).replace("{case}", "").lower()
    parts = [part for part in re.split(r"[^a-z0-9]+", name) if part]
    plain = "_".join([part for part in parts if part not in NO_CHANNEL] or parts)
    return plain if plain.isidentifier() else ""
