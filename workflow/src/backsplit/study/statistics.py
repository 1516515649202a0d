"""Is one arm better than another? Tests and intervals over patients and over trainings.

Scores are arrays (..., seeds, patients): the same patients scored by networks of two arms. All
functions work along the last axes, for many simulated tables at a time.

Two things vary. Other patients would give other differences: intervals by the bootstrap and
p-values by sign flips say that of the networks as they are. And the same arm, trained again, would
give another network, which shifts all patients that it scores together: no number of patients
tells that shift from a difference between arms. The second is what readers are in a reader study,
and the test is the one for readers and cases, both random (Obuchowski and Rockette 1995; Hillis
2007, doi:10.1002/sim.2532), for networks that belong to one arm each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from backsplit.volume import Array

ALPHA = 0.05
POWER = 0.8
FLIPS = 9999
"""Random sign flips, where there are more patients than can be enumerated."""
EXACT = 13
"""With this many patients or fewer every combination of signs is tried (2^13 = 8192)."""
RESAMPLES = 9999
SEED = 20_241_125
"""Of flips and resamples: the same table gives the same figures."""


def sign_flips(differences: Array, flips: int = FLIPS) -> Array:
    """Two-sided p-values of the mean difference, by flipping the signs of patients.

    Under the hypothesis that both networks are equal a patient's difference is as likely as its
    negative. Every combination is tried with up to `EXACT` patients, random ones beyond; the
    observed one counts among these.

    Parameters
    ----------
    differences : (..., patients)
    flips : random combinations

    Returns
    -------
    p
        (...)
    """
    patients = differences.shape[-1]
    flat = differences.reshape(-1, patients)
    observed = np.abs(flat.sum(axis=1))
    exact = patients <= EXACT
    if exact:
        signs = 1.0 - 2.0 * (np.arange(2**patients)[:, None] >> np.arange(patients) & 1)
    else:
        rng = np.random.default_rng(SEED)
        signs = rng.choice((-1.0, 1.0), size=(flips, patients))
    slack = 1e-9 * np.abs(flat).sum(axis=1)  # sums of other order differ in their last digits
    as_large = np.zeros(len(flat))
    for part in np.array_split(np.arange(len(flat)), max(1, len(flat) // 500)):
        sums = np.abs(signs @ flat[part].T)
        as_large[part] = np.count_nonzero(sums >= (observed - slack)[part], axis=0)
    p = as_large / len(signs) if exact else (as_large + 1) / (len(signs) + 1)
    return np.asarray(p.reshape(differences.shape[:-1]))


def bootstrap_interval(
    differences: Array, level: float = 1 - ALPHA, resamples: int = RESAMPLES
) -> tuple[Array, Array]:
    """Interval of the mean difference from resampled patients.

    Percentiles, expanded for few patients so that they are as wide as Student's interval is for
    normal differences (Hesterberg 2015, doi:10.1080/00031305.2015.1089789).

    Parameters
    ----------
    differences : (..., patients)
    level : wanted coverage
    resamples : of the patients

    Returns
    -------
    low, high
        (...); NaN with fewer than two patients.
    """
    patients = differences.shape[-1]
    if patients < 2:
        nothing = np.full(differences.shape[:-1], np.nan)
        return nothing, nothing
    widened = np.sqrt(patients / (patients - 1)) * stats.t.ppf((1 + level) / 2, patients - 1)
    found = stats.bootstrap(
        (differences,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, 2**22 // max(1, differences.size)),
        vectorized=True,
        axis=-1,
        confidence_level=1 - 2 * stats.norm.sf(widened),
        method="percentile",
        random_state=np.random.default_rng(SEED),
    )
    return np.asarray(found.confidence_interval.low), np.asarray(found.confidence_interval.high)


def holm(p: Sequence[float]) -> Array:
    """Holm's p-values of a family; NaN stays NaN and is not of the family."""
    values = np.asarray(p, float)
    adjusted = np.full(len(values), np.nan)
    order = np.argsort(values, kind="stable")
    order = order[np.isfinite(values[order])]
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * values[index]))
        adjusted[index] = highest
    return adjusted


