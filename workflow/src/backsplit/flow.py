"""The stages on a data set's folder: what each verb reads, does and writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from backsplit.batch import Stage, run_batch, write_status
from backsplit.cases import (
    CASE_ID,
    Checked,
    batches,
    check_table,
    load_checked,
    read_cases,
    read_tsv,
    write_checked,
    write_tsv,
)
from backsplit.check import check as run_check
from backsplit.check import load_scheme
from backsplit.claims import claimed
from backsplit.compose.stage import ComposeStage
from backsplit.config import Config
from backsplit.config_file import load_config
from backsplit.errors import BacksplitError, CaseError, Code
from backsplit.export.nnunet import export_nnunet
from backsplit.plan import TABLES as STATUS_TABLES
from backsplit.plan import Plan, begin
from backsplit.progress import StageProgress
from backsplit.provenance import read_json, write_json
from backsplit.qc.flags import all_flags
from backsplit.qc.judge import (
    REJECT,
    flag_absences,
    flag_failures,
    read_decisions,
    verdicts,
)
from backsplit.qc.lesions import burden
from backsplit.qc.stage import TABLES, MeasureStage
from backsplit.segment.stage import SegmentStage
from backsplit.volume import atomic_path

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
    for part, rows in {batch: range(len(report.checked))}.items() if batch else everything.items():
        with claimed(config.run.results, f"check {part}", say):
            begin(check_table(config, part), keys[part])
            write_checked([report.checked[row] for row in rows], check_table(config, part))
    if batch is None:
        cases(path, say)
    if refused and config.run.on_bad_case == "stop":
        raise BacksplitError(
            Code.TABLE_INVALID, f"{refused} case(s) are refused and run.on_bad_case is stop"
        )


def _keys_before(path: Path, batch: str | None) -> dict[str, str]:
    """Keys of the batches before a file is read: one that changes meanwhile is due again."""
    try:
        plan = Plan(load_config(path))
        return {b: plan.check_key(b) for b in plan.batches if batch in (None, b)}
    except (BacksplitError, CaseError):
        return {}  # the check itself says what is wrong


def cases(path: Path, say: Say) -> None:
    """Write cases.tsv and labels.json."""
    config = load_config(path)
    scheme, _ = load_scheme(config, path)
    with claimed(config.run.results, "cases", say):
        write_checked(load_checked(config), config.run.results / "cases.tsv")
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
    stage = SegmentStage(config, segmenter)
    folder = segment_folder(config, segmenter)
    key = partial(Plan(config).segment_key, segmenter)
    _run(config, lambda _: stage, key, folder, batch, say)
    if timings is not None:
        write_json(timings, stage.segmenter.timings.summary())


def compose(path: Path, batch: str | None, say: Say) -> None:
    """Compose label maps."""
    config = load_config(path)
    scheme, classes = load_scheme(config, path)

    def stage(name: str) -> Stage:
        failures = {
            s: _failures(segment_folder(config, s) / f"{name}.tsv", f"segment {s}")
            for s in config.layers
        }
        return ComposeStage(config, scheme, classes, failures)

    _run(config, stage, Plan(config).compose_key, labels_folder(config), batch, say)


def measure(path: Path, batch: str | None, say: Say) -> None:
    """Measure and draw."""
    from backsplit.report.montage import PICTURE_VERSION, draw_montage

    config = load_config(path)
    scheme, classes = load_scheme(config, path)
    draw = partial(draw_montage, names=scheme.all_names, target_count=len(scheme.targets))

    def stage(name: str) -> Stage:
        composed = _failures(labels_folder(config) / f"{name}.tsv", "compose")
        return MeasureStage(config, scheme, classes, composed, draw, PICTURE_VERSION)

    _run(config, stage, Plan(config).compose_key, measures_folder(config), batch, say)


def judge(path: Path, say: Say) -> None:
    """Write measures.parquet, flags.tsv and verdicts.tsv."""
    config = load_config(path)
    with claimed(config.run.results, "judge", say):
        _judge(config, path, say)


def _judge(config: Config, path: Path, say: Say) -> None:
    scheme, _ = load_scheme(config, path)
    stages = status_tables(config)
    measured = stages["measure"]
    done = list(measured[measured["status"] == "done"]["case"])
    folder = config.run.results / "qc"
    folder.mkdir(parents=True, exist_ok=True)
    tables = {name: _gather(config, name, done) for name in TABLES}
    for name, table in tables.items():
        with atomic_path(folder / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False)
    with atomic_path(labels_folder(config) / "status.parquet") as temporary:
        known = _known(config, stages["compose"], scheme.structures)
        pd.DataFrame(known).to_parquet(temporary, index=False)
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


def _gather(config: Config, name: str, cases: Sequence[str]) -> pd.DataFrame:
    """One table of the rows of every case."""
    ending = ".parquet" if name == "measures" else f".{name}.parquet"
    rows = [pd.read_parquet(measures_folder(config) / f"{case}{ending}") for case in cases]
    full = [table for table in rows if len(table)]
    return pd.concat(full) if full else pd.DataFrame(columns=list(TABLES[name]))


def _groups(config: Config, done: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Cases by what the columns of `qc.groups` say of them."""
    groups: dict[str, dict[str, list[str]]] = {column: {} for column in config.qc.groups}
    cases = [case for case in read_cases(config) if case.id in set(done)]
    for column, values in groups.items():
        for case in cases:
            values.setdefault(case.columns.get(column, ""), []).append(case.id)
    return groups


