"""Patterns for a folder of no known layout: what its files' names have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from backsplit.start.names import is_mask_name, stem

EXAMPLE = "--image ct='{case}/ct.nii.gz' --lesion '{case}/lesion.nii.gz'"

MOST_FILES = 5000
"""So many files are looked at: more say nothing else."""

ALIKE = 0.5
"""Two patterns go together when they share at least this part of their cases."""

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
    best = max(_pairs(images, masks), default=None)
    if best is None:
        return EXAMPLE
    _, _, lesion = best
    fitting = [p for p, cases in images.items() if _shared(cases, masks[lesion]) >= ALIKE]
    chosen = _distinct(fitting, images)
    options = [f"--image {_channel(p, n)}='{p}'" for n, p in enumerate(chosen)]
    return " ".join([*options, f"--lesion '{lesion}'"])


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


def _shared(one: set[str], other: set[str]) -> float:
    return len(one & other) / max(len(one), len(other))


def _pairs(images: Cases, masks: Cases) -> Iterator[tuple[float, int, str]]:
    """Patterns of masks, by how many cases they share with a pattern of images."""
    for lesion, cases in masks.items():
        shares = [(_shared(cases, others), len(cases & others)) for others in images.values()]
        good = [(count, share) for share, count in shares if share >= ALIKE]
        if good:
            count, share = max(good)
            yield count * share, -len(lesion), lesion


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


def _channel(pattern: str, number: int) -> str:
    """A name for a channel: what is left of a file's name, else its folder's."""
    name = stem(pattern.rpartition("/")[2]) or ""
    words = [w for w in re.split(r"[^A-Za-z0-9]+", name.replace("{case}", "")) if w]
    plain = "_".join(words).lower()
    return plain if plain.isidentifier() else f"channel_{number}" if number else "ct"
