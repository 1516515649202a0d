"""A study of a project: sets, trainings, predictions, scores. `study` knows no project."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from backsplit.cases.table import Case
from backsplit.config.study import Study
from backsplit.errors import Code, RunError
from backsplit.export.nnunet import datasets
from backsplit.flow.project import Project
from backsplit.store.locks import claimed
from backsplit.store.provenance import digest, read_json, write_json
from backsplit.store.results import Results
from backsplit.store.study import JobFolder, StudyFolder
from backsplit.study.arms import Arm, arms_of, reference_arm
from backsplit.study.jobs import (
    ArmSet,
    Job,
    Shared,
    Trained,
    jobs_of,
    settings_of,
    training_key,
)
from backsplit.study.price import as_time
from backsplit.study.source import Source, open_source
from backsplit.work.progress import Say

if TYPE_CHECKING:
    from backsplit.study.training import Training

PLANNERS = {
    "default": "ExperimentPlanner",
    "ResEncM": "nnUNetPlannerResEncM",
    "ResEncL": "nnUNetPlannerResEncL",
    "ResEncXL": "nnUNetPlannerResEncXL",
}


@dataclass(frozen=True)
class StudyProject:
    """The study of a project.

    Attributes
    ----------
    project : the project
    """

    project: Project

    @property
    def study(self) -> Study:
        """The section of the configuration.

        Raises
        ------
        RunError
            CONFIG_INVALID where there is none.
        """
        study = self.project.config.study
        if study is None:
            raise RunError(
                Code.CONFIG_INVALID,
                f"{self.project.path} has no section `study`",
                "add one with arms: {binary: {structures: []}, backsplit: {}}",
            )
        return study

    @property
    def folder(self) -> StudyFolder:
        """Where the study lies."""
        return self.project.results.study

    @property
    def trained(self) -> Path:
        """Folder of the trained networks."""
        return self.study.trained or self.folder.trained

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """Every arm."""
        config = self.project.config
        arms = arms_of(self.study, tuple(config.structures), config.compose.nested)
        names = [arm.name for arm in arms]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise RunError(
                Code.CONFIG_INVALID,
                f"the study has two arms {twice[0]!r}",
                "rename one: `nested` and `leave_one_out` give NAME_0, …, and NAME_STRUCTURE, …",
            )
        return arms

    @property
    def reference(self) -> str:
        """The arm that others are compared with."""
        return reference_arm(self.study, self.arms)

    @cached_property
    def jobs(self) -> tuple[Job, ...]:
        """Every training, in order."""
        return jobs_of(self.study, self.arms)

    @cached_property
    def source(self) -> Source:
        """The exported data set with every label."""
        main, table = datasets(self.project.config)[0], self.project.table
        patients = {case.id: case.patient for case in table.with_ids(table.ids)}
        source = open_source(main, patients)
        if (most := max(self.study.folds)) >= len(source.splits):
            raise RunError(
                Code.CONFIG_INVALID,
                f"study.folds names fold {most}, but {source.dataset.splits} has "
                f"{len(source.splits)} folds",
                f"name folds from 0 to {len(source.splits) - 1}",
            )
        return source

    @cached_property
    def shared(self) -> Shared:
        """What all arms share.

        Raises
        ------
        RunError
            FILE_MISSING before `backsplit study preprocess`.
        """
        if not self.folder.plan.exists():
            raise RunError(
                Code.FILE_MISSING,
                f"{self.folder.plan} does not exist",
                f"run {self.project.command('study preprocess')} first",
            )
        return Shared.read(self.folder.plan)

    def arm(self, name: str) -> Arm:
        """An arm by its name.

        Raises
        ------
        RunError
            CONFIG_INVALID
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise RunError(
            Code.CONFIG_INVALID,
            f"the study has no arm {name!r}",
            f"name one of {', '.join(arm.name for arm in self.arms)}",
        )

    def set_of(self, arm: Arm) -> ArmSet:
        """The set of labels of an arm.

        Raises
        ------
        RunError
            FILE_MISSING before `backsplit study labels`.
        """
        path = self.folder.arm(arm.name)
        if not path.exists():
            raise RunError(
                Code.FILE_MISSING,
                f"{path} does not exist",
                f"run {self.project.command(f'study labels --arm {arm.name}')} first",
            )
        return ArmSet.read(path)

    def notes(self, job: Job) -> JobFolder:
        """Where a job's small files lie."""
        return self.folder.job(job.arm.name, job.fold, job.seed)

    def network(self, job: Job) -> Trained:
        """The network of a job.

        Raises
        ------
        RunError
            FILE_MISSING before it is trained.
        """
        path = self.notes(job).trained
        if not path.exists():
            raise RunError(
                Code.FILE_MISSING,
                f"{path} does not exist: {job.name} is not trained",
                f"run {self.project.command(f'study train {job.options}')} first",
            )
        return Trained.read(path)

    def wanted(
        self, arm: str | None = None, fold: int | None = None, seed: int | None = None
    ) -> list[Job]:
        """Jobs of an arm, fold and seed; None: of all.

        Raises
        ------
        RunError
            CONFIG_INVALID: there is none.
        """
        if arm is not None:
            self.arm(arm)
        found = [
            job
            for job in self.jobs
            if arm in (None, job.arm.name) and fold in (None, job.fold) and seed in (None, job.seed)
        ]
        if not found:
            raise RunError(
                Code.CONFIG_INVALID,
                f"the study has no training of fold {fold}, seed {seed}",
                f"its folds are {', '.join(map(str, self.study.folds))}, its seeds 0 to "
                f"{self.study.seeds - 1}",
            )
        return found

    def cases(self, job: Job) -> list[Case]:
        """Cases that a job's fold validates."""
        return self.project.table.with_ids(self.source.splits[job.fold]["val"])


