"""What arms are compared by: scores of cases with and without the target, of lesions by size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backsplit.train.lesionwise import WORST_HD95_MM
from backsplit.train.summary import SIZES_MM, size_classes

WITH = "with the target"
WITHOUT = "without the target"
LESION_CLASSES = tuple(f"lesions {name}" for name, _, _ in size_classes(SIZES_MM))

MAIN_SCORE = "dice"
"""What the figure shows and verdicts are quoted by; the others help to understand it."""

UNITS = ("patient", "fold", "case", "number")
"""Columns that name what is scored: a case, or a lesion of it (`number`, 0 for the whole case)."""


@dataclass(frozen=True)
class Measure:
    """One score of one kind of cases.

    Attributes
    ----------
    cases : which cases, or which lesions of the cases with the target
    score : its name
    values : columns `arm`, `seed`, those of `UNITS`, and `value`
    """

    cases: str
    score: str
    values: pd.DataFrame

    @property
    def larger_is_better(self) -> bool:
        """Whether an arm with a higher score is better."""
        return self.score in {"dice", "nsd", "lesion_dice", "found"}


def measures(scores: pd.DataFrame, lesions: pd.DataFrame) -> Iterator[Measure]:
    """Give all that arms are compared by, of one target and one decision.

    HD95 is infinite where nothing was predicted; it counts as 374 mm, as the BraTS challenges have
    it. A lesion that was missed has Dice 0. Where neither reference nor prediction holds a voxel
    there is no Dice: such cases are among those without the target and count by false alarms.

    Parameters
    ----------
    scores, lesions : rows of `scores.parquet` and `lesions.parquet`
    """
    ours, others = scores[scores["has_lesion"]], scores[~scores["has_lesion"]]
    share = ours["found"] / ours["lesions"].where(ours["lesions"] > 0)
    yield _of_cases(WITH, "dice", ours, ours["dice"])
    yield _of_cases(WITH, "nsd", ours, ours["nsd"])
    yield _of_cases(WITH, "hd95_mm", ours, ours["hd95_mm"].replace(np.inf, WORST_HD95_MM))
    yield _of_cases(WITH, "lesion_dice", ours, ours["lesion_dice"])
    yield _of_cases(WITH, "found", ours, share)
    for score in ("invented", "false_positive_ml", "false_negative_ml"):
        yield _of_cases(WITH, score, ours, ours[score])
    yield _of_cases(WITHOUT, "false_alarm", others, others["predicted_ml"] > 0)
    yield _of_cases(WITHOUT, "invented", others, others["invented"])
    yield _of_cases(WITHOUT, "false_positive_ml", others, others["false_positive_ml"])
    drawn = lesions[(lesions["kind"] == "reference") & lesions["counts"]]
    classes = zip(LESION_CLASSES, size_classes(SIZES_MM), strict=True)
    for name, (_, low, high) in classes:
        mine = drawn[drawn["diameter_mm"].between(low, high, inclusive="left")]
        for score in ("dice", "found"):
            yield Measure(name, score, _values(mine, mine[score], mine["number"]))


def _of_cases(cases: str, score: str, rows: pd.DataFrame, values: pd.Series) -> Measure:
    return Measure(cases, score, _values(rows, values, pd.Series(0, rows.index)))


def _values(rows: pd.DataFrame, values: pd.Series, numbers: pd.Series) -> pd.DataFrame:
    kept = rows[["arm", "seed", "patient", "fold", "case"]]
    return kept.assign(number=numbers, value=values.astype("float64"))
