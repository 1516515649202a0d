"""Tests and intervals of the study against SciPy, against brute force, and by simulation."""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np
import pytest
from scipy import stats

from backsplit.study.statistics import (
    ALPHA,
    bootstrap_interval,
    holm,
    over_patients,
    over_trainings,
    sign_flips,
)


@pytest.mark.parametrize("patients", [2, 5, 9])
def test_few_patients_have_the_exact_p_of_scipy(patients):
    differences = np.round(np.random.default_rng(patients).normal(0.1, 0.3, (6, patients)), 1)
    expected = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        axis=-1,
        n_resamples=np.inf,
    )
    assert sign_flips(differences) == pytest.approx(np.minimum(expected.pvalue, 1))


def test_many_patients_have_about_the_p_of_scipy():
    differences = np.random.default_rng(0).normal(0.05, 0.3, 40)
    expected = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        random_state=1,
    )
    assert sign_flips(differences) == pytest.approx(expected.pvalue, abs=0.02)
    assert sign_flips(differences) == sign_flips(-differences)
    assert sign_flips(np.zeros(40)) == 1


def test_holm_is_the_closed_test_of_bonferroni():
    """Each hypothesis is rejected where every family that holds it is: tried one by one."""
    p = [0.01, 0.04, 0.012, 0.5, 0.04, np.nan]
    known = range(5)
    families = list(chain.from_iterable(combinations(known, n) for n in range(1, 6)))
    expected = [
        max(min(1, len(f) * min(p[i] for i in f)) for f in families if mine in f) for mine in known
    ]
    assert holm(p)[:5] == pytest.approx(expected)
    assert np.isnan(holm(p)[5])


@pytest.mark.parametrize(("patients", "draw"), [(10, "normal"), (25, "dice"), (60, "dice")])
def test_the_interval_over_patients_covers_what_it_says(patients, draw):
    rng = np.random.default_rng(1)
    size = (800, patients)
    if draw == "normal":
        differences, true = rng.normal(0.1, 0.2, size), 0.1
    else:  # many patients in whom nothing changes, few in whom much does
        differences = np.where(rng.random(size) < 0.5, 0, rng.normal(0.1, 0.2, size))
        true = 0.05
    low, high = bootstrap_interval(differences, resamples=800)
    covered = np.mean((low <= true) & (true <= high))
    assert covered == pytest.approx(0.95, abs=0.025)


def test_the_interval_is_as_wide_as_students_where_that_is_right():
    differences = np.random.default_rng(2).normal(0, 1, (300, 8))
    low, high = bootstrap_interval(differences, resamples=2000)
    student = stats.ttest_1samp(differences, 0, axis=1).confidence_interval()
    assert np.mean(high - low) == pytest.approx(np.mean(student.high - student.low), rel=0.05)


def test_the_power_is_what_simulated_dice_gave_before():
    """+.06 is found with 20 patients in half of all repeats, with 60 in 93 %.

    Dice of patients who differ, a third of them with two cases; two arms with noise of .08 a case
    and gains that vary by .06 between patients; a quarter of the cases has nothing to find.
    """
    rng = np.random.default_rng(3)
    found = {}
    for patients in (20, 60):
        for gain in (0.0, 0.06):
            size = (600, 2, patients)
            hard = rng.beta(1.2, 1.5, (600, 1, patients))
            first = np.clip(hard + rng.normal(0, 0.08, size), 0, 1)
            own = gain + rng.normal(0, 0.06, (600, 1, patients)) + rng.normal(0, 0.08, size)
            apart = np.where(rng.random(size) < 0.25, 0, np.clip(hard + own, 0, 1) - first)
            second_case = rng.random((600, patients)) < 1 / 3
            mean = np.where(second_case, apart.mean(axis=1), apart[:, 0])
            found[patients, gain] = np.mean(sign_flips(mean, 499) < ALPHA)
    assert found[20, 0.0] <= 0.07 and found[60, 0.0] <= 0.07
    assert found[20, 0.06] == pytest.approx(0.5, abs=0.1)
    assert found[60, 0.06] == pytest.approx(0.93, abs=0.05)


def two_arms(rng, repeats, patients, folds, seeds, networks, gain=0.0, interaction=0.03):
    """Scores of two arms, (repeats, seeds, patients), and the fold of each patient."""
    place = np.arange(patients) % folds
    level = rng.beta(1.2, 1.5, (repeats, 1, patients))
    arms = []
    for extra in (0.0, gain):
        shift = rng.normal(0, networks, (repeats, seeds, folds))[:, :, place]
        noise = rng.normal(0, 0.08, (repeats, seeds, patients))
        own = rng.normal(0, interaction, (repeats, 1, patients))
        arms.append(level + extra + own + shift + noise)
    return arms[0], arms[1], place


