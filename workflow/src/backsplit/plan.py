"""What a workflow engine needs to know before it starts: batches, and what they depend on."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from backsplit import __version__
from backsplit.cases import NO_LESION, Case, batches, read_cases
from backsplit.config import Config, Files, dump_config, load_config, parse_config
from backsplit.provenance import digest, read_json
from backsplit.volume import atomic_path


@dataclass(frozen=True)
class Plan:
    """The batches of a data set, and a key for each that changes when its inputs do.

    An engine that sees the same key need not start the job. Keys are made from the table, the
    configuration, and size and time of each input file: cheap enough for 100,000 cases. The job
    itself then looks at contents.
    """

    config: Config

    @cached_property
    def cases(self) -> list[Case]:
        """Every row of the table."""
        return read_cases(self.config)

    @cached_property
    def batches(self) -> Mapping[str, range]:
        """Batch name to rows."""
        return batches(len(self.cases), self.config.run.batch_size)

    def table_key(self) -> str:
        """Changes with the table, a file that it names, or what `check` looks at."""
        return digest([[self._stats(case) for case in self.cases], self._config_of_check()])

    def batch_key(self, batch: str) -> str:
        """Changes with a row of the batch, a file that it names, or what `check` looks at."""
        rows = [self._stats(self.cases[row]) for row in self.batches[batch]]
        return digest([rows, self._config_of_check()])

    def segment_key(self, segmenter: str, batch: str) -> str:
        """As `batch_key`, and with the segmenter's section and its label files."""
        section = self.config.segmenters[segmenter]
        files = []
        if isinstance(section, Files):
            from backsplit.segment.files import FilesSegmenter

            reader = FilesSegmenter(section, self.config.dataset)
            files = [
                [_stat(path) for path in reader.inputs(self.cases[row]).values()]
                for row in self.batches[batch]
            ]
        return digest([self.batch_key(batch), section.model_dump(mode="json"), files])

    def compose_key(self, batch: str) -> str:
        """As `batch_key`, and with what decides who wins."""
        c = self.config.model_dump(mode="json")
        return digest(
            [self.batch_key(batch), c["structures"], c["segmenters"], c["targets"], c["compose"]]
        )

    def export_key(self) -> str:
        """Changes with what the exporters look at."""
        c = self.config.model_dump(mode="json")
        return digest([c["dataset"], c["export"]])

    def report_key(self) -> str:
        """Changes with anything of the configuration that the report shows."""
        c = self.config.model_dump(mode="json")
        return digest([c, __version__])

    def _config_of_check(self) -> list[object]:
        c = self.config.model_dump(mode="json")
        return [c["dataset"], c["targets"]]

    def _stats(self, case: Case) -> list[object]:
        paths = [*case.images.values(), *([case.lesion] if case.lesion else [])]
        return [dict(case.columns), [_stat(path) for path in paths], NO_LESION]


def forget_incomplete(config: Config) -> list[Path]:
    """Remove status tables that name a result which is not there (somebody deleted it).

    The engine sees tables only: without its table a batch is due again, and of the batch only
    the missing cases are made again.

    Returns
    -------
    removed
        The tables.
    """
    results = config.run.results
    folders = {results / "segment" / name: ".nii.gz" for name in config.used_segmenters}
    folders |= {results / "labels": ".nii.gz", results / "qc" / "cases": ".parquet"}
    removed = [
        table
        for folder, ending in folders.items()
        for table in sorted(folder.glob("*.tsv"))
        if any(not (folder / f"{case}{ending}").exists() for case in _done(table))
    ]
    for description in (results / "datasets" / "nnunet").glob("*/dataset.json"):
        labels = list((description.parent / "labelsTr").glob("*.nii.gz"))
        if read_json(description).get("numTraining") != len(labels):
            removed.append(description)
    for path in removed:
        path.unlink(missing_ok=True)
    return removed


def _done(table: Path) -> Iterator[str]:
    with table.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            if row["status"] == "done":
                yield row["case"]


def _stat(path: Path) -> list[object]:
    try:
        status = path.stat()
    except OSError:
        return [str(path), None]
    return [str(path), status.st_size, status.st_mtime_ns]


def settle_config(data: Mapping[str, object], files: Sequence[Path]) -> tuple[Config, Path]:
    """Validate what an engine gathered, and write it where every job of the run reads it.

    Parameters
    ----------
    data : the configuration as the engine merged it, from files and command line
    files : the files it came from; a single one is read again, for rows in messages

    Returns
    -------
    config, path
        `path` is `<results>/config.json`; it is written only when its content changes.

    Raises
    ------
    ConfigError
        With every problem found.
    """
    if len(files) == 1:
        load_config(Path(files[0]))
    config = parse_config(data, Path(files[0]) if files else Path("--config"))
    path = config.run.results / "config.json"
    text = dump_config(config)
    if not path.exists() or path.read_text("utf-8") != text:
        with atomic_path(path) as temporary:
            temporary.write_text(text, "utf-8")
    return config, path
