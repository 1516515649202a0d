"""Which job made what: host, scheduler, times. The only facts of a run that no other run repeats.

They are in `results/provenance/jobs` and nowhere else, so that all other files are the same,
byte for byte, whoever made them and however often it was stopped. One file a batch and stage; each
line is one event, added to the end, so that the record of a killed job stays.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import socket
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from backsplit import __version__
from backsplit.cases.table import Case
from backsplit.errors import BacksplitError, CaseError, Code, RunError
from backsplit.store.locks import claimed
from backsplit.store.results import Results
from backsplit.store.sidecars import Entry
from backsplit.store.status import Outcome, Status
from backsplit.work.batch import Progress, Stage
from backsplit.work.progress import RUN_VARIABLE, Say

SCHEDULER_VARIABLES = (
    "SLURM_JOB_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_CLUSTER_NAME",
    "PBS_JOBID",
    "LSB_JOBID",
    "JOB_ID",  # Grid Engine
    "FLUX_JOB_ID",
    "AWS_BATCH_JOB_ID",
    "BATCH_JOB_UID",  # Google Batch
)
"""Where schedulers say to a job who it is. A pod of Kubernetes has its name as host."""

SELDOM = 50_000
"""New objects before a job over all cases looks for garbage; Python's default (hundreds to
thousands) was a fifth of the time of `report`."""


class Recorder:
    """Adds the events of one job to its file, and tells the work from what surrounds it.

    Parameters
    ----------
    stream : the file, open for adding to, unbuffered
    stage, batch : what the job does; a rule of the workflow and its wildcards have the same names
    """

    def __init__(self, stream: BinaryIO, stage: str, batch: str | None) -> None:
        self.stream = stream
        self.job = uuid.uuid4().hex[:12]
        self.cases = 0
        self.work_s = 0.0
        self.work_cpu_s = 0.0
        self.started = time.monotonic()
        self.started_cpu = time.process_time()
        self._add(
            {
                "event": "start",
                "stage": stage,
                "batch": batch,
                "time": _now(),
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "scheduler": {k: os.environ[k] for k in SCHEDULER_VARIABLES if os.environ.get(k)},
                "command": sys.argv,
                "backsplit": __version__,
                "startup_cpu_seconds": round(self.started_cpu, 3),
            }
        )

    def made(self, case: str) -> None:
        """Note that this job made the result of a case."""
        self.cases += 1
        self._add({"event": "case", "case": case, "time": _now()})

    def failed(self, outcome: Outcome) -> None:
        """Note that this job could not make the result of a case."""
        event = {"event": "failed", "case": outcome.case, "code": outcome.code}
        self._add({**event, "reason": outcome.reason, "time": _now()})

    def error(self, error: BacksplitError) -> None:
        """Note why this job ended: an error that a person has to put right."""
        event = {"event": "error", "run": os.environ.get(RUN_VARIABLE, ""), "time": _now()}
        self._add({**event, "code": error.code, "what": error.what, "remedy": error.remedy})

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count what happens inside as the work itself."""
        wall, cpu = time.monotonic(), time.process_time()
        try:
            yield
        finally:
            self.work_s += time.monotonic() - wall
            self.work_cpu_s += time.process_time() - cpu

    def end(self) -> None:
        """Note that the job came to its end, and what it took."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._add(
            {
                "event": "end",
                "time": _now(),
                "cases": self.cases,
                "seconds": round(time.monotonic() - self.started, 3),
                "cpu_seconds": round(time.process_time() - self.started_cpu, 3),
                "work_seconds": round(self.work_s, 3),
                "work_cpu_seconds": round(self.work_cpu_s, 3),
                "peak_mib": round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)),
            }
        )

    def _add(self, event: Mapping[str, Any]) -> None:
        line = json.dumps({"job": self.job, **event}, ensure_ascii=False)
        self.stream.write(f"{line}\n".encode())


@contextmanager
def recorded(results: Results, stage: str, batch: str | None = None) -> Iterator[Recorder]:
    """Record a job; its end is noted only where it ends well.

    Raises
    ------
    RunError
        The one that the same job of the same run ended with: trying again would not help.
    """
    path = results.job_record(stage, batch)
    path.parent.mkdir(parents=True, exist_ok=True)
    if (same := _error_of_this_run(path)) is not None:
        raise same
    with path.open("ab+", buffering=0) as stream:
        _end_line(stream)
        recorder = Recorder(stream, stage, batch)
        try:
            yield recorder
        except BacksplitError as error:
            recorder.error(error)
            raise
        recorder.end()


def _error_of_this_run(path: Path) -> RunError | None:
    """What the job reported when this run tried it before."""
    run = os.environ.get(RUN_VARIABLE)
    last = None
    for event in _events(path) if run else ():
        last = event
    if last is None or last.get("event") != "error" or last.get("run") != run:
        return None
    return RunError(Code(last["code"]), last["what"], last["remedy"])


def _end_line(stream: BinaryIO) -> None:
    """End a line that a kill cut short, so that the next one is whole."""
    end = stream.seek(0, os.SEEK_END)
    if end:
        stream.seek(end - 1)
        if stream.read(1) != b"\n":
            stream.write(b"\n")


@contextmanager
def job(results: Results, stage: str, say: Say, batch: str | None = None) -> Iterator[Recorder]:
    """Hold the claim of a job's files, and record it."""
    with (
        nullcontext() if batch else _seldom_collected(),
        claimed(results, f"{stage} {batch}" if batch else stage, say),
        recorded(results, stage.replace(" ", "/"), batch) as recorder,
    ):
        yield recorder


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Look for garbage seldom: what is read of all cases stays, and going through it takes long."""
    before = gc.get_threshold()
    gc.set_threshold(SELDOM, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class RecordedStage:
    """A stage whose work is timed, and the results of which are noted as this job's."""

    def __init__(self, stage: Stage, recorder: Recorder, progress: Progress) -> None:
        self.name = stage.name
        self.stage = stage
        self.recorder = recorder
        self.progress = progress

    def outputs(self, case: Case) -> Mapping[str, Path]:
        """As the stage has them."""
        return self.stage.outputs(case)

    def made_from(self, case: Case) -> Mapping[str, Any]:
        """As the stage says."""
        return self.stage.made_from(case)

    def work(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Entry | CaseError]]:
        """Do the stage's work, case after case."""
        results = iter(self.stage.work(cases))
        while True:
            with self.recorder.working():
                result = next(results, None)
            if result is None:
                return
            yield result

    def __call__(self, outcome: Outcome, *, computed: bool) -> None:
        """Take note of a case that is done, and pass it on."""
        if computed and outcome.status is Status.DONE:
            self.recorder.made(outcome.case)
        elif outcome.status is Status.FAILED:
            self.recorder.failed(outcome)
        self.progress(outcome, computed=computed)


def job_of(
    results: Results, stage: str, case: str, batch: str | None = None
) -> dict[str, Any] | None:
    """The start of the last job that made a case's result in a stage; None where nobody noted it.

    Parameters
    ----------
    results : folder of all outputs
    stage : as it was recorded
    case : its id
    batch : where to look; default: in every batch, because a table's rows may have moved
    """
    every = sorted(results.job_records(stage).glob("*.jsonl"))
    files = [results.job_record(stage, batch)] if batch else every
    found = [job for path in files if (job := _last_of(path, case)) is not None]
    return max(found, key=lambda job: str(job["made"]), default=None)


def _last_of(path: Path, case: str) -> dict[str, Any] | None:
    """The last job of a file that made a case: lines are in order whatever clocks say."""
    starts: dict[str, dict[str, Any]] = {}
    last = None
    for event in _events(path):
        if event["event"] == "start":
            starts[event["job"]] = event
        elif event["event"] == "case" and event["case"] == case:
            last = {"job": event["job"], **starts.get(event["job"], {}), "made": event["time"]}
    return last


def _events(path: Path) -> Iterator[dict[str, Any]]:
    """Events of a file; a line that a kill cut short is passed over."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
