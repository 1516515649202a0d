"""Whether what is known of structures tells which of them help: a question to the study's arms.

A structure's gain is measured by an arm that has it alone (against the arm without structures) or
by an arm that lacks it alone (the arm with all structures against it). Gains are means of paired
differences in Dice over patients with lesions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from backsplit.study.arms import Arm
from backsplit.volume import Array

DRAWS = 2000
LEVEL = 0.95
FEWEST = 4
"""With fewer structures an interval says nothing."""
MOST_LISTED = 7
"""Of so many structures every order is looked at; of more, `ORDERS` that are drawn."""
ORDERS = 5000
SAME = 1e-12
ALONE, LEFT_OUT = "alone", "left out"


@dataclass(frozen=True)
class Evidence:
    """Rank correlation of a column with measured gains.

    Attributes
    ----------
    column : of the advice, or `score`
    how : whose gains: of arms with one structure (`ALONE`), or without one (`LEFT_OUT`)
    structures, patients : how many
    correlation : Spearman's; NaN where one side is constant
    low, high : 95 % interval by drawing patients and structures again
    p : of a correlation as large, by exchanging the structures
    """

    column: str
    how: str
    structures: int
    patients: int
    correlation: float
    low: float
    high: float
    p: float

    @property
    def holds(self) -> bool:
        """Whether there is evidence at all that the order is no chance."""
        return self.low * self.high > 0 and self.p < 1 - LEVEL


def gains(scores: pd.DataFrame, arms: Sequence[Arm], reference: str) -> dict[str, pd.DataFrame]:
    """Gains by structure and patient, as far as the arms tell.

    Parameters
    ----------
    scores : the study's long table
    arms : of the study
    reference : arm without structures that the others are compared with

    Returns
    -------
    gains
        `ALONE` and `LEFT_OUT` to a table of Dice, a row a patient and a column a structure;
        patients are those that all these arms have scored. Only what some arm tells.
    """
    plain = [arm for arm in arms if differs_by_structures(arm)]
    dice = _by_patient(scores)
    found: dict[str, dict[str, pd.Series]] = {ALONE: {}, LEFT_OUT: {}}
    for arm in plain:
        if arm.name not in dice:
            continue
        if len(arm.structures) == 1 and reference in dice:
            found[ALONE].setdefault(arm.structures[0], dice[arm.name] - dice[reference])
        alike = [other for other in plain if other.unknown == arm.unknown and other.name in dice]
        most = max(alike, key=lambda other: len(other.structures))
        lacking = set(most.structures) - set(arm.structures)
        if len(lacking) == 1 and len(most.structures) > 1:
            found[LEFT_OUT].setdefault(lacking.pop(), dice[most.name] - dice[arm.name])
    return {how: pd.DataFrame(some).dropna() for how, some in found.items() if some}


def evidence(
    advice: pd.DataFrame, measured: pd.DataFrame, how: str, columns: Sequence[str], seed: int = 0
) -> list[Evidence]:
    """Hold columns of the advice against measured gains.

    Parameters
    ----------
    advice : with a column `structure`
    measured : of `gains`, one of its tables
    how : which one
    columns : of the advice; those that are not known for every structure are left out
    seed : of the draws
    """
    rows = advice.set_index("structure")
    names = [name for name in measured.columns if name in rows.index]
    table = measured[names].to_numpy(float)
    found = []
    for column in columns:
        values = rows.loc[names, column].to_numpy(float)
        if not len(table) or not names or np.isnan(values).any():
            continue
        mean = table.mean(0)
        low, high = _interval(values, table, np.random.default_rng(seed))
        p = _chance(values, mean, np.random.default_rng(seed))
        size = len(names), len(table)
        found.append(Evidence(column, how, *size, float(spearman(values, mean)), low, high, p))
    return found


def evidence_lines(found: Sequence[Evidence]) -> list[str]:
    """What evidence there is, for a person."""
    if not found:
        return [
            "Evidence for the score: none. No arm of the study has, or lacks, exactly one "
            "structure."
        ]
    return ["Evidence (Spearman's rank correlation with measured gains in Dice):"] + [
        f"- {each.column}, {each.structures} structures {each.how}, {each.patients} patients: "
        f"{_verdict(each)}"
        for each in found
    ]


def spearman(first: Array, second: Array) -> Array:
    """Rank correlation along the last axis, ties at their mean rank; NaN where a side is constant.

    Parameters
    ----------
    first, second : (…, n)
    """
    a, b = (rankdata(x, axis=-1) - (x.shape[-1] + 1) / 2 for x in (first, second))
    scale = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    nothing = np.full(scale.shape, np.nan)
    return np.asarray(np.divide((a * b).sum(-1), scale, out=nothing, where=scale > 0))


def _verdict(each: Evidence) -> str:
    if each.structures < FEWEST:
        return f"no evidence ({each.structures} structures are too few)"
    told = f"{each.correlation:+.2f} [{each.low:+.2f}, {each.high:+.2f}], p {each.p:.2g}"
    return told if each.holds else f"no evidence ({told})"


def differs_by_structures(arm: Arm) -> bool:
    """Whether nothing but the choice of structures tells the arm from the plain ones."""
    return arm == Arm(arm.name, arm.structures, unknown=arm.unknown)


def _by_patient(scores: pd.DataFrame) -> dict[str, pd.Series]:
    """Arm to patient to Dice: mean over seeds and cases with a lesion, of all targets together."""
    targets, decisions = scores["target"].unique(), scores["decision"].unique()
    target = "any target" if "any target" in targets else next(iter(targets), "")
    decision = "argmax" if "argmax" in decisions else next(iter(decisions), "")
    mine = scores[(scores["target"] == target) & (scores["decision"] == decision)]
    mine = mine[mine["has_lesion"]]
    cases = mine.groupby(["arm", "patient", "case"])["dice"].mean()
    means = cases.groupby(["arm", "patient"]).mean()
    return {str(arm): of_arm.droplevel("arm") for arm, of_arm in means.groupby("arm")}


def _interval(values: Array, table: Array, random: np.random.Generator) -> tuple[float, float]:
    """Percentiles of the correlation over draws of patients and of structures."""
    patients, structures = table.shape
    if structures < FEWEST:
        return math.nan, math.nan
    some = random.integers(0, structures, (DRAWS, structures))
    who = random.integers(0, patients, (DRAWS, patients))
    means = np.take_along_axis(table[who].mean(1), some, 1)
    low, high = np.nanquantile(spearman(values[some], means), ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def _chance(values: Array, mean: Array, random: np.random.Generator) -> float:
    """Share of orders of the structures whose correlation is as large."""
    count = len(values)
    seen = abs(float(spearman(values, mean)))
    if math.isnan(seen):
        return 1.0
    if count <= MOST_LISTED:
        orders = np.array(list(itertools.permutations(range(count))))
    else:
        others = [random.permutation(count) for _ in range(ORDERS)]
        orders = np.array([np.arange(count), *others])
    return float(np.mean(np.abs(spearman(values[orders], mean)) >= seen - SAME))
