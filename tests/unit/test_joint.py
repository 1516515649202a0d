"""Many measures at once: distances against textbook ones, and false alarms as promised."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import ledoit_wolf_shrinkage

from backsplit.judge.cube import median, quantile
from backsplit.judge.joint import by_chance, combined, distances

FLOORS = np.full(6, 1e-3)


def correlated(rng: np.random.Generator, cases: int, width: int = 6) -> np.ndarray:
    """Normal values, most of whose variance is common to all."""
    common = rng.normal(size=(cases, 1))
    return 3 * common + rng.normal(size=(cases, width)) + np.arange(width) * 10


def test_a_distance_is_mahalanobis_to_all_other_cases():
    values = correlated(np.random.default_rng(0), 40)
    squares, z = distances(values, FLOORS)
    clipped = np.clip(z, -3, 3)
    shrunk = ledoit_wolf_shrinkage(clipped, assume_centered=True)
    for case in (0, 7, 39):
        others = np.delete(clipped, case, axis=0)
        moments = others.T @ others / len(others)
        target = (clipped**2).sum() / clipped.size * np.eye(6)
        inverse = np.linalg.inv((1 - shrunk) * moments + shrunk * target)
        assert squares[case] == pytest.approx(mahalanobis(z[case], np.zeros(6), inverse) ** 2)


def test_an_unusual_combination_of_ordinary_values_is_unlikely():
    values = correlated(np.random.default_rng(1), 60)
    values[0] = values.mean(axis=0) + 3 * np.array([1, -1, 1, -1, 1, -1])
    squares, z = distances(values, FLOORS)
    chances = by_chance(squares, 6)
    assert np.abs(z[0]).max() < 1.5 and chances[0] < 1e-4 and chances[1:].min() > 1e-3


@pytest.mark.parametrize("cases", [20, 40, 200, 1000])
def test_ordinary_cases_are_as_unlikely_as_chance_has_it(cases):
    rng = np.random.default_rng(cases)
    found = [by_chance(distances(correlated(rng, cases), FLOORS)[0], 6) for _ in range(200)]
    assert np.mean(np.array(found) < 0.01) <= 0.02
    together = combined(np.stack(found[:198], axis=1).reshape(cases, 66, 3))
    assert np.mean(together < 0.01) <= 0.02


def test_chances_are_combined_as_fisher_does_on_the_scale_of_the_cases():
    rng = np.random.default_rng(5)
    chances = rng.random((40, 4, 3)) ** 1.5
    chances[rng.random(chances.shape) < 0.2] = np.nan
    chances[:15, 1] = np.nan  # nobody knows anything of it
    chances[:, 2, :2] = np.nan  # one kind says it alone
    found = combined(chances)
    for structure in range(4):
        mine = chances[:, structure]
        kinds = np.isfinite(mine).sum(axis=1)
        sums = np.array([-2 * np.log(row[np.isfinite(row)]).sum() for row in mine])
        ratio = (sums / stats.chi2.isf(0.25, 2 * np.maximum(kinds, 1)))[kinds > 0]
        scale = max(np.quantile(ratio, 0.75), 1)
        expected = np.where(kinds > 1, stats.chi2.sf(sums / scale, 2 * kinds), np.nan)
        np.testing.assert_allclose(found[:, structure], expected)
    assert np.isnan(found[:, 2]).all() and np.isnan(found[:15, 1]).all()


def test_few_cases_say_little():
    """What is unlikely among sixty cases, as above, is not among ten."""
    values = correlated(np.random.default_rng(1), 60)[:10]
    values[0] = values.mean(axis=0) + 3 * np.array([1, -1, 1, -1, 1, -1])
    assert by_chance(distances(values, FLOORS)[0], 6)[0] > 0.01


@pytest.mark.filterwarnings("error")
def test_a_single_deviation_stands_out_alone():
    chances = by_chance(np.array([0.0] * 11 + [0.5]), 4)
    assert (chances[:-1] == 1).all() and chances[-1] == 0


def test_quantiles_over_cases_are_numpy_s():
    rng = np.random.default_rng(3)
    values = np.where(rng.random((30, 4, 5)) < 0.3, np.nan, rng.normal(size=(30, 4, 5)))
    values[:, 0, 0] = np.nan
    values[1:, 1, 1], values[0, 1, 1] = np.nan, 7.0
    for share in (0.25, 0.5, 0.75):
        with np.errstate(all="ignore"):
            expected = np.array(
                [
                    [np.nanquantile(values[:, i, j], share) if (i, j) != (0, 0) else np.nan
                     for j in range(5)] for i in range(4)
                ]
            )  # fmt: skip
        np.testing.assert_allclose(quantile(values, share), expected)
    assert np.isnan(median(values)[0, 0]) and median(values)[1, 1] == 7.0
