"""Stages that look at all cases together: judge, export, pages, report, manifest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from backsplit.cases.table import load_checked, open_table
from backsplit.config.file import load_config
from backsplit.config.model import Config
from backsplit.flow.batches import compose_unrestricted
from backsplit.flow.engine import TABLES as STATUS_TABLES
from backsplit.flow.places import (
    Say,
    job,
    labels_folder,
    status_rows,
    status_tables,
    working_folders,
)
from backsplit.flow.project import load_scheme
from backsplit.store.locks import claim_run
from backsplit.store.tsv import read_rows, read_tsv, write_tsv
from backsplit.work.batch import run_batch, write_status
from backsplit.work.jobs import RecordedStage, Recorder
from backsplit.work.progress import StageProgress


def judge(path: Path, say: Say) -> None:
    """Write measures.parquet, flags.tsv and verdicts.tsv."""
    config = load_config(path)
    with job(config, "judge", say):
        _judge(config, path, say)


def _judge(config: Config, path: Path, say: Say) -> None:
    import pandas as pd

    from backsplit.flow.gather import join_measures, join_statuses
    from backsplit.judge.flags import all_flags
    from backsplit.judge.verdicts import flag_absences, flag_failures, read_decisions, verdicts
    from backsplit.measure.lesions import burden
    from backsplit.measure.stage import TABLES

    scheme, _ = load_scheme(config, path)
    stages = status_tables(config)
    measured = stages["measure"]
    done = list(measured[measured["status"] == "done"]["case"])
    folder = config.run.results / "qc"
    tables = join_measures(config, measured, TABLES)
    join_statuses(config, stages["compose"], scheme.structures)
    measures = tables["measures"]
    flags = pd.concat(
        [
            flag_failures(stages),
            flag_absences(measures[measures["source"] == "labels"], scheme.structures),
            all_flags(
                measures, tables["agreement"], scheme.sources, _groups(config, done), config.qc
            ),
        ]
    )
    everyone = list(stages["check"]["case"])
    result = verdicts(everyone, flags, read_decisions(config.decisions_path, everyone))
    write_tsv(flags, folder / "flags.tsv")
    write_tsv(burden(tables["lesions"], done, list(scheme.targets)), folder / "burden.tsv")
    write_tsv(result, folder / "verdicts.tsv")
    counts = result["verdict"].value_counts().to_dict()
    say("[backsplit] judge: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()))


def _groups(config: Config, done: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Cases by what the columns of `qc.groups` say of them."""
    groups: dict[str, dict[str, list[str]]] = {column: {} for column in config.qc.groups}
    cases = open_table(config).with_ids(done)
    for column, values in groups.items():
        for case in cases:
            values.setdefault(case.columns.get(column, ""), []).append(case.id)
    return groups


def export(path: Path, say: Say, *, only_unrestricted: bool = False) -> None:
    """Write the data set for its trainers; without restricted segmenters if the configuration says.

    Parameters
    ----------
    path : configuration file
    say : prints a line where people read it
    only_unrestricted : as if `export.only_unrestricted` were set
    """
    config = load_config(path)
    if only_unrestricted:
        compose_unrestricted(path, None, say)
    with job(config, "export", say):
        _export(config, path, say, only_unrestricted or config.export.only_unrestricted)


