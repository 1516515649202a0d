"""Measures as arrays of cases and structures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from backsplit.judge.cube import Cube, counts, median, spread, where

TABLE = pd.DataFrame(
    [
        ("b", "labels", "background", 900, False, 9.0),
        ("b", "labels", "liver", 10, False, 1.0),
        ("b", "labels", "spleen", 5, True, 0.5),
        ("a", "labels", "liver", 0, False, 0.0),
        ("c", "labels", "spleen", 7, False, 0.7),
    ],
    columns=["case", "source", "structure", "voxels", "touches_border", "volume_ml"],
)
NAN = float("nan")


@pytest.fixture
def cube():
    return Cube.of(TABLE)


def test_cases_and_structures_come_in_the_order_of_the_table(cube):
    assert (cube.cases, cube.structures) == (("b", "a", "c"), ("liver", "spleen"))
    assert cube.columns == ("voxels", "touches_border", "volume_ml")
    expected = [[1.0, 0.5], [0.0, NAN], [NAN, 0.7]]
    np.testing.assert_array_equal(cube["volume_ml"], expected)
    several = cube.several(["volume_ml", "voxels"])
    assert several.shape == (3, 2, 2) and several[0, 1].tolist() == [0.5, 5]


def test_there_needs_a_voxel_and_whole_no_border(cube):
    assert cube.there.tolist() == [[True, True], [False, False], [False, True]]
    assert cube.whole.tolist() == [[True, False], [False, False], [False, True]]


def test_records_are_of_what_is_there(cube):
    assert dict(cube.records(["volume_ml", "voxels"])) == {
        "b": {"liver": {"volume_ml": 1.0, "voxels": 10}, "spleen": {"volume_ml": 0.5, "voxels": 5}},
        "a": {},
        "c": {"spleen": {"volume_ml": 0.7, "voxels": 7}},
    }


def test_some_cases_and_cases_in_another_order(cube):
    some = cube.of_cases(["c", "b", "z"])
    assert some.cases == ("b", "c") and some["volume_ml"][:, 1].tolist() == [0.5, 0.7]
    other = cube.aligned(["c", "z", "b"])
    assert other.cases == ("c", "z", "b")
    np.testing.assert_array_equal(other["volume_ml"], [[NAN, 0.7], [NAN, NAN], [1.0, 0.5]])


def test_what_is_not_chosen_is_nan():
    chosen = np.array([[True, False], [False, True]])
    values = np.arange(4.0).reshape(2, 2)
    np.testing.assert_array_equal(where(chosen, values), [[0, NAN], [NAN, 3]])
    wide = np.stack([values, values + 10], axis=2)
    np.testing.assert_array_equal(where(chosen, wide)[0], [[0, 10], [NAN, NAN]])


def test_statistics_over_cases_leave_nan_out():
    rng = np.random.default_rng(0)
    values = np.where(rng.random((25, 3)) < 0.3, NAN, rng.normal(size=(25, 3)))
    np.testing.assert_allclose(median(values), np.nanmedian(values, axis=0))
    expected = stats.median_abs_deviation(values, axis=0, nan_policy="omit") * 1.4826
    np.testing.assert_allclose(spread(values, median(values)), expected)
    np.testing.assert_array_equal(counts(values), np.isfinite(values).sum(axis=0))