DESIGNS = [(60, 5, 1), (200, 5, 1), (27, 1, 3), (200, 1, 3), (60, 5, 3), (60, 1, 5), (60, 5, 2)]
"""Patients, folds, seeds."""


@pytest.mark.parametrize("networks", [0.0, 0.01, 0.03])
@pytest.mark.parametrize(("patients", "folds", "seeds"), DESIGNS)
def test_equal_arms_are_rarely_called_different(patients, folds, seeds, networks):
    """At most in 5 % of repeats, whatever training again changes."""
    rng = np.random.default_rng(patients + folds + seeds)
    first, second, place = two_arms(rng, 1500, patients, folds, seeds, networks)
    p = np.maximum(
        over_trainings(first, second, place).p, sign_flips((second - first).mean(axis=1), 499)
    )
    assert np.mean(p < ALPHA) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1500)


def test_patients_alone_would_call_equal_arms_different():
    """Why trainings count: networks that differ by .03 are told apart by 200 patients."""
    first, second, _ = two_arms(np.random.default_rng(0), 500, 200, 1, 3, 0.03)
    assert np.mean(sign_flips((second - first).mean(axis=1), 499) < ALPHA) > 0.3


@pytest.mark.parametrize(("patients", "folds", "seeds"), [(40, 1, 5), (60, 5, 3), (27, 1, 3)])
def test_the_interval_over_trainings_covers_what_it_says(patients, folds, seeds):
    rng = np.random.default_rng(4)
    first, second, place = two_arms(rng, 1500, patients, folds, seeds, 0.02, gain=0.05)
    low, high = over_trainings(first, second, place).interval()
    assert np.mean((low <= 0.05) & (high >= 0.05)) >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / 1500)


@pytest.mark.parametrize(("patients", "folds", "seeds"), [(60, 5, 3), (60, 1, 5)])
def test_the_error_is_that_of_repeated_studies(patients, folds, seeds):
    rng = np.random.default_rng(5)
    first, second, place = two_arms(rng, 2000, patients, folds, seeds, 0.02)
    spread = over_trainings(first, second, place)
    assert np.sqrt(np.mean(spread.error**2)) == pytest.approx(spread.difference.std(), rel=0.06)


@pytest.mark.parametrize(("patients", "folds", "seeds"), [(60, 5, 3), (60, 1, 5)])
def test_what_would_be_found_is_found_in_80_percent(patients, folds, seeds):
    rng = np.random.default_rng(6)
    first, second, place = two_arms(rng, 1000, patients, folds, seeds, 0.02)
    smallest = float(np.mean(over_trainings(first, second, place).detectable()))
    first, second, place = two_arms(rng, 1000, patients, folds, seeds, 0.02, gain=smallest)
    assert np.mean(over_trainings(first, second, place).p < ALPHA) == pytest.approx(0.8, abs=0.06)


def test_networks_that_hardly_differ_leave_the_freedom_of_patients():
    rng = np.random.default_rng(10)
    arms = rng.random((2, 3, 9))
    arms += arms.mean(axis=(1, 2), keepdims=True) - arms.mean(axis=2, keepdims=True)
    arms[:, 0] += 1e-4
    spread = over_trainings(arms[0], arms[1], np.zeros(9, int))
    assert spread.freedom == pytest.approx(8, abs=0.1)


def test_over_patients_is_students_test():
    differences = np.random.default_rng(7).normal(0.1, 0.3, 15)
    expected = stats.ttest_1samp(differences, 0)
    found = over_patients(differences)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval() == pytest.approx(tuple(expected.confidence_interval()))


def test_nothing_is_said_of_one_network_an_arm():
    first, second, place = two_arms(np.random.default_rng(8), 3, 30, 1, 1, 0.0)
    spread = over_trainings(first, second, place)
    assert np.isnan(spread.p).all() and np.isnan(spread.error).all()
    assert np.isnan(spread.detectable()).all()


def test_equal_scores_are_no_difference():
    same = np.random.default_rng(9).random((3, 20))
    spread = over_trainings(same, same, np.zeros(20, int))
    assert (spread.difference, spread.p) == (0, 1)
