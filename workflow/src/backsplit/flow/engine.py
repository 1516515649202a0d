"""What a workflow engine asks before it starts: what is out of date, and the configuration."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from backsplit.config.file import ConfigError, dump_config, load_config, parse_config
from backsplit.config.model import Config
from backsplit.export.bids import is_whole_bids
from backsplit.export.monai import data_lists
from backsplit.export.nnunet import NnUNetDataset, datasets
from backsplit.flow.check import check_segmenters
from backsplit.flow.plan import Plan, _names
from backsplit.flow.project import resolve_scheme
from backsplit.measure.rows import ENDING
from backsplit.store.disk import atomic_path
from backsplit.store.provenance import read_json
from backsplit.store.tsv import read_rows

TABLES = "[!.]*.tsv"
"""Status tables of a folder, and none that is being written."""


DECLARED = (
    *(f"{folder}{TABLES}" for folder in ("", "check/", "segment/*/", "labels/", "unrestricted/")),
    *(f"{folder}{TABLES}" for folder in ("qc/cases/", "report/cases/", "report/tables/")),
    *("labels/labels.json", "labels/status.parquet", "qc/[!.]*.*"),
    *("datasets/nnunet/*/dataset.json", "report/[!.]*.html", "report/figures/*", "manifest.json"),
)
"""Where in the results the files lie that rules declare as outputs."""


def forget_incomplete(plan: Plan) -> list[Path]:
    """Remove status tables of other keys, and those that name a result which is not there.

    The engine sees tables only: without its table a batch is due again, and of the batch only
    the missing cases are made again.

    Returns
    -------
    removed
        The tables.
    """
    config, results = plan.config, plan.config.run.results
    folders = {results / "segment" / name: ".nii.gz" for name in config.used_segmenters}
    folders |= {results / "labels": ".nii.gz", results / "unrestricted": ".nii.gz"}
    folders |= {results / "qc" / "cases": ENDING, results / "report" / "cases": ".html"}
    removed = []
    for folder, ending in folders.items():
        there = _names(folder)
        tables = sorted(folder / name for name in there if fnmatch(name, TABLES))
        removed += [t for t in tables if any(f"{case}{ending}" not in there for case in _done(t))]
    for table, key in plan.keyed_tables():
        noted = table.with_suffix(".key")
        if table.exists() and noted.exists() and noted.read_text("utf-8") != key:
            removed.append(table)
    every = datasets(config)
    whole = (
        all(_is_whole(dataset) for dataset in every)
        and all(path.exists() for path in data_lists(config))
        and is_whole_bids(config)
    )
    if not whole and every[0].json.exists():
        removed.append(every[0].json)
    for path in removed:
        path.unlink(missing_ok=True)
    return removed


def date_back(results: Path) -> list[Path]:
    """Date files of the future now: a clock was wrong when they were written.

    Snakemake fails every job whose input is younger than its output, until the clock has caught
    up. What is due rests on keys, not on these times.

    Returns
    -------
    dated
        The files, of those that rules declare as outputs.
    """
    now = time.time()
    future = [
        path for pattern in DECLARED for path in results.glob(pattern) if path.stat().st_mtime > now
    ]
    for path in future:
        os.utime(path)
    return future


def _is_whole(dataset: NnUNetDataset) -> bool:
    """Whether a data set is described, and has as many label maps and images as it says."""
    if not dataset.json.exists():
        return False
    described = read_json(dataset.json)
    cases = described["numTraining"]
    images = cases * len(described["channel_names"])
    return all(
        count == sum(fnmatch(name, "[!.]*.nii.gz") for name in _names(dataset.folder / folder))
        for folder, count in (("labelsTr", cases), ("imagesTr", images))
    )


def _done(table: Path) -> Iterator[str]:
    return (row["case"] for row in read_rows(table) if row["status"] == "done")


def settle_config(data: Mapping[str, object], files: Sequence[Path]) -> tuple[Config, Path]:
    """Validate what an engine gathered; `write_config` puts it where every job reads it.

    Parameters
    ----------
    data : the configuration as the engine merged it, from files and command line
    files : the files it came from; a single one is read again, for rows in messages

    Returns
    -------
    config, path
        `path` is `<results>/config.json`.

    Raises
    ------
    ConfigError
        With every problem found.
    """
    if len(files) == 1:
        load_config(Path(files[0]))
    origin = Path(files[0]) if files else Path("--config")
    config = parse_config(data, origin)
    _, problems = resolve_scheme(config, origin)
    problems += check_segmenters(config, origin, hash_weights=False)
    if problems:
        raise ConfigError(problems)
    return config, config.run.results / "config.json"


def write_config(config: Config, path: Path) -> None:
    """Write a configuration for the jobs of a run, only when its content changes."""
    text = dump_config(config)
    if not path.exists() or path.read_text("utf-8") != text:
        with atomic_path(path) as temporary:
            temporary.write_text(text, "utf-8")
