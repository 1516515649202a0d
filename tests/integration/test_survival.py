"""A small run that is killed in every stage, edited meanwhile, and ends with the same bytes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from support.kills import Survivor, leftovers

pytestmark = pytest.mark.slow

KILLED_IN = ("check", "segment", "compose", "measure", "judge", "export")
MANY = 40


@pytest.fixture(scope="module")
def survivor(tmp_path_factory, project_in):
    return Survivor(project_in(tmp_path_factory.mktemp("survivor")))


def test_kills_and_an_edit_end_with_the_same_bytes(survivor):
    rng = np.random.default_rng(4)
    survivor.forget()
    survivor.draw("first")
    for stage in KILLED_IN:
        assert survivor.kill_in(stage, rng.uniform(0, 0.7 * survivor.lasting[stage]))
    survivor.draw("final")  # what was made of the first is stale, however young it is
    assert survivor.kill_in("compose", survivor.lasting["compose"] / 2)
    survivor.finish()
    print(survivor.killed)
    survivor.require_expected()
    assert survivor.nothing_due()


def test_a_killed_segmenting_job_keeps_finished_cases(project):
    """As by the out-of-memory killer or a preemption."""
    for number in range(MANY):
        project.add(f"case_{number:02d}")
    project.write(run={"batch_size": MANY, "device": "cpu"})
    project.run("check")
    folder = project.results / "segment" / "tissue"
    command = [sys.executable, "-c", "from backsplit.cli import app; app()", "segment", "tissue"]
    job = subprocess.Popen([*command, "--config", "config.yaml"], cwd=project.folder)
    while len(sidecars(folder)) < 3:
        assert job.poll() is None
        time.sleep(0.002)
    job.kill()
    job.wait()
    kept = {path: path.stat().st_mtime_ns for path in sidecars(folder)}
    print(f"{len(kept)} of {MANY} cases were finished, {len(leftovers(folder))} half-written")
    assert 3 <= len(kept) < MANY and not (folder / "00001.tsv").exists()
    project.run("segment", "tissue")
    assert len(sidecars(folder)) == MANY
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    statuses = (folder / "00001.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[1] for line in statuses] == ["done"] * MANY


def sidecars(folder: Path) -> list[Path]:
    return sorted(folder.glob("case*.json"))
