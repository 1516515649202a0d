"""Arms compared with the arm of reference, patient by patient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum

import numpy as np
import pandas as pd

from backsplit.errors import Code, RunError, shown
from backsplit.study.measures import UNITS, WITHOUT, Measure, measures
from backsplit.study.statistics import (
    ALPHA,
    EXACT,
    Spread,
    bootstrap_interval,
    holm,
    over_trainings,
    sign_flips,
)
from backsplit.volume import Array


class Verdict(StrEnum):
    """What a comparison says."""

    BETTER = "better"
    WORSE = "worse"
    EQUAL = "equal in every patient"
    PATIENTS = "no difference shown: not enough patients to tell"
    TRAININGS = "no difference shown: trainings of the same arm differ as much"
    ONE_TRAINING = "no difference shown: one training of each cannot tell"


@dataclass(frozen=True)
class Comparison:
    """One score of one arm against that of the reference.

    Attributes
    ----------
    arm, reference : names of the arms
    target, decision : which lesions, and how voxels became lesions
    cases, score : what is compared, as in `measures`
    patients, items : how many, and how many cases or lesions of theirs
    folds, seeds : networks of each arm: a seed for each fold
    both_empty : cases without the target in which no network of either arm predicted a voxel
    reference_mean, arm_mean : over patients; of a patient over cases and seeds
    difference : of arm less reference
    low, high : 95 % bootstrap interval over patients, for these networks
    p_patients : by sign flips over patients, for these networks
    trainings_low, trainings_high, p_trainings : the same over patients and trainings; NaN with one
        network per arm
    p_holm : the larger one of both p, corrected for the number of arms
    seed_low, seed_high : least and largest difference of a single seed
    detectable : the smallest true difference that this many patients and trainings find in 80 % of
        repeats
    better, worse, equal : patients in whom the arm is
    verdict : in words
    """

    arm: str
    reference: str
    target: str
    decision: str
    cases: str
    score: str
    patients: int
    items: int
    folds: int
    seeds: int
    both_empty: int
    reference_mean: float
    arm_mean: float
    difference: float
    low: float
    high: float
    p_patients: float
    trainings_low: float
    trainings_high: float
    p_trainings: float
    p_holm: float
    seed_low: float
    seed_high: float
    detectable: float
    better: int
    worse: int
    equal: int
    verdict: str


@dataclass(frozen=True)
class Paired:
    """Scores of the same patients by networks of two arms.

    Attributes
    ----------
    seeds : of both arms
    patients, folds : of each patient its name, and the fold whose networks scored it
    items : cases or lesions that the scores are means of
    empty : of these, how many have the score 0 by every network
    first, second : of the reference and of the arm, (seeds, patients)
    """

    seeds: tuple[int, ...]
    patients: tuple[str, ...]
    folds: tuple[int, ...]
    items: int
    empty: int
    first: Array
    second: Array

    @property
    def differences(self) -> Array:
        """Of each patient, over seeds: arm less reference."""
        return np.asarray((self.second - self.first).mean(axis=0))


@dataclass(frozen=True)
class Comparisons:
    """All comparisons of a study.

    Attributes
    ----------
    arms : one row per `Comparison`
    patients : one row per patient: columns of the comparison, `patient`, `fold`, `reference_value`,
        `arm_value`, `difference`, `result` (better, worse, equal)
    seeds : one row per seed: `reference_mean`, `arm_mean`, `difference` over patients
    left_out : cases that not every network of both arms has scored, which are in no comparison of
        them: `arm`, `target`, `decision`, `case`
    """

    arms: pd.DataFrame
    patients: pd.DataFrame
    seeds: pd.DataFrame
    left_out: pd.DataFrame


KEYS = ("arm", "target", "decision", "cases", "score")


def compare(scores: pd.DataFrame, lesions: pd.DataFrame, reference: str) -> Comparisons:
    """Compare every arm with the reference, patient by patient.

    Parameters
    ----------
    scores, lesions : `scores.parquet` and `lesions.parquet` of the study
    reference : name of an arm

    Raises
    ------
    RunError
        TABLE_INVALID when the reference, or any other arm, is not in the table.
    """
    arms = list(dict.fromkeys(scores["arm"]))
    others = [arm for arm in arms if arm != reference]
    if reference not in arms or not others:
        raise RunError(
            Code.TABLE_INVALID,
            f"the scores hold {shown(', '.join(arms)) or 'no arm'}: nothing can be compared with "
            f"{shown(reference)!r}",
            "a study needs this arm and another one: name both in `study.arms`, and run it again",
        )
    rows: list[Comparison] = []
    people: list[dict[str, object]] = []
    trainings: list[dict[str, object]] = []
    for (decision, target), mine in scores.groupby(["decision", "target"], sort=True):
        same = (lesions["decision"] == decision) & (lesions["target"] == target)
        for measure in measures(mine, lesions[same]):
            pairs = {arm: pair for arm in others if (pair := paired(measure, reference, arm))}
            key = {"target": str(target), "decision": str(decision)}
            key |= {"cases": measure.cases, "score": measure.score}
            rows += _family(pairs, measure, reference, key)
            for arm, pair in pairs.items():
                people += _patients(pair, measure, {"arm": arm, **key})
                trainings += _trainings(pair, {"arm": arm, **key})
    return Comparisons(
        pd.DataFrame([asdict(row) for row in rows], columns=[f.name for f in fields(Comparison)]),
        pd.DataFrame(people, columns=[*KEYS, *PATIENT]),
        pd.DataFrame(trainings, columns=[*KEYS, *TRAINING]),
        pd.DataFrame(_left_out(scores, reference, others), columns=LEFT_OUT),
    )


def paired(measure: Measure, first: str, second: str) -> Paired | None:
    """Put the scores of two arms side by side; None where they have no patient in common.

    What not every network of both arms has scored is left out.
    """
    values = measure.values[measure.values["arm"].isin([first, second])]
    seeds = sorted(
        set(values.loc[values["arm"] == first, "seed"])
        & set(values.loc[values["arm"] == second, "seed"])
    )
    values = values[values["seed"].isin(seeds)]
    wide = values.pivot(index=list(UNITS), columns=["arm", "seed"], values="value").dropna()
    if not len(wide):
        return None
    by_patient = wide.groupby(level="patient", sort=True).mean()
    folds = wide.reset_index("fold").groupby(level="patient", sort=True)["fold"].min()
    sides = [
        by_patient[[(arm, seed) for seed in seeds]].to_numpy(float).T.copy()
        for arm in (first, second)
    ]
    return Paired(
        tuple(int(seed) for seed in seeds),
        tuple(str(patient) for patient in by_patient.index),
        tuple(int(fold) for fold in folds.to_numpy().reshape(-1)),
        len(wide),
        int((wide == 0).all(axis=1).sum()),
        sides[0],
        sides[1],
    )


def _family(
    pairs: Mapping[str, Paired], measure: Measure, reference: str, key: Mapping[str, str]
) -> list[Comparison]:
    """Compare all arms by one measure; their p-values are corrected for each other."""
    alpha = ALPHA / max(1, len(pairs))
    found = [
        _compared(pair, measure, alpha, {"arm": arm, "reference": reference, **key})
        for arm, pair in pairs.items()
    ]
    corrected = holm([float(np.maximum(row.p_patients, row.p_trainings)) for row in found])
    of_patients = holm([row.p_patients for row in found])
    return [
        replace(row, p_holm=float(p), verdict=_verdict(row, float(p), float(alone), measure))
        for row, p, alone in zip(found, corrected, of_patients, strict=True)
    ]


def _compared(pair: Paired, measure: Measure, alpha: float, names: Mapping[str, str]) -> Comparison:
    apart = pair.differences
    trainings = over_trainings(pair.first, pair.second, pair.folds)
    low, high = bootstrap_interval(apart)
    trainings_low, trainings_high = trainings.interval()
    single = (pair.second - pair.first).mean(axis=1)
    gain = apart if measure.larger_is_better else -apart
    return Comparison(
        **names,
        patients=len(pair.patients),
        items=pair.items,
        folds=len(set(pair.folds)),
        seeds=len(pair.seeds),
        both_empty=pair.empty if measure.cases == WITHOUT else 0,
        reference_mean=float(pair.first.mean()),
        arm_mean=float(pair.second.mean()),
        difference=float(apart.mean()),
        low=float(low),
        high=float(high),
        p_patients=float(sign_flips(apart)),
        trainings_low=float(trainings_low),
        trainings_high=float(trainings_high),
        p_trainings=float(trainings.p),
        p_holm=np.nan,
        seed_low=float(single.min()),
        seed_high=float(single.max()),
        detectable=_detectable(pair, trainings, alpha),
        better=int((gain > 0).sum()),
        worse=int((gain < 0).sum()),
        equal=int((gain == 0).sum()),
        verdict="",
    )


def _detectable(pair: Paired, trainings: Spread, alpha: float) -> float:
    """What would be found; infinite where sign flips of so few patients reach no such p."""
    patients = len(pair.patients)
    if patients <= EXACT and 2.0 ** (1 - patients) > alpha:
        return np.inf
    return float(trainings.detectable(alpha)) if trainings.error > 0 else np.nan


def _verdict(row: Comparison, p: float, of_patients: float, measure: Measure) -> Verdict:
    """What both p say, each corrected for the number of arms."""
    if row.equal == row.patients:
        return Verdict.EQUAL
    if p < ALPHA:
        return Verdict.BETTER if (row.difference > 0) == measure.larger_is_better else Verdict.WORSE
    if of_patients >= ALPHA:
        return Verdict.PATIENTS
    return Verdict.ONE_TRAINING if np.isnan(row.p_trainings) else Verdict.TRAININGS


PATIENT = ("patient", "fold", "reference_value", "arm_value", "difference", "result")
TRAINING = ("seed", "reference_mean", "arm_mean", "difference")
LEFT_OUT = ("arm", "target", "decision", "case")


def _patients(
    pair: Paired, measure: Measure, key: Mapping[str, str]
) -> Iterator[dict[str, object]]:
    first, second = pair.first.mean(axis=0), pair.second.mean(axis=0)
    people = zip(pair.patients, pair.folds, first, second, pair.differences, strict=True)
    for patient, fold, before, after, apart in people:
        gain = apart if measure.larger_is_better else -apart
        result = "better" if gain > 0 else "worse" if gain < 0 else "equal"
        cells = (patient, fold, float(before), float(after), float(apart), result)
        yield {**key, **dict(zip(PATIENT, cells, strict=True))}


def _trainings(pair: Paired, key: Mapping[str, str]) -> Iterator[dict[str, object]]:
    sides = zip(pair.seeds, pair.first.mean(axis=1), pair.second.mean(axis=1), strict=True)
    for seed, before, after in sides:
        cells = (seed, float(before), float(after), float(after - before))
        yield {**key, **dict(zip(TRAINING, cells, strict=True))}


def _left_out(
    scores: pd.DataFrame, reference: str, arms: Sequence[str]
) -> Iterator[dict[str, object]]:
    """Cases that one network of either arm has not scored."""
    for (decision, target), mine in scores.groupby(["decision", "target"], sort=True):
        seeds = {arm: set(rows["seed"]) for arm, rows in mine.groupby("arm")}
        scored = {key: set(rows["case"]) for key, rows in mine.groupby(["arm", "seed"])}
        every = set(mine["case"])
        for arm in arms:
            common = seeds.get(reference, set()) & seeds.get(arm, set())
            whole = [scored[name, seed] for name in (reference, arm) for seed in common]
            for case in sorted(every - set.intersection(*whole) if whole else every):
                yield dict(zip(LEFT_OUT, (arm, target, decision, case), strict=True))
