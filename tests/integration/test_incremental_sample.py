"""A small sample of `make test-incremental`: pairs of changes drawn at random."""

from __future__ import annotations

import pytest

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
