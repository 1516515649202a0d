"""Check the configuration, the case table and the files, and gather the results."""

from __future__ import annotations

import shlex
from pathlib import Path

from backsplit.cases.table import batches, load_checked, write_checked
from backsplit.errors import Code, RunError
from backsplit.flow import grouped
from backsplit.flow.check import CheckReport
from backsplit.flow.check import check as run_check
from backsplit.flow.lacking import COST_OF_UNKNOWN, partly_known
from backsplit.flow.plan import begin, forget_others
from backsplit.flow.project import Project
from backsplit.start.names import counted
from backsplit.store.disk import atomic_path
from backsplit.store.locks import claimed
from backsplit.store.status import Status
from backsplit.work.jobs import job, recorded
from backsplit.work.progress import Say


def check(path: Path, batch: str | None, threads: int, say: Say) -> int:
    """Check the configuration and the case table, or one batch of the table.

    Returns
    -------
    problems
        How many problems were found, none of which stops a run.

    Raises
    ------
    RunError
        A problem affects every case; or a case is refused, and run.on_bad_case is stop.
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
                f"and clips CT differently; for one plan: {project.command('train plan')}"
            )
        if known := partly_known(project, report.checked):
            say(
                f"[backsplit] check: structures are left out in {len(known)} of "
                f"{len(report.checked)} cases ({grouped.named(known)}); their voxels become "
                f"`ignore`: {COST_OF_UNKNOWN}"
            )
    refused = sum(c.status is not Status.OK for c in report.checked)
    name = "check" if batch is None else f"check batch {batch}"
    small = len(report.lacking) + len(report.problems)
    found = len(report.fatal) + small
    say(
        f"[backsplit] {name}: {counted(len(report.checked), 'case')}, {refused} refused, "
        f"{counted(found, 'problem')}"
    )
    if report.fatal:
        raise RunError(
            report.fatal[0].code,
            f"{path} cannot be run",
            f"first fix the {counted(len(report.fatal), 'problem')} above; every case is affected",
        )
    assert project is not None
    _write_check(project, report, batch, say)
    if batch is None:
        from backsplit.flow.leftovers import reminder
        from backsplit.flow.upgraded import upgraded

        cases(project, say)
        if not small:
            say(f"[backsplit] check: next: `backsplit run -c {shlex.quote(str(path))}`")
        for line in (*upgraded(project), *reminder(project)):
            say(f"[backsplit] check: {line}")
    if refused and project.config.run.on_bad_case == "stop":
        raise RunError(
            Code.TABLE_INVALID,
            f"{counted(refused, 'case')} refused, and run.on_bad_case is stop",
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
