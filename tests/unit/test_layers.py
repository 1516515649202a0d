"""Layers to one map: held against a slow, obvious reading of the rules, on random volumes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backsplit.compose.layers import Composer, Layer, Precedence, State
from support.examples import examples

SHAPE = (3, 4, 5)
PAIRS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), max_size=6).map(
    lambda pairs: [(a, b) for a, b in pairs if a != b and (b, a) not in pairs]
)
# values 1..5 claim the label of that number; 6 and 7 are overlaps of masks
CLAIMS = {**{v: (v,) for v in range(1, 6)}, 6: (2, 4), 7: (5, 1, 3)}
VOLUMES = st.lists(hnp.arrays(np.uint8, SHAPE, elements=st.integers(0, 7)), min_size=1, max_size=5)


def obvious(arrays, exceptions):
    """Voxel by voxel, as the module's docstring says it."""
    out = np.zeros(SHAPE, np.uint8)
    lost: Counter[tuple[State, State]] = Counter()
    agreed: Counter[str] = Counter()
    claimed: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    for index in np.ndindex(SHAPE):
        holder = None
        for number, array in enumerate(arrays):
            value = int(array[index])
            if not value:
                continue
            name = f"layer{number}"
            mine = [State(name, label) for label in CLAIMS[value]]
            claimed[name] += len(mine)
            winner = mine[0]
            for other in mine[1:]:
                if (other.label, winner.label) in exceptions:
                    winner = other
            for other in mine:
                if other != winner:
                    lost[other, winner] += 1
            if holder is None:
                holder = winner
            elif holder.label == winner.label:
                agreed[name] += 1
            elif (winner.label, holder.label) in exceptions:
                lost[holder, winner] += 1
                holder = winner
            else:
                lost[winner, holder] += 1
        if holder is not None:
            out[index] = holder.label
            kept[holder.layer] += 1
    return out, lost, claimed, kept, agreed


def composed(arrays, exceptions=(), claims=CLAIMS, shape=SHAPE):
    composer = Composer(shape, Precedence(exceptions))
    for number, array in enumerate(arrays):
        composer.add(Layer(f"layer{number}", array, claims))
    return composer


@examples(300)
@given(VOLUMES, PAIRS)
def test_equals_the_obvious_rule_and_the_account_balances(arrays, exceptions):
    composer = composed(arrays, exceptions)
    out, lost, claimed, kept, agreed = obvious(arrays, exceptions)
    np.testing.assert_array_equal(composer.labels(np.uint8), out)
    assert {(o.loser, o.winner): o.voxels for o in composer.overruled()} == dict(lost)
    for account in composer.accounts():
        name = account.layer
        assert (account.claimed, account.kept, account.agreed) == (
            claimed[name],
            kept[name],
            agreed[name],
        )
        assert account.claimed == account.kept + account.agreed + account.overruled
    assert sum(a.kept for a in composer.accounts()) == np.count_nonzero(out)
    assert sum(a.overruled for a in composer.accounts()) == sum(lost.values())


@examples(100)
@given(VOLUMES, PAIRS)
def test_composing_the_result_again_changes_nothing(arrays, exceptions):
    once = composed(arrays, exceptions).labels(np.uint8)
    again = composed([once, once], exceptions).labels(np.uint8)
    np.testing.assert_array_equal(once, again)


@examples(100)
@given(hnp.arrays(np.uint8, SHAPE, elements=st.integers(0, 5)), st.permutations(range(4)), PAIRS)
def test_order_of_layers_that_do_not_overlap_does_not_matter(labels, order, exceptions):
    part = np.arange(labels.size).reshape(SHAPE) % 4
    arrays = [np.where(part == i, labels, 0).astype(np.uint8) for i in range(4)]
    shuffled = composed([arrays[i] for i in order], exceptions)
    np.testing.assert_array_equal(shuffled.labels(np.uint8), labels)
    assert not shuffled.overruled()


def test_more_than_255_states_and_ids_of_16_bits_survive():
    rng = np.random.default_rng(0)
    shape = (4, 30, 31)
    claims = {v: (v * 100,) for v in range(1, 400)}
    first = rng.integers(0, 400, shape).astype(np.uint16)
    second = rng.integers(0, 200, shape).astype(np.uint8)
    composer = composed([first, second], claims=claims, shape=shape)
    expected = np.where(first > 0, first, second).astype(np.uint32) * 100
    np.testing.assert_array_equal(composer.labels(np.uint16), expected)
    lost = sum(o.voxels for o in composer.overruled())
    assert lost == ((first > 0) & (second > 0) & (first != second)).sum()


def test_a_layer_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="shape"):
        Composer(SHAPE, Precedence()).add(Layer("a", np.zeros((2, 2, 2), np.uint8), {}))


def test_the_largest_loss_comes_first():
    first, second = np.zeros((2, *SHAPE), np.uint8)
    first[0], first[1, 0], first[2, :2] = 1, 2, 3
    second[:] = 5
    lost = composed([first, second]).overruled()
    assert [(o.winner.label, o.voxels) for o in lost] == [(1, 20), (3, 10), (2, 5)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_settling_uses_the_memory_of_the_states_where_it_fits(dtype):
    rng = np.random.default_rng(0)
    layer = rng.integers(0, 6, SHAPE).astype(np.uint8)
    composer = composed([layer])
    states = composer.states
    settled = composer.settle(lambda state: state.label * 40, dtype)
    np.testing.assert_array_equal(settled, layer.astype(dtype) * 40)
    assert settled.dtype == dtype and settled.shape == SHAPE
    assert np.shares_memory(settled, states) == (dtype == np.uint8)
    wide = composed([layer]).settle(lambda state: state.label * 1000, np.uint16)
    np.testing.assert_array_equal(wide, layer.astype(np.uint16) * 1000)


@pytest.mark.parametrize(("dtype", "highest"), [(np.uint8, 255), (np.uint16, 65535)])
def test_the_highest_value_of_a_layer_claims_as_any_other(dtype, highest):
    layer = np.zeros(SHAPE, dtype)
    layer[1], layer[2] = highest, highest - 1
    composer = composed([layer], claims={highest: (3,), highest - 1: (4,), 70000: (5,)})
    assert [set(np.unique(part)) for part in composer.labels(np.uint8)] == [{0}, {3}, {4}]
    assert composer.accounts()[0].claimed == composer.accounts()[0].kept == 40


@pytest.mark.parametrize(("labels", "dtype"), [(255, np.uint8), (256, np.uint16)])
def test_states_take_no_more_memory_than_they_need(labels, dtype):
    layer = np.zeros(SHAPE, np.uint16)
    layer[1, 1, 1] = labels
    composer = composed([layer], claims={v: (v,) for v in range(1, labels + 1)})
    assert composer.states.dtype == dtype and composer.labels(np.uint16)[1, 1, 1] == labels


def test_a_layer_that_claims_nothing_changes_nothing():
    rng = np.random.default_rng(0)
    layer = rng.integers(0, 6, SHAPE).astype(np.uint8)
    composer = Composer(SHAPE, Precedence())
    composer.add(Layer("unused", layer, {}))
    composer.add(Layer("used", layer, CLAIMS))
    np.testing.assert_array_equal(composer.labels(np.uint8), layer)
    unused, used = composer.accounts()
    assert (unused.claimed, used.kept) == (0, np.count_nonzero(layer))
