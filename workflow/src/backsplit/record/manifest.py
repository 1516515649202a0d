"""The manifest of a data set: what it was made from, by what, under which licences, and every file.

Plain JSON with a schema (`backsplit schema manifest`), not an RO-Crate: a crate names each file as
an entity of one JSON-LD document, which for 100,000 cases is a document that nothing opens. Here
the files are listed in a table beside it, whose SHA-256 the manifest holds. There are no times in
either: the same inputs give the same manifest. Who made what, and when, is in `provenance/jobs`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from os.path import relpath
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from backsplit import __version__
from backsplit.cases.labels import label_files
from backsplit.cases.table import Case, load_checked, open_table
from backsplit.config.base import Section
from backsplit.config.model import Config
from backsplit.errors import Code, RunError
from backsplit.export.bids import bids_description
from backsplit.export.monai import UNRESTRICTED, data_lists
from backsplit.export.nnunet import datasets
from backsplit.record.datasets import DatasetEntry, Row, dataset_entries, dataset_rows
from backsplit.segment.licences import licences
from backsplit.store.disk import atomic_path
from backsplit.store.provenance import file_sha256, versions
from backsplit.store.results import StageFolder
from backsplit.store.sidecars import ComposeSidecar, Kind, SegmentSidecar, Sidecar, read_sidecar
from backsplit.store.status import Status, outcomes_in
from backsplit.store.tsv import read_rows

PACKAGES = (
    "numpy",
    "SimpleITK",
    "nibabel",
    "connected-components-3d",
    "numba",
    "pandas",
    "pyarrow",
)
COLUMNS = ("case", "kind", "role", "path", "sha256")
INPUT = "input"
LABELS = "labels"
SEGMENT = "segment "
"""Kinds of files; of a segmenter's maps its name follows."""


class LicenceEntry(Section):
    """What a segmenter's labels may be used for."""

    name: str
    commercial: Literal["yes", "no", "unknown"]
    terms: str
    source: str


class SegmenterEntry(Section):
    """Who labelled, with what."""

    kind: str
    licence: LicenceEntry
    versions: dict[str, str] = Field(description="Packages; several versions joined by a comma.")
    weights: dict[str, list[str]] = Field(description="File of weights to SHA-256 of each used.")
    cases: int = Field(description="Cases that it labelled.")


class Counts(Section):
    """What became of the cases."""

    cases: int
    refused: int
    failed: dict[str, int] = Field(description="Stage to cases that failed in it.")
    verdicts: dict[str, int]
    exported: int
    left_out: int


class FileTable(Section):
    """The table of all files: case, kind, role, path, sha256."""

    path: str
    rows: int
    sha256: str


class Manifest(Section):
    """What a data set is and where it comes from."""

    manifest_version: Literal[2] = 2
    name: str
    id: int
    made_with: dict[str, str]
    commands: list[str] = Field(description="Commands that make it again, in order.")
    configuration: dict[str, Any]
    segmenters: dict[str, SegmenterEntry]
    counts: Counts
    datasets: list[DatasetEntry]
    files: FileTable


def write_manifest(config: Config) -> Manifest:
    """Write `manifest.json`, and the table of files that it names.

    Raises
    ------
    RunError
        FILE_MISSING when the data set has not been exported.
    """
    results = config.results
    for path in (
        *(dataset.json for dataset in datasets(config)),
        *data_lists(config),
        *(path for path in [bids_description(config)] if path is not None),
    ):
        if not path.exists():
            raise RunError(
                Code.FILE_MISSING, f"{path} does not exist", "run `backsplit export` first"
            )
    sidecars = _Sidecars(config)
    table = open_table(config)
    cases = [c.case for c in load_checked(table) if c.status is Status.OK]
    with atomic_path(results.manifest_files) as temporary:
        rows = _write_files(temporary, _files(config, cases, sidecars))
    left_out, verdicts = _verdicts(config)
    exported = datasets(config)[0].cases()
    manifest = Manifest(
        name=config.dataset.name,
        id=config.dataset.id,
        made_with={"backsplit": __version__, **versions(*PACKAGES)},
        commands=list(_commands(config)),
        configuration=config.model_dump(mode="json", by_alias=True, exclude={"study"}),
        segmenters=sidecars.entries(),
        counts=Counts(
            cases=len(table),
            refused=len(table) - len(cases),
            failed=_failed(config, list(table.batches)),
            verdicts=verdicts,
            exported=len(exported),
            left_out=left_out,
        ),
        datasets=list(dataset_entries(config)),
        files=FileTable(
            path=results.relative(results.manifest_files),
            rows=rows,
            sha256=file_sha256(results.manifest_files),
        ),
    )
    with atomic_path(results.manifest) as temporary:
        temporary.write_text(manifest.model_dump_json(indent=1) + "\n", "utf-8")
    return manifest


def manifest_schema() -> str:
    """JSON schema of the manifest, as it ships with the package."""
    schema = Manifest.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "backsplit manifest"
    return json.dumps(schema, indent=1) + "\n"


CHUNK_ROWS = 100_000


