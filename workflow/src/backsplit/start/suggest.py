"""Patterns for a folder of no known layout: what its files' names have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

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

Cases = Mapping[str, set[str]]
"""Pattern to the cases that it finds."""


def suggestion(root: Path) -> str:
    """Options of `init` for the images and lesions that lie in a folder, as far as names tell.

    Of all ways to leave a part of each path open, those that find files for the same cases go
    together; among them the patterns with words for masks are lesions.
    """
    found: dict[str, set[str]] = {}
    for path in sorted(islice(root.rglob("*"), MOST_FILES)):
        if stem(path.name) is not None:
            for pattern, case in _ways(path.relative_to(root)):
                found.setdefault(pattern, set()).add(case)
    several = {p: cases for p, cases in found.items() if len(cases) > 1} or found
    masks = {p: cases for p, cases in several.items() if _is_mask(p)}
    images = {p: cases for p, cases in several.items() if not _is_mask(p)}
    lesion = max(masks, key=lambda p: _rank(p, several, images), default="")
    fitting = [p for p, cases in images.items() if lesion and _alike(cases, masks[lesion])]
    if not fitting:
        return EXAMPLE
    chosen = _distinct(fitting, images)
    drawn = [p for p in chosen if holds_mask(root / p.replace("{case}", min(images[p])))]
    chosen = [p for p in chosen if p not in drawn]
    names = [_channel(p) for p in chosen]
    if len(set(names)) < len(names):
        names = [_words(p) for p in chosen]
    options = [f"--image {n or 'ct'}='{p}'" for n, p in zip(names, chosen, strict=True)]
    options.append(f"--lesion '{lesion}'")
    return " ".join([*options, *(f"--labels given='{p}'" for p in drawn[:1])])


def _ways(path: Path) -> Iterator[tuple[str, str]]:
    """A path with each of its folders, or the beginning of its name, as the case."""
    *folders, name = path.parts
    for at, folder in enumerate(folders):
        whole = rf"(?<![A-Za-z0-9]){re.escape(folder)}(?![A-Za-z0-9])"
        rest = [*folders[:at], "{case}", *folders[at + 1 :], re.sub(whole, "{case}", name)]
        yield "/".join(rest), folder
    plain = stem(name) or ""
    ends = [match.start() for match in re.finditer(r"[_.-]", plain)] + [len(plain)]
    for end in ends:
        if end:
            yield "/".join([*folders, "{case}" + name[end:]]), plain[:end]


def _is_mask(pattern: str) -> bool:
    return any(is_mask_name(part) or "label" in part.lower() for part in pattern.split("/"))


def _alike(one: set[str], other: set[str]) -> bool:
    return len(one & other) >= ALIKE * max(len(one), len(other))


def _rank(pattern: str, several: Cases, images: Cases) -> tuple[bool, bool, bool, int, int]:
    """How good a pattern of masks is.

    One that finds the cases of images, is called a lesion, and names no folder with a number, which
    is that of a case; then the more files that go with it, the shorter.
    """
    cases = several[pattern]
    files = sum(len(others) for others in several.values() if _alike(cases, others))
    folder, _, name = pattern.rpartition("/")
    plain = not re.search(r"\d", folder)
    paired = any(_alike(cases, others) for others in images.values())
    return paired, is_lesion(name), plain, files, -len(pattern)


def _distinct(patterns: list[str], images: Cases) -> list[str]:
    """Patterns that find files of their own, those of most cases first."""
    ranked = sorted(patterns, key=lambda p: (-len(images[p]), p.count("{case}") > 1, p))
    kept: list[str] = []
    seen: set[str] = set()
    for pattern in ranked:
        files = {pattern.replace("{case}", case) for case in images[pattern]}
        if not files & seen:
            kept.append(pattern)
            seen |= files
    return kept


def _channel(pattern: str) -> str:
    """A name for a channel: what is left of a file's name."""
    return _words(stem(pattern.rpartition("/")[2]) or "")


def _words(pattern: str) -> str:
    """The fixed words of a pattern as a name; empty where they make none."""
    name = (stem(pattern) or pattern).replace("{case}", "").lower()
    words = [word for word in re.split(r"[^a-z0-9]+", name) if word]
    plain = "_".join([word for word in words if word not in NO_CHANNEL] or words)
    return plain if plain.isidentifier() else ""
