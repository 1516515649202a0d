"""Runs that are killed, raced, starved of disk and lied to by clocks end with the same bytes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from conftest import load, save
from kills import Run, contents, leftovers, locked_by_snakemake, require_same, tree, verb_of

pytestmark = pytest.mark.slow

KILLED_IN = ("check", "segment", "compose", "measure", "judge", "export")
CONFIG = ("--configfile", "config.yaml")
MANY = 40


class Survivor(Run):
    """Two small cases, and what an undisturbed run makes of them."""

    def __init__(self, folder: Path, project_in) -> None:
        super().__init__(folder, *CONFIG)
        project = project_in(folder)
        for name in ("a", "b"):
            project.add(name)
        project.write()
        self.project = project
        self.lesion = folder / "lesions" / "a.nii.gz"
        self.drafts = {}
        for draft, slices in {"first": 3, "final": 2}.items():
            drawn = load(self.lesion)
            drawn[slices, 6, 6] = 1
            self.drafts[draft] = save(folder / draft / "a.nii.gz", drawn)
        self.draw("final")
        self.finish()
        self.expected = contents(self.results)

    def draw(self, draft: str) -> None:
        """Put a lesion in place, with the time that it was drawn at."""
        shutil.copy2(self.drafts[draft], self.lesion)

    def require_expected(self) -> None:
        require_same(contents(self.results), self.expected, str(self.killed))
        assert not leftovers(self.results) and not locked_by_snakemake(self.folder)

    def nothing_due(self) -> bool:
        code = self.start("--dry-run").wait()
        assert code == 0, self.output.read_text()
        return "Nothing to be done" in self.output.read_text()


@pytest.fixture(scope="module")
def survivor(tmp_path_factory, project_in):
    return Survivor(tmp_path_factory.mktemp("survivor"), project_in)


def test_a_life_of_kills_and_an_edit_ends_with_the_bytes_of_an_undisturbed_run(survivor):
    rng = np.random.default_rng(4)
    survivor.forget()
    survivor.draw("first")
    for stage in KILLED_IN:
        assert survivor.kill_in(stage, rng.uniform(0, 1.5))
    survivor.draw("final")  # what was made of the first is stale, however young it is
    assert survivor.kill_in("compose", 0.5)
    survivor.finish()
    print(survivor.killed)
    survivor.require_expected()
    assert survivor.nothing_due()


def test_jobs_that_outlive_their_run_are_waited_for(survivor):
    """As after an out-of-memory kill of Snakemake alone."""
    shutil.rmtree(survivor.results / "labels")
    run = survivor.start()
    while not (orphans := [p for p in tree(run.pid) if verb_of(p) == "compose"]):
        assert run.poll() is None, survivor.output.read_text()
        time.sleep(0.01)
    for orphan in orphans:  # asleep, so that it is there when the next run comes
        os.kill(orphan.pid, signal.SIGSTOP)
    run.kill()
    run.wait()
    following = survivor.start()
    time.sleep(2)
    for orphan in orphans:
        os.kill(orphan.pid, signal.SIGCONT)
    assert following.wait() == 0, survivor.output.read_text()
    survivor.require_expected()


def test_a_segmenting_job_that_is_killed_keeps_its_finished_cases(project):
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


def test_of_two_runs_at_once_one_is_refused_and_nothing_is_spoilt(survivor, tmp_path):
    survivor.forget()
    first = survivor.start()
    lock = survivor.results / ".locks" / "run.lock"
    while not (lock.exists() and lock.read_text()):
        time.sleep(0.05)
    elsewhere = Run(tmp_path, "--configfile", str(survivor.folder / "config.yaml"))
    for name in ("cases.tsv", "images", "lesions", "results"):  # another folder, the same results
        (tmp_path / name).symlink_to(survivor.folder / name)
    text = (survivor.folder / "config.yaml").read_text()
    second = elsewhere.start()
    assert second.wait() != 0
    said = elsewhere.output.read_text()
    assert "RESULTS_BUSY" in said and f"process {first.pid} of" in said
    assert elsewhere.start("--dry-run").wait() == 0  # looking is allowed
    while not (survivor.results / "check" / "00001.tsv").exists():
        time.sleep(0.05)
    survivor.project.run("segment", "tissue", "--batch", "00001")  # by hand, meanwhile
    assert first.wait() == 0, survivor.output.read_text()
    assert (survivor.folder / "config.yaml").read_text() == text
    survivor.require_expected()


def test_no_clock_makes_a_run_endless_or_a_stale_result_current(survivor):
    files = [p for p in survivor.results.rglob("*") if p.is_file() and not p.is_symlink()]
    for when, step in ((time.time() + 10**8, 2), (10**6, 1)):  # half of them in the future
        for path in files[::step]:
            os.utime(path, (when, when))
        survivor.finish()
        assert survivor.nothing_due()
        survivor.require_expected()
    survivor.draw("first")
    os.utime(survivor.lesion, (10**6, 10**6))  # drawn today by a clock that stands at 1970
    survivor.finish()
    assert load(survivor.results / "labels" / "a.nii.gz")[3, 6, 6] == 1
    survivor.draw("final")
    survivor.finish()
    survivor.require_expected()


@pytest.fixture
def small_disk(survivor):
    """The results on a disk of their own, of 4 MB."""
    survivor.forget()
    survivor.results.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(survivor.results)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk")
    yield survivor.results
    subprocess.run(["umount", "--lazy", str(survivor.results)], check=True)


def test_a_full_or_read_only_disk_is_named_and_the_run_goes_on_when_it_is_mended(
    survivor, small_disk
):
    ballast = small_disk / "logs" / "ballast"
    ballast.parent.mkdir()
    survivor.project.run("check")
    room = os.statvfs(small_disk)
    ballast.write_bytes(bytes(room.f_bavail * room.f_frsize - 16 * 1024))
    failed = survivor.project.run("segment", "tissue", ok=False)
    assert "DISK_FULL" in failed.stderr and str(small_disk.name) in failed.stderr
    assert "Traceback" not in failed.stderr
    assert survivor.start().wait() != 0
    assert "DISK_FULL" in survivor.output.read_text()
    ballast.unlink()

    def remount(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(small_disk)], check=True)

    remount("ro")
    assert survivor.start().wait() != 0
    assert "RESULTS_READ_ONLY" in survivor.output.read_text()
    failed = survivor.project.run("segment", "tissue", ok=False)
    assert "RESULTS_READ_ONLY" in failed.stderr and "Traceback" not in failed.stderr
    remount("rw")
    survivor.finish()
    survivor.require_expected()
