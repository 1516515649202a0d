"""Which cases an arm gains in and which it loses in, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from backsplit.study.measures import MAIN_SCORE

MOST = 5
"""Cases that are shown on either side."""


@dataclass(frozen=True)
class Change:
    """One case with the target by the networks of two arms.

    Attributes
    ----------
    case, patient, fold : which
    first, second : Dice of the reference and of the arm, mean over seeds
    reference_ml : volume of the target
    """

    case: str
    patient: str
    fold: int
    first: float
    second: float
    reference_ml: float

    @property
    def difference(self) -> float:
        """Arm less reference."""
        return self.second - self.first


def changes(
    scores: pd.DataFrame, reference: str, arm: str, target: str, decision: str
) -> list[Change]:
    """Cases with the target that every network of both arms has scored, the largest gain first.

    Parameters
    ----------
    scores : `scores.parquet`
    reference, arm : names of the arms
    target, decision : what is compared
    """
    mine = scores[
        (scores["target"] == target)
        & (scores["decision"] == decision)
        & scores["has_lesion"]
        & scores["arm"].isin([reference, arm])
    ]
    seeds = set.intersection(
        *(set(mine.loc[mine["arm"] == name, "seed"]) for name in (reference, arm))
    )
    mine = mine[mine["seed"].isin(seeds)]
    keys = ["case", "patient", "fold", "reference_ml"]
    wide = mine.pivot_table(
        index=keys, columns=["arm", "seed"], values=MAIN_SCORE, dropna=False, observed=True
    ).dropna()
    means = (
        {name: wide[name].to_numpy(float).mean(axis=1) for name in (reference, arm)}
        if len(wide)
        else {}
    )
    found = [
        Change(str(case), str(patient), int(fold), float(first), float(second), float(ml))
        for (case, patient, fold, ml), first, second in zip(
            wide.index, means.get(reference, ()), means.get(arm, ()), strict=True
        )
    ]
    return sorted(found, key=lambda change: (-change.difference, change.case))


def extremes(found: Sequence[Change], most: int = MOST) -> tuple[list[Change], list[Change]]:
    """The cases that gained most and those that lost most; none that did neither."""
    gained = [change for change in found if change.difference > 0][:most]
    lost = [change for change in reversed(found) if change.difference < 0][:most]
    return gained, lost
