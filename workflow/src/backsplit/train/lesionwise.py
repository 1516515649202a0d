"""Lesion by lesion: which were found, which missed, what was invented, and how well each fits.

The rule is that of the BraTS 2023 challenges
(https://github.com/rachitsaluja/BraTS-2023-Metrics) with its parameters left open. A reference
lesion is dilated; predicted components (26-connected) that reach into it are its own, and their
union is scored against the lesion. A component that reaches into no lesion is invented, and counts
as a lesion of Dice 0. Without dilation and without a smallest volume it is the plain rule: a lesion
is found when a single voxel of it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cc3d
import numpy as np
from scipy import ndimage

from backsplit.train.scores import bounds, surfaces
from backsplit.volume import Array, Grid

NEIGHBOURS = ndimage.generate_binary_structure(3, 2)
"""BraTS dilates by the 18 nearest neighbours."""

WORST_HD95_MM = 374.0
"""BraTS's for a lesion that was missed or invented: the diagonal of its volumes."""


@dataclass(frozen=True)
class Rule:
    """When a lesion counts, and what belongs to it.

    Attributes
    ----------
    dilation : voxels by which a reference lesion is dilated
    smallest_mm3 : reference lesions up to this volume do not count
    """

    dilation: int = 0
    smallest_mm3: float = 0.0


RULES: Mapping[str, Rule] = {
    "plain": Rule(),
    "brats-gli": Rule(3, 50),
    "brats-ssa": Rule(3, 50),
    "brats-ped": Rule(3, 50),
    "brats-men": Rule(1, 50),
    "brats-met": Rule(1, 2),
}
"""Parameters of `metrics.py` of BraTS 2023, by challenge."""


@dataclass(frozen=True)
class Found:
    """One reference lesion.

    Attributes
    ----------
    number : its own, from 1
    volume_ml : its volume
    covered : share of its voxels that was predicted
    dice, hd95_mm : of the predicted components that reach into it; 0 and infinite where none does
    counts : whether it is larger than the smallest that counts
    """

    number: int
    volume_ml: float
    covered: float
    dice: float
    hd95_mm: float
    counts: bool

    @property
    def found(self) -> bool:
        """Whether a predicted component reaches into it."""
        return math.isfinite(self.hd95_mm)


@dataclass(frozen=True)
class LesionWise:
    """All lesions of a case.

    Attributes
    ----------
    lesions : the reference's
    invented_ml : volume of each predicted component that reaches into none of them
    """

    lesions: Sequence[Found]
    invented_ml: Sequence[float] = field(default=())

    @property
    def counted(self) -> list[Found]:
        """Lesions that are not too small to count."""
        return [lesion for lesion in self.lesions if lesion.counts]

    @property
    def dice(self) -> float:
        """Mean over lesions, 0 for what was missed or invented; NaN where there is nothing."""
        scores = [lesion.dice for lesion in self.counted] + [0.0] * len(self.invented_ml)
        return float(np.mean(scores)) if scores else math.nan

    @property
    def hd95_mm(self) -> float:
        """Mean over lesions, `WORST_HD95_MM` for what was missed or invented."""
        found = [x.hd95_mm if x.found else WORST_HD95_MM for x in self.counted]
        scores = found + [WORST_HD95_MM] * len(self.invented_ml)
        return float(np.mean(scores)) if scores else math.nan


def reference_lesions(reference: Array, rule: Rule) -> Array:
    """Number the lesions of a mask, (z, y, x): components whose dilations touch are one."""
    numbers = np.zeros(reference.shape, np.uint32)
    box = bounds(reference)
    if box is not None:
        box = _wider(box, rule.dilation, reference.shape)
        grown = _dilated(reference[box], rule)
        components = cc3d.connected_components(grown, connectivity=26)
        numbers[box] = np.where(reference[box], components, 0)
    return numbers


def lesion_wise(lesions: Array, predicted: Array, grid: Grid, rule: Rule) -> LesionWise:
    """Score lesion by lesion.

    Parameters
    ----------
    lesions : number of the reference lesion of each voxel, 0 elsewhere, (z, y, x)
    predicted : bool, (z, y, x)
    grid : where both lie
    rule : when a lesion counts, and what belongs to it
    """
    box = bounds(lesions > 0, predicted)
    if box is None:
        return LesionWise(())
    lesions, predicted = lesions[box], predicted[box]
    components = cc3d.connected_components(predicted, connectivity=26)
    sizes = np.bincount(components.reshape(-1))
    claimed = np.zeros(len(sizes), bool)
    claimed[0] = True
    found = []
    for number, side in enumerate(ndimage.find_objects(lesions), start=1):
        if side is None:
            continue
        near = _wider(side, rule.dilation + 1, lesions.shape)
        mine = lesions[near] == number
        own = np.setdiff1d(components[near][_dilated(mine, rule)], [0])
        claimed[own] = True
        found.append(_one(number, lesions == number, components, own, grid, rule))
    invented = sizes[~claimed] * grid.voxel_ml
    return LesionWise(found, invented.tolist())


def _one(number: int, mine: Array, components: Array, own: Array, grid: Grid, rule: Rule) -> Found:
    """One lesion against the union of the components that reach into it."""
    predicted = np.isin(components, own) if len(own) else np.zeros(mine.shape, bool)
    box = bounds(mine, predicted)
    assert box is not None  # a lesion has a voxel
    mine, predicted = mine[box], predicted[box]
    voxels, shared = int(np.count_nonzero(mine)), int(np.count_nonzero(mine & predicted))
    _, hd95 = surfaces(mine, predicted, grid.spacing_zyx, 0.0)
    mm3 = voxels * float(np.prod(grid.spacing))
    return Found(
        number,
        mm3 / 1000,
        shared / voxels,
        2 * shared / (voxels + np.count_nonzero(predicted)),
        hd95,
        mm3 > rule.smallest_mm3,
    )


def _dilated(mask: Array, rule: Rule) -> Array:
    if not rule.dilation:
        return mask
    grown: Array = ndimage.binary_dilation(mask, NEIGHBOURS, iterations=rule.dilation)
    return grown


def _wider(box: tuple[slice, ...], voxels: int, shape: Sequence[int]) -> tuple[slice, slice, slice]:
    z, y, x = (
        slice(max(0, side.start - voxels), min(n, side.stop + voxels))
        for side, n in zip(box, shape, strict=True)
    )
    return z, y, x
