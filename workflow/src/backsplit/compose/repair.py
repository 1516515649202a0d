"""Repair: the unlabelled rim and the enclosed holes round a lesion go to its host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backsplit.config.compose import HOLES_WITHIN_MM
from backsplit.volume import Array
from backsplit.volume.distance import distance_mm


@dataclass(frozen=True)
class Repaired:
    """Voxels that went to a host.

    Attributes
    ----------
    rim, holes : how many
    before : id to how many of them had it
    """

    rim: int
    holes: int
    before: dict[int, int]


def repair(
    labels: Array,
    lesion: Array,
    host: int,
    spacing_zyx: Sequence[float],
    free: Sequence[int],
    *,
    rim_mm: float,
    holes: bool,
) -> Repaired:
    """Give the rim and the holes round one lesion to its host; `labels` is changed in place.

    Parameters
    ----------
    labels : label map round the lesion, (z, y, x); must reach at least `rim_mm` beyond it
    lesion : mask of the lesion, of the same shape
    host : id of the host
    spacing_zyx : mm
    free : ids that count as unlabelled
    rim_mm : a rim voxel lies no further than this from the lesion AND from its host, centre to
        centre, so that a lesion that bulges out of its organ gets no cap
    holes : also what lesion and host enclose together, as far as `rim_mm` from the lesion
    """
    spacing = tuple(float(s) for s in spacing_zyx)
    unlabelled = np.isin(labels, list(free)) & ~lesion
    organ = labels == host
    to_lesion = distance_mm(~lesion, spacing)
    rim = np.zeros(labels.shape, bool)
    if rim_mm > 0:
        to_organ = distance_mm(~organ, spacing)
        rim = unlabelled & (to_lesion <= rim_mm) & (to_organ <= rim_mm)
    hollow = np.zeros(labels.shape, bool)
    if holes:
        from scipy import ndimage

        enclosed = ndimage.binary_fill_holes(lesion | organ | rim) & unlabelled & ~rim
        hollow = enclosed & (to_lesion <= (rim_mm or HOLES_WITHIN_MM))
    changed = rim | hollow
    counts = np.bincount(labels[changed])
    labels[changed] = host
    return Repaired(
        int(rim.sum()),
        int(hollow.sum()),
        {int(label): int(counts[label]) for label in np.flatnonzero(counts)},
    )
