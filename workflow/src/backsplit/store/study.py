"""The folder of a study: where each of its files lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class JobFolder:
    """What is noted of one training, and what it predicted.

    Attributes
    ----------
    notes : folder of its small files
    predictions : folder of its predictions
    """

    notes: Path
    predictions: Path

    @property
    def trained(self) -> Path:
        """Which network it is, written when it is trained."""
        return self.notes / "trained.json"

    @property
    def predicted(self) -> Path:
        """Written when every case was predicted."""
        return self.notes / "predicted.json"

    def predictions_by(self, decision: str) -> Path:
        """Folder of the label maps of a decision."""
        return self.predictions / decision

    @property
    def lesions(self) -> Path:
        """Scores of its lesions."""
        return self.notes / "lesions.parquet"

    @property
    def scores(self) -> Path:
        """Scores of its cases, written last."""
        return self.notes / "scores.parquet"


@dataclass(frozen=True)
class StudyFolder:
    """A study's folder; `root` is `study` in the results."""

    root: Path

    @property
    def plan(self) -> Path:
        """The plan that all arms share, and what it was made from."""
        return self.root / "plan.json"

    def plan_of(self, dataset: str) -> Path:
        """The same beside the preprocessed data set with every label."""
        return self.preprocessed / dataset / "study_plan.json"

    @property
    def measured(self) -> Path:
        """What an epoch takes, where it was measured before any training."""
        return self.root / "measured.json"

    @property
    def raw(self) -> Path:
        """nnU-Net's raw data sets, one a set of labels."""
        return self.root / "raw"

    def noise_of(self, dataset: str) -> Path:
        """How like the clean labels those of a data set are, where it has noise."""
        return self.raw / dataset / "noise.parquet"

    @property
    def preprocessed(self) -> Path:
        """nnU-Net's preprocessed data sets."""
        return self.root / "preprocessed"

    @property
    def trained(self) -> Path:
        """Trained networks, unless they go elsewhere."""
        return self.root / "trained"

    def arm(self, arm: str) -> Path:
        """Which set of labels an arm has, written when it is whole."""
        return self.root / "arms" / f"{arm}.json"

    def job(self, arm: str, fold: int, seed: int) -> JobFolder:
        """What is noted of a training."""
        name = f"fold_{fold}_seed_{seed}"
        return JobFolder(self.root / "jobs" / arm / name, self.predicted / arm / name)

    @property
    def predicted(self) -> Path:
        """Folder of all predictions."""
        return self.root / "predicted"

    def table(self, name: str) -> Path:
        """A table of the whole study: scores, lesions, curves, noise."""
        return self.root / f"{name}.parquet"

    @property
    def jobs(self) -> Path:
        """A row for each training."""
        return self.root / "jobs.tsv"

    @property
    def report(self) -> Path:
        """Folder of what came out."""
        return self.root / "report"

    def advice(self, name: str) -> Path:
        """A table of what is known of each structure."""
        return self.root / "advice" / f"{name}.tsv"
