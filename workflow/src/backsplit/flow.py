"""The stages on a data set's folder: what each verb reads, does and writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from backsplit.batch import Outcome, Stage, run_batch, write_status
from backsplit.cases import (
    STATUS_COLUMNS,
    batches,
    check_table,
    load_checked,
    open_table,
    read_rows,
    read_tsv,
    write_checked,
    write_tsv,
)
from backsplit.check import check as run_check
from backsplit.check import load_scheme
from backsplit.claims import claimed
from backsplit.config import Config
from backsplit.config_file import load_config
from backsplit.errors import BacksplitError, CaseError, Code
from backsplit.jobs import RecordedStage, Recorder, recorded
from backsplit.plan import TABLES as STATUS_TABLES
from backsplit.plan import Plan, begin
from backsplit.progress import StageProgress
from backsplit.provenance import write_json
from backsplit.scheme import Scheme
from backsplit.volume import atomic_path

if TYPE_CHECKING:
    import pandas as pd

    from backsplit.qc.stage import Draw

Say = Callable[[str], None]


def check(path: Path, batch: str | None, threads: int, say: Say) -> None:
    """Check the configuration and the table, or one batch of it."""
    keys = _keys_before(path, batch)
    report = run_check(path, batch, threads)
    for problem in (*report.fatal, *report.problems):
        say(str(problem))
    refused = sum(c.status != "ok" for c in report.checked)
    name = "check" if batch is None else f"check batch {batch}"
    say(
        f"[backsplit] {name}: {len(report.checked)} cases, {refused} refused, "
        f"{len(report.fatal) + len(report.problems)} problems"
    )
    if report.fatal:
        raise BacksplitError(
            report.fatal[0].code,
            f"{path} can not be run; mend the {len(report.fatal)} problem(s) above "
            "that concern every case",
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
        raise BacksplitError(
            Code.TABLE_INVALID, f"{refused} case(s) are refused and run.on_bad_case is stop"
        )


@contextmanager
def _job(config: Config, stage: str, say: Say, batch: str | None = None) -> Iterator[Recorder]:
    """Hold the claim of a job's files, and record it."""
    results = config.run.results
    with (
        claimed(results, f"{stage} {batch}" if batch else stage, say),
        recorded(results, stage.replace(" ", "/"), batch) as recorder,
    ):
        yield recorder


def _keys_before(path: Path, batch: str | None) -> dict[str, str]:
    """Keys of batches before a file is read: one that changes meanwhile is due again."""
    try:
        plan = Plan(load_config(path))
        names = plan.batches if batch is None else plan.batches.keys() & {batch}
        return {name: plan.check_key(name) for name in names}
    except (BacksplitError, CaseError):
        return {}  # the check itself says what is wrong


def cases(path: Path, say: Say) -> None:
    """Write cases.tsv and labels.json."""
    config = load_config(path)
    scheme, _ = load_scheme(config, path)
    with _job(config, "cases", say):
        write_checked(load_checked(open_table(config)), config.run.results / "cases.tsv")
        with atomic_path(labels_folder(config) / "labels.json") as temporary:
            temporary.write_text(scheme.to_json(), "utf-8")