def _known(
    config: Config, composed: pd.DataFrame, structures: Sequence[str]
) -> Iterator[dict[str, object]]:
    """Status of every structure in every case of the table; see `compose.status`."""
    for row in composed.itertuples():
        if row.status == "done":
            sidecar = read_json(labels_folder(config) / f"{row.case}.json")
            yield from ({"case": row.case, **known} for known in sidecar["structures"])
            continue
        reason = f"{row.status}: {row.message} (code {row.code})"
        nothing = {"status": "unknown", "voxels": 0, "sides": "", "reason": reason}
        yield from ({"case": row.case, "structure": name, **nothing} for name in structures)


def export(path: Path, say: Say) -> None:
    """Write the data set for nnU-Net."""
    config = load_config(path)
    with claimed(config.run.results, "export", say):
        _export(config, path, say)


def _export(config: Config, path: Path, say: Say) -> None:
    scheme, _ = load_scheme(config, path)
    verdict = read_tsv(config.run.results / "qc" / "verdicts.tsv")
    composed = status_tables(config)["compose"]
    usable = set(composed[composed["status"] == "done"]["case"])
    usable -= set(verdict[verdict["verdict"] == REJECT]["case"])
    cases = [c.case for c in load_checked(config) if c.case.id in usable]
    dataset = export_nnunet(config, scheme, cases)
    used = {case.id for case in cases}
    left_out = verdict[~verdict["case"].isin(used)]
    write_tsv(left_out, config.run.results / "datasets" / "left_out.tsv")
    say(f"[backsplit] export: {len(cases)} of {len(verdict)} cases in {dataset.folder}")
    if not cases:
        flags = config.run.results / "qc" / "flags.tsv"
        say(f"[backsplit] export: NO case could be used; {flags} says why")


def report(path: Path, say: Say) -> None:
    """Write report/index.html."""
    from backsplit.report.page import write_report

    config = load_config(path)
    scheme, _ = load_scheme(config, path)
    page = config.run.results / "report" / "index.html"
    with claimed(config.run.results, "report", say):
        write_report(config, scheme, page)
    say(f"[backsplit] report: {page}")


def status(config: Config) -> Iterator[str]:
    """Lines of stage, cases done, failed and all, from what lies on the disk."""
    total = len(load_checked(config))
    for name, folder in _stage_folders(config).items():
        tables = [read_tsv(table) for table in sorted(folder.glob(STATUS_TABLES))]
        statuses = pd.concat(tables)["status"] if tables else pd.Series(dtype=str)
        sidecars = _count_sidecars(folder)
        failed = int((statuses == "failed").sum())
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
    tables = {"check": read_tsv(config.run.results / "cases.tsv")}
    names = batches(len(tables["check"]), config.run.batch_size)
    for stage, folder in _stage_folders(config).items():
        parts = [_status(folder / f"{batch}.tsv", stage) for batch in names]
        tables[stage] = pd.concat(parts, ignore_index=True)
    return tables


def _stage_folders(config: Config) -> dict[str, Path]:
    return {
        **{f"segment {s}": segment_folder(config, s) for s in config.used_segmenters},
        "compose": labels_folder(config),
        "measure": measures_folder(config),
    }


def _status(path: Path, stage: str) -> pd.DataFrame:
    if not path.exists():
        raise CaseError(Code.FILE_MISSING, f"{path} does not exist; run `backsplit {stage}` first")
    return read_tsv(path)


def _failures(path: Path, stage: str) -> Mapping[str, str]:
    """Cases of a batch that failed in a stage, with the reason; `path` is its status table."""
    table = _status(path, stage)
    bad = table[table["status"] == "failed"]
    return {str(r.case): f"{r.message} (code {r.code})" for r in bad.itertuples()}


def _run(
    config: Config,
    stage_of: Callable[[str], Stage],
    key_of: Callable[[str], str],
    folder: Path,
    batch: str | None,
    say: Say,
) -> None:
    """Run a stage over one batch, or over all one after the other."""
    everyone = [case.id for case in read_cases(config)]
    names = batches(len(everyone), config.run.batch_size)
    for name in [batch] if batch is not None else names:
        members = load_checked(config, name)
        stage = stage_of(name)
        progress = _progress(stage.name, everyone, members, folder, say)
        stop = config.run.on_bad_case == "stop"
        with claimed(config.run.results, f"{stage.name} {name}", say):
            begin(folder / f"{name}.tsv", key_of(name))
            outcomes = run_batch(stage, members, progress, stop_on_bad_case=stop)
            write_status(outcomes, folder / f"{name}.tsv")
        bad = [o for o in outcomes if o.status == "failed"]
        if stop and bad:
            raise BacksplitError(
                Code(bad[0].code),
                f"{bad[0].case} failed and run.on_bad_case is stop: {bad[0].message}",
            )
        progress.end()


def _progress(
    name: str, everyone: Sequence[str], members: Sequence[Checked], folder: Path, say: Say
) -> StageProgress:
    mine = {c.case.id for c in members}
    others = [case for case in everyone if case not in mine and CASE_ID.fullmatch(case)]

    def elsewhere() -> int:
        return sum((folder / f"{case}.json").exists() for case in others)

    return StageProgress(name, len(everyone), elsewhere, say)


def _count_sidecars(folder: Path) -> int:
    return sum(path.name != "labels.json" for path in folder.glob("[!.]*.json"))
