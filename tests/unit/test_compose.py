"""Layers to one map: held against a slow, obvious reading of the rules, on random volumes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backsplit.compose.layers import Layer, compose
from backsplit.compose.stage import assert_promises
from backsplit.errors import CaseError, Code
from backsplit.scheme import Scheme
from backsplit.volume import read_grid, write_labels
from conftest import save

SHAPE = (3, 4, 5)
layer_lists = st.lists(
    hnp.arrays(np.uint8, SHAPE, elements=st.integers(0, 5)), min_size=1, max_size=5
)


def obvious(arrays):
    """Voxel by voxel: the first layer that says something wins; note who lost to whom."""
    out = np.zeros(SHAPE, np.uint8)
    lost: Counter[tuple[str, int, str, int]] = Counter()
    for index in np.ndindex(SHAPE):
        winner = None
        for number, array in enumerate(arrays):
            value = int(array[index])
            if not value:
                continue
            if winner is None:
                winner = (f"layer{number}", value)
                out[index] = value
            elif value != winner[1]:
                lost[(f"layer{number}", value, *winner)] += 1
    return out, lost


@settings(max_examples=200, deadline=None)
@given(layer_lists)
def test_equals_the_obvious_rule_and_the_account_balances(arrays):
    layers = [Layer(f"layer{i}", a) for i, a in enumerate(arrays)]
    composed = compose(layers, SHAPE, np.uint8)
    expected, lost = obvious(arrays)
    np.testing.assert_array_equal(composed.labels, expected)
    found = {
        (o.loser_layer, o.loser, o.winner_layer, o.winner): o.voxels for o in composed.overruled
    }
    assert found == dict(lost)
    for account, array in zip(composed.accounts, arrays, strict=True):
        assert account.claimed == np.count_nonzero(array)
        assert account.claimed == account.kept + account.agreed + account.overruled
    assert sum(a.kept for a in composed.accounts) == np.count_nonzero(composed.labels)
    assert sum(a.overruled for a in composed.accounts) == sum(lost.values())


@settings(max_examples=100, deadline=None)
@given(layer_lists)
def test_composing_twice_changes_nothing(arrays):
    layers = [Layer(str(i), a) for i, a in enumerate(arrays)]
    once = compose(layers, SHAPE, np.uint8).labels
    again = compose([Layer("all", once), *layers], SHAPE, np.uint8).labels
    np.testing.assert_array_equal(once, again)


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.uint8, SHAPE, elements=st.integers(0, 5)), st.permutations(range(4)))
def test_order_of_layers_that_do_not_overlap_does_not_matter(labels, order):
    part = np.arange(labels.size).reshape(SHAPE) % 4
    layers = [Layer(str(i), np.where(part == i, labels, 0)) for i in range(4)]
    shuffled = compose([layers[i] for i in order], SHAPE, np.uint8)
    np.testing.assert_array_equal(shuffled.labels, labels)
    assert not shuffled.overruled


def test_ids_beyond_255_and_layer_names_survive():
    low = np.full(SHAPE, 700, np.uint16)
    high = np.zeros(SHAPE, np.uint16)
    high[0] = 40000
    composed = compose([Layer("targets", high), Layer("organs", low)], SHAPE, np.uint16)
    (lost,) = composed.overruled
    assert (lost.loser, lost.winner, lost.winner_layer) == (700, 40000, "targets")
    assert lost.voxels == high[0].size


SCHEME = Scheme({"tumor": 7}, ("background", "tumor", "liver"), {"organs": {"liver": "liver"}})


def _written(tmp_path: Path, labels: np.ndarray, origin=(0.0, 0.0, 0.0)):
    image = save(tmp_path / "image.nii.gz", np.zeros(SHAPE, np.int16), origin=origin)
    path = tmp_path / "labels.nii.gz"
    write_labels(path, labels, read_grid(image))
    return path, read_grid(image)


def test_promises_hold_for_a_good_file_and_break_for_each_bad_one(tmp_path):
    lesion = np.zeros(SHAPE, np.uint8)
    lesion[1, 1:3, 1:3] = 1
    good = np.where(lesion == 1, 1, 2).astype(np.uint8)
    path, grid = _written(tmp_path, good)
    assert_promises(path, grid, lesion, SCHEME)
    broken = {}
    broken["lost"] = good.copy()
    broken["lost"][1, 1, 1] = 2
    broken["added"] = good.copy()
    broken["added"][0, 0, 0] = 1
    broken["moved"] = np.roll(good, 1, axis=2)
    broken["nameless"] = good.copy()
    broken["nameless"][0, 0, 0] = 4
    for labels in broken.values():
        path, grid = _written(tmp_path, labels)
        with pytest.raises(CaseError) as caught:
            assert_promises(path, grid, lesion, SCHEME)
        assert caught.value.code is Code.PROMISE_BROKEN
    path, grid = _written(tmp_path, good)
    _, shifted = _written(tmp_path / "other", good, origin=(0.5, 0, 0))
    with pytest.raises(CaseError):
        assert_promises(path, shifted, lesion, SCHEME)
    with pytest.raises(CaseError):
        assert_promises(path, grid, None, SCHEME)  # the table says: no lesion
