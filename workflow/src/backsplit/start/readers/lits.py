"""LiTS: `volume-N.nii` and `segmentation-N.nii`, in one folder or in several."""

from __future__ import annotations

import re
from pathlib import Path

from backsplit.start.found import Found, FoundCase
from backsplit.start.names import stem

LABELS = {"liver": 1, "tumor": 2}


def find_lits(root: Path) -> Found | None:
    """LiTS's training volumes, wherever they lie below the folder."""
    files = sorted(p for e in ("nii", "nii.gz") for p in root.rglob(f"*-[0-9]*.{e}"))
    images = _numbered(files, "volume")
    if not images:
        return None
    labels = _numbered(files, "segmentation")
    cases = [
        FoundCase(f"volume-{number}", {"ct": path}, labels.get(number), f"volume-{number}")
        for number, path in sorted(images.items())
    ]
    unused = [
        ("*test-volume-*", "images of the test set, without labels"),
        ("*segmentation-*", "labels of cases that have no image, or of a second copy"),
        ("*volume-*", "a second copy of a volume"),
    ]
    return Found(
        "lits", cases, ["ct"], LABELS, unused=unused, part="abdomen", title="LiTS",
        patients_known=True,
    )  # fmt: skip


def _numbered(files: list[Path], kind: str) -> dict[int, Path]:
    """Number to the first file of a kind."""
    found: dict[int, Path] = {}
    for path in files:
        if match := re.fullmatch(rf"{kind}-(\d+)", stem(path.name) or ""):
            found.setdefault(int(match[1]), path)
    return found
