"""All measures of a structure together, against those of the other cases.

A half of a kidney may have the volume, the width and the flatness of some kidney, but not all of
them at once. So size and shape, place, and tissue with edges are each compared as a whole, with
their correlations (`backsplit.judge.joint`), and then all three together (Fisher 1932). An ordinary
case has one chance in forty to stand out in any of its structures, whatever their number
(Bonferroni).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backsplit.config.quality import Cohort, Severity
from backsplit.judge.anatomy import Finding
from backsplit.judge.cohort import BLAME, Found
from backsplit.judge.cube import Cube, counts, where
from backsplit.judge.joint import by_chance, combined, distances
from backsplit.judge.place import ENDS, Off
from backsplit.volume import Array

CHANCE = 0.025
"""Chance that an ordinary case is found unlike the others, over all its structures and rules: half
of the one in twenty that a clean data set may be troubled with; single values have the other."""

RULES = 3
"""Those that send a case to review: shape, place, and all together."""


@dataclass(frozen=True)
class Likeness:
    """Measures that are compared together.

    Attributes
    ----------
    name : of the rule
    severity : of an outlier
    words : of each measure, for messages
    floors : least standard deviation of each that is taken for granted
    values : (case, structure, measure)
    """

    name: str
    severity: Severity
    words: tuple[str, ...]
    floors: Array
    values: Array


def unlike(cube: Cube, off: Off | None, settings: Cohort) -> Found:
    """Find structures that are unlike the other cases' in all of their measures together.

    Parameters
    ----------
    cube : measures of one source
    off : how far each structure lies from where the others say
    settings : fewest cases
    """
    if len(cube.cases) < settings.fewest:
        return
    kinds = [_shape(cube), _tissue(cube), *([] if off is None else [_place(off)])]
    least = CHANCE / RULES / len(cube.structures)
    chances = [_chances(kind, settings) for kind in kinds]
    for kind, (chance, most) in zip(kinds, chances, strict=True):
        words = np.array(kind.words, object)[most]
        yield from _report(cube, kind.name, kind.severity, chance, words, least)
    # none of them alone, however far off, makes the three of them unlikely
    together = combined(np.stack([np.maximum(chance, least) for chance, _ in chances], axis=2))
    together = np.where(counts(together) >= settings.fewest, together, np.nan)
    words = np.full(together.shape, "several things", object)
    yield from _report(cube, "cohort_together", Severity.REVIEW, together, words, least)


def _shape(cube: Cube) -> Likeness:
    """Logarithms of size, extent along and across, and compactness."""
    boxes = cube.several(ENDS)
    sizes = np.stack(
        [
            np.cbrt(cube["volume_ml"]),
            *np.moveaxis(boxes[..., 1::2] - boxes[..., ::2], 2, 0),
            *(cube[f"axis_{i}_mm"] for i in (1, 2, 3)),
            cube["compactness"],
        ],
        axis=2,
    )
    words = (
        "volume", "extent from right to left", "extent from front to back", "extent along the body",
        "length", "width", "thickness", "compactness",
    )  # fmt: skip
    values = np.log(np.maximum(where(cube.whole, sizes), 1e-3))
    return Likeness("cohort_shape", Severity.REVIEW, words, np.full(len(words), 0.05), values)


def _place(off: Off) -> Likeness:
    """Misfit of the centroid and of each end."""
    ends = ("right", "left", "anterior", "posterior", "inferior", "superior")
    words = (
        *(f"centroid along {axis}" for axis in "xyz"),
        *(f"{side} end" for side in ends),
    )
    values = np.concatenate([off.centroid_mm, off.ends_mm], axis=2)
    return Likeness("cohort_place", Severity.REVIEW, words, np.full(len(words), 3.0), values)


def _tissue(cube: Cube) -> Likeness:
    """Percentiles of the intensity, and what the surface runs along."""
    levels = ("p05", "p25", "p50", "p75", "p95", "edge_inside", "edge_outside")
    steps = ("sd", "edge_step", "texture")
    values = np.concatenate(
        [cube.several(levels), np.log(np.maximum(cube.several(steps), 1e-3))], axis=2
    )
    words = (
        *(f"{level[1:]}th percentile" for level in levels[:5]), "intensity just inside",
        "intensity just outside", "standard deviation", "step across the surface", "texture",
    )  # fmt: skip
    floors = np.array([10.0] * len(levels) + [0.15] * len(steps))
    return Likeness("cohort_tissue", Severity.WARN, words, floors, where(cube.there, values))


def _chances(kind: Likeness, settings: Cohort) -> tuple[Array, Array]:
    """Chance of being so far off, and the measure that is furthest off, (case, structure)."""
    chances = np.full(kind.values.shape[:2], np.nan)
    most = np.zeros(kind.values.shape[:2], int)
    complete = np.asarray(np.isfinite(kind.values).all(axis=2))
    for j in range(complete.shape[1]):
        mine = np.flatnonzero(complete[:, j])
        if len(mine) >= settings.fewest:
            squares, z = distances(kind.values[mine, j], kind.floors)
            chances[mine, j] = by_chance(squares, len(kind.words))
            most[mine, j] = np.abs(z).argmax(axis=1)
    return chances, most


def _report(
    cube: Cube, name: str, severity: Severity, chances: Array, words: Array, least: float
) -> Found:
    """Report structures that are as unlikely as no ordinary case's; see `BLAME`."""
    surprise = -np.log(np.maximum(np.nan_to_num(chances, nan=1.0), 1e-300))
    worst = BLAME * surprise.max(axis=1, keepdims=True)
    what = {"cohort_together": "shape, place and tissue"}.get(name, name.removeprefix("cohort_"))
    for i, j in np.argwhere(surprise > np.maximum(-np.log(least), worst)).tolist():
        structure = cube.structures[j]
        value = f"unlike the other cases' in {what}, {words[i, j]} most of all"
        expected = f"a likelihood of at least {least:.1g}"
        message = f"{structure}: {value}; likelihood {chances[i, j]:.1g}, expected {expected}"
        yield cube.cases[i], Finding(structure, name, severity, value, expected, message)
