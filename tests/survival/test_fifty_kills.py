"""The demo, killed fifty times: every life ends with the bytes of a run that nobody disturbed."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter

import numpy as np
import pytest

from backsplit.demo.phantoms import write_demo
from support.kills import STAGES, Run, contents, leftovers, require_same, seconds_of
from support.project import ROOT

pytestmark = pytest.mark.survival

KILLS = int(os.environ.get("BACKSPLIT_KILLS", "50"))
SEED = 20
LONGEST = 0.6
"""Random kills come up to this share of an undisturbed run after the start: later ones would
mostly meet a run that has ended, for it goes on where it was."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    shutil.copytree(ROOT / "config", folder / "config")
    write_demo(folder / "demo")
    return Run(folder)


def test_every_killed_run_ends_with_the_same_bytes(demo):
    rng = np.random.default_rng(SEED)
    undisturbed = demo.finish()
    expected = contents(demo.results)
    lasting = {stage: seconds_of(demo.results, stage) for stage in STAGES}
    print(f"\nundisturbed: {undisturbed:.0f} s, {len(expected)} files; jobs: {lasting}")
    started, lives = time.monotonic(), 0
    while len(demo.killed.kills) < KILLS:
        lives += 1
        demo.forget()
        _die(demo, rng, lives, undisturbed, lasting)
        demo.finish()
        require_same(contents(demo.results), expected, f"life {lives}: {demo.killed.kills}")
        assert not leftovers(demo.results)
        print(f"life {lives}: {len(demo.killed.kills)} kills, {time.monotonic() - started:.0f} s")
    counts = Counter(demo.killed.kills)
    print(f"{len(demo.killed.kills)} kills in {lives} lives, {time.monotonic() - started:.0f} s")
    print(f"at: {dict(counts)}")
    print(f"half-written files that the next run removed: {demo.killed.leftovers}")
    assert len(demo.killed.kills) >= KILLS
    assert {stage for kill in counts for stage in kill.split("+")} >= set(STAGES)


def _die(demo, rng, life, undisturbed, lasting):
    """Kill one life again and again: every other one in each stage in turn, else at any time."""
    if life % 2:
        for stage in STAGES:
            if len(demo.killed.kills) < KILLS:
                demo.kill_in(stage, rng.uniform(0, lasting[stage]))
        return
    while len(demo.killed.kills) < KILLS:
        if not demo.kill_after(rng.uniform(0, LONGEST * undisturbed)):
            return
