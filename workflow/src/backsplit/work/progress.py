"""Progress that a person sees: which stage, cases done of all, time left."""

from __future__ import annotations

import time
from collections.abc import Callable

from backsplit.store.status import Outcome, Status

Say = Callable[[str], None]
"""Prints a line where people read it."""

RUN_VARIABLE = "BACKSPLIT_RUN"
"""Names the run of a workflow whose job this process is. Such a job prints to its log alone: the
run's own lines are made from the results. What it reports as an error is not tried again."""

INTERVAL_S = 2.0
"""Lines come no faster than this, so that a log stays readable."""


def clock(seconds: float) -> str:
    """A duration as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class StageProgress:
    """Counts the cases of one stage over the whole data set.

    Parameters
    ----------
    stage : what is being done, as `segment organs`
    total : cases of the data set
    elsewhere : counts the cases of the other batches that are finished by now
    say : prints a line where people read it
    """

    def __init__(self, stage: str, total: int, elsewhere: Callable[[], int], say: Say) -> None:
        self.stage = stage
        self.total = total
        self.mine = 0
        self.elsewhere = elsewhere
        self.say = say
        self.failed = 0
        self.computed = 0
        self.started = time.monotonic()
        self.last = 0.0

    def __call__(self, outcome: Outcome, *, computed: bool) -> None:
        """Count one case; failures are always said."""
        self.mine += 1
        self.computed += computed
        bad = outcome.status is Status.FAILED
        self.failed += bad
        if bad:
            self._say(f"{outcome.case} failed: {outcome.reason}")
        now = time.monotonic()
        if computed and (bad or now - self.last >= INTERVAL_S):
            self.last = now
            done = self._done()
            self._say(f"{done}/{self.total} cases, {self._left(now, self.total - done)}")

    def end(self) -> None:
        """Say how far the stage is when its batch is done; nothing where it has no case."""
        if self.total:
            failed = f", {self.failed} failed" if self.failed else ""
            self._say(f"{self._done()}/{self.total} cases done{failed}")

    def _done(self) -> int:
        return self.mine + self.elsewhere()

    def _left(self, now: float, cases: int) -> str:
        """Time for so many cases at the pace of this job."""
        seconds = (now - self.started) / max(self.computed, 1) * cases
        return f"about {clock(seconds)} left"

    def _say(self, text: str) -> None:
        self.say(f"[backsplit] {self.stage}: {text}")
