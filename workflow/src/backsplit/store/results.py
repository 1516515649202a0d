"""The results folder: where each file lies. Nothing else in the package knows a path in it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from backsplit.store.study import StudyFolder

VOLUME_ENDING = ".nii.gz"
"""Of every label map and image that is written."""
ROWS_ENDING = ".rows.json.gz"
PAGE_ENDING = ".html"

BATCH = re.compile(r"\d{5,}")
"""Names of batches."""

TABLES = "[!.]*.tsv"
"""Status tables of a folder, and none that is being written."""

DECLARED = (
    *(f"{folder}{TABLES}" for folder in ("", "check/", "segment/*/", "labels/", "unrestricted/")),
    *(f"{folder}{TABLES}" for folder in ("qc/cases/", "report/cases/", "report/tables/")),
    *("labels/labels.json", "labels/status.parquet", "qc/[!.]*.*"),
    *("datasets/nnunet/*/dataset.json", "report/[!.]*.html", "report/figures/*", "manifest.json"),
    *(f"study/{name}" for name in ("[!.]*.*", "arms/*.json", "jobs/*/*/[!.]*", "report/[!.]*.*")),
)
"""Where in the results the files lie that rules declare as outputs."""


def names_in(folder: Path) -> set[str]:
    """Names in a folder: one listing, where asking for each file takes a shared disk minutes."""
    try:
        return {entry.name for entry in os.scandir(folder)}
    except FileNotFoundError:
        return set()


def files_in(folder: Path) -> set[str]:
    """Names of what is no folder in a folder, links included: one listing."""
    try:
        return {e.name for e in os.scandir(folder) if not e.is_dir(follow_symlinks=False)}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def folders_in(folder: Path) -> list[Path]:
    """Folders in a folder, in order; no links to folders."""
    try:
        found = [e.name for e in os.scandir(folder) if e.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder / name for name in sorted(found)]


def sidecar_path(output: Path) -> Path:
    """Where the sidecar of an output lies: `x.nii.gz` and `x.rows.json.gz` have `x.json`."""
    return output.with_name(_sidecar_name(output.name))


def _sidecar_name(output: str) -> str:
    for ending in (VOLUME_ENDING, ROWS_ENDING):
        output = output.removesuffix(ending)
    return f"{output}.json"


def key_path(table: Path) -> Path:
    """Where the key lies that a batch's status table was made for."""
    return table.with_suffix(".key")


@dataclass(frozen=True)
class StageFolder:
    """The results of a stage that works case by case.

    Attributes
    ----------
    path : the folder
    ending : of each case's main file
    """

    path: Path
    ending: str = VOLUME_ENDING

    def output(self, case: str) -> Path:
        """A case's main file."""
        return self.path / f"{case}{self.ending}"

    def sidecar(self, case: str) -> Path:
        """What a case's result was made from, and what happened; written last."""
        return self.path / _sidecar_name(f"{case}{self.ending}")

    def table(self, batch: str) -> Path:
        """Status of a batch's cases."""
        return self.path / f"{batch}.tsv"

    def tables(self) -> list[Path]:
        """Every status table that is there, in order."""
        return sorted(self.path / name for name in names_in(self.path) if fnmatch(name, TABLES))

    def outputs(self) -> list[Path]:
        """Every main file that is there, in order."""
        return sorted(self.path.glob(f"[!.]*{self.ending}"))

    def sidecars(self) -> set[str]:
        """Cases whose sidecar is there."""
        return self.sidecars_in(names_in(self.path))

    def sidecars_in(self, names: Iterable[str]) -> set[str]:
        """Cases whose sidecar is among the names of a listing."""
        ending = self.sidecar("").name
        return {n.removesuffix(ending) for n in names if fnmatch(n, f"[!.]*{ending}")}


