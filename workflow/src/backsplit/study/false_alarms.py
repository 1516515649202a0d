"""How often arms that differ by their seeds alone are called different, on a study's own tables.

Each arm that was trained with two seeds or more shows what training again changes: by how much a
network is better or worse on all patients of its fold, and by how much on single patients. From
these two arms are drawn that are one, with the study's patients, folds and seeds, and compared as
arms are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from backsplit.study.measures import MAIN_SCORE, WITH, Measure, measures
from backsplit.study.statistics import ALPHA, SEED, over_trainings, sign_flips
from backsplit.volume import Array

DRAWS = 2000
FLIPS = 999
PART = 200
"""Draws at a time."""


@dataclass(frozen=True)
class FalseAlarms:
    """What came out for one target and decision.

    Attributes
    ----------
    patients, folds, seeds : of the study
    draws : simulated comparisons
    called : share that was called different, by the rule that verdicts go by
    low, high : its 95 % interval (Clopper and Pearson)
    patients_only : share that sign flips over patients alone would have called different
    network_sd : standard deviation between networks of one arm and fold, of their mean score
    patient_sd : standard deviation between networks of one arm and fold in a patient, beyond that
    """

    target: str
    decision: str
    patients: int
    folds: int
    seeds: int
    draws: int
    called: float
    low: float
    high: float
    patients_only: float
    network_sd: float
    patient_sd: float


def false_alarms(
    scores: pd.DataFrame, lesions: pd.DataFrame, draws: int = DRAWS, seed: int = SEED
) -> list[FalseAlarms]:
    """Simulate comparisons of arms that are the same, for each target and decision.

    Parameters
    ----------
    scores, lesions : `scores.parquet` and `lesions.parquet` of the study
    draws : how many
    seed : of the random numbers

    Returns
    -------
    found
        Empty where no arm has two seeds.
    """
    found = []
    for (decision, target), mine in scores.groupby(["decision", "target"], sort=True):
        same = (lesions["decision"] == decision) & (lesions["target"] == target)
        measure = next(
            m for m in measures(mine, lesions[same]) if (m.cases, m.score) == (WITH, MAIN_SCORE)
        )
        arms = retrained(measure)
        if arms:
            rng = np.random.default_rng(seed)
            found.append(_simulated(str(target), str(decision), arms, draws, rng))
    return found


@dataclass(frozen=True)
class Retrained:
    """What training an arm again changes.

    Attributes
    ----------
    folds : of each patient
    seeds : how many
    networks : by how much a network differs from the mean of its arm and fold, (seeds, folds)
    rest : by how much a patient's score differs beyond that, (seeds, patients)
    """

    folds: tuple[int, ...]
    seeds: int
    networks: Array
    rest: Array

    @property
    def network_variance(self) -> float:
        """Variance of what networks change in all patients alike, less what chance makes of it."""
        _, patients = np.unique(self.folds, return_counts=True)
        chance = np.mean(self.rest**2) * np.mean(1 / patients)
        return float(max(0.0, np.mean(self.networks**2) - chance))


def retrained(measure: Measure) -> list[Retrained]:
    """What training again changes, of each arm with two seeds or more and two patients or more."""
    found = []
    for _, values in measure.values.groupby("arm", sort=True):
        wide = values.pivot_table(index=["patient", "fold"], columns="seed", values="value")
        wide = wide.dropna()
        seeds = len(wide.columns)
        if seeds < 2 or len(wide) < 2:
            continue
        folds = tuple(int(fold) for fold in wide.index.get_level_values("fold"))
        away = wide.to_numpy(float).T
        away = away - away.mean(axis=0)
        members = [np.flatnonzero(np.equal(folds, fold)) for fold in sorted(set(folds))]
        networks = np.stack([away[:, mine].mean(axis=1) for mine in members], axis=1)
        rest = away.copy()
        for fold, mine in enumerate(members):
            rest[:, mine] -= networks[:, [fold]]
            if len(mine) > 1:
                rest[:, mine] *= np.sqrt(len(mine) / (len(mine) - 1))
        # what deviates from the mean of few deviates too little
        larger = np.sqrt(seeds / (seeds - 1))
        found.append(Retrained(folds, seeds, larger * networks, larger * rest))
    return found


def _simulated(
    target: str, decision: str, arms: Sequence[Retrained], draws: int, rng: np.random.Generator
) -> FalseAlarms:
    network_sd = float(np.sqrt(np.mean([arm.network_variance for arm in arms])))
    largest = max(arms, key=lambda arm: (len(arm.folds), arm.seeds))
    called = patients_only = 0
    for first in range(0, draws, PART):
        count = min(PART, draws - first)
        arm = arms[(first // PART) % len(arms)]
        sides = _two_sides(arm, network_sd, count, rng)
        flips = sign_flips((sides[1] - sides[0]).mean(axis=-2), FLIPS)
        trainings = over_trainings(sides[0], sides[1], arm.folds).p
        patients_only += int((flips < ALPHA).sum())
        called += int((np.maximum(flips, trainings) < ALPHA).sum())
    interval = stats.binomtest(called, draws).proportion_ci()
    return FalseAlarms(
        target,
        decision,
        len(largest.folds),
        len(set(largest.folds)),
        largest.seeds,
        draws,
        called / draws,
        float(interval.low),
        float(interval.high),
        patients_only / draws,
        network_sd,
        float(np.sqrt(np.mean([np.mean(arm.rest**2) for arm in arms]))),
    )


def _two_sides(
    arm: Retrained, network_sd: float, draws: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Scores of an arm that is trained twice, less what each patient has in any case.

    Networks differ by normal deviates. Patients are resampled within their fold, each with what
    one of the trainings changed there.

    Returns
    -------
    first, second
        (draws, seeds, patients)
    """
    folds = np.asarray(arm.folds)
    people = np.empty((draws, 1, len(folds)), int)
    for fold in set(arm.folds):
        mine = np.flatnonzero(folds == fold)
        people[:, 0, mine] = rng.choice(mine, (draws, len(mine)))
    place = np.searchsorted(sorted(set(arm.folds)), folds)

    def side() -> Array:
        networks = rng.standard_normal((draws, arm.seeds, len(set(arm.folds))))
        training = rng.integers(arm.seeds, size=(draws, arm.seeds, len(folds)))
        return np.asarray(network_sd * networks[:, :, place] + arm.rest[training, people])

    return side(), side()
