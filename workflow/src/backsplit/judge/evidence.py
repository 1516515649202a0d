"""How much speaks against a case: one score for all that was looked at.

A score is -log10 of a chance: 2 means that one ordinary case in a hundred is as odd. Scores of
comparisons are corrected for how many measures, structures and sources were looked at, and scaled
by the cohort itself; rules of anatomy that a case breaks count by how few of the others break them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from backsplit.config.quality import Cohort, Severity
from backsplit.judge.cohort import single_looks
from backsplit.judge.cube import Cube
from backsplit.judge.likeness import joint_looks
from backsplit.judge.looks import Look
from backsplit.judge.place import off_from_others
from backsplit.volume import Array

BLAME = 0.5
"""One structure out of place moves all others relative to it: what is odd about a structure only
relative to the others (`RELATIVE`) is named if it surprises at least by this share of the worst."""

RELATIVE = ("cohort_position", "cohort_size", "cohort_place", "cohort_together")

MOST_NAMED = 5
"""So many structures of a case are named at most, by one comparison of one source."""

TISSUE = ("cohort_intensity", "cohort_brightest", "cohort_contrast", "cohort_tissue")
OTHER_CAUSES = 3.0
"""Intensities are odd for reasons other than labels (metal, contrast media, air), so that chances
of `TISSUE` count for this many times as much."""

TAIL = 0.9
"""Scores are scaled so that the oddest tenth of the cases is as odd as one in ten ordinary ones."""

LEAST = 1e-300
"""Chances are no smaller, so that they have a logarithm."""

Keep = Callable[[str, str], bool]
"""Whether a rule is asked of a subject."""


@dataclass(frozen=True)
class Compared:
    """One source of labels, compared between the cases of one population.

    Attributes
    ----------
    cube : its measures
    looks : all comparisons
    subjects : how flags call each structure
    chances : of each look, (look, case, structure), 1 where nothing is compared
    """

    cube: Cube
    looks: Sequence[Look]
    subjects: Sequence[str]
    chances: Array

    @cached_property
    def chance(self) -> Array:
        """Least chance over the looks, (case, structure)."""
        return np.asarray(self.chances.min(axis=0))

    @cached_property
    def look(self) -> Array:
        """Which look has it, (case, structure)."""
        return np.asarray(self.chances.argmin(axis=0))


def compare(cube: Cube, subjects: Sequence[str], settings: Cohort, keep: Keep) -> Compared | None:
    """Compare the cases with each other in every way; None where there are too few.

    Parameters
    ----------
    cube : measures of one source
    subjects : how flags call each structure
    settings : fewest cases
    keep : whether a rule is asked of a subject
    """
    if len(cube.cases) < settings.fewest:
        return None
    off = off_from_others(cube, settings.fewest)
    single = list(single_looks(cube, off, settings))
    joint = list(joint_looks(cube, off, settings))
    looks = [*single, *joint]
    # all measures together are one look; of single ones there are many (Bonferroni)
    weights = [len(single)] * len(single) + [1] * len(joint)
    chances = np.stack(
        [
            np.minimum(look.chance * weight * (OTHER_CAUSES if look.rule in TISSUE else 1), 1)
            for look, weight in zip(looks, weights, strict=True)
        ]
    )
    asked = np.array([[keep(look.rule, subject) for subject in subjects] for look in looks], bool)
    chances = np.where(np.isnan(chances) | ~asked[:, None], 1.0, chances)
    return Compared(cube, looks, subjects, chances)


@dataclass(frozen=True)
class Scale:
    """What a chance is worth.

    Attributes
    ----------
    looks : number of independent comparisons that a case goes through: as many as explain the
        median over the cases of their least chance
    stretch : what the cohort's own `TAIL` quantile of scores exceeds theory by, at least 1
    """

    looks: float
    stretch: float

    @classmethod
    def of(cls, compared: Sequence[Compared]) -> Scale:
        """Take it from the least chance of every case."""
        least: dict[str, float] = {}
        for one in compared:
            of_case = one.chance.min(axis=1, initial=1.0)
            for case, chance in zip(one.cube.cases, of_case.tolist(), strict=True):
                least[case] = min(least.get(case, 1.0), chance)
        values = list(least.values()) or [1.0]
        middle = float(np.median(values))
        looks = max(float(np.log(0.5) / np.log1p(-middle)), 1.0) if 0 < middle < 1 else 1.0
        scores = [cls(looks, 1.0).score(value) for value in values]
        return cls(looks, max(float(np.quantile(scores, TAIL)) / -np.log10(1 - TAIL), 1.0))

    def score(self, chance: float) -> float:
        """-log10 of the chance that one of the looks at an ordinary case is as odd."""
        chance = min(max(chance, LEAST), 1.0)
        corrected = -np.expm1(self.looks * np.log1p(-chance)) if chance < 1 else 1.0
        return float(-np.log10(max(corrected, LEAST)) / self.stretch)


def named(compared: Compared, scale: Scale, least: float) -> Iterator[dict[str, object]]:
    """Flags of what speaks most against each case, with their scores.

    Parameters
    ----------
    compared : one source
    scale : what a chance is worth
    least : score of what is named beside the worst
    """
    surprise = -np.log(np.maximum(compared.chance, LEAST))
    worst = surprise.max(axis=1, keepdims=True, initial=0.0)
    rank = (-surprise).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    own = np.array([look.rule not in RELATIVE for look in compared.looks], bool)[compared.look]
    chosen = (surprise > 0) & (own | (surprise >= BLAME * worst)) & (rank < MOST_NAMED)
    for i, j in np.argwhere(chosen).tolist():
        look = compared.looks[int(compared.look[i, j])]
        value = scale.score(float(compared.chance[i, j]))
        if rank[i, j] and value < least:
            continue
        found, usual = look.say(i, j)
        yield {
            "case": compared.cube.cases[i],
            "subject": compared.subjects[j],
            "rule": look.rule,
            "severity": Severity.WARN,
            "value": found,
            "expected": usual,
            "message": f"{compared.subjects[j]}: {found}; in the other cases {usual}",
            "score": value,
        }


def numbers(
    compared: Sequence[Compared], case: str, count: int
) -> list[tuple[float, str, str, str, str]]:
    """The comparisons in which a case is oddest.

    Returns
    -------
    rows
        chance, subject, rule, what was found, what is usual; the least likely first
    """
    rows = []
    for one in compared:
        if case not in one.cube.cases:
            continue
        i = one.cube.cases.index(case)
        order = np.argsort(one.chances[:, i], axis=None, kind="stable")[:count]
        for k, j in zip(*np.unravel_index(order, one.chances[:, i].shape), strict=True):
            chance = float(one.chances[k, i, j])
            if chance < 1:
                found, usual = one.looks[k].say(i, int(j))
                rows.append((chance, one.subjects[j], one.looks[k].rule, found, usual))
    return sorted(set(rows))[:count]


def fields_of_view(measures: pd.DataFrame) -> Mapping[str, tuple[float, float]]:
    """Case to the lowest and highest z of its image, mm."""
    rows = measures[measures["source"] == "image"]
    ends = zip(rows["box_z_min"].astype(float), rows["box_z_max"].astype(float), strict=True)
    return dict(zip(rows["case"], ends, strict=True))
