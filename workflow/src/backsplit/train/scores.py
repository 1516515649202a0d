"""How well one predicted mask fits one reference mask.

Definitions, with what they agree with to the last digit (tests/unit/test_train_scores.py):

- Dice: 2 |A and B| / (|A| + |B|), as nnU-Net's `evaluate_predictions` has it.
- Surfaces: those of DeepMind's `surface-distance`, whose elements lie between voxel centres and are
  weighted by their area (Nikolov et al., 2018, arXiv 1809.04430). Definitions that take boundary
  voxels for the surface give other numbers: say which one was used when you compare.
- HD95: the larger of the two directed 95th percentiles of these distances.
- NSD: the share of both surfaces that lies within the tolerance of the other one.
- False positive and false negative volume: components (18-connected) of one mask that do not touch
  the other, as the autoPET challenge counts them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
import surface_distance

from backsplit.volume import Array, Grid

AUTOPET_CONNECTIVITY = 18
"""Of `val_script.py` of https://github.com/lab-midas/autoPET."""

PERCENTILE = 95


@dataclass(frozen=True)
class Scores:
    """One mask against another.

    Attributes
    ----------
    reference_ml, predicted_ml : their volumes
    dice : NaN where both are empty
    nsd : at the tolerance asked for; NaN where both are empty
    hd95_mm : NaN where both are empty, infinite where one is
    false_positive_ml, false_negative_ml : components that miss the other mask wholly
    """

    reference_ml: float
    predicted_ml: float
    dice: float
    nsd: float
    hd95_mm: float
    false_positive_ml: float
    false_negative_ml: float


def score(reference: Array, predicted: Array, grid: Grid, tolerance_mm: float) -> Scores:
    """Score a predicted mask.

    Parameters
    ----------
    reference, predicted : bool, (z, y, x)
    grid : where both lie
    tolerance_mm : distance within which surfaces count as equal for NSD
    """
    box = bounds(reference, predicted)
    if box is None:
        return Scores(0.0, 0.0, math.nan, math.nan, math.nan, 0.0, 0.0)
    reference, predicted = reference[box], predicted[box]
    nsd, hd95 = surfaces(reference, predicted, grid.spacing_zyx, tolerance_mm)
    ml = grid.voxel_ml
    return Scores(
        np.count_nonzero(reference) * ml,
        np.count_nonzero(predicted) * ml,
        dice(reference, predicted),
        nsd,
        hd95,
        untouched(predicted, reference) * ml,
        untouched(reference, predicted) * ml,
    )


def dice(reference: Array, predicted: Array) -> float:
    """Overlap of two masks, 0 to 1; NaN where both are empty."""
    both = np.count_nonzero(reference) + np.count_nonzero(predicted)
    return 2 * np.count_nonzero(reference & predicted) / both if both else math.nan


def surfaces(
    reference: Array, predicted: Array, spacing_zyx: Sequence[float], tolerance_mm: float
) -> tuple[float, float]:
    """NSD at a tolerance, and HD95 in mm; (0, infinite) where one mask is empty, NaN where both."""
    filled = reference.any(), predicted.any()
    if not all(filled):
        return (0.0, math.inf) if any(filled) else (math.nan, math.nan)
    distances = surface_distance.compute_surface_distances(reference, predicted, spacing_zyx)
    return (
        float(surface_distance.compute_surface_dice_at_tolerance(distances, tolerance_mm)),
        float(surface_distance.compute_robust_hausdorff(distances, PERCENTILE)),
    )


def untouched(mask: Array, other: Array) -> int:
    """Voxels of the components of a mask that share none with the other mask."""
    components = cc3d.connected_components(mask, connectivity=AUTOPET_CONNECTIVITY)
    touched = np.zeros(int(components.max()) + 1, bool)
    touched[components[other]] = True
    touched[0] = True
    return int(np.count_nonzero(~touched[components]))


def bounds(*masks: Array) -> tuple[slice, slice, slice] | None:
    """The box that holds all of some masks, a voxel wider; None where all are empty."""
    sides = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        filled = np.flatnonzero(np.logical_or.reduce([mask.any(axis=others) for mask in masks]))
        if not len(filled):
            return None
        sides.append(slice(max(0, int(filled[0]) - 1), int(filled[-1]) + 2))
    return sides[0], sides[1], sides[2]
