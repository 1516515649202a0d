"""Structures that most cases have and one has not: cut off, removed, never had, or lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from backsplit.config.quality import AnatomyRules, Cohort, Severity
from backsplit.judge.anatomy import Finding, fits
from backsplit.judge.cohort import is_usual
from backsplit.judge.cube import Cube, counts, median, where
from backsplit.volume import Array

ABSENT = "cohort_absent"
CUT = "cohort_truncated"

Field = Mapping[str, tuple[float, float]]
"""Case to the lowest and highest z of its image, mm."""


def absences(
    cube: Cube, field: Field, rules: AnatomyRules, settings: Cohort
) -> Iterator[tuple[str, Finding]]:
    """Find structures that a case lacks, or that are cut off, and nearly nobody else's are.

    Of what only men or only women have (`sexed` in the rules) nothing is said; what surgeons remove
    (`removable`) is a warning; what lies outside of the image, by where its neighbours are, is
    information.

    Parameters
    ----------
    cube : measures of one source
    field : how far images reach; of others it is taken that all is in view
    rules : the rules of anatomy
    settings : fewest cases
    """
    if len(cube.cases) < settings.fewest:
        return
    there, cut = cube.there, cube.there & ~cube.whole
    missing = np.isfinite(cube["voxels"]) & ~there & is_usual(cube, there)
    seen = _in_view(cube, field)
    for i, j in np.argwhere(missing).tolist():
        structure = cube.structures[j]
        if _is_one_of(structure, rules, "sexed"):
            continue
        severity, why = Severity.REVIEW, "as in most cases, and its location is in view"
        if not seen[i, j]:
            severity, why = Severity.INFO, "as in most cases, but its location is out of view"
        elif _is_one_of(structure, rules, "removable"):
            severity, why = Severity.WARN, "as in most cases, unless it was removed"
        yield cube.cases[i], _finding(structure, ABSENT, severity, "0 voxels", f"there, {why}")
    for i, j in np.argwhere(cut & is_usual(cube, cube.whole)).tolist():
        yield cube.cases[i], _finding(
            cube.structures[j], CUT, Severity.INFO, "cut off by the field of view",
            "whole, as in most cases",
        )  # fmt: skip


def _is_one_of(structure: str, rules: AnatomyRules, kind: str) -> bool:
    return any(fits(structure, rule.of) for rule in getattr(rules, kind))


def _in_view(cube: Cube, field: Field) -> Array:
    """Whether a structure would lie within its image, by where the others are, (case, structure).

    The middle of its place counts: of what reaches out of the image half is left.
    """
    z = where(cube.whole, cube["centroid_z"])
    seen = np.ones(z.shape, bool)
    reach = np.array([field.get(case, (-np.inf, np.inf)) for case in cube.cases])
    for j in range(z.shape[1]):
        off = median(z[:, [j]] - z)  # of each other structure, to this one
        partners = counts(z[:, [j]] - z) > 0
        partners[j] = False
        if partners.any():
            middle = median((z[:, partners] + off[partners]).T)  # NaN where none is whole
            seen[:, j] = ~((middle < reach[:, 0]) | (middle > reach[:, 1]))
    return seen


def _finding(structure: str, rule: str, severity: Severity, value: str, expected: str) -> Finding:
    message = f"{structure}: {value}; expected {expected}"
    return Finding(structure, rule, severity, value, expected, message)
