"""What happened to a case at each stage, and what its results were made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from backsplit.config.model import Config
from backsplit.errors import Code, RunError
from backsplit.export.files import FILE_ENDING
from backsplit.export.nnunet import datasets
from backsplit.measure.rows import ENDING
from backsplit.segment.licences import licences
from backsplit.store.provenance import file_sha256, read_json, sidecar_path
from backsplit.store.tsv import STATUS_COLUMNS, read_tsv
from backsplit.work.jobs import job_of

SHORT = 12
"""Digits of a checksum that a person compares; the sidecars have all."""


def explain(config: Config, case: str) -> Iterator[str]:
    """Lines about a case, in the order of the flow.

    Raises
    ------
    RunError
        TABLE_INVALID when `check` knows of no such case.
    """
    results = config.run.results
    table = _table(results / "cases.tsv")
    rows = table[table["case"] == case].to_dict("records") if len(table) else []
    if not rows:
        raise RunError(
            Code.TABLE_INVALID,
            f"{results / 'cases.tsv'} has no case {case!r}",
            "run `backsplit check`, or name one of its rows",
        )
    for row in rows:
        yield f"check: {row['status']}{_reason(row)}"
        yield from (
            f"  {column}: {value}" for column, value in row.items() if column not in STATUS_COLUMNS
        )
    if all(row["status"] != "ok" for row in rows):
        return  # its id may be no id at all: no path is made of it
    for segmenter, licence in licences(config).items():
        yield from _stage(results, f"segment {segmenter}", f"segment/{segmenter}", case)
        yield f"  licence: {licence.name}, commercial use: {licence.commercial} ({licence.terms})"
    yield from _stage(results, "compose", "labels", case)
    if config.export.only_unrestricted:
        yield from _stage(results, "compose unrestricted", "unrestricted", case)
    yield from _stage(results, "measure", "qc/cases", case, ENDING)
    yield from _judged(results, case)
    for dataset in datasets(config):
        label = dataset.folder / "labelsTr" / f"{case}{FILE_ENDING}"
        yield f"export: {label if label.exists() else f'not in {dataset.folder.name}'}"


def _stage(
    results: Path, name: str, folder: str, case: str, ending: str = ".nii.gz"
) -> Iterator[str]:
    """What a stage did with a case, and from what."""
    output = results / folder / f"{case}{ending}"
    try:
        sidecar = read_json(sidecar_path(output))
    except (OSError, ValueError):
        failed = [row for row in _status(output.parent) if row["case"] == case]
        yield f"{name}: {failed[0]['status'] + _reason(failed[0]) if failed else 'not done yet'}"
        return
    yield f"{name}: {output}"
    yield from _job(results, name, case)
    for role, written in sidecar.get("outputs", {}).items():
        path = output.parent / written["file"]
        if not path.exists():
            yield f"  {role}: {path} is GONE"
        elif file_sha256(path) != written["sha256"]:
            yield f"  {role}: {path} is NOT what was written (sha256 {written['sha256'][:SHORT]}…)"
    made_from = sidecar.get("made_from", {})
    for role, digest in made_from.get("inputs", {}).items():
        yield f"  from {role}: sha256 {digest[:SHORT]}…"
    for file, digest in made_from.get("weights", {}).items():
        yield f"  weights {file}: sha256 {digest[:SHORT]}…"
    versions = {**sidecar.get("made_by", {}), **made_from.get("versions", {})}
    yield "  with " + ", ".join(f"{package} {version}" for package, version in versions.items())
    notes = sidecar.get("notes", {})
    if isinstance(notes, Mapping):
        yield from (f"  {key}: {value}" for key, value in notes.items())
    yield from (f"  {line}" for line in sidecar.get("summary", ()))


def _job(results: Path, stage: str, case: str) -> Iterator[str]:
    """Which job made a result, as far as it was noted."""
    job = job_of(results, stage.replace(" ", "/"), case)
    if job is None:
        return
    scheduler = "".join(f", {key} {value}" for key, value in job.get("scheduler", {}).items())
    yield (
        f"  by job {job['job']} (batch {job.get('batch')}, {job.get('host')}, pid {job.get('pid')}"
        f"{scheduler}) at {job['made']}"
    )


def _judged(results: Path, case: str) -> Iterator[str]:
    """Verdict and flags."""
    verdicts = _table(results / "qc" / "verdicts.tsv")
    mine = verdicts[verdicts["case"] == case].to_dict("records") if len(verdicts) else []
    if not mine:
        yield "judge: not done yet"
        return
    who = "a person" if mine[0].get("by") == "person" else "the rules"
    note = f": {mine[0]['note']}" if mine[0].get("note") else ""
    yield f"judge: {mine[0]['verdict']}, by {who}{note}"
    flags = _table(results / "qc" / "flags.tsv")
    if len(flags):
        for row in flags[flags["case"] == case].to_dict("records"):
            yield f"  {row['severity']}: {row['message']} ({row['rule']})"


def _reason(row: Mapping[Any, Any]) -> str:
    return f" ({row['code']}: {row['message']})" if row.get("code") else ""


def _status(folder: Path) -> Iterator[dict[Any, Any]]:
    for table in sorted(folder.glob("*.tsv")):
        yield from _table(table).to_dict("records")


def _table(path: Path) -> pd.DataFrame:
    """A table of ours; an empty one where it is not there or has nothing in it."""
    try:
        return read_tsv(path)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame()
