"""What a workflow engine needs to know before it starts: batches, and what they depend on."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import Concatenate, ParamSpec

from backsplit import __version__
from backsplit.cases.labels import label_files
from backsplit.cases.table import Case, CaseTable, excluded
from backsplit.config.kind import LabelPath
from backsplit.config.model import Config
from backsplit.config.slices import checking
from backsplit.errors import RunError
from backsplit.flow.project import Project
from backsplit.segment.licences import restricted_segmenters
from backsplit.store import versions
from backsplit.store.disk import (
    Link,
    atomic_path,
    disk_errors,
    file_times,
    files_below,
    input_times,
)
from backsplit.store.provenance import digest, plain
from backsplit.store.provenance import versions as installed
from backsplit.store.results import StageFolder, key_path

P = ParamSpec("P")

IDENTITIES = "BACKSPLIT_IDENTITIES"
"""Variable that tells a job what its keys were made with: folder of a segmenter, or `CODES`, to a
digest."""

CODES = "codes"
"""Name of the table that gives exported segmentations their codes."""


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

    project: Project

    @property
    def config(self) -> Config:
        """The configuration."""
        return self.project.config

    @property
    def table(self) -> CaseTable:
        """The case table."""
        return self.project.table

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
        looked_at = checking(self.config, with_names=any(excluded(case) for case in members))
        channels = self.config.dataset.channels
        stats = [self._stats(case) for case in members]
        return digest([versions.CHECK, stats, twice, channels, plain(looked_at)])

    @once
    def segment_key(self, segmenter: str, batch: str) -> str:
        """Changes with the segmenter's section, versions and files, and with `check_key`."""
        section = self.config.segmenters[segmenter]
        made_by = [versions.SEGMENT, versions.COVERAGE, self._identity(segmenter)]
        own = [*made_by, section.what_labels(), self._own_files(segmenter)]
        return digest([*own, self.check_key(batch)])

    @once
    def _identity(self, segmenter: str) -> str:
        """Changes with the versions that a fingerprint holds: an upgrade starts jobs.

        With `--sdm conda`, jobs may have other versions than the process that plans them. They use
        its answer, so that the key that they note is the one that it looks for.
        """
        planned, place = _planned(), str(self.project.results.segment(segmenter).path)
        if place in planned:
            return planned[place]
        try:
            return digest(self.project.segmenter(segmenter).identity())
        except RunError:  # what is not there is told before any job starts
            return ""

    def environment(self) -> dict[str, str]:
        """Variables that an engine gives its jobs."""
        planned = {**_planned(), CODES: self._codes()}
        for name in self.config.used_segmenters:
            planned[str(self.project.results.segment(name).path)] = self._identity(name)
        return {IDENTITIES: json.dumps(planned)}

    @once
    def _codes(self) -> str:
        """Changes with TotalSegmentator, whose table it is; planned as in `_identity`."""
        return _planned().get(CODES) or digest(installed("totalsegmentator"))

    @once
    def _own_files(self, segmenter: str) -> str:
        """Changes with a segmenter's own files, and with any file in its own folders."""
        try:
            own = self.project.segmenter(segmenter).own_files()
        except RunError:  # as above
            own = ()
        return digest([_written(part) for whole in own for part in _parts_of(whole)])

    def keyed_tables(self) -> Iterator[tuple[Path, str]]:
        """Status tables whose batch is rerun when its key changes, with that key."""
        results = self.config.results
        for batch in self.batches:
            yield results.check.table(batch), self.check_key(batch)
            yield results.labels.table(batch), self.compose_key(batch)
            yield results.measures.table(batch), self.measure_key(batch)
            if self.config.export.only_unrestricted:
                yield results.unrestricted.table(batch), self.unrestricted_key(batch)
            for segmenter in self.config.used_segmenters:
                table = results.segment(segmenter).table(batch)
                yield table, self.segment_key(segmenter, batch)

    @once
    def compose_key(self, batch: str) -> str:
        """Changes with what a label map is made from; what it is measured by is no more."""
        layers = [self.segment_key(segmenter, batch) for segmenter in self.config.used_segmenters]
        return digest([versions.COMPOSE, self._names, layers, self.check_key(batch)])

    @once
    def measure_key(self, batch: str) -> str:
        """Changes with whether pictures are wanted, and with `compose_key`."""
        pictures = versions.PICTURE if self.config.run.pictures else None
        return digest([versions.MEASURE, pictures, self.compose_key(batch)])

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
        return digest([versions.JUDGE, self.config.qc.model_dump(mode="json"), maps, decisions])

    def export_key(self) -> str:
        """Changes with what the exporters look at."""
        c = self.config.model_dump(mode="json")
        emitted = [c["compose"][key] for key in ("emit", "regions", "nested")]
        restricted = restricted_segmenters(self.config) if c["export"]["only_unrestricted"] else ()
        settings = [c["dataset"], c["export"], emitted, restricted]
        if c["export"]["segmentations"]:
            settings.append(self._codes())
        return digest([versions.EXPORT, *settings, self.judge_key()])

    def manifest_key(self) -> str:
        """Changes with anything of the configuration that stands in the manifest."""
        c = self.config.model_dump(mode="json", exclude={"study"})
        return digest([c, __version__, self.judge_key()])

    def report_key(self) -> str:
        """Changes with anything that the report shows."""
        c = self.config.model_dump(mode="json", exclude={"study"})
        return digest([c, __version__, versions.PAGE, self.judge_key()])

    @cached_property
    def _names(self) -> str:
        """Changes with names and with what decides who wins."""
        c = self.config.model_dump(mode="json")
        segmenters = {n: section.what_labels() for n, section in self.config.segmenters.items()}
        return digest([c["structures"], segmenters, c["targets"], c["compose"]])

    @cached_property
    def _label_paths(self) -> list[Mapping[str, LabelPath]]:
        paths = [section.label_paths for section in self.config.segmenters.values()]
        return [one for one in paths if one]

    def _stats(self, case: Case) -> list[object]:
        paths = [*case.images.values(), *case.lesion_files.values()]
        for label_paths in self._label_paths:
            paths += label_files(label_paths, case).values()
        # an empty cell leads to the table's folder, where the results may lie
        folder = str(case.folder)
        return [dict(case.columns), [_stat(path) for path in paths if str(path) != folder]]


