"""Files that appear whole, leftovers of the killed, claims, and inputs that change meanwhile."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from backsplit.cases.table import Case, Checked
from backsplit.errors import BacksplitError, Code
from backsplit.store.disk import atomic_path, parts_of, remove_leftovers
from backsplit.store.locks import claim_run, claimed
from backsplit.store.provenance import file_sha256, input_sha256, read_json
from backsplit.store.results import Results, sidecar_path
from backsplit.store.sidecars import Entry
from backsplit.store.status import Status
from backsplit.work.batch import run_batch

WRITER = """
import sys, time
from pathlib import Path
from backsplit.store.disk import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""

WORKER = """
import sys, time
from pathlib import Path
from backsplit.store.locks import claim_run, claimed
from backsplit.store.results import Results
results = Results(Path(sys.argv[1]))
run = claim_run(results)
with claimed(results, "compose 00001", print):
    print("at work", flush=True)
    time.sleep(float(sys.argv[2]))
"""

CLAIMER = """
import sys
from pathlib import Path
from backsplit.store.locks import claim_run
from backsplit.store.results import Results
print(claim_run(Results(Path(sys.argv[1]))).problem)
"""

FORKED = """
import os, sys, time
from pathlib import Path
from backsplit.store.locks import claim_run
from backsplit.store.results import Results
claim_run(Results(Path(sys.argv[1])))
child = os.fork()
if not child:
    os.close(1)
    time.sleep(60)
Path(sys.argv[1], "child").write_text(str(child))
print("forked", flush=True)
time.sleep(60)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def parts(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".part-")]


def test_leftovers_of_killed_writers_are_removed(tmp_path):
    target = tmp_path / "deep" / "map.nii.gz"
    writer = start(WRITER, target)
    assert len(parts(tmp_path)) == 1
    assert remove_leftovers(tmp_path) == []  # its writer lives
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    left = parts(tmp_path)
    assert not target.exists() and len(left) == 1
    (tmp_path / "other").write_text("not ours")
    assert remove_leftovers(tmp_path) == left
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["other"]


def test_a_failed_writer_leaves_nothing_and_the_old_file(tmp_path):
    target = tmp_path / "table.tsv"
    with atomic_path(target) as temporary:
        temporary.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert [p.name for p in tmp_path.iterdir()] == ["table.tsv"] and target.read_text() == "old"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, Code.DISK_FULL),
        (errno.EDQUOT, Code.DISK_FULL),
        (errno.EROFS, Code.RESULTS_READ_ONLY),
    ],
)
def test_what_the_disk_refuses_has_a_code_and_says_where(tmp_path, number, code):
    with pytest.raises(BacksplitError) as caught, atomic_path(tmp_path / "a.tsv"):
        raise OSError(number, os.strerror(number))
    assert caught.value.code is code and str(tmp_path) in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_second_run_is_refused_while_the_first_lives(tmp_path):
    first = start(WORKER, tmp_path, 60)
    second = claim_run(Results(tmp_path))
    assert second.problem is not None and second.problem.code is Code.RESULTS_BUSY
    assert f"process {first.pid} of " in str(second.problem)
    first.send_signal(signal.SIGKILL)
    first.wait()
    third = claim_run(Results(tmp_path))
    assert third.problem is None and third.certain


def test_a_job_waits_for_the_holder_of_its_lock(tmp_path):
    first = start(WORKER, tmp_path, 2)
    said: list[str] = []
    began = time.monotonic()
    with claimed(Results(tmp_path), "compose 00002", said.append):
        assert not said  # other files, no waiting
    with claimed(Results(tmp_path), "compose 00001", said.append):
        assert first.wait() == 0
    assert time.monotonic() - began > 1
    assert len(said) == 1 and f"process {first.pid}" in said[0] and "waiting" in said[0]


def test_a_claim_ends_with_its_process_even_where_a_child_lives_on(tmp_path):
    first = start(FORKED, tmp_path)
    child = int((tmp_path / "child").read_text())
    assert claim_run(Results(tmp_path)).problem is not None
    first.send_signal(signal.SIGKILL)
    first.wait()
    try:
        assert claim_run(Results(tmp_path)).problem is None
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_claim_lasts_as_long_as_the_process_that_made_it_in_another_thread(tmp_path):
    thread = threading.Thread(target=claim_run, args=(Results(tmp_path),))
    thread.start()
    thread.join()
    gc.collect()
    command = [sys.executable, "-c", CLAIMER, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"process {os.getpid()} of " in said
    # a workflow that uses ours as a module reads it several times
    assert claim_run(Results(tmp_path)).problem is None


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_a_disk_without_locks_is_named_and_worked_on(tmp_path, monkeypatch, caplog, number):
    def none(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    claim = claim_run(Results(tmp_path))
    assert claim.problem is None and not claim.certain
    with claimed(Results(tmp_path), "judge", pytest.fail):
        pass
    assert "does not support locks" in caplog.text


@dataclass
class CopyStage:
    """Copies a file; something may happen to the file while it does."""

    source: Path
    target: Path
    meanwhile: object = None
    name: str = "copy"

    def outputs(self, case):
        return {"copy": self.target / f"{case.id}.nii.gz"}

    def made_from(self, case):
        return {"inputs": {"source": input_sha256(self.source)}}

    def work(self, cases):
        for case in cases:
            data = self.source.read_bytes()
            if callable(self.meanwhile):
                self.meanwhile()
            with atomic_path(self.outputs(case)["copy"]) as temporary:
                temporary.write_bytes(data)
            yield case, Entry()


def run_copy(stage: CopyStage):
    checked = Checked(Case("a", 2, {}, {}, {}, stage.target), Status.OK)
    (outcome,) = run_batch(stage, [checked], lambda *_, **__: None)
    return outcome


@pytest.mark.parametrize("gone", [False, True])
def test_an_input_changed_while_read_fails_its_case(tmp_path, gone):
    source = tmp_path / "source"
    source.write_text("one")
    stage = CopyStage(source, tmp_path / "out")

    def change():
        if gone:
            source.unlink()
        else:
            kept = source.stat().st_mtime_ns
            source.write_text("two")
            os.utime(source, ns=(kept, kept))  # not even its time tells

    stage.meanwhile = change
    outcome = run_copy(stage)
    assert outcome.status == "failed"
    assert outcome.code == ("FILE_MISSING" if gone else "INPUT_CHANGED")
    assert "source" in outcome.message
    assert not list((tmp_path / "out").iterdir())
    stage.meanwhile = None
    source.write_text("two")
    assert run_copy(stage).status == "done"
    sidecar = read_json(sidecar_path(stage.outputs(Case("a", 2, {}, {}, {}, tmp_path))["copy"]))
    assert sidecar["made_from"]["inputs"]["source"] == file_sha256(source)


def test_file_hashes_follow_content_not_time(tmp_path):
    path = tmp_path / "image"
    seen = set()
    for number in range(50):
        path.write_text(f"{number:04d}")
        os.utime(path, ns=(10**18, 10**18))
        seen.add(file_sha256(path))
    assert len(seen) == 50


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("a.mhd", "ElementDataFile = my voxels.raw"),
        ("A.MHD", "ElementDataFile=my voxels.raw"),
        ("a.nhdr", "data file: my voxels.raw"),
        ("a.nhdr", "datafile: ./my voxels.raw"),
    ],
)
def test_voxels_beside_a_header_are_part_of_it(tmp_path, name, line):
    header, voxels = tmp_path / name, tmp_path / "my voxels.raw"
    header.write_text(f"NDims = 3\n{line}\r\n")
    alone = file_sha256(header)
    assert parts_of(header) == [header]
    seen = {alone}
    for content in (b"one", b"two"):
        voxels.write_bytes(content)
        assert [path.resolve() for path in parts_of(header)] == [header, voxels]
        seen.add(file_sha256(header))
    assert len(seen) == 3
    header.write_text("ElementDataFile = LOCAL\n")
    assert parts_of(header) == [header] and parts_of(voxels) == [voxels]
    assert parts_of(tmp_path) == sorted([header, voxels])
    with pytest.raises(OSError, match="none"):
        parts_of(tmp_path / f"none{header.suffix}")
