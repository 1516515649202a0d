"""A change, a run, the change taken back, a run: each ends where a clean run would."""

from __future__ import annotations

import pytest

from backsplit.config.kind import Licensed
from backsplit.config.segmenters import MonaiBundle, NnUNet, TotalSegmentator
from support.changes.files import file_changes
from support.changes.keys import key_changes, own_file_changes
from support.changes.pairs import more_changes, pair_holds
from support.changes.table import TABLE_CHANGES
from support.tiny import Change, Tiny, nothing

pytestmark = pytest.mark.incremental
KEYS = {key: change for key, change in key_changes().items() if not isinstance(change, str)}
PAIRS = 320


def holds(tiny: Tiny, change: Change, setup: Change = nothing) -> None:
    setup(tiny)
    if setup is not nothing:
        tiny.run()
    change(tiny)
    tiny.run()
    assert tiny.differing() == []
    assert tiny.run() == 0
    tiny.back()
    if setup is not nothing:
        setup(tiny)
        tiny.run()
        assert tiny.differing() == []
        tiny.back()
    tiny.run()
    assert tiny.differing_from_first() == []


NETWORKS = {
    TotalSegmentator: (
        {"kind": "totalsegmentator"},
        {"task": "lung_vessels", "fast": True, "fastest": True, "channel": "mr", "weights": "demo"},
    ),
    NnUNet: (
        {"kind": "nnunet", "model": "a"},
        {
            **{"model": "b", "folds": [1], "checkpoint": "best.pth", "mirroring": False},
            **{"step_size": 0.25, "channel": "mr"},
        },
    ),
    MonaiBundle: (
        {"kind": "monai_bundle", "bundle": "a"},
        {
            **{"bundle": "b", "config": "configs/other.json", "checkpoint": "models/best.pt"},
            "channel": "mr",
        },
    ),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_key_of_a_network_is_what_its_labels_are_made_from(kind):
    section, changes = NETWORKS[kind]
    of_rights = set(Licensed.model_fields)  # they stand in the manifest, whose key holds all
    assert set(changes) == set(kind.model_fields) - {"kind"} - of_rights
    first = kind(**section)
    for key, value in changes.items():
        changed = kind(**{**section, key: value})
        assert changed.what_labels() != first.what_labels()
        # where weights are starts a job; what they contain decides in it
        assert (changed.what_decides() == first.what_decides()) == (key in kind.places)


@pytest.mark.parametrize("key", KEYS)
def test_a_key(tiny, key):
    change = KEYS[key]
    setup, change = change if isinstance(change, tuple) else (nothing, change)
    holds(tiny, change, setup)


@pytest.mark.parametrize("what", TABLE_CHANGES)
def test_the_table(tiny, what):
    holds(tiny, TABLE_CHANGES[what])


@pytest.mark.parametrize("what", file_changes())
def test_a_file(tiny, what):
    holds(tiny, file_changes()[what])


@pytest.mark.parametrize("what", own_file_changes())
def test_a_file_that_labels_depend_on(tiny, what):
    setup, change = own_file_changes()[what]
    holds(tiny, change, setup)


@pytest.mark.parametrize("what", more_changes())
def test_more_of_a_key(tiny, what):
    holds(tiny, more_changes()[what])


@pytest.mark.parametrize("seed", range(PAIRS))
def test_a_pair(tiny, seed):
    pair_holds(tiny, seed)
