"""The workflow on a real Slurm: GPUs, jobs that are killed or need more, a node that goes away."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from private_slurm import PrivateSlurm, missing_programs, private_slurm, wait_for

from backsplit.store.tsv import read_tsv
from support.project import ROOT, Project, load

ABSENT = missing_programs()
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(ABSENT), reason=f"not on this machine: {', '.join(ABSENT)}"),
]
GREEDY_MB = 2500
"""More than the first attempt of the rule `cases` may have (2000), less than the second."""

# Stands before the real command on PATH: writes down where it runs, waits while the test holds it,
# and takes memory if the test wants it to.
WRAPPER = """#!/bin/bash
job="$1"
[[ "$*" =~ segment\\ ([^ ]+) ]] && job="$job-${{BASH_REMATCH[1]}}"
[[ "$*" =~ --batch\\ ([0-9]+) ]] && job="$job-${{BASH_REMATCH[1]}}"
echo "$job $SLURM_JOB_ID gpu=$CUDA_VISIBLE_DEVICES" >> {folder}/started
while [ -e "{folder}/hold/$job" ]; do sleep 0.2; done
if [ -e "{folder}/greedy/$job" ]; then
  {python} -c "import time; taken = b'x' * ({megabytes} << 20); time.sleep(5)"
fi
exec {python} -c 'from backsplit.cli import app; app()' "$@"
"""


class Run:
    """One call of Snakemake with the profile, and the strings that the test pulls.

    `start` is how it is called.
    """

    SNAKEMAKE = ("-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--configfile")
    BACKSPLIT = ("-c", "from backsplit.cli import app; app()", "run", "-c")

    def __init__(
        self, project: Project, slurm: PrivateSlurm, start: tuple[str, ...] = SNAKEMAKE
    ) -> None:
        self.start = start
        self.project = project
        self.slurm = slurm
        self.folder = project.folder / "strings"
        for name in ("hold", "greedy", "bin"):
            (self.folder / name).mkdir(parents=True)
        wrapper = self.folder / "bin" / "backsplit"
        wrapper.write_text(
            WRAPPER.format(
                folder=shlex.quote(str(self.folder)), python=shlex.quote(sys.executable),
                megabytes=GREEDY_MB,
            )
        )  # fmt: skip
        wrapper.chmod(0o755)

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, *self.start, "config.yaml"]
        command += ["--workflow-profile", str(ROOT / "profiles" / "slurm")]
        # no accounting here; a small cluster can be asked often; its disk is local
        command += ["--slurm-status-command", "squeue", "--latency-wait", "10"]
        command += ["--slurm-init-seconds-before-status-checks", "2", *arguments]
        places = [str(self.folder / "bin"), str(Path(sys.executable).parent)]
        environment = dict(self.slurm.environment)
        environment["PATH"] = os.pathsep.join([*places, environment["PATH"]])
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                command, cwd=self.project.folder, env=environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)  # Snakemake cancels its jobs
                with suppress(subprocess.TimeoutExpired):
                    process.wait(30)
            process.kill()
            process.wait()

    @property
    def log(self) -> Path:
        return self.project.folder / "snakemake.log"

    def hold(self, *jobs: str) -> None:
        for job in jobs:
            (self.folder / "hold" / job).touch()

    def release(self, *jobs: str) -> None:
        for job in jobs:
            (self.folder / "hold" / job).unlink()

    def starts(self, job: str) -> list[tuple[str, str]]:
        """Slurm's job id and the GPUs that were to be seen, once for each attempt that ran."""
        path = self.folder / "started"
        lines = path.read_text().splitlines() if path.exists() else []
        found = [line.split() for line in lines]
        return [(words[1], words[2].removeprefix("gpu=")) for words in found if words[0] == job]

    def attempts(self, comment: str) -> list[dict[str, str]]:
        """What Slurm knows of a Snakemake job, once for each attempt."""
        return self.slurm.jobs_of(self.project.folder, comment)

    def states(self, comment: str) -> list[str]:
        return [job["JobState"] for job in self.attempts(comment)]

    def wait(
        self, process: subprocess.Popen[bytes], condition: Callable[[], object], what: str
    ) -> None:
        """Wait for what must come true while Snakemake runs."""
        try:
            wait_for(lambda: condition() or process.poll() is not None, 120, what)
            assert process.poll() is None, f"Snakemake ended before {what}\n{self.log.read_text()}"
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.log.read_text()}\n{self.slurm.logs()}") from None

    def finish(self, process: subprocess.Popen[bytes]) -> None:
        assert process.wait(240) == 0, self.log.read_text()


@pytest.fixture(scope="module")
def slurm() -> Iterator[PrivateSlurm]:
    with private_slurm() as running:
        yield running


def minutes(limit: str) -> int:
    """`D-HH:MM:SS` as minutes."""
    days, hours, mins = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):\d+", limit).groups()
    return int(days or 0) * 1440 + int(hours) * 60 + int(mins)