@dataclass(frozen=True)
class Spread:
    """A difference between two arms, and how sure it is, over patients and trainings.

    Attributes
    ----------
    difference : mean over patients of second less first
    error : its standard error; NaN where nothing is known of the spread between trainings
    freedom : degrees of freedom of the error
    p : two-sided; NaN where `error` is
    """

    difference: Array
    error: Array
    freedom: Array
    p: Array

    def interval(self, level: float = 1 - ALPHA) -> tuple[Array, Array]:
        """Interval of the difference; NaN where `error` is."""
        reach = stats.t.ppf((1 + level) / 2, self.freedom) * self.error
        return self.difference - reach, self.difference + reach

    def detectable(self, alpha: float = ALPHA, power: float = POWER) -> Array:
        """The smallest true difference that such a table would find in `power` of repeats."""
        reach = stats.t.ppf(1 - alpha / 2, self.freedom) + stats.t.ppf(power, self.freedom)
        return np.asarray(reach * self.error)


def over_patients(differences: Array) -> Spread:
    """Spread over patients alone, (..., patients): that of the networks as they are."""
    patients = differences.shape[-1]
    difference = differences.mean(axis=-1)
    if patients < 2:
        nothing = np.full(difference.shape, np.nan)
        return Spread(difference, nothing, nothing, nothing)
    variance = differences.var(axis=-1, ddof=1) / patients
    return _spread(difference, variance, np.full(difference.shape, patients - 1.0))


def over_trainings(first: Array, second: Array, folds: Sequence[int]) -> Spread:
    """Spread over patients and over trainings of the same arm.

    With two seeds or more the variance between the networks of an arm and fold is measured; what
    patients and networks have in common is counted once (Hillis 2007). With one seed and several
    folds the folds, each with networks of its own, are the units. With one network per arm nothing
    is known.

    Parameters
    ----------
    first, second : scores, (..., seeds, patients)
    folds : fold of each patient: which networks scored it

    Returns
    -------
    spread
        Never narrower than that over patients alone.
    """
    seeds, patients = first.shape[-2:]
    members = [np.flatnonzero(np.asarray(folds) == fold) for fold in sorted(set(folds))]
    shares = np.array([len(m) / patients for m in members])
    apart = second.mean(axis=-2) - first.mean(axis=-2)
    difference = apart.mean(axis=-1)
    means = np.stack([apart[..., m].mean(axis=-1) for m in members], axis=-1)
    within = sum(
        ((apart[..., m] - mean[..., None]) ** 2).sum(axis=-1)
        for m, mean in zip(members, np.moveaxis(means, -1, 0), strict=True)
    )
    freedom = patients - len(members)
    if freedom < 1 or (seeds < 2 and len(members) < 2):
        nothing = np.full(difference.shape, np.nan)
        return Spread(difference, nothing, nothing, nothing)
    of_patients = np.asarray(within) / freedom / patients
    if seeds < 2:
        return _over_folds(difference, of_patients, means, shares)
    networks, common, squares = (np.zeros(difference.shape) for _ in range(3))
    for scores in (first, second):
        for mine, share in zip(members, shares, strict=True):
            here = scores[..., mine]
            level = here.mean(axis=-1)
            rest = here - level[..., None] - here.mean(axis=-2, keepdims=True)
            rest += level.mean(axis=-1)[..., None, None]
            term = share**2 * level.var(axis=-1, ddof=1) / seeds
            networks += term
            squares += term**2 / (seeds - 1)
            if len(mine) > 1:
                noise = (rest**2).sum(axis=(-2, -1)) / ((seeds - 1) * (len(mine) - 1))
                common += share**2 * noise / (seeds * len(mine))
    variance = networks + np.maximum(of_patients - common, 0)
    wider = np.maximum(variance, of_patients)
    squares += of_patients**2 / freedom
    with np.errstate(invalid="ignore", divide="ignore"):
        satterthwaite = np.where(squares > 0, wider**2 / squares, freedom)
    return _spread(difference, wider, np.maximum(satterthwaite, 1.0))


def _over_folds(difference: Array, of_patients: Array, means: Array, shares: Array) -> Spread:
    """Folds as units; the degrees of freedom are those of the folds in any case."""
    count = len(shares)
    apart = means - difference[..., None]
    between = (shares**2 * apart**2).sum(axis=-1) * count / (count - 1)
    freedom = np.full(difference.shape, count - 1.0)
    return _spread(difference, np.maximum(between, of_patients), freedom)


def _spread(difference: Array, variance: Array, freedom: Array) -> Spread:
    error = np.sqrt(variance)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = 2 * stats.t.sf(np.abs(difference) / error, freedom)
    # no spread at all: equal arms are equal, and a difference in every patient is one
    p = np.where(error > 0, p, np.where(np.isclose(difference, 0), 1.0, 0.0))
    return Spread(difference, error, freedom, np.asarray(p))