def _planned() -> dict[str, str]:
    """What a job was told by the process that planned it; empty in that process."""
    planned: dict[str, str] = json.loads(os.environ.get(IDENTITIES, "{}"))
    return planned


def begin(table: Path, key: str) -> None:
    """Note what a status table is going to be made for, and remove the one before.

    An engine's own records know nothing of a table that a person made with `backsplit` by hand.
    The note comes first: a table that stands was made for it, or for what came before the note,
    never for what came after.
    """
    with disk_errors(table.parent):
        table.unlink(missing_ok=True)
    note(key_path(table), key)


def forget_others(folder: StageFolder, batches: Collection[str]) -> list[Path]:
    """Remove status tables of batches that there are no more; returns them.

    When the table is cut into batches as before again, what such a one says is that of before:
    its cases may have been made anew since, in another batch.
    """
    removed = [table for table in folder.tables() if table.stem not in batches]
    for table in removed:
        table.unlink(missing_ok=True)
        key_path(table).unlink(missing_ok=True)
    return removed


def note(path: Path, key: str) -> None:
    """Note what something is going to be made for."""
    with atomic_path(path) as temporary:
        temporary.write_text(key, "utf-8")


def note_of(path: Path) -> str | None:
    """What was noted; None where nothing was."""
    return path.read_text("utf-8") if path.exists() else None


def _parts_of(own: Path | Link) -> Sequence[Path | Link]:
    """A file; all files of a folder, with the folder, so that one that is gone shows."""
    if isinstance(own, Link) or not own.is_dir():
        return [own]
    return [own, *files_below(own)]


def _stat(path: Path) -> list[object]:
    """Size and times of each file that an input consists of."""
    try:
        return [str(path), *input_times(path)]
    except (OSError, ValueError):
        return [str(path), None]


def _written(path: Path | Link) -> list[object]:
    """Size and times of a file that a segmenter is made of, or where a link leads.

    An edit can keep size and time; a new installation of the same file costs the start of a job,
    which looks at contents.
    """
    if isinstance(path, Link):
        return [str(path.path), path.leads_to]
    try:
        return [str(path), *file_times(path)]
    except (OSError, ValueError):
        return [str(path), None]
