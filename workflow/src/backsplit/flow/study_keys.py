"""What the jobs of a study depend on, for a workflow engine: a job with the same key is not due."""

from __future__ import annotations

from dataclasses import dataclass, replace

from backsplit import __version__
from backsplit.flow.plan import Plan
from backsplit.flow.study import StudyProject
from backsplit.store.provenance import digest, plain, versions
from backsplit.study.arms import NOISE_REVISION
from backsplit.study.jobs import REVISION


@dataclass(frozen=True)
class StudyKeys:
    """Keys of a study's jobs, made from the configuration and the key of the export.

    They decide what is started. The job itself looks at contents: a network that would be the
    same is not trained again.

    Attributes
    ----------
    plan : keys of the data set
    study : the study
    """

    plan: Plan
    study: StudyProject

    def preprocess(self) -> str:
        """Changes with the data set, and with how nnU-Net plans."""
        given = self.study.study
        small = given.small and given.small.model_dump(mode="json")
        return digest([self.plan.export_key(), given.configuration, given.planner, small])

    def labels(self, arm: str) -> str:
        """Changes with an arm, with how its labels are made, and with `preprocess`."""
        return digest([plain(self.study.arm(arm)), self.preprocess(), NOISE_REVISION])

    def train(self, arm: str, fold: int, seed: int) -> str:
        """Changes with labels, settings and nnU-Net, and with the arm that it starts from."""
        given, start = self.study.study, self.study.arm(arm).start
        by = [REVISION, versions("nnunetv2")]
        how = [given.budget.model_dump(mode="json"), given.training, str(given.trained), *by]
        before = start and self.train(start, fold, seed)
        return digest([self.labels(arm), fold, seed, how, before])

    def predict(self, arm: str, fold: int, seed: int) -> str:
        """Changes with the network, and with how a voxel becomes a target."""
        return digest([list(self.study.study.decisions), self.train(arm, fold, seed)])

    def evaluate(self, arm: str, fold: int, seed: int) -> str:
        """Changes with the predictions, and with what they are scored by."""
        return digest([self.study.study.tolerance_mm, self.predict(arm, fold, seed)])

    def compare(self) -> str:
        """Changes with any score, and with what the page puts beside them."""
        scores = [self.evaluate(job.arm.name, job.fold, job.seed) for job in self.study.jobs]
        return digest([__version__, scores, self.study.reference, self.study.study.paper])

    def before(self, arm: str) -> list[str]:
        """Arms that are trained first: the one it starts from, and one with the same network.

        `nested_0` is `binary`: a job that waited for the other's network would keep a GPU idle.
        """
        mine = self.study.arm(arm)
        alike = (one.name for one in self.study.arms if replace(one, name=arm) == mine)
        first = {mine.start, next(alike)}
        return sorted(name for name in first - {None, arm} if name is not None)
