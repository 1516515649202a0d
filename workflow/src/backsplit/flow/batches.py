"""Stages that work through the cases a batch at a time: segment, compose, measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from backsplit.cases.table import load_checked
from backsplit.config.slices import lesion_values, merging, placing
from backsplit.errors import Code, RunError
from backsplit.flow.plan import Plan, begin, forget_others
from backsplit.flow.project import Project
from backsplit.store import versions
from backsplit.store.provenance import write_json
from backsplit.store.results import StageFolder
from backsplit.store.status import Outcome, Status, failures, write_outcomes
from backsplit.work.batch import Stage, run_batch
from backsplit.work.jobs import RecordedStage, job
from backsplit.work.progress import Say, StageProgress

if TYPE_CHECKING:
    from backsplit.compose.stage import Composing
    from backsplit.measure.stage import Draw, Measuring


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
