"""What is unknown, and what is to be ignored: `ignore` exactly there, voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backsplit.compose.account import details
from backsplit.compose.case import Rules, compose_case
from backsplit.compose.layers import Layer
from backsplit.config.slices import Merging
from backsplit.scheme.scheme import Scheme
from support.composing import SHAPE, grid_of, lesion_of
from support.examples import examples

NAMES = ("background", "tumor", "cyst", "heart", "liver", "aorta", "fat", "soft")
IGNORE = len(NAMES)
SCHEME = Scheme(
    {"tumor": (7,), "cyst": (9,)},
    NAMES,
    {
        "given": {"heart": "heart", "liver": "liver", "unsure": "ignore"},
        "organs": {"liver": "liver", "aorta": "aorta"},
        "tissue": {"fat": "fat", "soft": "soft"},
    },
)
CLAIMS = {
    "given": {1: (3,), 2: (4,), 3: (IGNORE,), 4: (3, IGNORE)},
    "organs": {1: (4,), 2: (5,)},
    "tissue": {1: (6,), 2: (7,)},
}
VALUES = {
    name: hnp.arrays(np.uint8, SHAPE, elements=st.integers(0, max(claims)))
    for name, claims in CLAIMS.items()
}


def voxel(lesion, claimed, order, unknown, hidden, in_body):
    """The label of one voxel, by the rule as the documents have it.

    Parameters
    ----------
    lesion : id of the target there, IGNORE, or 0
    claimed : segmenter to the labels that it claims there, the strongest first
    order : segmenters, the strongest first
    unknown : labels that are unknown in the case
    hidden : those of them that the case table excludes
    """
    if lesion:
        return lesion
    if any(IGNORE in labels for labels in claimed.values()):
        return IGNORE
    strongest = min((order.index(n) for n, labels in LABELS.items() if labels & unknown), default=9)
    holder = next((n for n in order if claimed[n]), None)
    label = claimed[holder][0] if holder else 0
    weak_band = holder == "tissue" and order.index(holder) > strongest
    if unknown and in_body and (not label or label in hidden or weak_band):
        return IGNORE
    return 0 if label in hidden else label


LABELS = {
    name: {label for ids in claims.values() for label in ids} for name, claims in CLAIMS.items()
}


@examples(150)
@given(
    hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 0, 7, 9, 11])),
    st.fixed_dictionaries(VALUES),
    st.permutations(list(CLAIMS)),
    st.sets(st.sampled_from(NAMES[3:]), max_size=3),
    st.sets(st.sampled_from(NAMES[3:]), max_size=2),
    hnp.arrays(bool, SHAPE),
)
def test_every_voxel_is_what_the_rule_says(lesion, values, order, unknown, excluded, body):
    grid = grid_of(SHAPE)
    drawn = lesion_of(lesion, grid, {7: (1,), 9: (2,), 11: (IGNORE,)})
    layers = [Layer(name, values[name], CLAIMS[name]) for name in order]
    rules = Rules(SCHEME, Merging(tuple(order), bands=("tissue",)))
    unknown |= excluded
    why = dict.fromkeys(unknown, "gone")
    made = compose_case(grid, drawn, layers, why, lambda: body, rules, excluded=excluded)
    ids, hidden = ({SCHEME.ids[name] for name in names} for names in (unknown, excluded))
    targets = {7: 1, 9: 2, 11: IGNORE}
    for at in np.ndindex(SHAPE):
        claimed = {n: CLAIMS[n].get(int(values[n][at]), ()) for n in order}
        expected = voxel(targets.get(int(lesion[at]), 0), claimed, order, ids, hidden, body[at])
        assert made.labels[at] == expected, (at, claimed, order, unknown)
    np.testing.assert_array_equal(made.counts, np.bincount(made.labels.ravel(), minlength=9))
    account = details(made, grid, rules, (), {}, {})  # names for ids: none is out of range
    for layer in account.layers:
        assert layer.claimed == layer.kept + layer.agreed + layer.overruled


@pytest.mark.parametrize("policy", ["ignore", "background"])
def test_what_is_to_be_ignored_is_whatever_becomes_of_the_unknown(policy):
    given_values = np.zeros(SHAPE, np.uint8)
    given_values[0] = 3
    organs = np.ones(SHAPE, np.uint8)
    lesion = np.zeros(SHAPE, np.uint8)
    lesion[0, 0] = 7
    grid = grid_of(SHAPE)
    layers = [
        Layer("organs", organs, CLAIMS["organs"]),
        Layer("given", given_values, CLAIMS["given"]),
    ]
    rules = Rules(SCHEME, Merging(("organs", "given"), policy))
    made = compose_case(grid, lesion_of(lesion, grid), layers, {}, lambda: organs > 0, rules)
    assert (made.labels[0, 0] == 1).all()  # a lesion is never ignored
    assert (made.labels[0, 1:] == IGNORE).all()  # though the liver of a stronger layer is there
    assert (made.labels[1:] == 4).all()
    why = [entry.why for entry in details(made, grid, rules, (), {}, {}).overruled]
    assert "what is to be ignored is ignored, whoever labels it" in why
