"""What people see of a run: a line for each stage, failures as they happen, errors whole.

An engine says which job starts, ends or fails. What happened to the cases is read from the
results, so that the lines are the same wherever the jobs run.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backsplit.flow.plan import Plan
from backsplit.store.results import StageFolder
from backsplit.store.status import Outcome, Status, outcomes_in
from backsplit.work.progress import Say, clock

ERROR = "backsplit: "
"""A verb's own error begins its line with this."""

NOTE = "[backsplit] "
"""A line for people begins with this."""

PROGRESS = re.compile(r"about [\d:]+ left$")
"""Of a line that another one takes the place of."""

MOST_TOLD = 20
"""Failures of a stage that are printed; the summary counts all of them."""

LAST_LINES = 15
"""Lines of the log of a job that crashed."""


ENOUGH = 10
"""Fewest cases of a run that give the time of more: with fewer, starting jobs takes most of it."""


@dataclass(frozen=True)
class Job:
    """One job of the engine.

    Attributes
    ----------
    rule : of the workflow
    batch : whose cases it works on; None for stages that look at all cases
    segmenter : for the rule `segment`
    log : where its output goes
    """

    rule: str
    batch: str | None
    segmenter: str | None
    log: Path | None

    @property
    def stage(self) -> str:
        """As it is called in lines and records."""
        if self.segmenter is not None:
            return f"{self.rule} {self.segmenter}"
        return self.rule.replace("_", " ")


