"""The order in which cases are looked at, and how many of them a person is asked to see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backsplit.config.quality import Severity
from backsplit.judge.anatomy import fits

NOTABLE = 2.0
"""Score of what one ordinary case in a hundred has; what is below is worth no line in a table,
unless its case is reviewed and would be for this alone (`odd_from`)."""

PRIOR = 50
RARE = 0.01
UNUSUAL = 0.04
COMMON = 0.1
"""A warning is expected in so many of the cases before any is seen, with the weight of `PRIOR`
cases: one that no patient explains (`NEVER`) in one of a hundred; one of anatomy in one of 25 (of
200 clean cases, phantoms, heads and necks and whole bodies, 13 have some, of each rule fewer); one
that lesions, operations and a second segmenter often give rise to (`OFTEN`) in one of ten."""

NEVER = ("lesion_*",)
OFTEN = (
    *("lesion_empty", "lesion_gaps", "lesion_dust", "lesion_cut", "lesion_border"),
    *("agreement", "cohort_absent"),
)
"""What a patient may have. No patient explains a mask that lies outside the body, has another value
than the others, fills its organ or has their contrast reversed: it is another image's, or no
lesion's."""

CERTAIN = {Severity.REJECT, Severity.REVIEW}


def odd_from(review: float) -> float:
    """Least score of a case that is sent to review: less likely than that share of the cases."""
    return -math.log10(review) if review else math.inf


def told_from(review: float) -> float:
    """Least score of what is listed for a reviewed case beside its leading reason."""
    return min(odd_from(review), NOTABLE)


@dataclass(frozen=True)
class Place:
    """Where a case stands.

    Attributes
    ----------
    rank : 1 is to be looked at first
    score : -log10 of the chance that an ordinary case is as odd
    certain : it breaks what no patient can
    leading : index, in the table of flags, of the flag that speaks most against it; None where
        none does
    """

    rank: int
    score: float
    certain: bool
    leading: int | None


def weighed(flags: pd.DataFrame, cases: int) -> pd.DataFrame:
    """The flags with a score for each warning that has none: how few of the cases have it.

    Parameters
    ----------
    flags : flags; `score` is NaN, or not there, where nothing was compared
    cases : how many were judged
    """
    score = flags["score"] if "score" in flags else pd.Series(np.nan, flags.index)
    if not len(flags):
        return flags.assign(score=score.astype(float))
    number = flags.groupby(["subject", "rule"])["case"].transform("nunique")
    prior = flags["rule"].map(_prior)
    others = (number - 1 + PRIOR * prior) / (max(cases - 1, 0) + PRIOR)
    bare = score.isna() & (flags["severity"] == Severity.WARN)
    rarity = -np.log10(others.astype(float))
    return flags.assign(score=score.astype(float).where(~bare, rarity))


def _prior(rule: str) -> float:
    """Share of ordinary cases that is expected to have a warning."""
    if fits(rule, OFTEN):
        return COMMON
    return RARE if fits(rule, NEVER) else UNUSUAL


def learned(flags: pd.DataFrame, decisions: pd.DataFrame) -> pd.DataFrame:
    """Move scores by what a person decided about cases with the same reason.

    Of the cases that were led by the same kind of reason about the same structure, d were decided
    and c of them rejected: every score of that kind moves by log10(2 (1 + c) / (2 + d)), which is
    how much likelier a fault has become (Laplace's rule of succession, from one in two).

    Parameters
    ----------
    flags : with scores
    decisions : case and decision of a person; `review` says nothing yet
    """
    if not len(decisions) or not len(flags):
        return flags
    decided = decisions[decisions["decision"].isin(["accept", "reject"])]
    verdict = dict(zip(decided["case"], decided["decision"] == "reject", strict=True))
    kind = list(zip(flags["rule"].map(kind_of), flags["subject"], strict=True))
    leading = _leading(flags)
    counts: dict[tuple[str, str], list[int]] = {}
    for case, rejected in verdict.items():
        if case in leading:
            count = counts.setdefault(kind[leading[case]], [0, 0])
            count[0] += int(rejected)
            count[1] += 1
    moved = [0.0 if k not in counts else _shift(*counts[k]) for k in kind]
    return flags.assign(score=flags["score"] + moved)


def _shift(confirmed: int, decided: int) -> float:
    return float(np.log10(2 * (1 + confirmed) / (2 + decided)))


def kind_of(rule: str) -> str:
    """What is odd in any comparison with the cohort is odd in one way."""
    named = ("cohort_absent", "cohort_truncated")
    return "cohort" if rule.startswith("cohort_") and rule not in named else rule


def _leading(flags: pd.DataFrame) -> dict[str, int]:
    """Case to the position of the flag that speaks most against it."""
    certain = flags["severity"].isin(CERTAIN).to_numpy()
    score = flags["score"].fillna(0.0).to_numpy()
    speaks = certain | ((flags["severity"] == Severity.WARN).to_numpy() & (score > 0))
    rejected = (flags["severity"] == Severity.REJECT).to_numpy()
    order = np.lexsort((-score, ~certain, ~rejected))
    found: dict[str, int] = {}
    cases = flags["case"].to_numpy()
    for at in order[speaks[order]].tolist():
        found.setdefault(cases[at], at)
    return found


def places(cases: Sequence[str], flags: pd.DataFrame) -> dict[str, Place]:
    """Rank every case: what is certain first, then by score, then as in the table.

    Parameters
    ----------
    cases : every case, in order
    flags : with scores
    """
    leading = _leading(flags)
    score = flags["score"].fillna(0.0).to_numpy()
    certain = flags["severity"].isin(CERTAIN).to_numpy()
    best = flags.assign(score=score).groupby("case")["score"].max().to_dict()
    rejected = (flags["severity"] == Severity.REJECT).to_numpy()
    keys = []
    for number, case in enumerate(dict.fromkeys(cases)):
        at = leading.get(case)
        weight = 0 if at is None else int(certain[at]) + int(rejected[at])
        keys.append((-weight, -max(best.get(case, 0.0), 0.0), number, case, at))
    return {
        case: Place(rank, 0.0 - minus, weight < 0, at)
        for rank, (weight, minus, _, case, at) in enumerate(sorted(keys, key=lambda k: k[:3]), 1)
    }
