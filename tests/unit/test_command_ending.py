"""The kind `command`: a program that is ended, ends with all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backsplit.errors import CaseError, Code, RunError
from backsplit.segment import launch
from support.cases import marked_case
from support.command import IN_ONE, labelled, segmenter_of
from support.labeller import SLEEP

pytestmark = pytest.mark.usefixtures("temporary")


def test_what_hangs_is_ended_with_all_that_it_started(tmp_path, monkeypatch):
    child = tmp_path / "child"
    monkeypatch.setenv("CHILD", str(child))
    cases = [marked_case(tmp_path, "bad", bad=True), marked_case(tmp_path, "a")]
    begun = time.monotonic()
    found = labelled(cases, command=[*IN_ONE, "--how", "hang"], timeout_minutes=2 / 60)
    assert found["bad"].code is Code.TIME_LIMIT and time.monotonic() - begun < 90
    assert not isinstance(found["a"], CaseError)
    assert has_ended(int(child.read_text()))


def test_a_version_that_does_not_come_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "ASK_S", 2.0)
    child = tmp_path / "child"
    sleeper = "import subprocess, sys, time; from pathlib import Path; " + (
        f"p = subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); "
        f"Path({str(child)!r}).write_text(str(p.pid)); print('1.0', flush=True)"
    )
    hanging = [sys.executable, "-c", f"{sleeper}; {SLEEP}"]
    with pytest.raises(RunError, match="did not end within 2 seconds") as late:
        segmenter_of(command=IN_ONE, version_command=hanging).contents()
    assert late.value.code is Code.TIME_LIMIT and has_ended(int(child.read_text()))

    answered = [sys.executable, "-c", sleeper]  # what it started holds its output open
    found = segmenter_of(command=IN_ONE, version_command=answered).contents()
    assert [*found["versions"].values()] == ["1.0"] and has_ended(int(child.read_text()))


def has_ended(process: int) -> bool:
    """Whether a process is gone, or dead and not yet taken note of by its parent."""
    for _ in range(150):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.1)
    return False


STOPPED = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests run under nohup
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from support.cases import marked_case
from support.command import IN_ONE, labelled
labelled([marked_case(Path({folder!r}), "bad", bad=True)], command=[*IN_ONE, "--how", "hang"])
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_when_the_job_ends_the_program_and_its_files_go(tmp_path, how):
    """It is told to end; or killed, of which it learns nothing."""
    child = tmp_path / "child"
    path = [str(Path(__file__).parents[1])]
    code = STOPPED.format(path=path, folder=str(tmp_path))
    temporary = tmp_path / "of the job"
    temporary.mkdir()
    environment = {**os.environ, "CHILD": str(child), "TMPDIR": str(temporary)}
    job = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    for _ in range(300):
        if child.exists() and child.read_text():
            break
        time.sleep(0.1)
    job.send_signal(how)
    job.wait(30)
    begun = time.monotonic()
    assert has_ended(int(child.read_text()))
    assert time.monotonic() - begun < 15
    while list(temporary.iterdir()) and time.monotonic() - begun < 30:
        time.sleep(0.05)
    assert list(temporary.iterdir()) == []
