"""Stages that work through the cases a batch at a time: check, segment, compose, measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from backsplit.cases.table import batches, check_table, load_checked, open_table, write_checked
from backsplit.config.file import load_config
from backsplit.config.model import Config
from backsplit.errors import BacksplitError, Code, RunError
from backsplit.flow.check import check as run_check
from backsplit.flow.places import (
    Say,
    failures,
    job,
    labels_folder,
    measures_folder,
    segment_folder,
    segmenting_failures,
)
from backsplit.flow.plan import Plan, begin
from backsplit.flow.project import load_scheme
from backsplit.scheme.scheme import Scheme
from backsplit.store.disk import atomic_path
from backsplit.store.locks import claimed
from backsplit.store.provenance import write_json
from backsplit.work.batch import Outcome, Stage, run_batch, write_status
from backsplit.work.jobs import RecordedStage, recorded
from backsplit.work.progress import StageProgress

if TYPE_CHECKING:
    from backsplit.measure.stage import Draw


def check(path: Path, batch: str | None, threads: int, say: Say) -> None:
    """Check the configuration and the table, or one batch of it."""
    keys = _keys_before(path, batch)
    report = run_check(path, batch, threads)
    for problem in (*report.fatal, *report.problems):
        say(str(problem))
    scheme = report.scheme
    if scheme is not None and batch is None:
        for winner, loser in (pair for pair in scheme.exceptions if pair[1] in scheme.targets):
            say(f"[backsplit] check: compose.except: {winner} takes voxels from the lesion {loser}")
    refused = sum(c.status != "ok" for c in report.checked)
    name = "check" if batch is None else f"check batch {batch}"
    say(
        f"[backsplit] {name}: {len(report.checked)} cases, {refused} refused, "
        f"{len(report.fatal) + len(report.problems)} problems"
    )
    if report.fatal:
        raise RunError(
            report.fatal[0].code,
            f"{path} can not be run",
            f"mend the {len(report.fatal)} problem(s) above that concern every case",
        )
    config = load_config(path)
    everything = batches(len(report.checked), config.run.batch_size)
    with recorded(config.run.results, "check", batch) as recorder:
        recorder.work_cpu_s = report.cpu_seconds
        for part, rows in ({batch: range(len(report.checked))} if batch else everything).items():
            with claimed(config.run.results, f"check {part}", say):
                begin(check_table(config, part), keys[part])
                write_checked([report.checked[row] for row in rows], check_table(config, part))
    if batch is None:
        cases(path, say)
    if refused and config.run.on_bad_case == "stop":
        raise RunError(
            Code.TABLE_INVALID,
            f"{refused} case(s) are refused and run.on_bad_case is stop",
            "correct their rows, or set run.on_bad_case to quarantine",
        )


def _keys_before(path: Path, batch: str | None) -> dict[str, str]:
    """Keys of batches before a file is read: one that changes meanwhile is due again."""
    try:
        plan = Plan(load_config(path))
        names = plan.batches if batch is None else plan.batches.keys() & {batch}
        return {name: plan.check_key(name) for name in names}
    except BacksplitError:
        return {}  # the check itself says what is wrong


def cases(path: Path, say: Say) -> None:
    """Write cases.tsv and labels.json."""
    config = load_config(path)
    scheme, _ = load_scheme(config, path)
    with job(config, "cases", say):
        write_checked(load_checked(open_table(config)), config.run.results / "cases.tsv")
        with atomic_path(labels_folder(config) / "labels.json") as temporary:
            temporary.write_text(scheme.to_json(), "utf-8")


def segment(
    path: Path, segmenter: str, batch: str | None, say: Say, timings: Path | None = None
) -> None:
    """Label cases with one segmenter."""
    config = load_config(path)
    if segmenter not in config.segmenters:
        raise RunError(
            Code.CONFIG_INVALID,
            f"{path} has no segmenter {segmenter!r}",
            f"it has {', '.join(config.segmenters)}",
        )
    from backsplit.segment.stage import SegmentStage

    stage = SegmentStage(config, segmenter)
    folder = segment_folder(config, segmenter)
    plan = Plan(config)
    _run(plan, lambda _: stage, partial(plan.segment_key, segmenter), folder, batch, say)
    if timings is not None:
        write_json(timings, stage.segmenter.timings.summary())


def compose(path: Path, batch: str | None, say: Say) -> None:
    """Compose label maps."""
    from backsplit.compose.stage import ComposeStage

    config = load_config(path)
    scheme, classes = load_scheme(config, path)
    plan = Plan(config)

    def stage(name: str) -> Stage:
        return ComposeStage(config, scheme, classes, segmenting_failures(config, name))

    def gather(name: str, outcomes: Sequence[Outcome]) -> None:
        from backsplit.flow.gather import gather_statuses

        gather_statuses(config, name, outcomes, scheme.structures)

    _run(plan, stage, plan.compose_key, labels_folder(config), batch, say, gather)


def compose_unrestricted(path: Path, batch: str | None, say: Say) -> None:
    """Compose label maps without the segmenters whose labels may not be used commercially."""
    from backsplit.compose.stage import UnrestrictedStage
    from backsplit.compose.stage import labels_folder as unrestricted_folder
    from backsplit.flow.unrestricted import unrestricted

    everything = load_config(path)
    config = unrestricted(everything)
    scheme, classes = load_scheme(config, path)

    def stage(name: str) -> Stage:
        return UnrestrictedStage(config, scheme, classes, segmenting_failures(config, name))

    key = Plan(everything).unrestricted_key
    _run(Plan(config), stage, key, unrestricted_folder(config), batch, say)


def measure(path: Path, batch: str | None, say: Say) -> None:
    """Measure and draw."""
    from backsplit.flow.gather import gather_measures
    from backsplit.measure.stage import TABLES, MeasureStage

    config = load_config(path)
    scheme, classes = load_scheme(config, path)
    plan = Plan(config)
    artist = _artist(config, scheme)

    def stage(name: str) -> Stage:
        composed = failures(labels_folder(config) / f"{name}.tsv", "compose")
        return MeasureStage(config, scheme, classes, composed, *artist)

    def gather(name: str, outcomes: Sequence[Outcome]) -> None:
        gather_measures(config, name, outcomes, TABLES)

    _run(plan, stage, plan.compose_key, measures_folder(config), batch, say, gather)


def _artist(config: Config, scheme: Scheme) -> tuple[Draw | None, int]:
    """Who draws pictures, and the version of how they look; nobody where none are wanted."""
    if not config.run.pictures:
        return None, 0
    from backsplit.report.pictures.montage import PICTURE_VERSION, draw_montage

    names, targets = scheme.all_names, len(scheme.targets)
    return partial(draw_montage, names=names, target_count=targets), PICTURE_VERSION


def _run(
    plan: Plan,
    stage_of: Callable[[str], Stage],
    key_of: Callable[[str], str],
    folder: Path,
    batch: str | None,
    say: Say,
    gather: Callable[[str, Sequence[Outcome]], None] = lambda name, outcomes: None,
) -> None:
    """Run a stage over one batch, or over all one after the other.

    What `gather` makes of a batch is there before the batch's status table, which says that all
    of it is.
    """
    config = plan.config
    for name in [batch] if batch is not None else plan.batches:
        members = load_checked(plan.table, name)
        stage = stage_of(name)
        progress = _progress(plan, stage.name, name, folder, say)
        stop = config.run.on_bad_case == "stop"
        with job(config, stage.name, say, name) as recorder:
            begin(folder / f"{name}.tsv", key_of(name))
            noted = RecordedStage(stage, recorder, progress)
            outcomes = run_batch(noted, members, noted, stop_on_bad_case=stop)
            gather(name, outcomes)
            write_status(outcomes, folder / f"{name}.tsv")
        bad = [o for o in outcomes if o.status == "failed"]
        if stop and bad:
            raise RunError(
                Code(bad[0].code),
                f"{bad[0].case} failed and run.on_bad_case is stop",
                bad[0].message,
            )
        progress.end()


def _progress(plan: Plan, stage: str, batch: str, folder: Path, say: Say) -> StageProgress:
    """Counts cases; of the other batches those that are finished, by their status tables."""
    others = {name: len(rows) for name, rows in plan.batches.items() if name != batch}
    finished: set[str] = set()

    def elsewhere() -> int:
        left = others.keys() - finished
        finished.update(name for name in left if (folder / f"{name}.tsv").exists())
        return sum(others[name] for name in finished)

    return StageProgress(stage, len(plan.table), elsewhere, say)
