"""Which faults are gross: those that make of a structure what no patient has.

Told from the clean cases alone, and by other means than the rules that are put to the test. A fault
is gross when, against its own truth, the faulty structure differs by more than patients do:

overlap
    its Dice with the truth is lower than that of 95 % of the other patients' structures, laid
    centroid on centroid over it
size
    its volume is changed by a factor that 95 % of pairs of patients are not apart
place
    its centroid is moved by more than what 95 % of pairs of patients are apart, relative to the
    other structures of the case
parts, holes
    it has separate parts or holes of a tenth of its volume, and no clean case has any

A fault that is not gross leaves a structure that could be another patient's.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from scipy import ndimage

Masks = dict[str, np.ndarray]
"""Case to the mask of a structure, (z, y, x)."""


@dataclass(frozen=True)
class Spread:
    """What patients differ by, of one structure."""

    dice: dict[str, float]
    factor: float
    mm: float
    torn: bool
    hollow: bool

    @classmethod
    def of(cls, masks: Masks, spacings: dict[str, np.ndarray], frames: dict[str, np.ndarray]):
        """Compare every two clean cases; `frames` are the middles of their other structures."""
        pairs = list(permutations(masks, 2))
        middles = {case: middle(mask, spacings[case]) for case, mask in masks.items()}
        offsets = {
            case: np.argwhere(mask) * spacings[case] - middles[case] for case, mask in masks.items()
        }
        volumes = {case: len(mm) * spacings[case].prod() for case, mm in offsets.items()}
        dice: dict[str, list[float]] = {case: [] for case in masks}
        for one, other in pairs:
            index = np.rint((offsets[one] + middles[other]) / spacings[other]).astype(int)
            index = index[((index >= 0) & (index < masks[other].shape)).all(axis=1)]
            both = masks[other][tuple(index.T)].sum() * spacings[one].prod()
            dice[one].append(2 * float(both) / (volumes[one] + volumes[other]))
        places = {case: middles[case] - frames[case] for case in masks}
        factors = [abs(np.log(volumes[one] / volumes[other])) for one, other in pairs]
        apart = [np.linalg.norm(places[one] - places[other]) for one, other in pairs]
        return cls(
            {case: float(np.quantile(found, 0.05)) for case, found in dice.items()},
            float(np.quantile(factors, 0.95)),
            float(np.quantile(apart, 0.95)),
            any(torn(mask) for mask in masks.values()),
            any(hollow(mask) for mask in masks.values()),
        )

    def gross(self, case: str, truth: np.ndarray, faulty: np.ndarray, spacing: np.ndarray) -> bool:
        """Whether a faulty mask differs from the truth by more than patients do."""
        if not faulty.any():
            return True
        moved = np.linalg.norm(middle(faulty, spacing) - middle(truth, spacing))
        return bool(
            overlap(truth, faulty) < self.dice[case]
            or abs(np.log(faulty.sum() / truth.sum())) > self.factor
            or moved > self.mm
            or (torn(faulty) and not self.torn)
            or (hollow(faulty) and not self.hollow)
        )


def middle(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Centroid in mm from the first voxel, (z, y, x)."""
    return np.asarray(ndimage.center_of_mass(mask)) * spacing


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two masks."""
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def cropped(mask: np.ndarray) -> np.ndarray:
    """The mask with no more than one empty layer round it."""
    return np.pad(mask[ndimage.find_objects(mask.astype(np.uint8))[0]], 1)


def torn(mask: np.ndarray) -> bool:
    """Whether a tenth lies apart from the largest part."""
    mask = cropped(mask)
    parts, number = ndimage.label(mask, np.ones((3, 3, 3)))
    return number > 1 and np.bincount(parts[mask])[1:].max() < 0.9 * mask.sum()


def hollow(mask: np.ndarray) -> bool:
    """Whether the structure encloses holes of a twentieth of its volume."""
    mask = cropped(mask)
    return (ndimage.binary_fill_holes(mask) & ~mask).sum() > 0.05 * mask.sum()
