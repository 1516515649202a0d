"""Synthetic scans of boxes for organs and lesions, of which data sets are made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from support.project import save

SHAPE = (15, 16, 20)
SPACING = (18.0, 18.0, 24.0)
ORIGIN = (-170.0, -140.0, -160.0)

BOXES = {
    # the part of the volume (z, y, x) that an organ fills
    "lung_right": np.s_[10:13, 5:11, 4:8],
    "lung_left": np.s_[10:13, 5:11, 12:16],
    "heart": np.s_[10:12, 4:8, 9:11],
    "liver": np.s_[6:10, 4:11, 3:9],
    "spleen": np.s_[7:9, 9:12, 14:17],
    "pancreas": np.s_[5:7, 6:8, 9:14],
    "kidney_right": np.s_[2:6, 9:12, 4:7],
    "kidney_left": np.s_[2:6, 9:12, 13:16],
    "gallbladder": np.s_[5:6, 4:6, 4:6],
}
"""Boxes in a body that fills the middle of the volume; the patient's right is at small x."""


@dataclass(frozen=True)
class Scan:
    """What a case holds.

    Attributes
    ----------
    organs : names of `BOXES` to masks, lesions included
    lesions : target to mask
    """

    organs: Mapping[str, np.ndarray]
    lesions: Mapping[str, np.ndarray] = field(default_factory=dict)

    def labels(self, values: Mapping[str, int]) -> np.ndarray:
        """A label map: organs of these values, and lesions over them."""
        out = np.zeros(SHAPE, np.uint8)
        for name, mask in self.organs.items():
            out[mask] = values.get(name.removesuffix("_right").removesuffix("_left"), 0)
        for name, mask in self.lesions.items():
            out[mask] = values.get(name, 0)
        return out

    def network(self, classes: Mapping[int, str], *, mr: bool = False) -> np.ndarray:
        """What a network of all these classes would label."""
        values = {name: value for value, name in classes.items()}
        out = np.zeros(SHAPE, np.uint8)
        for name, mask in self.organs.items():
            out[mask] = values[class_of(name, mr=mr)]
        return out


def class_of(organ: str, *, mr: bool) -> str:
    """TotalSegmentator's name: on CT it labels lobes of the lungs."""
    side = organ.removeprefix("lung_")
    return organ if mr or side == organ else f"lung_upper_lobe_{side}"


def scan(seed: int, lesions: Mapping[str, str]) -> Scan:
    """Organs, and lesions of two or three voxels a side in some of them (target to organ)."""
    organs = {}
    for name, box in BOXES.items():
        organs[name] = np.zeros(SHAPE, bool)
        organs[name][box] = True
    found: dict[str, np.ndarray] = {}
    taken = np.zeros(SHAPE, bool)
    for number, (target, organ) in enumerate(lesions.items()):
        z, y, x = (int(np.flatnonzero(organs[organ].any(axis=axes))[0])
                   for axes in ((1, 2), (0, 2), (0, 1)))  # fmt: skip
        mask = np.zeros(SHAPE, bool)
        mask[z : z + 2, y : y + 2, x + number % 2 : x + 2 + (seed + number) % 2] = True
        found[target] = mask & ~taken
        taken |= mask
    return Scan(organs, found)


def ct(scan: Scan, seed: int) -> np.ndarray:
    """Hounsfield units: air, a body with fat round it, organs, noise."""
    image = np.full(SHAPE, -1000.0)
    image[:, 1:-1, 1:-1] = -100
    image[:, 3:-3, 2:-2] = 30
    for number, (name, mask) in enumerate(scan.organs.items()):
        image[mask] = -800 if name.startswith("lung") else 40 + 15 * number
    for mask in scan.lesions.values():
        image[mask] = 90
    return np.rint(image + np.random.default_rng(seed).normal(0, 5, SHAPE)).astype(np.int16)


def mr(scan: Scan, seed: int) -> np.ndarray:
    return (ct(scan, seed) + 1100).clip(0).astype(np.int16)


def volume(path: Path, array: np.ndarray) -> Path:
    return save(path, array, SPACING, ORIGIN)


def json_file(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
