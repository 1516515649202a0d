"""What happened to a case at each stage, and what its results were made from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from backsplit.config.model import Config
from backsplit.errors import Code, RunError
from backsplit.export.files import label_name
from backsplit.export.nnunet import datasets
from backsplit.segment.licences import licences
from backsplit.store.provenance import file_sha256
from backsplit.store.results import Results, StageFolder
from backsplit.store.sidecars import (
    ComposeSidecar,
    MeasureSidecar,
    SegmentSidecar,
    Sidecar,
    read_sidecar,
)
from backsplit.store.status import STATUS_COLUMNS, Status, outcomes_in
from backsplit.store.tsv import read_tsv
from backsplit.work.jobs import job_of

MOST_CLASSES = 8
"""Classes of a segmenter that a line names."""

SHORT = 12
"""Digits of a checksum that are shown; the sidecars have all."""


def explain(config: Config, case: str) -> Iterator[str]:
    """Lines about a case, in the order of the flow.

    Raises
    ------
    RunError
        TABLE_INVALID when `check` knows of no such case.
    """
    results = config.results
    table = _table(results.cases)
    rows = table[table["case"] == case].to_dict("records") if len(table) else []
    if not rows:
        raise RunError(
            Code.TABLE_INVALID,
            f"{results.cases} has no case {case!r}",
            "run `backsplit check`, or name one of its rows",
        )
    for row in rows:
        yield f"check: {row['status']}{_reason(row['code'], row['message'])}"
        yield from (
            f"  {column}: {value}" for column, value in row.items() if column not in STATUS_COLUMNS
        )
    if all(row["status"] != Status.OK for row in rows):
        return  # its id may be no id at all: no path is made of it
    for segmenter, licence in licences(config).items():
        folder = results.segment(segmenter)
        yield from _stage(results, f"segment {segmenter}", folder, SegmentSidecar, case)
        yield f"  licence: {licence.name}, commercial use: {licence.commercial} ({licence.terms})"
    yield from _stage(results, "compose", results.labels, ComposeSidecar, case)
    if config.export.only_unrestricted:
        folder = results.unrestricted
        yield from _stage(results, "compose unrestricted", folder, ComposeSidecar, case)
    yield from _stage(results, "measure", results.measures, MeasureSidecar, case)
    yield from _judged(results, case)
    for dataset in datasets(config):
        label = dataset.labels / label_name(case)
        yield f"export: {label if label.exists() else f'not in {dataset.folder.name}'}"


def _stage(
    results: Results, name: str, folder: StageFolder, kind: type[Sidecar], case: str
) -> Iterator[str]:
    """What a stage did with a case, and from what."""
    try:
        sidecar = read_sidecar(folder.sidecar(case), kind)
    except (OSError, ValueError):
        rows = (row for table in folder.tables() for row in outcomes_in(table))
        last = next((row for row in rows if row.case == case), None)
        told = f"{last.status}{_reason(last.code, last.message)}" if last else "not done yet"
        yield f"{name}: {told}"
        return
    yield f"{name}: {folder.output(case)}"
    yield from _job(results, name, case)
    for role, written in sidecar.outputs.items():
        path = folder.path / written.file
        if not path.exists():
            yield f"  {role}: {path} is GONE"
        elif file_sha256(path) != written.sha256:
            yield f"  {role}: {path} is NOT what was written (sha256 {written.sha256[:SHORT]}…)"
    made_from = sidecar.made_from
    for role, digest in made_from.inputs.items():
        yield f"  from {role}: sha256 {digest[:SHORT]}…"
    for file, digest in made_from.weights.items():
        yield f"  weights {file}: sha256 {digest[:SHORT]}…"
    versions = {**sidecar.made_by, **made_from.versions}
    yield "  with " + ", ".join(f"{package} {version}" for package, version in versions.items())
    if isinstance(sidecar, SegmentSidecar):
        yield from (f"  {line}" for line in _labelled(sidecar))
    if isinstance(sidecar, ComposeSidecar):
        yield from (f"  {line}" for line in sidecar.summary)


def _labelled(sidecar: SegmentSidecar) -> Iterator[str]:
    """What a segmenter labelled, what it could not, and what else its files hold."""
    found = [f"{name} ({voxels} voxels)" for name, voxels in sidecar.voxels.items()]
    more = f", … {len(found) - MOST_CLASSES} more" if len(found) > MOST_CLASSES else ""
    yield f"labelled: {', '.join(found[:MOST_CLASSES]) or 'nothing'}{more}"
    yield from (f"{name} is unknown: {why}" for name, why in sidecar.unknown.items())
    notes = dict(sidecar.notes)
    others = notes.pop("voxels_of_other_values", {})
    if others:
        listed = ", ".join(f"{value} ({voxels} voxels)" for value, voxels in others.items())
        yield f"values that `labels` does not list: {listed}"
    yield from (f"{key}: {value}" for key, value in notes.items())


def _job(results: Results, stage: str, case: str) -> Iterator[str]:
    """Which job made a result, as far as it was noted."""
    job = job_of(results, stage.replace(" ", "/"), case)
    if job is None:
        return
    scheduler = "".join(f", {key} {value}" for key, value in job.get("scheduler", {}).items())
    yield (
        f"  by job {job['job']} (batch {job.get('batch')}, {job.get('host')}, pid {job.get('pid')}"
        f"{scheduler}) at {job['made']}"
    )


def _judged(results: Results, case: str) -> Iterator[str]:
    """Verdict and flags."""
    verdicts = _table(results.verdicts)
    mine = verdicts[verdicts["case"] == case].to_dict("records") if len(verdicts) else []
    if not mine:
        yield "judge: not done yet"
        return
    who = "a person" if mine[0].get("by") == "person" else "the rules"
    note = f": {mine[0]['note']}" if mine[0].get("note") else ""
    yield f"judge: {mine[0]['verdict']}, by {who}{note}"
    flags = _table(results.flags)
    if len(flags):
        for row in flags[flags["case"] == case].to_dict("records"):
            of = f", {row['subject']}" if "/" in row["subject"] else ""  # not of the label map
            yield f"  {row['severity']}: {row['message']} ({row['rule']}{of})"


def _reason(code: str, message: str) -> str:
    return f" ({code}: {message})" if code else ""


def _table(path: Path) -> pd.DataFrame:
    """A table of ours; an empty one where it is not there or has nothing in it."""
    try:
        return read_tsv(path)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame()
