"""Rims and false alarms by structure, held against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from backsplit.study.surroundings import by_structure, surroundings
from backsplit.train.scores import untouched
from backsplit.volume import Grid
from support.examples import examples

NAMES = ("background", "cyst", "tumour", "liver", "bowel", "ignore")
SPACING = (1.0, 2.0, 3.0)


def grid_of(shape):
    return Grid(shape[::-1], SPACING, (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))


def rows_of(labels, predicted=None, rim_mm=5.0):
    found = surroundings("a", labels, predicted, grid_of(labels.shape), NAMES, 2, rim_mm)
    return {row.structure: row for row in found}


@examples(60)
@given(seed=st.integers(0, 2**32 - 1), rim_mm=st.sampled_from([1.0, 3.5, 5.0]))
def test_every_voxel_is_told_once_and_to_the_structure_that_it_is_in(seed, rim_mm):
    random = np.random.default_rng(seed)
    labels = random.choice(6, (7, 8, 9), p=[0.4, 0.02, 0.02, 0.3, 0.2, 0.06]).astype(np.uint8)
    predicted = random.choice(5, labels.shape, p=[0.8, 0.1, 0.05, 0.03, 0.02]).astype(np.uint8)
    rows = rows_of(labels, predicted, rim_mm)
    lesion = np.isin(labels, (1, 2))
    claimed = np.isin(predicted, (1, 2))
    if lesion.any():
        distance = ndimage.distance_transform_edt(~lesion, sampling=SPACING[::-1])
    else:
        distance = np.full(labels.shape, np.inf)
    rim = ~lesion & (distance <= max(rim_mm, 3.0))  # a voxel at least
    parts, count = ndimage.label(claimed, ndimage.generate_binary_structure(3, 2))
    false = np.isin(parts, [n for n in range(1, count + 1) if not lesion[parts == n].any()])
    spill = claimed & ~false & ~lesion
    mm3 = float(np.prod(SPACING))
    assert set(rows) == {"background", "liver", "bowel", "ignore"}
    for name, row in rows.items():
        mine = labels == NAMES.index(name)
        assert row.volume_mm3 == pytest.approx(mm3 * mine.sum())
        assert row.rim_mm3 == pytest.approx(mm3 * (mine & rim).sum())
        assert row.alarm_mm3 == pytest.approx(mm3 * (mine & false).sum())
        assert row.spill_mm3 == pytest.approx(mm3 * (mine & spill).sum())
    total = sum(row.alarm_mm3 for row in rows.values())
    assert total == pytest.approx(mm3 * untouched(claimed, lesion))  # autoPET's false positives


def test_sums_over_cases_are_shares_of_all_lesions():
    labels = np.zeros((5, 6, 12), np.uint8)
    labels[:, :, :4], labels[:, :, 8:] = 3, 4
    labels[2, 2, 3], labels[2, 2, 8] = 1, 2
    predicted = np.zeros_like(labels)
    predicted[2, 2, 2:4] = 1  # spills into the liver
    predicted[0, 0, 10:12] = 2  # a false alarm in the bowel
    first = surroundings("a", labels, predicted, grid_of(labels.shape), NAMES, 2, 1.0)
    second = surroundings("b", labels, None, grid_of(labels.shape), NAMES, 2, 1.0)
    table = by_structure([*first, *second]).set_index("structure")
    assert table["rim_share"].sum() == pytest.approx(1)
    counted = {"liver": 11, "bowel": 11, "background": 12}  # within 3 mm, by hand
    for name, voxels in counted.items():
        assert table.loc[name, "rim_share"] == pytest.approx(voxels / 34)
    assert dict(table["alarm_mm3"]) == {"background": 0, "liver": 0, "bowel": 12, "ignore": 0}
    assert table.loc["bowel", "alarm_share"] == 1 and table.loc["bowel", "alarm_cases"] == 1
    bowel_ml = (labels == 4).sum() * 6 / 1000  # of the case with a prediction alone
    assert table.loc["bowel", "alarm_density"] == pytest.approx(12 / bowel_ml)
    assert table.loc["liver", "spill_mm3"] == 6 and table.loc["liver", "spill_share"] == 1
    assert np.isnan(table.loc["ignore", "alarm_density"])


def test_without_predictions_or_lesions_nothing_is_claimed():
    labels = np.full((4, 4, 4), 3, np.uint8)
    table = by_structure(
        surroundings("a", labels, None, grid_of(labels.shape), NAMES, 2)
    ).set_index("structure")
    assert table[["rim_share", "alarm_mm3", "alarm_share", "spill_mm3"]].isna().all(axis=None)
    assert table.loc["liver", "volume_ml"] == pytest.approx(64 * 6 / 1000)