def preprocess(study: StudyProject, processes: int, say: Say) -> None:
    """Plan with every label, and preprocess the images once."""
    from functools import partial

    from backsplit.study.preprocess import plan_apart, small_plans
    from backsplit.train.plans import Planning

    given, source, folder = study.study, study.source, study.folder
    planner = PLANNERS.get(given.planner, given.planner)
    small = given.small
    adjust = (
        None
        if small is None
        else partial(small_plans, configuration=given.configuration, small=small)
    )
    digests = source.digests()
    asked = [planner, given.configuration, small and small.model_dump(mode="json")]
    key = digest([digests, source.described, asked])
    planning = Planning(
        source.dataset.folder.parent,
        folder.preprocessed,
        planner,
        [given.configuration],
        processes,
        adjust,
    )
    ready = planning.folder(source.dataset)
    noted = folder.plan_of(ready.name)  # an engine removes its outputs before a job
    if noted.exists() and read_json(noted)["key"] == key:
        write_json(folder.plan, read_json(noted))
        say(f"[backsplit] study: {ready.name} is already preprocessed")
        return
    folder.plan.unlink(missing_ok=True)
    shutil.rmtree(ready, ignore_errors=True)
    say(f"[backsplit] study: nnU-Net plans and preprocesses {source.dataset.folder.name}")
    path = plan_apart(source.dataset, planning)
    plans = {key: held for key, held in read_json(path).items() if key != "dataset_name"}
    content = {
        "key": key,
        "plans": path.stem,
        "sha256": digest(plans),
        "structures": list(source.structures),
        "cases": digests,
    }
    write_json(noted, content)
    write_json(folder.plan, content)


def labels(study: StudyProject, arm: str | None, say: Say) -> None:
    """Make the data set of an arm, or of all; what another arm has already made is used."""
    study.source.require_unchanged(study.shared.digests)
    for one in [study.arm(arm)] if arm is not None else study.arms:
        _labels(study, one, say)


