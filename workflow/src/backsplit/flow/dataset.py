"""Stages that look at all cases together: export, pages, report, manifest."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from backsplit.cases.table import Case, load_checked
from backsplit.flow.judging import not_judged
from backsplit.flow.plan import Plan, note
from backsplit.flow.project import Project
from backsplit.flow.status import working_folders
from backsplit.store.locks import claim_run
from backsplit.store.provenance import read_json
from backsplit.store.results import StageFolder
from backsplit.store.status import (
    Status,
    outcomes_in,
    read_outcomes,
    write_outcomes,
)
from backsplit.store.tsv import read_tsv, write_tsv
from backsplit.work.batch import run_batch
from backsplit.work.jobs import RecordedStage, Recorder, job
from backsplit.work.progress import Say, StageProgress


def export(project: Project, say: Say, *, only_unrestricted: bool = False) -> None:
    """Write the data set for its trainers; without restricted segmenters if the configuration says.

    Parameters
    ----------
    project : the project
    say : prints a line where people read it
    only_unrestricted : as if `export.only_unrestricted` were set
    """
    if only_unrestricted:
        from backsplit.flow.batches import compose_unrestricted

        compose_unrestricted(project, None, say)
    with job(project.results, "export", say):
        # lists of MONAI have the same names for every data set: one of before is not ours
        key = "only_unrestricted" if only_unrestricted else Plan(project).export_key()
        note(project.results.export_key, key)
        if only_unrestricted or project.config.export.only_unrestricted:
            _export_unrestricted(project, say)
        else:
            _export(project, project, project.results.labels, "", say)


def _export_unrestricted(project: Project, say: Say) -> None:
    from backsplit.export.monai import UNRESTRICTED
    from backsplit.flow.unrestricted import unrestricted

    without = Project(project.path, unrestricted(project.config))
    _export(project, without, project.results.unrestricted, UNRESTRICTED, say)


def _export(
    project: Project, written: Project, composed: StageFolder, variant: str, say: Say
) -> None:
    """Write what `written` says, from the label maps in `composed`; `variant` ends file names."""
    from backsplit.export.bids import export_bids, remove_bids
    from backsplit.export.monai import export_monai, remove_lists
    from backsplit.export.nnunet import export_nnunet, same_ids
    from backsplit.export.segmentations import export_segmentations, remove_segmentations
    from backsplit.judge.verdicts import Verdict

    results, scheme, config = project.results, written.scheme, written.config
    if not results.verdicts.exists():
        raise not_judged(project, results.verdicts)
    verdict = read_tsv(results.verdicts)
    rejected = set(verdict[verdict["verdict"] == Verdict.REJECT]["case"])
    stage = "compose --only-unrestricted" if variant else "compose"
    outcomes = [
        row
        for batch in project.table.batches
        for row in read_outcomes(composed.table(batch), stage)
    ]
    done = {row.case for row in outcomes if row.status is Status.DONE}
    cases = [c.case for c in load_checked(project.table) if c.case.id in done - rejected]
    left_out = verdict[~verdict["case"].isin({case.id for case in cases})].copy()
    # a case that composes only with restricted segmenters has a verdict that says nothing of it
    for row in outcomes:
        if row.status is Status.FAILED and row.case not in rejected:
            mine = left_out["case"] == row.case
            left_out.loc[mine, ["rules", "reason"]] = [row.code, row.message]
    write_tsv(left_out, results.left_out(variant))
    remove_lists(config, variant)
    remove_bids(config)
    remove_segmentations(config)
    dataset = export_nnunet(config, scheme, cases, composed)
    export_monai(config, scheme, [case.id for case in cases], variant)
    export_bids(config, scheme, cases)
    say(f"[backsplit] export: {len(cases)} of {len(verdict)} cases in {dataset.folder}")
    for line in export_segmentations(config, scheme, cases):
        say(f"[backsplit] export: {line}")
    if unknown := read_json(dataset.json).get("unknown"):
        from backsplit.flow.lacking import COST_OF_UNKNOWN

        say(
            f"[backsplit] export: {len(unknown)} of {len(cases)} cases have voxels of unknown "
            f"anatomy; {COST_OF_UNKNOWN}"
        )
    for other in same_ids(config):
        say(f"[backsplit] export: {other} has the same id, which nnU-Net refuses; remove one")
    if not cases:
        say(f"[backsplit] export: NO case could be used; {results.flags} says why")


def pages(project: Project, threads: int, say: Say) -> None:
    """Write a page for each case to look at, and remove those of the others."""
    with job(project.results, "pages", say) as recorder:
        _pages(project, threads, say, recorder)


def _pages(project: Project, threads: int, say: Say, recorder: Recorder) -> None:
    from backsplit.report.case_facts import gather_pages
    from backsplit.report.case_page import PageStage, remove_others

    results, scheme = project.results, project.scheme
    facts = gather_pages(project.config, scheme)
    everyone = load_checked(project.table)
    members = [c for c in everyone if c.status is Status.OK and c.case.id in facts]
    stage = PageStage(project.config, scheme, project.classes, facts, threads)
    remove_others(results, list(facts))
    results.pages.path.mkdir(parents=True, exist_ok=True)
    progress = StageProgress(stage.name, len(members), lambda: 0, say)
    noted = RecordedStage(stage, recorder, progress)
    outcomes = run_batch(noted, members, noted)
    write_outcomes(outcomes, results.page_status)
    progress.end()


def report(project: Project, say: Say) -> None:
    """Write report/index.html."""
    from backsplit.report.dataset_page import write_report

    def find(ids: Collection[str]) -> list[Case]:
        """Read the table only where a fault has an example."""
        return project.table.with_ids(ids)

    with job(project.results, "report", say):
        write_report(project.config, project.scheme, find)
    say(f"[backsplit] report: {project.results.report}")


def manifest(project: Project, say: Say) -> None:
    """Write manifest.json."""
    from backsplit.record.manifest import write_manifest

    with job(project.results, "manifest", say):
        written = write_manifest(project.config)
    restricted = [n for n, s in written.segmenters.items() if s.licence.commercial != "yes"]
    say(f"[backsplit] manifest: {written.files.rows} files in {project.results.manifest}")
    if restricted:
        say(
            f"[backsplit] manifest: not cleared for commercial use: {', '.join(restricted)} "
            f"(restricted or unknown licence; see {project.command('licences')})"
        )


def retry(project: Project) -> list[Path]:
    """Remove the status tables that name a failed case: their batches will be rerun.

    What failed for a reason that has gone (memory, time, a network disk) is tried again by the
    next run, and nothing else: the other cases of the batch still hold.

    Returns
    -------
    removed
        The tables.

    Raises
    ------
    RunError
        RESULTS_BUSY while a run is at work.
    """
    if (claim := claim_run(project.results)).problem is not None:
        raise claim.problem
    removed = [
        table
        for folder in working_folders(project.config).values()
        for table in folder.tables()
        if any(row.status is Status.FAILED for row in outcomes_in(table))
    ]
    for table in removed:
        table.unlink()
    return removed
