"""A small sample of `make test-incremental`: pairs of changes drawn at random."""

from __future__ import annotations

import pytest

from backsplit.store import versions
from backsplit.store.provenance import read_json
from support.changes.pairs import pair_holds
from support.tiny import Tiny


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Tiny(folder)


@pytest.mark.parametrize("seed", range(1000, 1004))
def test_two_changes_end_where_a_clean_run_would(tiny, seed):
    tiny.fresh()
    pair_holds(tiny, seed)


def test_an_upgrade_that_composes_otherwise_composes_again_and_segments_nothing(tiny, monkeypatch):
    tiny.fresh()
    labels, layer = tiny.results / "labels" / "a.json", tiny.results / "segment/organs/a.json"
    before = read_json(labels)["fingerprint"], layer.stat().st_mtime_ns
    assert tiny.run() == 0
    monkeypatch.setattr(versions, "COMPOSE", versions.COMPOSE + 1)
    assert tiny.run() > 0
    assert read_json(labels)["fingerprint"] != before[0]
    assert layer.stat().st_mtime_ns == before[1]
    assert tiny.differing() == []
