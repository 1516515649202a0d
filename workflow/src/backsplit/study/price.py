"""What the trainings of a study take, from epochs that were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from backsplit.study.jobs import Job


@dataclass(frozen=True)
class Progress:
    """How far a study is.

    Attributes
    ----------
    jobs : its trainings
    epochs : of each training
    done : training to the epochs that it has done
    seconds : training to the median seconds of its epochs, where any was measured
    """

    jobs: Sequence[Job]
    epochs: int
    done: Mapping[Job, int]
    seconds: Mapping[Job, float]

    @property
    def finished(self) -> int:
        """Trainings that are done."""
        return sum(self.done.get(job, 0) >= self.epochs for job in self.jobs)

    def epoch_s(self, job: Job) -> float | None:
        """Seconds of an epoch: of the job, else of its arm, else of the slowest measured one."""
        if job in self.seconds:
            return self.seconds[job]
        of_arm = [s for other, s in self.seconds.items() if other.arm == job.arm]
        if of_arm:
            return median(of_arm)
        return max(self.seconds.values(), default=None)

    def all_s(self) -> float | None:
        """Seconds of all trainings, one after another; None where no epoch was measured."""
        return self._sum(dict.fromkeys(self.jobs, self.epochs))

    def left_s(self) -> float | None:
        """Seconds that are left."""
        return self._sum({job: self.epochs - self.done.get(job, 0) for job in self.jobs})

    def _sum(self, epochs: Mapping[Job, int]) -> float | None:
        times = [(self.epoch_s(job), max(0, count)) for job, count in epochs.items()]
        known = [seconds * count for seconds, count in times if seconds is not None]
        return sum(known) if len(known) == len(times) else None


def as_time(seconds: float) -> str:
    """Seconds for people: `40 s`, `12 min`, `5.2 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