def _labels(study: StudyProject, arm: Arm, say: Say) -> None:
    from backsplit.export.nnunet import NnUNetDataset
    from backsplit.study.preprocess import relabelled
    from backsplit.study.sets import label_set, write_set
    from backsplit.train.plans import Planning, share

    config, folder, source, shared = (
        study.project.config, study.folder, study.source, study.shared
    )  # fmt: skip
    made = label_set(arm, source)
    key = made.key(shared.digests)
    name = f"Dataset{config.dataset.id:03d}_{key[:12]}"
    dataset = NnUNetDataset(folder.raw / name)
    planning = Planning(folder.raw, folder.preprocessed, "", [study.study.configuration], 1)
    ready, note = planning.folder(dataset), folder.arm(arm.name)
    with claimed(study.project.results, f"study {name}", say):  # other arms may have the same
        if not dataset.json.exists():
            say(f"[backsplit] study: {arm.name}: {', '.join(made.names)}")
            link = config.export.nnunet.mode == "symlink"
            write_set(made, dataset.folder, folder.noise_of(name), link=link)
        if not is_made_with(ready, shared, study.study.configuration):
            plans = folder.preprocessed / source.dataset.folder.name / f"{shared.plans}.json"
            relabel = relabelled(made, dataset, plans, study.study.configuration)
            share(plans, source.dataset, dataset, relabel, planning)
    write_json(note, {"dataset": name, "key": key, "labels": list(made.names)})
    say(f"[backsplit] study: {arm.name}: {name}")


def is_made_with(ready: Path, shared: Shared, configuration: str) -> bool:
    """Whether a preprocessed data set has the plan that all arms share now, and its cases."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    path = ready / f"{shared.plans}.json"
    if not path.exists():
        return False
    plans = read_json(path)
    manager = PlansManager(dict(plans))
    del plans["dataset_name"]
    if digest(plans) != shared.sha256:
        return False
    # one plan has several configurations, and only that of the study was preprocessed
    identifier: str = manager.get_configuration(configuration).data_identifier
    return (ready / identifier).is_dir()


def train(study: StudyProject, jobs: Sequence[Job], say: Say) -> None:
    """Train networks, one after another; each goes on where it was cut off."""
    from backsplit.segment.device import choose_device
    from backsplit.study.training import as_note, set_environment
    from backsplit.study.training import train as train_one

    folder, given = study.folder, study.study
    set_environment(folder, study.trained, given.augmenters)
    device = ""
    for job in jobs:
        training = training_of(study, job, device or "cpu")
        done = training.network()
        if done is None:
            device = device or choose_device(study.project.config.run.device)
            training = training_of(study, job, device)
            epochs = given.budget.epochs

            def tell(epoch: int, seconds: float, job: Job = job, epochs: int = epochs) -> None:
                untrained = sum(not study.notes(one).trained.exists() for one in study.jobs) - 1
                left = as_time(seconds * (epochs - epoch + untrained * epochs))
                say(
                    f"[backsplit] study: {job.name}: epoch {epoch}/{epochs}; "
                    f"{left} for all trainings one after another"
                )

            with claimed(Results(study.trained), f"train {training.key}", say):
                done = train_one(training, tell)
        write_json(study.notes(job).trained, as_note(done))
        trained = sum(study.notes(one).trained.exists() for one in study.jobs)
        say(f"[backsplit] study: {job.name} is trained; {trained} of {len(study.jobs)}")


def forget_networks_that_are_gone(study: StudyProject) -> None:
    """Remove the note of each training whose network was removed: it is due again."""
    for job in study.jobs:
        note = study.notes(job).trained
        if note.exists() and not Trained.read(note).checkpoint.exists():
            note.unlink()


def training_of(study: StudyProject, job: Job, device: str) -> Training:
    """Everything that a job's training needs."""
    from backsplit.study.training import Training

    labels = study.set_of(job.arm)
    described = read_json(study.folder.preprocessed / labels.dataset / "dataset.json")
    settings = settings_of(job, study.study, study.shared, described)
    start = None
    if job.arm.start is not None:
        start = study.network(Job(study.arm(job.arm.start), job.fold, job.seed))
    key = training_key(
        job, study.study, study.shared, labels, settings, None if start is None else start.key
    )
    return Training(
        job,
        key,
        settings,
        labels,
        study.shared,
        study.study.configuration,
        study.folder,
        study.trained,
        device,
        study.study.augmenters,
        start,
    )
