"""What the trained networks of a study predict, how good it is, and the tables of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from backsplit.config.slices import lesion_values
from backsplit.errors import Code, RunError
from backsplit.flow.study import StudyProject, training_of
from backsplit.store.disk import atomic_path
from backsplit.store.provenance import file_sha256, read_json, write_json
from backsplit.store.results import VOLUME_ENDING
from backsplit.store.status import Outcome, Status
from backsplit.store.tsv import write_tsv
from backsplit.study.jobs import Job, Trained
from backsplit.study.table import CURVES, JOBS, LESIONS, NOISE, SCORES, typed
from backsplit.work.progress import Say


def predict(study: StudyProject, jobs: Sequence[Job], say: Say) -> None:
    """Predict the cases that each job's fold validates, with each way of deciding."""
    from backsplit.segment.weights import trust_own
    from backsplit.train.predict import Predicting
    from backsplit.train.predict import predict as predict_cases

    config = study.project.config
    for job in jobs:
        trained, notes = study.network(job), study.notes(job)
        cases = study.cases(job)
        decisions = [str(decision) for decision in study.study.decisions]
        made_from = {
            "sha256": trained.sha256,
            "decisions": decisions,
            "cases": [case.id for case in cases],
        }
        if _is_noted(notes.predicted, made_from):
            continue
        _require_unchanged(trained)
        trust_own(trained.sha256)
        failed: dict[str, str] = {}
        for decision in study.study.decisions:
            threshold = None if decision == "argmax" else float(decision)
            how = Predicting(trained.model, (trained.fold,), threshold=threshold)
            into = notes.predictions_by(str(decision))
            into.mkdir(parents=True, exist_ok=True)
            channels = list(config.dataset.channels)
            for case, error in predict_cases(cases, channels, config.run, how, into):
                if error is not None:
                    failed[case.id] = str(error.code)
                    say(f"[backsplit] study: {job.name}: {case.id}: {error}")
        write_json(notes.predicted, {**made_from, "failed": failed})
        say(f"[backsplit] study: {job.name}: {len(cases)} cases predicted, {len(failed)} failed")


def _is_noted(path: Path, made_from: dict[str, Any]) -> bool:
    if not path.exists():
        return False
    held = read_json(path)
    return not held["failed"] and all(held.get(key) == made_from[key] for key in made_from)


def _require_unchanged(trained: Trained) -> None:
    found = file_sha256(trained.checkpoint) if trained.checkpoint.exists() else "none"
    if found != trained.sha256:
        raise RunError(
            Code.WEIGHTS_CHANGED,
            f"{trained.checkpoint} is not the network that was trained (sha256 {found}, trained "
            f"{trained.sha256})",
            f"remove it and train again: rm -r {shlex.quote(str(trained.model))}",
        )


def evaluate(study: StudyProject, jobs: Sequence[Job], threads: int, say: Say) -> None:
    """Score the predictions against the lesions as they were drawn."""
    from backsplit.train.evaluation import Options
    from backsplit.train.evaluation import evaluate as score

    values = lesion_values(study.project.config)
    options = Options(study.study.tolerance_mm, threads=threads)

    def tell(outcome: Outcome) -> None:
        if outcome.status is Status.FAILED:
            say(f"[backsplit] study: {outcome.case}: {outcome.message}")

    for job in jobs:
        notes = study.notes(job)
        if not notes.predicted.exists():
            raise RunError(
                Code.FILE_MISSING,
                f"{notes.predicted} does not exist: {job.name} has no predictions",
                f"run {study.project.command(f'study predict {job.options}')} first",
            )
        failed = set(read_json(notes.predicted)["failed"])
        cases = [case for case in study.cases(job) if case.id not in failed]
        patients = {case.id: case.patient for case in cases}
        scores, lesions = [], []
        for decision in map(str, study.study.decisions):
            folder = notes.predictions_by(decision)
            found = {case.id: folder / f"{case.id}{VOLUME_ENDING}" for case in cases}
            scored = score(cases, values, found, options, tell)
            who: dict[str, Any] = {
                "arm": job.arm.name,
                "fold": job.fold,
                "seed": job.seed,
                "decision": decision,
            }
            has_lesion = scored.cases["reference_ml"] > 0
            scores.append(scored.cases.assign(**who, has_lesion=has_lesion))
            patient = scored.lesions["case"].map(patients)
            lesions.append(scored.lesions.assign(**who, patient=patient))
        _write(typed(pd.concat(lesions), LESIONS), notes.lesions)
        _write(typed(pd.concat(scores), SCORES), notes.scores)
        say(f"[backsplit] study: {job.name}: {len(cases)} cases scored")