class _Tail:
    """Lines that are added to a file from now on; one that is not whole yet waits.

    An engine may remove a log before a job writes it anew: then all of it is new.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.inode, self.offset = self._state()
        self.read: list[str] = []

    def lines(self) -> list[str]:
        inode, size = self._state()
        if self.path is None or not size:
            return []
        if inode != self.inode or size < self.offset:
            self.inode, self.offset = inode, 0
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            added = stream.read()
        whole = added[: added.rfind(b"\n") + 1]
        self.offset += len(whole)
        found = whole.decode("utf-8", "replace").splitlines()
        self.read += found
        return found

    def _state(self) -> tuple[int, int]:
        """Inode and size; 0 where there is no file."""
        try:
            status = self.path.stat() if self.path is not None else None
        except FileNotFoundError:
            status = None
        return (0, 0) if status is None else (status.st_ino, status.st_size)


class _Stage:
    """Counts the cases of a stage that works a batch at a time."""

    def __init__(self, name: str, folder: StageFolder) -> None:
        self.name = name
        self.folder = folder
        self.began = time.monotonic()
        self.running: dict[str, _Tail] = {}
        self.finished: dict[str, int] = {}
        self.made: dict[str, int] = {}
        self.failed: dict[str, str] = {}
        self.told = 0
        self.said = False

    @property
    def done(self) -> int:
        """Cases with a result: of finished batches, and what running ones have made."""
        return sum(self.finished.values()) + sum(self.made[name] for name in self.running)

    @property
    def pace(self) -> float:
        """Seconds a case that was made in this run; 0 where none was."""
        made = sum(self.made.values())
        return (time.monotonic() - self.began) / made if made else 0.0


class Watch:
    """Follows a run.

    Parameters
    ----------
    plan : of the run
    say : prints a line that stays
    """

    def __init__(self, plan: Plan, say: Say) -> None:
        self.plan = plan
        self.results = plan.project.results
        self.say = say
        self.began = time.monotonic()
        self.failed_jobs: dict[str, str] = {}
        self.refused: dict[str, Outcome] = {}
        self._stages: dict[str, _Stage] = {}
        self._logs: dict[str, _Tail] = {}
        self._notes: dict[str, list[str]] = {}
        self._told: set[tuple[str, str]] = set()
        self._folders = {
            "check": self.results.check,
            **self.results.stages(plan.config.used_segmenters),
            "compose unrestricted": self.results.unrestricted,
        }

    def started(self, job: Job) -> None:
        """Take note of a job that starts."""
        self._logs[_name(job)] = _Tail(job.log)
        if job.batch is None or job.stage not in self._folders:
            if job.log is not None:
                self._notes[job.stage] = []
            return
        stage = self._stages.get(job.stage)
        if stage is None:
            stage = self._stages[job.stage] = _Stage(job.stage, self._folders[job.stage])
            for batch in self.plan.batches:  # of runs before
                if batch != job.batch and stage.folder.table(batch).exists():
                    self._finish(stage, batch)
        stage.running[job.batch] = _Tail(
            self.results.job_record(stage.name.replace(" ", "/"), job.batch)
        )
        stage.finished.pop(job.batch, None)
        stage.made[job.batch] = 0

    def finished(self, job: Job) -> None:
        """Take note of a job that ended well."""
        self.failed_jobs.pop(_name(job), None)
        stage = self._stages.get(job.stage)
        if stage is None or job.batch is None:
            self._read_notes(job.stage)
            for line in self._notes.pop(job.stage, ()):
                if not PROGRESS.search(line):
                    self.say(line)
            return
        self._read_events(stage)
        self._finish(stage, job.batch)
        stage.running.pop(job.batch, None)
        if stage.finished.keys() >= self.plan.batches.keys():
            self._say_end(stage)

    def failed(self, job: Job, logs: Sequence[Path] = ()) -> None:
        """Say why a job failed, whole, once; `logs` are all that there are, a scheduler's too."""
        stage = self._stages.get(job.stage)
        if stage is not None and job.batch is not None:
            self._read_events(stage)
            stage.running.pop(job.batch, None)
        self._notes.pop(job.stage, None)
        tail = self._logs.get(_name(job), _Tail(None))
        tail.lines()
        reason = _reason(tail.read, logs)
        again = self.failed_jobs.get(_name(job)) == reason
        self.failed_jobs[_name(job)] = reason
        if not again and ("", reason) not in self._told:
            self._told.add(("", reason))
            where = f" (batch {job.batch})" if job.batch is not None else ""
            self.say(f"{NOTE}{job.stage}{where}: stopped\n{reason}")

    def lines(self) -> Iterator[str]:
        """Where each stage that is at work is now."""
        for stage in self._stages.values():
            if stage.running:
                self._read_events(stage)
                yield f"{NOTE}{stage.name}: {self._counted(stage)}"
        for name, notes in self._notes.items():
            self._read_notes(name)
            yield notes[-1] if notes else f"{NOTE}{name}: running"

    def end(self) -> None:
        """Say where the stages are that did not finish."""
        for stage in self._stages.values():
            if not stage.said:
                self._say_end(stage)

    @property
    def seconds(self) -> float:
        """How long the run has taken."""
        return time.monotonic() - self.began

    def seconds_for(self, cases: int) -> float | None:
        """What so many cases would take by this run; None where it made few of its own.

        After a few cases most of the time went into starting jobs and into the stages that look at
        the whole data set, which say nothing of a case.
        """
        made = max((sum(stage.made.values()) for stage in self._stages.values()), default=0)
        told = made >= ENOUGH and self._is_most(made)
        return self.seconds / made * cases if told else None

    def _is_most(self, cases: int) -> bool:
        return cases > 1 and 2 * cases >= self._total()

    def _total(self) -> int:
        return len(self.plan.table) - len(self.refused)

    def _counted(self, stage: _Stage) -> str:
        total = self._total()
        text = f"{min(stage.done, total)}/{total} cases"
        left = total - stage.done - len(stage.failed)
        if stage.pace and left > 0:
            text += f", {stage.pace:.3g} s per case, about {clock(stage.pace * left)} left"
        return text + _failed(stage)

    def _say_end(self, stage: _Stage) -> None:
        stage.said = True
        total = self._total()
        text = f"{min(stage.done, total)}/{total} cases in {clock(time.monotonic() - stage.began)}"
        if self._is_most(sum(stage.made.values())):
            text += f", {stage.pace:.3g} s per case"
        refused = f", {len(self.refused)} refused" if stage.name == "check" and self.refused else ""
        self.say(f"{NOTE}{stage.name}: {text}{refused}{_failed(stage)}")

    def _finish(self, stage: _Stage, batch: str) -> None:
        """Count a batch by its status table, and name what failed in it."""
        try:
            rows = list(outcomes_in(stage.folder.table(batch)))
        except (OSError, KeyError, ValueError):
            rows = []
        for row in rows:
            if stage.name == "check" and row.status is Status.REFUSED:
                self.refused[row.case] = row
                self._tell(stage, row.case, f"refused: {row.reason}")
            elif row.status is Status.FAILED:
                stage.failed[row.case] = row.code
                self._tell(stage, row.case, f"failed: {row.reason}")
        stage.finished[batch] = sum(row.status in (Status.DONE, Status.OK) for row in rows)

    def _read_notes(self, stage: str) -> None:
        """Take what a job of a single stage said since."""
        added = self._logs.get(stage, _Tail(None)).lines()
        self._notes.setdefault(stage, []).extend(x for x in added if x.startswith(NOTE))

    def _read_events(self, stage: _Stage) -> None:
        """Count what running jobs noted of their cases since."""
        for batch, tail in stage.running.items():
            for line in tail.lines():
                try:
                    event = json.loads(line)
                except ValueError:
                    continue
                if event.get("event") == "case":
                    stage.made[batch] += 1
                elif event.get("event") == "failed":
                    stage.failed[event["case"]] = event["code"]
                    self._tell(stage, event["case"], f"failed: {event['reason']}")

    def _tell(self, stage: _Stage, case: str, what: str) -> None:
        """Say what became of a case, once; what follows from it in later stages is not said."""
        if (case, what) in self._told or any(
            case in other.failed for other in self._stages.values() if other is not stage
        ):
            return
        self._told.add((case, what))
        stage.told += 1
        if stage.told <= MOST_TOLD:
            self.say(f"{NOTE}{stage.name}: {case} {what}")
        elif stage.told == MOST_TOLD + 1:
            self.say(f"{NOTE}{stage.name}: there are more; {stage.folder.path}/*.tsv list them all")


def _name(job: Job) -> str:
    return job.stage if job.batch is None else f"{job.stage} {job.batch}"


def _failed(stage: _Stage) -> str:
    return f", {len(stage.failed)} failed" if stage.failed else ""


def _reason(lines: Sequence[str], logs: Sequence[Path]) -> str:
    """A verb's own error, or the last lines of a job that crashed or was killed."""
    starts = [number for number, line in enumerate(lines) if line.startswith(ERROR)]
    if starts:
        return "\n".join(lines[starts[-1] :])
    last = [f"  {line}" for line in lines if line.strip()][-LAST_LINES:]
    what = "the job crashed; its log ends:" if last else "the job crashed, or was killed"
    where = [f"  log: {log}" for log in logs]
    return "\n".join([f"{ERROR}{what}", *last, *where])
