"""How a run ended: cases in, refused, failed, to review, what was exported, and what comes next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from backsplit.config.quality import Severity
from backsplit.export.nnunet import dataset_folder
from backsplit.flow.grouped import MOST_NAMED, named
from backsplit.flow.plan import Plan, note_of
from backsplit.flow.status import working_folders
from backsplit.flow.watch import Watch
from backsplit.start.names import counted
from backsplit.store.provenance import read_json
from backsplit.store.results import StageFolder
from backsplit.store.status import Status, outcomes_in
from backsplit.store.tsv import read_rows
from backsplit.work.progress import clock

MORE = 100
"""Cases for which the time is estimated."""

Failures = Mapping[tuple[str, str], list[str]]
"""(what became of them, code) to cases."""


def losses(plan: Plan) -> Failures:
    """Cases that were refused, or failed in a stage, by code: each where it happened first."""
    folders = {"check": plan.project.results.check, **working_folders(plan.config)}
    found: dict[tuple[str, str], list[str]] = {}
    seen: set[str] = set()
    for stage, folder in folders.items():
        for case, status, code in _bad(folder, plan):
            if case not in seen:
                what = "refused" if status is Status.REFUSED else f"failed in {stage}"
                found.setdefault((what, code), []).append(case)
                seen.add(case)
    return found


def _bad(folder: StageFolder, plan: Plan) -> Iterator[tuple[str, Status, str]]:
    for batch in plan.batches:
        table = folder.table(batch)
        for row in outcomes_in(table) if table.exists() else ():
            if row.status in (Status.REFUSED, Status.FAILED):
                yield row.case, row.status, row.code


def summary(plan: Plan, watch: Watch, *, whole: bool) -> Iterator[str]:
    """Lines that say how a run ended.

    Parameters
    ----------
    plan : of the run
    watch : that followed it
    whole : whether everything that was due was done
    """
    project, results = plan.project, plan.project.results
    config = shlex.quote(str(project.path))
    lost = losses(plan)
    yield f"[backsplit] {len(plan.table)} cases in {project.config.dataset.cases}"
    for (what, code), cases in lost.items():
        yield f"[backsplit]   {what}: {len(cases)} ({named(cases)}), {code}"
    if not whole:
        failed = len(watch.failed_jobs)
        why = f"{counted(failed, 'job')} failed, see above" if failed else "it stopped early"
        yield f"[backsplit] NOT finished: {why}; finished work is kept"
        yield f"[backsplit] next: correct the cause, then `backsplit run -c {config}`"
        return
    folder = dataset_folder(project.config)
    if not _is_current(plan, folder / "dataset.json"):
        yield (
            "[backsplit] the data set is NOT up to date: only part of it was requested, or "
            f"files changed during the run; next: `backsplit run -c {config}`"
        )
        return
    verdicts = list(read_rows(results.verdicts))
    sent = sorted(
        (row for row in verdicts if row["verdict"] == "review"), key=lambda row: int(row["rank"])
    )
    review = [row["case"] for row in sent]
    if review:
        yield f"[backsplit]   to review: {len(review)} ({named(review)})"
    for row in sent[:MOST_NAMED]:
        if row["reason"]:
            yield f"[backsplit]     {row['case']}: {row['reason']}"
    yield from _of_the_whole(results.flags)
    exported = int(read_json(folder / "dataset.json")["numTraining"])
    yield f"[backsplit] exported: {exported} of {len(plan.table)} cases, {folder}"
    yield f"[backsplit] next: open {results.report} and {_next(len(review), lost, config)}"
    yield f"[backsplit] took {clock(watch.seconds)}{_more(watch)}"


def _of_the_whole(flags: Path) -> Iterator[str]:
    """What is wrong in no single case: a structure that is empty everywhere, exchanged names."""
    grave = (Severity.REVIEW, Severity.REJECT)
    found = [
        row["message"]
        for row in read_rows(flags)
        if not row["case"] and row["severity"] in grave and row["message"]
    ]
    for message in found[:MOST_NAMED]:
        yield f"[backsplit]   in the whole data set: {message}"
    if len(found) > MOST_NAMED:
        yield f"[backsplit]   in the whole data set: {len(found) - MOST_NAMED} more, see the report"


def _is_current(plan: Plan, dataset: Path) -> bool:
    """Whether the last stages have run, and for what the plan is made of."""
    results = plan.project.results
    there = all(path.exists() for path in (results.verdicts, dataset, results.report))
    return there and note_of(results.export_key) in (None, plan.export_key())


def _next(review: int, lost: Failures, config: str) -> str:
    steps = [f"look at the {counted(review, 'case')} to review" if review else "look at some cases"]
    if any(what != "refused" for what, _ in lost):
        steps.append(f"`backsplit retry -c {config}` once the cause of the failures is fixed")
    if any(what == "refused" for what, _ in lost):
        steps.append(f"`backsplit check -c {config}` says what is wrong with the refused cases")
    return "; ".join(steps)


def _more(watch: Watch) -> str:
    """What more cases would take, where this run made most of those that there are."""
    seconds = watch.seconds_for(MORE)
    return "" if seconds is None else f"; {MORE} more such cases: about {clock(seconds)}"