class _Sidecars:
    """Reads sidecars, and counts who labelled with what on the way."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.folders = {name: config.results.segment(name) for name in config.used_segmenters}
        self.cases: Counter[str] = Counter()
        self.versions: dict[str, dict[str, set[str]]] = {s: {} for s in config.used_segmenters}
        self.weights: dict[str, dict[str, set[str]]] = {s: {} for s in config.used_segmenters}

    def composed(self, case: Case) -> ComposeSidecar | None:
        """Sidecar of a label map; None if the case has none."""
        return _sidecar(self.config.results.labels, case, ComposeSidecar)

    def segmented(self, segmenter: str, case: Case) -> SegmentSidecar | None:
        """Sidecar of a segmenter's map, counted; None if the case has none."""
        sidecar = _sidecar(self.folders[segmenter], case, SegmentSidecar)
        if sidecar is not None:
            self.cases[segmenter] += 1
            for found, seen in (
                (sidecar.made_from.versions, self.versions),
                (sidecar.made_from.weights, self.weights),
            ):
                for name, value in found.items():
                    seen[segmenter].setdefault(name, set()).add(value)
        return sidecar

    def entries(self) -> dict[str, SegmenterEntry]:
        """What was counted, by segmenter."""
        return {
            name: SegmenterEntry(
                kind=self.config.segmenters[name].kind,
                licence=LicenceEntry(
                    name=licence.name,
                    commercial=licence.commercial.value,
                    terms=licence.terms,
                    source=licence.source,
                ),
                versions={p: ", ".join(sorted(v)) for p, v in sorted(self.versions[name].items())},
                weights={f: sorted(v) for f, v in sorted(self.weights[name].items())},
                cases=self.cases[name],
            )
            for name, licence in licences(self.config).items()
        }


def _sidecar(folder: StageFolder, case: Case, kind: type[Kind]) -> Kind | None:
    try:
        return read_sidecar(folder.sidecar(case.id), kind)
    except FileNotFoundError:
        return None


def _files(config: Config, cases: Sequence[Case], sidecars: _Sidecars) -> Iterator[Row]:
    """Every file of the data set, inputs first."""
    results = config.results
    linked: dict[Path, str] = {}
    for case in cases:
        composed = sidecars.composed(case)
        known = {} if composed is None else composed.made_from.inputs
        for channel, image in case.images.items():
            is_grid = channel == config.dataset.grid_channel
            sha256 = (known.get("grid") if is_grid else None) or file_sha256(image)
            linked[image.resolve()] = sha256
            yield case.id, INPUT, f"image_{channel}", _from_table(image, case), sha256
        for column, lesion in case.lesion_files.items():
            sha256 = known.get(column) or file_sha256(lesion)
            yield case.id, INPUT, column, _from_table(lesion, case), sha256
        for segmenter in config.used_segmenters:
            yield from _of_segmenter(config, segmenter, case, sidecars)
        if composed is not None:
            yield _output(results.relative(results.labels.path), case, LABELS, composed)
    yield from dataset_rows(config, linked)
    variant = UNRESTRICTED if config.export.only_unrestricted else ""
    for path in results.manifest_tables(variant):
        yield "", "table", path.stem, results.relative(path), file_sha256(path)


def _of_segmenter(config: Config, segmenter: str, case: Case, sidecars: _Sidecars) -> Iterator[Row]:
    sidecar = sidecars.segmented(segmenter, case)
    if sidecar is None:
        return
    used = sidecar.made_from.inputs
    for role, path in label_files(config.segmenters[segmenter].label_paths, case).items():
        if role in used:
            role_of = f"{segmenter}/{role}"
            yield case.id, INPUT, role_of, _from_table(path, case), used[role]
    place = config.results.relative(sidecars.folders[segmenter].path)
    yield _output(place, case, f"{SEGMENT}{segmenter}", sidecar)


def _output(place: str, case: Case, kind: str, sidecar: Sidecar) -> Row:
    written = sidecar.outputs["labels"]
    return case.id, kind, "labels", f"{place}/{written.file}", written.sha256


def _write_files(path: Path, rows: Iterator[Row]) -> int:
    """Write the table of files, some at a time."""
    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        chunk: list[Row] = []
        for row in rows:
            chunk.append(row)
            if len(chunk) == CHUNK_ROWS:
                count += _flush(writer, chunk, schema)
                chunk = []
        count += _flush(writer, chunk, schema)
    return count


def _flush(writer: pq.ParquetWriter, chunk: Sequence[Row], schema: pa.Schema) -> int:
    columns = zip(*chunk, strict=True) if chunk else ([] for _ in COLUMNS)
    writer.write_table(pa.table([pa.array(c, pa.string()) for c in columns], schema=schema))
    return len(chunk)


def _from_table(path: Path, case: Case) -> str:
    """A path from the case table's folder, whatever it was written from; an absolute one as it is.

    A path in the configuration starts where the work was started, which nobody knows later.
    """
    if path.is_relative_to(case.folder):
        return path.relative_to(case.folder).as_posix()
    return path.as_posix() if path.is_absolute() else Path(relpath(path, case.folder)).as_posix()


def _verdicts(config: Config) -> tuple[int, dict[str, int]]:
    """Cases that are left out, and how many have which verdict."""
    rows = list(read_rows(config.results.verdicts))
    counts = Counter(row["verdict"] for row in rows)
    exported = set(datasets(config)[0].cases())
    return sum(row["case"] not in exported for row in rows), dict(sorted(counts.items()))


def _failed(config: Config, batches: Sequence[str]) -> dict[str, int]:
    return {
        stage: sum(
            row.status is Status.FAILED
            for table in map(folder.table, batches)
            if table.exists()
            for row in outcomes_in(table)
        )
        for stage, folder in config.results.stages(config.used_segmenters).items()
    }


def _commands(config: Config) -> Iterator[str]:
    """The verbs that make the data set; a workflow calls them a batch at a time."""
    option = f"--config {config.results.config.as_posix()}"
    yield f"backsplit check {option}"
    yield from (f"backsplit segment {name} {option}" for name in config.used_segmenters)
    yield f"backsplit compose {option}"
    if config.export.only_unrestricted:
        yield f"backsplit compose --only-unrestricted {option}"
    yield from (f"backsplit {verb} {option}" for verb in ("measure", "judge", "export", "manifest"))