def gather(study: StudyProject, say: Say) -> None:
    """Write the tables of the whole study.

    Raises
    ------
    RunError
        FILE_MISSING: a job has no scores.
    """
    from backsplit.study.training import read_curves

    folder, jobs = study.folder, study.jobs
    missing = [job for job in jobs if not study.notes(job).scores.exists()]
    if missing:
        raise RunError(
            Code.FILE_MISSING,
            f"{len(missing)} of {len(jobs)} trainings have no scores (first: {missing[0].name})",
            f"run {study.project.command('run study')}, or, one after another, "
            f"{study.project.command('study train')}, "
            f"{study.project.command('study predict')} and "
            f"{study.project.command('study evaluate')}",
        )
    if old := outdated(study):
        say(
            f"[backsplit] study: {len(old)} of {len(jobs)} trainings used other settings, "
            f"labels or another nnU-Net than today (first: {old[0].name}); to compare like with "
            f"like, run {study.project.command('run study')}"
        )
    for name, columns in (("lesions", LESIONS), ("scores", SCORES)):
        parts = [pd.read_parquet(getattr(study.notes(job), name)) for job in jobs]
        _write(typed(pd.concat(parts), columns), folder.table(name))
    rows, curves = [], []
    for job in jobs:
        trained, notes = study.network(job), study.notes(job)
        who: dict[str, Any] = {"arm": job.arm.name, "fold": job.fold, "seed": job.seed}
        curves.append(read_curves(trained.folder).assign(**who))
        failed = len(read_json(notes.predicted)["failed"])
        told = {
            "key": trained.key,
            "dataset": study.set_of(job.arm).dataset,
            "model": str(trained.model),
            "cases": trained.cases,
            "failed": failed,
        }
        rows.append({**who, **told})
    _write(pd.concat(curves)[list(CURVES)], folder.table("curves"))
    write_tsv(pd.DataFrame(rows, columns=list(JOBS)), folder.jobs)
    _gather_noise(study)
    say(f"[backsplit] study: {len(jobs)} trainings in {folder.table('scores')}")


def outdated(study: StudyProject) -> list[Job]:
    """Trainings whose network, or predictions, the configuration of today would not give.

    The verbs run by hand can leave some: another budget, or labels made again, and only one arm
    trained since.
    """
    return [
        job
        for job in study.jobs
        if (trained := study.network(job)).key != training_of(study, job, "cpu").key
        or read_json(study.notes(job).predicted)["sha256"] != trained.sha256
    ]


def _gather_noise(study: StudyProject) -> None:
    """How like the clean labels those of arms with noise or a control are."""
    parts = []
    for arm in study.arms:
        noted = study.folder.noise_of(study.set_of(arm).dataset)
        if (arm.noise is not None or arm.control is not None) and noted.exists():
            parts.append(pd.read_parquet(noted).assign(arm=arm.name))
    if parts:
        table = pd.concat(parts)[list(NOISE)]
        _write(table.reset_index(drop=True), study.folder.table("noise"))
    else:
        study.folder.table("noise").unlink(missing_ok=True)


def compare(study: StudyProject, say: Say) -> None:
    """Gather the tables, compare the arms, and write the page."""
    from backsplit.study.page import write_comparison
    from backsplit.study.paper import beside
    from backsplit.study.pictures import Artist

    gather(study, say)
    folder, project = study.folder, study.project
    cases = {case.id: case for job in study.jobs for case in study.cases(job)}
    noise, paper = folder.table("noise"), study.study.paper
    write_comparison(
        folder.table("scores"),
        folder.table("lesions"),
        folder.table("curves"),
        noise if noise.exists() else None,
        study.reference,
        folder.report,
        say,
        name=project.config.dataset.name,
        artist=Artist(cases, lesion_values(project.config), folder.predicted),
        paper=None if paper is None else beside(pd.read_parquet(folder.table("scores")), paper),
    )


def _write(table: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as temporary:
        table.to_parquet(temporary, index=False)