def segment(
    path: Path, segmenter: str, batch: str | None, say: Say, timings: Path | None = None
) -> None:
    """Label cases with one segmenter."""
    config = load_config(path)
    if segmenter not in config.segmenters:
        raise BacksplitError(
            Code.CONFIG_INVALID,
            f"{path} has no segmenter {segmenter!r}; it has {', '.join(config.segmenters)}",
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
        return ComposeStage(config, scheme, classes, _segmenting_failures(config, name))

    def gather(name: str, outcomes: Sequence[Outcome]) -> None:
        from backsplit.tables import gather_statuses

        gather_statuses(config, name, outcomes, scheme.structures)

    _run(plan, stage, plan.compose_key, labels_folder(config), batch, say, gather)


def compose_unrestricted(path: Path, batch: str | None, say: Say) -> None:
    """Compose label maps without the segmenters whose labels may not be used commercially."""
    from backsplit.unrestricted import UnrestrictedStage, unrestricted
    from backsplit.unrestricted import labels_folder as unrestricted_folder

    everything = load_config(path)
    config = unrestricted(everything)
    scheme, classes = load_scheme(config, path)

    def stage(name: str) -> Stage:
        return UnrestrictedStage(config, scheme, classes, _segmenting_failures(config, name))

    key = Plan(everything).unrestricted_key
    _run(Plan(config), stage, key, unrestricted_folder(config), batch, say)


def measure(path: Path, batch: str | None, say: Say) -> None:
    """Measure and draw."""
    from backsplit.qc.stage import TABLES, MeasureStage
    from backsplit.tables import gather_measures

    config = load_config(path)
    scheme, classes = load_scheme(config, path)
    plan = Plan(config)
    artist = _artist(config, scheme)

    def stage(name: str) -> Stage:
        composed = _failures(labels_folder(config) / f"{name}.tsv", "compose")
        return MeasureStage(config, scheme, classes, composed, *artist)

    def gather(name: str, outcomes: Sequence[Outcome]) -> None:
        gather_measures(config, name, outcomes, TABLES)

    _run(plan, stage, plan.compose_key, measures_folder(config), batch, say, gather)


def _artist(config: Config, scheme: Scheme) -> tuple[Draw | None, int]:
    """Who draws pictures, and the version of how they look; nobody where none are wanted."""
    if not config.run.pictures:
        return None, 0
    from backsplit.report.montage import PICTURE_VERSION, draw_montage

    names, targets = scheme.all_names, len(scheme.targets)
    return partial(draw_montage, names=names, target_count=targets), PICTURE_VERSION


def judge(path: Path, say: Say) -> None:
    """Write measures.parquet, flags.tsv and verdicts.tsv."""
    config = load_config(path)
    with _job(config, "judge", say):
        _judge(config, path, say)


def _judge(config: Config, path: Path, say: Say) -> None:
    import pandas as pd

    from backsplit.qc.flags import all_flags
    from backsplit.qc.judge import flag_absences, flag_failures, read_decisions, verdicts
    from backsplit.qc.lesions import burden
    from backsplit.qc.stage import TABLES
    from backsplit.tables import join_measures, join_statuses

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
    """Write the data set for nnU-Net; without restricted segmenters if the configuration says so.

    Parameters
    ----------
    path : configuration file
    say : prints a line where people read it
    only_unrestricted : as if `export.only_unrestricted` were set
    """
    config = load_config(path)
    if only_unrestricted:
        compose_unrestricted(path, None, say)
    with _job(config, "export", say):
        _export(config, path, say, only_unrestricted or config.export.only_unrestricted)


def _export(config: Config, path: Path, say: Say, only_unrestricted: bool) -> None:
    from backsplit.export.nnunet import export_nnunet
    from backsplit.qc.judge import REJECT

    composed, settings, name = labels_folder(config), config, "left_out.tsv"
    if only_unrestricted:
        from backsplit.unrestricted import labels_folder as unrestricted_folder
        from backsplit.unrestricted import unrestricted

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
        for row in _status(composed / f"{batch}.tsv", stage)
        if row["status"] == "done"
    }
    cases = [c.case for c in load_checked(table) if c.case.id in done - rejected]
    dataset = export_nnunet(settings, scheme, cases, composed)
    left_out = verdict[~verdict["case"].isin({case.id for case in cases})]
    write_tsv(left_out, config.run.results / "datasets" / name)
    say(f"[backsplit] export: {len(cases)} of {len(verdict)} cases in {dataset.folder}")
    if not cases:
        flags = config.run.results / "qc" / "flags.tsv"
        say(f"[backsplit] export: NO case could be used; {flags} says why")


def pages(path: Path, threads: int, say: Say) -> None:
    """Write a page for each case to look at, and remove those of the others."""
    config = load_config(path)
    with _job(config, "pages", say) as recorder:
        _pages(config, path, threads, say, recorder)


