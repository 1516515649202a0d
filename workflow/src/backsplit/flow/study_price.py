"""What a study costs before it starts, and how far it is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

from backsplit.flow.study import StudyProject, training_of
from backsplit.store.provenance import read_json, write_json
from backsplit.study.jobs import Job
from backsplit.study.price import Progress, as_time
from backsplit.study.training import CURVES, read_curves, set_environment
from backsplit.work.progress import Say

MEASURED_STEPS = 10
"""Steps of an epoch that is measured; a whole one is taken to be so many times longer."""


def price(study: StudyProject) -> Iterator[str]:
    """Lines of trainings, the time of an epoch, and what is left; nothing is trained."""
    given, progress = study.study, progress_of(study)
    arms, folds, seeds = len(study.arms), len(given.folds), given.seeds
    yield (
        f"{len(progress.jobs)} trainings ({arms} arms, {folds} folds, {seeds} seeds) of "
        f"{given.budget.epochs} epochs; {progress.finished} done"
    )
    whole, left = progress.all_s(), progress.left_s()
    if whole is None or left is None:
        yield (
            f"no epoch measured yet; {study.project.command('study plan --measure')} times "
            f"{MEASURED_STEPS} steps, once {study.project.command('study preprocess')} and "
            f"{study.project.command('study labels')} have run"
        )
        return
    epochs = [progress.epoch_s(job) or 0.0 for job in progress.jobs]
    fastest, slowest = min(epochs), max(epochs)
    one = as_time(slowest)
    yield f"an epoch takes {one if fastest == slowest else f'{as_time(fastest)} to {one}'}"
    hours = f"{whole / 3600:.2f}" if whole < 36000 else f"{whole / 3600:.0f}"
    yield f"training alone takes {hours} h on the device used for timing; {as_time(left)} left"


def progress_of(study: StudyProject) -> Progress:
    """How far each training is, from the curves beside its checkpoint."""
    done: dict[Job, int] = {}
    keys: dict[str, Job] = {}
    seconds: dict[Job, float] = {}
    ready = study.folder.plan.exists()
    for job in study.jobs if ready else ():
        if not study.folder.arm(job.arm.name).exists() or not _may_start(study, job):
            continue
        training = training_of(study, job, "cpu")
        keys.setdefault(training.key, job)
        trained = training.network()
        fold = training.fold if trained is None else trained.folder
        if (fold / CURVES).exists():
            curves = read_curves(fold)
            done[job] = len(curves)
            seconds[job] = float(curves["seconds"].median())
    if not seconds and study.folder.measured.exists():
        measured = read_json(study.folder.measured)
        slowest = keys.get(str(measured.get("key")))
        if slowest is not None:  # else it was measured with other settings
            seconds[slowest] = measured["seconds"]
    return Progress(study.jobs, study.study.budget.epochs, done, seconds)


def _may_start(study: StudyProject, job: Job) -> bool:
    """Whether the network that a job starts from is trained."""
    if job.arm.start is None:
        return True
    return study.notes(Job(study.arm(job.arm.start), job.fold, job.seed)).trained.exists()


def measure(study: StudyProject, say: Say) -> None:
    """Train a few steps of the arm with the most classes, and note what an epoch would take.

    Raises
    ------
    RunError
        FILE_MISSING before the sets are made.
    """
    from backsplit.segment.device import choose_device
    from backsplit.study.training import train

    given = study.study
    own = [job for job in study.jobs if job.arm.start is None]
    slowest = max(own, key=lambda job: len(job.arm.structures))
    device = choose_device(study.project.config.run.device)
    training = training_of(study, slowest, device)
    steps = min(MEASURED_STEPS, given.budget.iterations)
    factor = given.budget.iterations / steps
    checks = max(1, round(given.budget.validation_iterations / factor))
    short = {"epochs": 2, "iterations": steps, "validation_iterations": checks}
    settings = training.settings.model_copy(update=short)
    trained = study.folder.measured.parent / "measured"
    shutil.rmtree(trained, ignore_errors=True)
    set_environment(study.folder, trained, given.augmenters)
    taken: list[float] = []
    train(
        replace(training, settings=settings, trained=trained, key="measured"),
        lambda epoch, seconds: taken.append(seconds),
    )
    shutil.rmtree(trained)
    found = {"arm": slowest.arm.name, "device": device, "seconds": taken[-1] * factor}
    write_json(study.folder.measured, {**found, "key": training.key})
    say(f"[backsplit] study: {steps} steps of {slowest.name} took {taken[-1]:.1f} s on {device}")
