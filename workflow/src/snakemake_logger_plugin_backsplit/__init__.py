"""Snakemake's terminal, quiet: `--logger backsplit`, which profiles/default sets.

Snakemake finds it by its name. A dry run, `--verbose` and `--printshellcmds` print as ever.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from backsplit.flow.summary import summary
from backsplit.flow.watch import Job, Watch
from backsplit.work.progress import RUN_VARIABLE

TERMINAL_S, FILE_S = 1.0, 60.0
"""How often the lines of running stages are made again: on a terminal in place, else below."""

CHATTER = ("Building DAG of jobs", "Assuming unrestricted shared filesystem")
"""Of what Snakemake says before it starts, or where it only answers a question."""

PLACE = re.compile(r"^\w+ in file .*, line \d+:\n+", re.S)
"""Where in a rule an error was raised: our own errors are no fault of the rule."""

END = re.compile("At least one job did not complete|Exiting because a job execution failed")
"""What the summary says better."""


class LogHandler(LogHandlerBase):
    """Prints a line for each stage, failures as they happen, errors whole, and a summary."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        settings = self.common_settings
        self.stream = sys.stdout if settings.stdout else sys.stderr
        self.plain = ColorizingTextHandler(nocolor=settings.nocolor, stream=self.stream)
        self.plain.setFormatter(DefaultFormatter(settings.quiet, settings.show_failed_logs))
        self.plain.addFilter(
            DefaultFilter(
                settings.quiet,
                settings.debug_dag,
                settings.verbose,
                settings.dryrun,
                settings.printshellcmds,
            )
        )
        self.talkative = any(
            [settings.dryrun, settings.verbose, settings.debug_dag, settings.printshellcmds]
        )
        self.plan: Any = None
        self.watch: Watch | None = None
        self.jobs: dict[int, Job] = {}
        self.running = False
        self.expected = 0
        self.ended = 0
        self.shown = 0
        self.last = time.monotonic()
        self.writing = threading.RLock()
        self.over = threading.Event()
        if not self.talkative:
            os.environ.setdefault(RUN_VARIABLE, uuid.uuid4().hex[:12])

    def emit(self, record: logging.LogRecord) -> None:
        """Print what matters of a record of Snakemake."""
        try:
            with self.writing:
                self._emit(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Say how the run ended."""
        self.over.set()
        if self.watch is not None:
            with self.writing:
                self.watch.end()
                whole = self.ended >= self.expected and not self.watch.failed_jobs
                for line in summary(self.watch.plan, self.watch, whole=whole):
                    self._say(line)
            self.watch = None
        super().close()

    def _emit(self, record: logging.LogRecord) -> None:
        self.plan = getattr(record, "backsplit_plan", self.plan)
        if self.talkative:
            self.plain.handle(record)
        elif getattr(record, "backsplit", False):
            self._say(f"[backsplit] {record.getMessage()}")
        elif record.levelno >= logging.WARNING:
            if not getattr(record, "backsplit_later", False):  # raised again when a run starts
                self._emit_error(record)
        elif record.msg == NOTHING_TO_BE_DONE_MSG:
            self._say(NOTHING_TO_BE_DONE_MSG)
            self.watch = None if self.plan is None else Watch(self.plan, self._say)
        elif self.watch is not None:
            self._follow(self.watch, record)
        elif getattr(record, "event", None) is LogEvent.RUN_INFO and self.plan is not None:
            self._start(record)
        elif getattr(record, "event", None) is LogEvent.WORKFLOW_STARTED:
            self.running = True
        elif not self.running and not str(record.msg).startswith(CHATTER):
            self.plain.handle(record)

    def _start(self, record: logging.LogRecord) -> None:
        stats = getattr(record, "stats", {})
        self.expected = int(stats.get("total", 0))
        self.watch = Watch(self.plan, self._say)
        threading.Thread(target=self._tick, daemon=True).start()

    def _follow(self, watch: Watch, record: logging.LogRecord) -> None:
        event, facts = getattr(record, "event", None), record.__dict__
        if event is LogEvent.JOB_INFO:
            logs, wildcards = facts["log"], facts["wildcards"]
            self.jobs[facts["jobid"]] = job = Job(
                facts["rule_name"],
                wildcards.get("batch"),
                wildcards.get("segmenter"),
                Path(logs[0]) if logs else None,
            )
            watch.started(job)
        elif event is LogEvent.JOB_FINISHED:
            self.ended += 1
            if (job_ := self.jobs.get(facts["job_id"])) is not None:
                watch.finished(job_)

    def _emit_error(self, record: logging.LogRecord) -> None:
        event, facts = getattr(record, "event", None), record.__dict__
        if event is LogEvent.JOB_ERROR:
            if self.watch is not None and facts["jobid"] in self.jobs:
                self.watch.failed(self.jobs[facts["jobid"]], [Path(log) for log in facts["log"]])
            else:
                self.plain.handle(record)
            return
        if facts.get("exception") in ("RuleException", "CalledProcessError", "SpawnedJobError"):
            return  # of a job whose error is told
        text = PLACE.sub("", record.getMessage()).strip()
        if text and not END.search(text):
            self._say(f"backsplit: {text}" if event is LogEvent.ERROR else text)

    def _tick(self) -> None:
        """Bring the lines of running stages up to date, until the run ends."""
        while not self.over.wait(TERMINAL_S):
            with self.writing:
                if self.watch is None:
                    return
                lines = list(self.watch.lines())
                if self.plain.is_tty:
                    self._clear()
                    width = shutil.get_terminal_size().columns - 1  # a wrapped line would stay
                    self.stream.write("".join(f"{line[:width]}\n" for line in lines))
                    self.shown = len(lines)
                    self.stream.flush()
                elif lines and time.monotonic() - self.last > FILE_S:
                    for line in lines:
                        self._say(line)

    def _say(self, text: str) -> None:
        self._clear()
        self.stream.write(f"{text}\n")
        self.stream.flush()
        self.last = time.monotonic()

    def _clear(self) -> None:
        """Take back the lines of running stages: they are printed again below."""
        if self.shown:
            self.stream.write(f"\x1b[{self.shown}A\x1b[J")
            self.shown = 0
