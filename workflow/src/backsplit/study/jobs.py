"""The trainings of a study: which there are, and what makes two of them the same network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backsplit.config.base import IGNORE
from backsplit.config.study import Study
from backsplit.errors import Code, RunError
from backsplit.store.provenance import digest, read_json, versions
from backsplit.study.arms import Arm
from backsplit.train.settings import MANY_CLASSES, Settings, given_settings, has_side

REVISION = 3
"""Of how our trainers learn: with another one every network is trained again."""

TRAINERS = {
    "plans": "nnUNetTrainerBackSplit",
    "segresnet": "nnUNetTrainerBackSplitSegResNet",
}
FINAL = "checkpoint_final.pth"
LONGEST_KEY = 16
"""Digits of a key in the name of a folder."""


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes
    ----------
    arm : whose labels it is trained on
    fold : that it is validated on
    seed : 0, 1, …
    """

    arm: Arm
    fold: int
    seed: int

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.arm.name}, fold {self.fold}, seed {self.seed}"

    @property
    def options(self) -> str:
        """The options of a verb that name it."""
        return f"--arm {self.arm.name} --fold {self.fold} --seed {self.seed}"


def jobs_of(study: Study, arms: Sequence[Arm]) -> tuple[Job, ...]:
    """Every training: all arms of a seed before the next seed, so that what is done compares.

    An arm that starts from another one comes after it.
    """
    ordered = sorted(arms, key=lambda arm: arm.start is not None)
    return tuple(
        Job(arm, fold, seed)
        for seed in range(study.seeds)
        for fold in study.folds
        for arm in ordered
    )


@dataclass(frozen=True)
class Shared:
    """What all arms share, as `plan.json` says it.

    Attributes
    ----------
    plans : name of the plan
    sha256 : of the plan without the name of a data set
    structures : every structure of the configuration
    digests : case to the SHA-256 of each of its files
    """

    plans: str
    sha256: str
    structures: tuple[str, ...]
    digests: Mapping[str, Mapping[str, str]]

    @staticmethod
    def read(path: Path) -> Shared:
        """Read `plan.json`."""
        held = read_json(path)
        return Shared(held["plans"], held["sha256"], tuple(held["structures"]), held["cases"])


@dataclass(frozen=True)
class ArmSet:
    """Which set of labels an arm has, as `arms/ARM.json` says it.

    Attributes
    ----------
    dataset : name of its data set, DatasetNNN_KEY
    key : changes with anything that it is made from
    """

    dataset: str
    key: str

    @staticmethod
    def read(path: Path) -> ArmSet:
        """Read `arms/ARM.json`."""
        held = read_json(path)
        return ArmSet(held["dataset"], held["key"])


def settings_of(job: Job, study: Study, shared: Shared, described: Mapping[str, Any]) -> Settings:
    """Give the trainer's settings of a job; what is no matter of labels is the same in every arm.

    Parameters
    ----------
    job : the training
    study : section of the configuration
    shared : what all arms share
    described : dataset.json of the arm

    Raises
    ------
    RunError
        TRAINING_UNSUITED: `study.training` has a key that there is not, or one that the study sets.
    """
    partial = IGNORE in described["labels"]
    own: dict[str, Any] = {
        **study.budget.model_dump(),
        "save_every": 1,  # a job that is preempted loses an epoch at most
        "seed": job.seed + 1000 * job.arm.twin,
        "marginal": job.arm.unknown != "ignore" or not partial,
    }
    if both := sorted(own.keys() & study.training):
        raise RunError(
            Code.TRAINING_UNSUITED,
            f"study.training: {', '.join(both)} would have no effect",
            "remove it; study.budget, study.seeds and each arm's `unknown` and `twin` decide these",
        )
    given: dict[str, Any] = {
        "targets": 1.0,
        "anywhere": True,
        "mirroring": not any(map(has_side, shared.structures)),
        "nearest": len(shared.structures) >= MANY_CLASSES,
        **study.training,
        **own,
    }
    return given_settings(given, "study.training")


def training_key(
    job: Job, study: Study, shared: Shared, labels: ArmSet, settings: Settings, start: str | None
) -> str:
    """Changes with anything that decides which network comes out, and with nothing else.

    Neither the name of the arm nor the rest of the study is part of it: studies with the same
    folder of trained networks share those that would be the same.

    Parameters
    ----------
    job, study, shared : the training, and what it shares with others
    labels : its set of labels, folds included
    settings : of the trainer
    start : key of the training that it starts from
    """
    return digest(
        [
            REVISION,
            versions("nnunetv2"),
            shared.sha256,
            study.configuration,
            labels.key,
            job.fold,
            TRAINERS[job.arm.network],
            settings.model_dump(mode="json", exclude={"save_every"}),
            start,
        ]
    )


@dataclass(frozen=True)
class Trained:
    """A trained network, as `trained.json` says it.

    Attributes
    ----------
    model : trained-model folder of nnU-Net
    fold : its fold
    key : `training_key`
    sha256 : of its checkpoint
    cases : that it was trained on
    classes : background, targets and structures
    """

    model: Path
    fold: int
    key: str
    sha256: str
    cases: int
    classes: int

    @property
    def folder(self) -> Path:
        """Folder of the fold."""
        return self.model / f"fold_{self.fold}"

    @property
    def checkpoint(self) -> Path:
        """Its weights."""
        return self.folder / FINAL

    @staticmethod
    def read(path: Path) -> Trained:
        """Read `trained.json`."""
        held = read_json(path)
        return Trained(
            Path(held["model"]), held["fold"], held["key"], held["sha256"], held["cases"],
            held["classes"],
        )  # fmt: skip


def model_folder(trained: Path, dataset: str, network: str, key: str, configuration: str) -> Path:
    """Where a network of a key is trained; nnU-Net's own layout, the key in place of the plan."""
    return trained / dataset / f"{TRAINERS[network]}__{key[:LONGEST_KEY]}__{configuration}"


def found_models(trained: Path, key: str) -> Iterator[Path]:
    """Folders of networks of a key, whichever study trained them."""
    return trained.glob(f"*/*__{key[:LONGEST_KEY]}__*")
