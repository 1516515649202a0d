"""Stages that work through the cases a batch at a time: check, segment, compose, measure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from backsplit.cases.table import batches, load_checked, write_checked
from backsplit.config.slices import lesion_values, merging, placing
from backsplit.errors import Code, RunError
from backsplit.flow import grouped
from backsplit.flow.check import CheckReport
from backsplit.flow.check import check as run_check
from backsplit.flow.lacking import COST_OF_UNKNOWN, partly_known
from backsplit.flow.plan import Plan, begin, forget_others
from backsplit.flow.project import Project
from backsplit.store import versions
from backsplit.store.disk import atomic_path
from backsplit.store.locks import claimed
from backsplit.store.provenance import write_json
from backsplit.store.results import StageFolder
from backsplit.store.status import Outcome, Status, failures, write_outcomes
from backsplit.work.batch import Stage, run_batch
from backsplit.work.jobs import RecordedStage, job, recorded
from backsplit.work.progress import Say, StageProgress

if TYPE_CHECKING:
    from backsplit.compose.stage import Composing
    from backsplit.measure.stage import Draw, Measuring


def check(path: Path, batch: str | None, threads: int, say: Say) -> int:
    """Check the configuration and the table, or one batch of it.

    Returns
    -------
    problems
        How many were found of which none stops a run.

    Raises
    ------
    RunError
        Something is wrong that concerns every case; or a case, and run.on_bad_case is stop.
    """
    report = run_check(path, batch, threads)
    for problem in (*report.fatal, *report.lacking):
        say(str(problem))
    project = report.project
    table = None if project is None or report.fatal else str(project.results.cases)
    for line in grouped.lines(report.problems, len(report.checked), table):
        say(line)
    if project is not None and batch is None:
        scheme = project.resolved.scheme
        for winner, loser in (pair for pair in scheme.exceptions if pair[1] in scheme.targets):
            say(f"[backsplit] check: compose.except: {winner} takes voxels from the lesion {loser}")
        if project.config.compose.nested:
            say(
                "[backsplit] check: compose.nested: nnU-Net plans each data set by its own labels "
                "and clips CT differently; for one plan: backsplit train plan"
            )
        if known := partly_known(project, report.checked):
            say(
                f"[backsplit] check: {known} of {len(report.checked)} cases leave structures out; "
                f"their voxels become `ignore`: {COST_OF_UNKNOWN}"
            )
    refused = sum(c.status is not Status.OK for c in report.checked)
    name = "check" if batch is None else f"check batch {batch}"
    small = len(report.lacking) + len(report.problems)
    found = len(report.fatal) + small
    say(
        f"[backsplit] {name}: {len(report.checked)} cases, {refused} refused, "
        f"{found} problem{'' if found == 1 else 's'}"
    )
    if report.fatal:
        raise RunError(
            report.fatal[0].code,
            f"{path} cannot be run",
            f"first fix the {len(report.fatal)} problem(s) above that affect every case",
        )
    assert project is not None
    _write_check(project, report, batch, say)
    if batch is None:
        from backsplit.flow.leftovers import reminder

        cases(project, say)
        if not small:
            say(f"[backsplit] check: next: `backsplit run -c {shlex.quote(str(path))}`")
        for line in reminder(project):
            say(f"[backsplit] check: {line}")
    if refused and project.config.run.on_bad_case == "stop":
        raise RunError(
            Code.TABLE_INVALID,
            f"{refused} case(s) are refused and run.on_bad_case is stop",
            "correct their rows, or set run.on_bad_case to quarantine",
        )
    return small


def _write_check(project: Project, report: CheckReport, batch: str | None, say: Say) -> None:
    results, count = project.results, len(report.checked)
    parts = {batch: range(count)} if batch else batches(count, project.config.run.batch_size)
    assert report.keys is not None
    forget_others(results.check, project.table.batches)
    with recorded(results, "check", batch) as recorder:
        recorder.work_cpu_s = report.cpu_seconds
        for part, rows in parts.items():
            with claimed(results, f"check {part}", say):
                begin(results.check.table(part), report.keys[part])
                write_checked([report.checked[row] for row in rows], results.check.table(part))


def cases(project: Project, say: Say) -> None:
    """Write cases.tsv and labels.json."""
    results, scheme = project.results, project.scheme
    with job(results, "cases", say):
        write_checked(load_checked(project.table), results.cases)
        with atomic_path(results.label_ids) as temporary:
            temporary.write_text(scheme.to_json(), "utf-8")


def segment(
    project: Project, segmenter: str, batch: str | None, say: Say, timings: Path | None = None
) -> None:
    """Label cases with one segmenter."""
    labeller = project.segmenter(segmenter)
    from backsplit.segment.stage import SegmentStage

    config, folder = project.config, project.results.segment(segmenter)
    section = config.segmenters[segmenter]
    stage = SegmentStage(segmenter, labeller, section, placing(config), folder)
    plan = Plan(project)
    _run(plan, lambda _: stage, partial(plan.segment_key, segmenter), folder, batch, say)
    if timings is not None:
        write_json(timings, labeller.timings.summary())


def compose(project: Project, batch: str | None, say: Say) -> None:
    """Compose label maps."""
    from backsplit.compose.stage import ComposeStage

    inputs, results = composing(project), project.results
    structures = project.scheme.structures
    plan = Plan(project)

    def stage(name: str) -> Stage:
        return ComposeStage(inputs, results, segmenting_failures(project, name), results.labels)

    def gather(name: str, outcomes: Sequence[Outcome]) -> None:
        from backsplit.flow.gather import gather_statuses

        gather_statuses(results, name, outcomes, structures)

    _run(plan, stage, plan.compose_key, results.labels, batch, say, gather)


def compose_unrestricted(project: Project, batch: str | None, say: Say) -> None:
    """Compose label maps without the segmenters whose labels may not be used commercially."""
    from backsplit.compose.stage import ComposeStage
    from backsplit.flow.unrestricted import unrestricted

    without = Project(project.path, unrestricted(project.config))
    # a lesion file holds what it held, whoever may use the anatomy in it
    lesions = replace(lesion_values(project.config), ignore_id=without.config.ignore_id)
    inputs = replace(composing(without), lesions=lesions)
    folder = project.results.unrestricted

    def stage(name: str) -> Stage:
        failed = segmenting_failures(without, name)
        return ComposeStage(inputs, project.results, failed, folder, name="compose unrestricted")

    _run(Plan(without), stage, Plan(project).unrestricted_key, folder, batch, say)


def measure(project: Project, batch: str | None, say: Say) -> None:
    """Measure and draw."""
    from backsplit.flow.gather import gather_measures
    from backsplit.measure.stage import TABLES, MeasureStage

    results, plan, inputs = project.results, Plan(project), measuring(project)
    artist = _artist(project)

    def stage(name: str) -> Stage:
        composed = failures(results.labels.table(name), "compose")
        return MeasureStage(inputs, results, composed, *artist)

    def gather(name: str, outcomes: Sequence[Outcome]) -> None:
        gather_measures(results, name, outcomes, TABLES)

    _run(plan, stage, plan.measure_key, results.measures, batch, say, gather)


def composing(project: Project) -> Composing:
    """What composing reads."""
    from backsplit.compose.case import Rules
    from backsplit.compose.stage import Composing

    rules = Rules(project.scheme.of_composing, merging(project.config))
    return Composing(rules, project.classes, lesion_values(project.config))


def measuring(project: Project) -> Measuring:
    """What measuring reads."""
    from backsplit.measure.stage import Measuring

    scheme, layers = project.scheme.of_composing, project.config.layers
    return Measuring(scheme, project.classes, layers, lesion_values(project.config))


def segmenting_failures(project: Project, batch: str) -> Mapping[str, Mapping[str, str]]:
    """Segmenter to the cases of a batch that it could not label, with the reason."""
    return {
        name: failures(project.results.segment(name).table(batch), f"segment {name}")
        for name in project.config.layers
    }


def _artist(project: Project) -> tuple[Draw | None, int]:
    """Who draws pictures, and the version of how they look; nobody where none are wanted."""
    if not project.config.run.pictures:
        return None, 0
    from backsplit.report.pictures.montage import draw_montage

    names, targets = project.scheme.all_names, len(project.scheme.targets)
    return partial(draw_montage, names=names, target_count=targets), versions.PICTURE


def _run(
    plan: Plan,
    stage_of: Callable[[str], Stage],
    key_of: Callable[[str], str],
    folder: StageFolder,
    batch: str | None,
    say: Say,
    gather: Callable[[str, Sequence[Outcome]], None] = lambda name, outcomes: None,
) -> None:
    """Run a stage over one batch, or over all one after the other.

    What `gather` makes of a batch is there before the batch's status table, which says that all
    of it is.
    """
    project = plan.project
    forget_others(folder, plan.batches)
    for name in [batch] if batch is not None else plan.batches:
        members = load_checked(project.table, name)
        stage = stage_of(name)
        progress = _progress(plan, stage.name, name, folder, say)
        stop = project.config.run.on_bad_case == "stop"
        with job(project.results, stage.name, say, name) as recorder:
            begin(folder.table(name), key_of(name))
            noted = RecordedStage(stage, recorder, progress)
            outcomes = run_batch(noted, members, noted, stop_on_bad_case=stop)
            gather(name, outcomes)
            write_outcomes(outcomes, folder.table(name))
            bad = [o for o in outcomes if o.status is Status.FAILED]
            if stop and bad:
                raise RunError(
                    Code(bad[0].code),
                    f"{bad[0].case} failed and run.on_bad_case is stop",
                    bad[0].message,
                )
        progress.end()


def _progress(plan: Plan, stage: str, batch: str, folder: StageFolder, say: Say) -> StageProgress:
    """Counts cases; of the other batches those that are finished, by their status tables."""
    others = {name: len(rows) for name, rows in plan.batches.items() if name != batch}
    finished: set[str] = set()

    def elsewhere() -> int:
        left = others.keys() - finished
        finished.update(name for name in left if folder.table(name).exists())
        return sum(others[name] for name in finished)

    return StageProgress(stage, len(plan.project.table), elsewhere, say)