@dataclass(frozen=True)
class Results:
    """A results folder; `root` is `run.results`."""

    root: Path

    @property
    def config(self) -> Path:
        """The configuration as the workflow runs it."""
        return self.root / "config.json"

    @property
    def cases(self) -> Path:
        """What `check` said of every case."""
        return self.root / "cases.tsv"

    @property
    def check(self) -> StageFolder:
        """What `check` said, a table a batch; there are no files of single cases."""
        return StageFolder(self.root / "check")

    def segment(self, segmenter: str) -> StageFolder:
        """Label maps of a segmenter."""
        return StageFolder(self.segmented / segmenter)

    @property
    def segmented(self) -> Path:
        """Folder of the folders of all segmenters."""
        return self.root / "segment"

    @property
    def labels(self) -> StageFolder:
        """The composed label maps."""
        return StageFolder(self.root / "labels")

    @property
    def unrestricted(self) -> StageFolder:
        """The label maps composed without restricted segmenters."""
        return StageFolder(self.root / "unrestricted")

    @property
    def measures(self) -> StageFolder:
        """Rows of measures, and a picture a case."""
        return StageFolder(self.root / "qc" / "cases", ROWS_ENDING)

    @property
    def pages(self) -> StageFolder:
        """Pages of single cases."""
        return StageFolder(self.root / "report" / "cases", PAGE_ENDING)

    def stages(self, segmenters: Iterable[str]) -> dict[str, StageFolder]:
        """Stage to its results, in order of the flow, after `check`."""
        return {
            **{f"segment {name}": self.segment(name) for name in segmenters},
            "compose": self.labels,
            "measure": self.measures,
        }

    def picture(self, case: str) -> Path:
        """Overview of a case for the report."""
        return self.measures.path / f"{case}.png"

    @property
    def label_ids(self) -> Path:
        """Names and ids of the labels."""
        return self.labels.path / "labels.json"

    @property
    def structure_status(self) -> Path:
        """What is known of each structure in each case."""
        return self.labels.path / "status.parquet"

    def batch_structure_status(self, batch: str) -> Path:
        """The same of a batch's cases."""
        return self.labels.path / "tables" / f"{batch}.jsonl"

    def quality(self, table: str) -> Path:
        """A table of measures of the data set: measures, lesions, agreement, drawn, parts."""
        return self.quality_folder / f"{table}.parquet"

    @property
    def quality_folder(self) -> Path:
        """Folder of the tables that are judged by, and of what came out."""
        return self.root / "qc"

    def batch_quality(self, table: str, batch: str) -> Path:
        """The same of a batch's cases."""
        return self.quality_tables / table / f"{batch}.parquet"

    @property
    def quality_tables(self) -> Path:
        """Folder of the folders of what batches measured."""
        return self.root / "qc" / "tables"

    @property
    def flags(self) -> Path:
        """What was found, and by which rule."""
        return self.root / "qc" / "flags.tsv"

    @property
    def burden(self) -> Path:
        """Number and volume of lesions of each case."""
        return self.root / "qc" / "burden.tsv"

    @property
    def verdicts(self) -> Path:
        """Accept, review or reject, a row a case."""
        return self.root / "qc" / "verdicts.tsv"

    @property
    def decisions(self) -> Path:
        """A person's own verdicts, where the configuration names no other file."""
        return self.root / "qc" / "decisions.tsv"

    @property
    def export_key(self) -> Path:
        """The key that the data sets were written for."""
        return self.root / "datasets" / "export.key"

    @property
    def nnunet(self) -> Path:
        """Folder of nnU-Net's data sets."""
        return self.root / "datasets" / "nnunet"

    def converted(self, dataset: str) -> Path:
        """What is noted of the files of a data set that were converted."""
        return self.all_converted / f"{dataset}.json"

    @property
    def all_converted(self) -> Path:
        """Folder of these notes, one a data set."""
        return self.root / "datasets" / "converted"

    @property
    def monai(self) -> Path:
        """Folder of MONAI's data lists."""
        return self.root / "datasets" / "monai"

    def bids(self, name: str) -> Path:
        """A BIDS data set."""
        return self.all_bids / name

    @property
    def all_bids(self) -> Path:
        """Folder of the BIDS data sets."""
        return self.root / "datasets" / "bids"

    def segmentations(self, name: str) -> Path:
        """Folder of the segmentations of a data set."""
        return self.all_segmentations / name

    @property
    def all_segmentations(self) -> Path:
        """Folder of the folders of segmentations, one a data set."""
        return self.root / "datasets" / "segmentations"

    @property
    def preprocessed(self) -> Path:
        """nnU-Net's preprocessed data sets, unless they go elsewhere."""
        return self.root / "training" / "preprocessed"

    @property
    def study(self) -> StudyFolder:
        """The study."""
        return StudyFolder(self.root / "study")

    def evaluation(self, name: str) -> Path:
        """Folder of the scores of some predictions."""
        return self.root / "evaluation" / name

    def left_out(self, variant: str = "") -> Path:
        """Cases that are not in the data set, and why; `variant` ends the name."""
        return self.root / "datasets" / f"left_out{variant}.tsv"

    @property
    def report(self) -> Path:
        """The report."""
        return self.root / "report" / "index.html"

    @property
    def distributions(self) -> Path:
        """Figure: how each structure is spread over the cases."""
        return self.report.parent / "figures" / "distributions.svg"

    @property
    def overruled(self) -> Path:
        """Figure: who gave way to whom."""
        return self.report.parent / "figures" / "overruled.svg"

    @property
    def lesions(self) -> Path:
        """All lesions as a table, the largest first."""
        return self.report.parent / "tables" / "lesions.tsv"

    @property
    def page_status(self) -> Path:
        """Status of every page."""
        return self.pages.table("status")

    @property
    def manifest(self) -> Path:
        """The manifest."""
        return self.root / "manifest.json"

    @property
    def manifest_files(self) -> Path:
        """The table of all files that the manifest names."""
        return self.root / "manifest.parquet"

    def manifest_tables(self, variant: str = "") -> list[Path]:
        """Tables of a data set that are there and that the manifest names."""
        single = [self.cases, self.label_ids, self.structure_status, self.left_out(variant)]
        found = [path for path in single if path.exists()]
        for pattern in ("*.parquet", "*.tsv"):
            found += sorted(self.quality_folder.glob(pattern))
        return found

    def declared(self) -> list[Path]:
        """Files that rules declare as outputs, as far as they are there."""
        return [path for pattern in DECLARED for path in self.root.glob(pattern)]

    def job_records(self, stage: str) -> Path:
        """Folder of the records of a stage's jobs."""
        return self.root / "provenance" / "jobs" / stage

    def job_record(self, stage: str, batch: str | None) -> Path:
        """Where the jobs of a stage and batch are recorded."""
        return self.job_records(stage) / f"{batch or 'all'}.jsonl"

    def lock(self, name: str) -> Path:
        """Lock file of a claim."""
        return self.root / ".locks" / f"{name}.lock"

    def relative(self, path: Path) -> str:
        """A path in the results as the manifest names it."""
        return path.relative_to(self.root).as_posix()