def _pages(config: Config, path: Path, threads: int, say: Say, recorder: Recorder) -> None:
    from backsplit.report.case_facts import gather_pages
    from backsplit.report.case_page import PageStage, remove_others
    from backsplit.report.tables import PAGES_STATUS

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
    from backsplit.report.page import write_report

    config = load_config(path)
    scheme, _ = load_scheme(config, path)
    page = config.run.results / "report" / "index.html"
    with _job(config, "report", say):
        write_report(config, scheme, page)
    say(f"[backsplit] report: {page}")


def manifest(path: Path, say: Say) -> None:
    """Write manifest.json."""
    from backsplit.manifest import manifest_path, write_manifest

    config = load_config(path)
    with _job(config, "manifest", say):
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
    total = len(load_checked(open_table(config)))
    for name, folder in _stage_folders(config).items():
        tables = [read_rows(table) for table in sorted(folder.glob(STATUS_TABLES))]
        failed = sum(row["status"] == "failed" for rows in tables for row in rows)
        sidecars = _count_sidecars(folder)
        yield f"{name}: {sidecars} done, {failed} failed, {total} in all"


def segment_folder(config: Config, segmenter: str) -> Path:
    """Where the label maps of a segmenter lie."""
    return config.run.results / "segment" / segmenter


def labels_folder(config: Config) -> Path:
    """Where the composed label maps lie."""
    return config.run.results / "labels"


def measures_folder(config: Config) -> Path:
    """Where the measures and pictures of single cases lie."""
    return config.run.results / "qc" / "cases"


def status_tables(config: Config) -> dict[str, pd.DataFrame]:
    """Status of every case after each stage, in order of the flow.

    Raises
    ------
    CaseError
        FILE_MISSING when a stage has not finished its batches.
    """
    import pandas as pd

    tables = {"check": read_tsv(config.run.results / "cases.tsv")}
    names = batches(len(tables["check"]), config.run.batch_size)
    for stage, folder in _stage_folders(config).items():
        rows = [row for batch in names for row in _status(folder / f"{batch}.tsv", stage)]
        tables[stage] = pd.DataFrame(rows, columns=list(STATUS_COLUMNS), dtype=str)
    return tables


def _stage_folders(config: Config) -> dict[str, Path]:
    return {
        **{f"segment {s}": segment_folder(config, s) for s in config.used_segmenters},
        "compose": labels_folder(config),
        "measure": measures_folder(config),
    }


def _status(path: Path, stage: str) -> list[dict[str, str]]:
    if not path.exists():
        raise CaseError(Code.FILE_MISSING, f"{path} does not exist; run `backsplit {stage}` first")
    return list(read_rows(path))


def _segmenting_failures(config: Config, batch: str) -> Mapping[str, Mapping[str, str]]:
    """Segmenter to the cases of a batch that it could not label, with the reason."""
    return {
        s: _failures(segment_folder(config, s) / f"{batch}.tsv", f"segment {s}")
        for s in config.layers
    }


def _failures(path: Path, stage: str) -> Mapping[str, str]:
    """Cases of a batch that failed in a stage, with the reason; `path` is its status table."""
    bad = [row for row in _status(path, stage) if row["status"] == "failed"]
    return {row["case"]: f"{row['message']} (code {row['code']})" for row in bad}


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
        with _job(config, stage.name, say, name) as recorder:
            begin(folder / f"{name}.tsv", key_of(name))
            noted = RecordedStage(stage, recorder, progress)
            outcomes = run_batch(noted, members, noted, stop_on_bad_case=stop)
            gather(name, outcomes)
            write_status(outcomes, folder / f"{name}.tsv")
        bad = [o for o in outcomes if o.status == "failed"]
        if stop and bad:
            raise BacksplitError(
                Code(bad[0].code),
                f"{bad[0].case} failed and run.on_bad_case is stop: {bad[0].message}",
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


def _count_sidecars(folder: Path) -> int:
    return sum(path.name != "labels.json" for path in folder.glob("[!.]*.json"))
