"""What a workflow engine needs to know before it starts: batches, and what they depend on."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property, wraps
from pathlib import Path
from typing import Concatenate, ParamSpec

from backsplit import __version__
from backsplit.cases import Case, CaseTable, check_table, open_table, read_rows
from backsplit.check import check_segmenters, resolve_scheme
from backsplit.config import Config, Files, what_labels
from backsplit.config_file import ConfigError, dump_config, load_config, parse_config
from backsplit.disk import atomic_path, disk_errors
from backsplit.export.bids import is_whole_bids
from backsplit.export.monai import data_lists
from backsplit.export.nnunet import NnUNetDataset, datasets
from backsplit.given import label_files
from backsplit.lesion import declared_values
from backsplit.licences import restricted_segmenters
from backsplit.provenance import digest, read_json
from backsplit.qc.rows import ENDING

TABLES = "[!.]*.tsv"
"""Status tables of a folder, and none that is being written."""

DECLARED = (
    *(f"{folder}{TABLES}" for folder in ("", "check/", "segment/*/", "labels/", "unrestricted/")),
    *(f"{folder}{TABLES}" for folder in ("qc/cases/", "report/cases/", "report/tables/")),
    *("labels/labels.json", "labels/status.parquet", "qc/[!.]*.*"),
    *("datasets/nnunet/*/dataset.json", "report/[!.]*.html", "report/figures/*", "manifest.json"),
)
"""Where in the results the files lie that rules declare as outputs."""

P = ParamSpec("P")


def once(key: Callable[Concatenate[Plan, P], str]) -> Callable[Concatenate[Plan, P], str]:
    """Make a key once a plan: an engine asks for each several times, and keys hold others."""

    @wraps(key)
    def kept(plan: Plan, /, *args: P.args, **kwargs: P.kwargs) -> str:
        known: dict[object, str] = plan.__dict__.setdefault("keys", {})
        name = (key.__name__, *args, *kwargs.items())
        if name not in known:
            known[name] = key(plan, *args, **kwargs)
        return known[name]

    return kept


@dataclass(frozen=True)
class Plan:
    """The batches of a data set, and a key for each that changes when its inputs do.

    An engine that sees the same key need not start the job. Keys are made from the table, the
    configuration, and size and time of each input file: cheap enough for 100,000 cases. The job
    itself then looks at contents. A key holds those of the stages before, so that what is due
    does not rest on the order of times, which a kill or a clock can break.
    """

    config: Config

    @cached_property
    def table(self) -> CaseTable:
        """The case table."""
        return open_table(self.config)

    @cached_property
    def _times(self) -> Counter[str]:
        return Counter(self.table.ids)

    @cached_property
    def batches(self) -> Mapping[str, range]:
        """Batch name to rows."""
        return self.table.batches

    @once
    def check_key(self, batch: str) -> str:
        """Changes with a row of the batch, a file that it names, or what `check` looks at."""
        members = self.table.batch(batch)
        twice = [case.id for case in members if self._times[case.id] > 1]
        c = self.config
        declared = [c.dataset.other_grids, *declared_values(c).items()]
        return digest(
            [
                [self._stats(case) for case in members],
                twice,
                [c.dataset.channels, c.dataset.grid_channel, declared],
            ]
        )

    @once
    def segment_key(self, segmenter: str, batch: str) -> str:
        """Changes with the segmenter's section, its label files, and `check_key`."""
        section = self.config.segmenters[segmenter]
        files = []
        if isinstance(section, Files):
            files = [
                [_stat(path) for path in label_files(section, case).values()]
                for case in self.table.batch(batch)
            ]
        return digest([what_labels(section), files, self.check_key(batch)])

    def keyed_tables(self) -> Iterator[tuple[Path, str]]:
        """Status tables whose batch is due again when its key is another one, with that key."""
        results = self.config.run.results
        for batch in self.batches:
            yield check_table(self.config, batch), self.check_key(batch)
            yield results / "labels" / f"{batch}.tsv", self.compose_key(batch)
            yield results / "qc" / "cases" / f"{batch}.tsv", self.compose_key(batch)
            if self.config.export.only_unrestricted:
                yield results / "unrestricted" / f"{batch}.tsv", self.unrestricted_key(batch)
            for segmenter in self.config.used_segmenters:
                table = results / "segment" / segmenter / f"{batch}.tsv"
                yield table, self.segment_key(segmenter, batch)

    @once
    def compose_key(self, batch: str) -> str:
        """Changes with what a label map is made from; what it is measured by is no more."""
        layers = [self.segment_key(segmenter, batch) for segmenter in self.config.used_segmenters]
        return digest([self._names, layers, self.check_key(batch)])

    def unrestricted_key(self, batch: str) -> str:
        """Changes with who is restricted, and with `compose_key`."""
        return digest([restricted_segmenters(self.config), self.compose_key(batch)])

    def cases_key(self) -> str:
        """Changes with names, and with what `check` says of any case."""
        return digest([self._names, [self.check_key(batch) for batch in self.batches]])

    @once
    def judge_key(self) -> str:
        """Changes with any label map, the thresholds, and a person's rules and decisions."""
        maps = [self.compose_key(batch) for batch in self.batches]
        decisions = _stat(self.config.decisions_path)
        return digest([self.config.qc.model_dump(mode="json"), maps, decisions])

    def export_key(self) -> str:
        """Changes with what the exporters look at."""
        c = self.config.model_dump(mode="json")
        emitted = [c["compose"][key] for key in ("emit", "regions", "nested")]
        restricted = restricted_segmenters(self.config) if c["export"]["only_unrestricted"] else ()
        return digest([c["dataset"], c["export"], emitted, restricted, self.judge_key()])

    def manifest_key(self) -> str:
        """Changes with anything of the configuration, all of which stands in the manifest."""
        c = self.config.model_dump(mode="json")
        return digest([c, __version__, self.judge_key()])

    def report_key(self) -> str:
        """Changes with anything that the report shows."""
        c = self.config.model_dump(mode="json")
        return digest([c, __version__, self.judge_key()])

    @cached_property
    def _names(self) -> str:
        """Changes with names and with what decides who wins."""
        c = self.config.model_dump(mode="json")
        segmenters = {n: what_labels(section) for n, section in self.config.segmenters.items()}
        return digest([c["structures"], segmenters, c["targets"], c["compose"]])

    def _stats(self, case: Case) -> list[object]:
        paths = [*case.images.values(), *([case.lesion] if case.lesion else [])]
        return [dict(case.columns), [_stat(path) for path in paths]]


def begin(table: Path, key: str) -> None:
    """Note what a status table is going to be made for, and remove the one before.

    An engine's own records know nothing of a table that a person made with `backsplit` by hand.
    The note comes first: a table that stands was made for it, or for what came before the note,
    never for what came after.
    """
    with disk_errors(table.parent):
        table.unlink(missing_ok=True)
    with atomic_path(table.with_suffix(".key")) as temporary:
        temporary.write_text(key, "utf-8")


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


def _names(folder: Path) -> set[str]:
    """Names in a folder: one listing, where asking for each file takes a shared disk minutes."""
    try:
        return {entry.name for entry in os.scandir(folder)}
    except FileNotFoundError:
        return set()


def _done(table: Path) -> Iterator[str]:
    return (row["case"] for row in read_rows(table) if row["status"] == "done")


def _stat(path: Path) -> list[object]:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return [str(path), None]
    return [str(path), status.st_size, status.st_mtime_ns]


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
