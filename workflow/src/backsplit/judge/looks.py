"""Ways of comparing the cases with each other, and how improbable what is found is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from backsplit.judge.cube import counts, quantile
from backsplit.volume import Array

TAIL = 0.85
"""Share of the cases that is taken for ordinary: where a tenth of a cohort is faulty, or more, the
rest still says how far ordinary cases lie apart."""

POOLED = 100
"""The mean tail of all structures counts as much as this many cases of the structure's own: twenty
cases, of which the oddest three are tail, say little about how heavy it is."""

USUAL_RANGE = (0.05, 0.95)
"""Between these quantiles lies what messages call usual."""


Show = Callable[[float], str]
"""A value in words."""


@dataclass(frozen=True)
class Look:
    """One comparison of every structure between the cases.

    Attributes
    ----------
    rule : its name in flags
    chance : that an ordinary case lies as far off, (case, structure), NaN where not compared
    say : of a case's and a structure's index: what was found, and what is usual
    """

    rule: str
    chance: Array
    say: Callable[[int, int], tuple[str, str]]


def eased(chance: Array) -> Array:
    """Chances for tails that are heavier than theory has them.

    The surprise (-log chance) of each structure is divided by what its `TAIL` quantile over the
    cases exceeds the theoretical one by: a volume that varies as much as a bladder's surprises
    nobody. Never less than theory says. Few cases borrow from the other structures (`POOLED`).

    Parameters
    ----------
    chance : (case, structure), NaN where not compared
    """
    surprise = -np.log(np.maximum(chance, 1e-300))
    number = counts(chance)
    if not number.any():
        return chance
    with np.errstate(invalid="ignore"):
        own = np.maximum(quantile(surprise, TAIL) / -np.log(1 - TAIL), 1.0)
    typical = float(own[number > 0].mean())
    stretch = (number * np.where(number > 0, own, 1.0) + POOLED * typical) / (number + POOLED)
    return np.asarray(np.exp(-surprise / stretch))


def usual(values: Array, show: Show, *, below: bool = False) -> Callable[[int], str]:
    """In words, between what values of a structure the middle nine tenths of the cases lie.

    Parameters
    ----------
    values : (case, structure)
    show : a value in words
    below : only what is large is unusual

    Returns
    -------
    say
        Takes a structure's index; each answer is computed once.
    """

    @cache
    def say(j: int) -> str:
        low, high = np.nanquantile(values[:, j], USUAL_RANGE)
        return f"at most {show(high)}" if below else f"{show(low)} to {show(high)}"

    return say
