"""What else may go wrong: orphans, two runs at once, clocks, disks. All end with the same bytes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time

import pytest

from support.kills import Run, Survivor, tree, verb_of
from support.project import load

pytestmark = pytest.mark.survival


@pytest.fixture(scope="module")
def survivor(tmp_path_factory, project_in):
    return Survivor(project_in(tmp_path_factory.mktemp("survivor")))


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


def test_a_lock_of_another_machine_is_removed_only_by_hand(survivor):
    """Whether that machine's process lives can not be known here."""
    page = survivor.results / "report" / "index.html"
    page.unlink()
    locks = survivor.folder / ".snakemake" / "locks"
    locks.mkdir(exist_ok=True)
    (locks / "0.output.lock").write_text("results/report/index.html\n")
    (locks / "machine").write_text("elsewhere")
    assert survivor.start().wait() != 0
    assert "--unlock" in survivor.output.read_text() and not page.exists()
    assert survivor.start("--unlock").wait() == 0
    survivor.finish()
    survivor.require_expected()


def test_one_of_two_concurrent_runs_is_refused(survivor, tmp_path):
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


def test_wrong_clocks_neither_loop_nor_keep_stale_results(survivor):
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


def test_a_run_resumes_after_a_full_or_read_only_disk(survivor, small_disk):
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
