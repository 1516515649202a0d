"""Where the results of a data set lie, what became of its cases, and how a job holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from backsplit.cases.table import batches
from backsplit.config.model import Config
from backsplit.errors import Code, RunError
from backsplit.store.locks import claimed
from backsplit.store.tsv import STATUS_COLUMNS, read_rows, read_tsv
from backsplit.work.jobs import Recorder, recorded

if TYPE_CHECKING:
    import pandas as pd

Say = Callable[[str], None]
"""Prints a line where people read it."""


@contextmanager
def job(config: Config, stage: str, say: Say, batch: str | None = None) -> Iterator[Recorder]:
    """Hold the claim of a job's files, and record it."""
    results = config.run.results
    with (
        claimed(results, f"{stage} {batch}" if batch else stage, say),
        recorded(results, stage.replace(" ", "/"), batch) as recorder,
    ):
        yield recorder


def segment_folder(config: Config, segmenter: str) -> Path:
    """Where the label maps of a segmenter lie."""
    return config.run.results / "segment" / segmenter


def labels_folder(config: Config) -> Path:
    """Where the composed label maps lie."""
    return config.run.results / "labels"


def measures_folder(config: Config) -> Path:
    """Where the measures and pictures of single cases lie."""
    return config.run.results / "qc" / "cases"


def stage_folders(config: Config) -> dict[str, Path]:
    """Stage to the folder of its results, in order of the flow."""
    return {
        **{f"segment {s}": segment_folder(config, s) for s in config.used_segmenters},
        "compose": labels_folder(config),
        "measure": measures_folder(config),
    }


def working_folders(config: Config) -> dict[str, Path]:
    """As `stage_folders`, and the stage without restricted segmenters where it is wanted."""
    folders = stage_folders(config)
    if config.export.only_unrestricted:
        folders["compose unrestricted"] = config.run.results / "unrestricted"
    return folders


def status_tables(config: Config) -> dict[str, pd.DataFrame]:
    """Status of every case after each stage, in order of the flow.

    Raises
    ------
    RunError
        FILE_MISSING when a stage has not finished its batches.
    """
    import pandas as pd

    tables = {"check": read_tsv(config.run.results / "cases.tsv")}
    names = batches(len(tables["check"]), config.run.batch_size)
    for stage, folder in stage_folders(config).items():
        rows = [row for batch in names for row in status_rows(folder / f"{batch}.tsv", stage)]
        tables[stage] = pd.DataFrame(rows, columns=list(STATUS_COLUMNS), dtype=str)
    return tables


def status_rows(path: Path, stage: str) -> list[dict[str, str]]:
    """Rows of a status table.

    Raises
    ------
    RunError
        FILE_MISSING when `stage`, a verb, has not written it.
    """
    if not path.exists():
        raise RunError(
            Code.FILE_MISSING, f"{path} does not exist", f"run `backsplit {stage}` first"
        )
    return list(read_rows(path))


def segmenting_failures(config: Config, batch: str) -> Mapping[str, Mapping[str, str]]:
    """Segmenter to the cases of a batch that it could not label, with the reason."""
    return {
        s: failures(segment_folder(config, s) / f"{batch}.tsv", f"segment {s}")
        for s in config.layers
    }


def failures(path: Path, stage: str) -> Mapping[str, str]:
    """Cases of a batch that failed in a stage, with the reason; `path` is its status table."""
    bad = [row for row in status_rows(path, stage) if row["status"] == "failed"]
    return {row["case"]: f"{row['message']} (code {row['code']})" for row in bad}
