"""Where a structure should lie and how large it should be, by the other structures of the case."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backsplit.judge.cube import Cube, counts, median, spread, where
from backsplit.volume import Array

FEWEST_PARTNERS = 2

NEAREST = 16
"""So many structures say where one should lie: those further off know less, and cost as much."""

CENTROID = tuple(f"centroid_{axis}" for axis in "xyz")
ENDS = tuple(f"box_{axis}_{end}" for axis in "xyz" for end in ("min", "max"))


@dataclass(frozen=True)
class Off:
    """How far structures are off from what the others of their case say; NaN where nobody does.

    Attributes
    ----------
    centroid_mm : of the centroid, (case, structure, axis), mm, LPS
    ends_mm : of the sides of the box, (case, structure, x y z min max), mm, LPS
    size : logarithm of the volume over the expected one, (case, structure)
    """

    centroid_mm: Array
    ends_mm: Array
    size: Array


def off_from_others(cube: Cube, fewest: int) -> Off | None:
    """Compare each structure with the others of its case.

    From each other structure follows where this one should be (its centroid, plus the median over
    cases of the way from there), where it should end, and how large it should be. What follows from
    the nearest of them is averaged with weights of 1 / variance, so that what is known best counts
    most. What the field of view cuts off says nothing, and nothing is said of it.

    Parameters
    ----------
    cube : measures of one source
    fewest : two structures are compared from so many cases on that have both
    """
    if len(cube.structures) <= FEWEST_PARTNERS or len(cube.cases) < fewest:
        return None
    whole = cube.whole
    centroid, ends = (where(whole, cube.several(names)) for names in (CENTROID, ENDS))
    size = np.log(where(whole, cube["volume_ml"]))[..., None]
    own = np.concatenate([centroid, ends, size], axis=2)
    said = np.concatenate([centroid, np.repeat(centroid, 2, axis=2), size], axis=2)
    off = np.full(own.shape, np.nan)
    for structure in range(own.shape[1]):
        partners = _partners(centroid, structure, fewest)
        if len(partners) >= FEWEST_PARTNERS:
            off[:, structure] = _misfits(own[:, structure], said[:, partners])
    return Off(off[..., :3], off[..., 3:9], off[..., 9])


def _partners(centroid: Array, structure: int, fewest: int) -> Array:
    """The nearest structures, by the median of the distance."""
    away = np.linalg.norm(centroid - centroid[:, [structure]], axis=2)
    usable = counts(away) >= fewest
    usable[structure] = False
    chosen = np.flatnonzero(usable)
    if len(chosen) <= NEAREST:
        return chosen
    nearest = np.argsort(median(away[:, chosen]), kind="stable")[:NEAREST]
    return np.asarray(np.sort(chosen[nearest]))


def _misfits(own: Array, said: Array) -> Array:
    """Mean misfit of one structure to what its partners say, (case, coordinate)."""
    away = own[:, None] - said
    away -= median(away)
    weights = 1 / np.maximum(spread(away, np.zeros(1)), 1e-3) ** 2
    known = np.isfinite(away)
    total = np.where(known, weights, 0.0).sum(axis=1)
    sums = np.where(known, weights * np.nan_to_num(away), 0.0).sum(axis=1)
    enough = known.sum(axis=1) >= FEWEST_PARTNERS
    return np.asarray(np.where(enough, sums / np.where(enough, total, 1.0), np.nan))