def test_the_whole_workflow_with_a_gpu_for_each_network(project, slurm):
    for i in range(4):
        project.add(f"case_{i}")
    project.settings["segmenters"]["organs"] = {
        "kind": "totalsegmentator", "task": "total", "fastest": True, "weights": "demo",
    }  # fmt: skip
    project.settings["structures"]["liver"] = "organs/liver"
    project.settings["compose"] = {
        "segmenter_lesions": {"organs/kidney_cyst_*": "background"}
    }  # fmt: skip
    project.write(run={"batch_size": 2, "device": "auto"})
    run = Run(project, slurm)
    networks = ["segment-organs-00001", "segment-organs-00002"]
    run.hold(*networks)
    with run.started() as process:
        run.wait(
            process,
            lambda: all(run.starts(job) for job in networks),
            "two networks at the same time",
        )
        jobs = {job["JobId"]: job for job in slurm.jobs()}
        running = [jobs[run.starts(job)[0][0]] for job in networks]
        run.release(*networks)
        run.finish(process)

    assert [job["JobState"] for job in running] == ["RUNNING", "RUNNING"]
    assert [job["TresPerJob"] for job in running] == ["gres:gpu:1", "gres:gpu:1"]
    assert [job["Partition"] for job in running] == ["gpu", "gpu"]
    assert sorted(run.starts(job)[0][1] for job in networks) == ["0", "1"]
    others = [job for job in run.attempts("") if job["JobId"] not in {r["JobId"] for r in running}]
    assert len(others) == 14 and {job["JobState"] for job in others} == {"COMPLETED"}
    assert not [job for job in others if "TresPerJob" in job]
    assert {job["Partition"] for job in others} == {"cpu"}
    assert run.starts("segment-tissue-00001")[0][1] == ""

    folder = project.results / "datasets" / "nnunet" / "Dataset007_Test"
    for i in range(4):
        labels = load(folder / "labelsTr" / f"case_{i}.nii.gz")
        lesion = load(project.folder / "lesions" / f"case_{i}.nii.gz")
        np.testing.assert_array_equal(np.where(labels <= 2, labels, 0), lesion)
    verdicts = pd.read_csv(project.results / "qc" / "verdicts.tsv", sep="\t")
    assert list(verdicts["case"]) == [f"case_{i}" for i in range(4)]
    # what the demo's network finds in cubes of noise is no anatomy, and the rules say so
    assert set(verdicts["verdict"]) <= {"accept", "review"}
    assert (project.results / "report" / "index.html").exists()


def test_batches_go_as_one_slurm_array_where_configured(project, slurm):
    """What profiles/README.md says of arrays: rules without a GPU, and `jobs` above the batches."""
    for i in range(3):
        project.add(f"case_{i}")
    project.write(run={"batch_size": 1, "device": "cpu"})
    run = Run(project, slurm, start=Run.BACKSPLIT)
    tables = [project.results / "labels" / f"{batch:05}.tsv" for batch in (1, 2, 3)]
    wanted = [str(table.relative_to(project.folder)) for table in tables]
    with run.started(*wanted, "--slurm-array-jobs", "check,compose,measure") as process:
        run.finish(process)
    arrays: dict[str, list[str]] = {}
    for job in run.attempts(""):
        assert job["JobState"] == "COMPLETED"
        if "ArrayTaskId" in job:
            arrays.setdefault(job["ArrayJobId"], []).append(job["ArrayTaskId"])
    # the three batches of `check` are ready at once; those of `compose` as their segmenters end
    assert ["1", "2", "3"] in [sorted(tasks) for tasks in arrays.values()]
    assert all(list(read_tsv(table)["status"]) == ["done"] for table in tables)
    # without accounting, jobs must be known long enough to be asked about
    (age,) = re.findall(r"MinJobAge\s*=\s*(\d+)", slurm.call("scontrol", "show", "config"))
    assert int(age) >= 120


def test_jobs_that_fail_and_a_drained_node_are_survived(project, slurm):
    """Cancelled, over its time, over its memory, a drained node: all in one run."""
    for i in range(3):
        project.add(f"case_{i}")
    project.write(run={"batch_size": 1, "device": "cpu"})
    run = Run(project, slurm)
    cancelled, late, unharmed = checks = [f"check-{batch:05}" for batch in (1, 2, 3)]
    run.hold(*checks)
    (run.folder / "greedy" / "cases").touch()
    with run.started("results/cases.tsv") as process:

        def wait_until(condition: Callable[[], object], what: str) -> None:
            run.wait(process, condition, what)

        wait_until(lambda: all(map(run.starts, checks)), "three jobs to start")
        first = {name: run.starts(name)[0][0] for name in checks}
        asked = minutes(slurm.job(first[late])["TimeLimit"])
        slurm.set("jobid", first[late], "timelimit=1")
        slurm.set_node("drain")
        slurm.call("scancel", first[cancelled])
        retried = "rule_check_wildcards_00001"
        wait_until(lambda: len(run.attempts(retried)) == 2, "a retry of the cancelled job")
        assert slurm.node_state() == "draining"
        run.release(*checks[::2])
        wait_until(lambda: slurm.state(first[unharmed]) == "COMPLETED", "the last job of the node")
        assert run.attempts(retried)[-1]["JobState"] == "PENDING"
        slurm.set_node("resume")
        wait_until(lambda: slurm.state(first[late]) == "TIMEOUT", "the end of a late job")
        run.release(late)
        run.finish(process)

    assert run.states(retried) == ["CANCELLED", "COMPLETED"]
    assert run.states("rule_check_wildcards_00002") == ["TIMEOUT", "COMPLETED"]
    again = run.attempts("rule_check_wildcards_00002")[-1]
    assert minutes(again["TimeLimit"]) == 2 * asked
    assert run.states("rule_check_wildcards_00003") == ["COMPLETED"]
    assert run.states("rule_cases")[-1] == "COMPLETED"
    memory = [job["MinMemoryNode"] for job in run.attempts("rule_cases")]
    assert memory == ["2000M", "4000M"]
    cases = pd.read_csv(project.results / "cases.tsv", sep="\t")
    assert list(cases["status"]) == ["ok"] * 3
