"""Walking in pieces, of any size, sees every voxel once: held against NumPy on the whole."""

from __future__ import annotations

import numpy as np
import pytest

from backsplit.volume import Grid, LabelMap
from backsplit.volume import pieces as module
from backsplit.volume.pieces import apply_table, count_values, pieces, places_of, values_in

COUNT = 60


@pytest.fixture(params=[1, 7, 8, 59, COUNT, 1000])
def piece(request, monkeypatch):
    monkeypatch.setattr(module, "PIECE", request.param)
    return request.param


def values(kind, highest, seed=0):
    found = np.random.default_rng(seed).integers(0, highest + 1, COUNT).astype(kind)
    found[20:40] = 0  # whole pieces of nothing
    return found


def test_each_voxel_is_in_one_piece_and_no_piece_is_too_long(piece):
    found = [np.arange(COUNT)[at] for at in pieces(COUNT)]
    np.testing.assert_array_equal(np.concatenate(found), np.arange(COUNT))
    assert max(map(len, found)) == min(piece, COUNT)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize(("highest", "length"), [(9, 10), (9, 40), (255, 256), (255, 300)])
def test_counts_are_bincount_s(piece, kind, highest, length):
    array = values(kind, highest).reshape(3, 4, 5)
    expected = np.bincount(array.ravel(), minlength=length)
    np.testing.assert_array_equal(count_values(array, length), expected)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, ">u2"])
@pytest.mark.parametrize("highest", [0, 1, 9, 255])
def test_values_are_unique_s_and_counted_as_far_as_the_largest(piece, kind, highest):
    array = values(kind, highest).reshape(3, 4, 5)[:, ::2]
    held, counts = np.unique(array, return_counts=True)
    assert values_in(array) == [value for value in held.tolist() if value]
    assert len(count_values(array)) == int(held.max()) + 1
    grid = Grid((5, 2, 3), (1, 1, 1), (0, 0, 0), tuple(np.eye(3).ravel()))
    labels = LabelMap(array, grid)
    np.testing.assert_array_equal(labels.counts[held], counts)
    assert labels.values == values_in(array)
    assert labels.voxels_of({1, int(held.max()), 300}) == np.isin(array, [1, held.max()]).sum()


def test_an_array_of_nothing_has_no_values():
    assert values_in(np.zeros((0, 3, 4), np.uint8)) == []
    assert count_values(np.zeros(0, np.uint8)).tolist() == [0]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_places_are_flatnonzero_s(piece, kind):
    array = values(kind, 3).reshape(3, 4, 5)
    np.testing.assert_array_equal(places_of(array), np.flatnonzero(array))


def test_an_empty_array_has_no_places(piece):
    assert places_of(np.zeros((3, 4, 5), np.uint8)).tolist() == []


@pytest.mark.parametrize("of", [np.uint8, np.uint16])
@pytest.mark.parametrize("to", [np.uint8, np.uint16])
def test_a_table_is_a_lookup(of, to):
    table = np.random.default_rng(1).integers(0, 250, 200).astype(to)
    array = values(of, 199)
    found = apply_table(table, array)
    np.testing.assert_array_equal(found, table[array])
    assert found.dtype == to