def _export(config: Config, path: Path, say: Say, only_unrestricted: bool) -> None:
    from backsplit.export.bids import export_bids, remove_bids
    from backsplit.export.monai import UNRESTRICTED, export_monai, remove_lists
    from backsplit.export.nnunet import export_nnunet, same_ids
    from backsplit.judge.verdicts import REJECT

    composed, settings, name = labels_folder(config), config, "left_out.tsv"
    if only_unrestricted:
        from backsplit.compose.stage import labels_folder as unrestricted_folder
        from backsplit.flow.unrestricted import unrestricted

        composed, settings = unrestricted_folder(config), unrestricted(config)
        name = "left_out_unrestricted.tsv"
    scheme, _ = load_scheme(settings, path)
    verdict = read_tsv(config.run.results / "qc" / "verdicts.tsv")
    rejected = set(verdict[verdict["verdict"] == REJECT]["case"])
    table = open_table(config)
    stage = "compose --only-unrestricted" if only_unrestricted else "compose"
    done = {
        row["case"]
        for batch in table.batches
        for row in status_rows(composed / f"{batch}.tsv", stage)
        if row["status"] == "done"
    }
    cases = [c.case for c in load_checked(table) if c.case.id in done - rejected]
    variant = UNRESTRICTED if only_unrestricted else ""
    left_out = verdict[~verdict["case"].isin({case.id for case in cases})]
    write_tsv(left_out, config.run.results / "datasets" / name)
    remove_lists(settings, variant)
    remove_bids(settings)
    dataset = export_nnunet(settings, scheme, cases, composed)
    export_monai(settings, scheme, [case.id for case in cases], variant)
    export_bids(settings, scheme, cases)
    say(f"[backsplit] export: {len(cases)} of {len(verdict)} cases in {dataset.folder}")
    for other in same_ids(settings):
        say(f"[backsplit] export: {other} has the same id, which nnU-Net refuses; remove one")
    if not cases:
        flags = config.run.results / "qc" / "flags.tsv"
        say(f"[backsplit] export: NO case could be used; {flags} says why")


def pages(path: Path, threads: int, say: Say) -> None:
    """Write a page for each case to look at, and remove those of the others."""
    config = load_config(path)
    with job(config, "pages", say) as recorder:
        _pages(config, path, threads, say, recorder)


def _pages(config: Config, path: Path, threads: int, say: Say, recorder: Recorder) -> None:
    from backsplit.report.case_facts import gather_pages
    from backsplit.report.case_page import PageStage, remove_others
    from backsplit.report.read import PAGES_STATUS

    scheme, classes = load_scheme(config, path)
    facts = gather_pages(config, scheme)
    everyone = load_checked(open_table(config))
    members = [c for c in everyone if c.status == "ok" and c.case.id in facts]
    stage = PageStage(config, scheme, classes, facts, threads)
    remove_others(config.run.results, list(facts))
    (config.run.results / PAGES_STATUS).parent.mkdir(parents=True, exist_ok=True)
    progress = StageProgress(stage.name, len(members), lambda: 0, say)
    noted = RecordedStage(stage, recorder, progress)
    outcomes = run_batch(noted, members, noted)
    write_status(outcomes, config.run.results / PAGES_STATUS)
    progress.end()


def report(path: Path, say: Say) -> None:
    """Write report/index.html."""
    from backsplit.report.dataset_page import write_report

    config = load_config(path)
    scheme, _ = load_scheme(config, path)
    page = config.run.results / "report" / "index.html"
    with job(config, "report", say):
        write_report(config, scheme, page)
    say(f"[backsplit] report: {page}")


def manifest(path: Path, say: Say) -> None:
    """Write manifest.json."""
    from backsplit.record.manifest import manifest_path, write_manifest

    config = load_config(path)
    with job(config, "manifest", say):
        written = write_manifest(config)
    restricted = [n for n, s in written.segmenters.items() if s.licence.commercial != "yes"]
    say(f"[backsplit] manifest: {written.files.rows} files in {manifest_path(config)}")
    if restricted:
        say(
            f"[backsplit] manifest: not for commercial use, as far as is known, because of "
            f"{', '.join(restricted)} (`backsplit licences` says why)"
        )


def status(config: Config) -> Iterator[str]:
    """Lines of stage, cases done, failed and all, from what lies on the disk."""
    everyone = load_checked(open_table(config))
    total, ids = len(everyone), {checked.case.id for checked in everyone}
    for name, folder in working_folders(config).items():
        tables = [read_rows(table) for table in sorted(folder.glob(STATUS_TABLES))]
        failed = sum(row["status"] == "failed" for rows in tables for row in rows)
        sidecars = len(ids & {path.stem for path in folder.glob("[!.]*.json")})
        yield f"{name}: {sidecars} done, {failed} failed, {total} in all"


def retry(config: Config) -> list[Path]:
    """Remove the status tables that name a failed case: their batches are due again.

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
    if (claim := claim_run(config.run.results)).problem is not None:
        raise claim.problem
    removed = [
        table
        for folder in working_folders(config).values()
        for table in sorted(folder.glob(STATUS_TABLES))
        if any(row["status"] == "failed" for row in read_rows(table))
    ]
    for table in removed:
        table.unlink()
    return removed
