"""Files of the results that belong to nothing any more: what a clean run would not have made.

Found by name and by what the files say of themselves, with one listing a folder. What is not known
to be ours is a person's and stays; so does what lies behind a link.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import chain
from pathlib import Path

from backsplit.cases.table import load_checked
from backsplit.config.model import Config
from backsplit.export.bids import bids_folder, own_files
from backsplit.export.monai import DATA_LIST, UNRESTRICTED, data_lists, monai_folder
from backsplit.export.nnunet import (
    NnUNetDataset,
    datasets,
    exported_datasets,
    unrestricted_dataset,
)
from backsplit.export.segmentations import own_segmentations, segmentations_folder
from backsplit.flow.project import Project
from backsplit.store.disk import disk_errors
from backsplit.store.locks import claim_run
from backsplit.store.provenance import read_json
from backsplit.store.results import (
    BATCH,
    VOLUME_ENDING,
    Results,
    StageFolder,
    files_in,
    folders_in,
    key_path,
)
from backsplit.store.status import Status, outcomes_in


class Why(StrEnum):
    """Why a file belongs to nothing any more."""

    ABSENT = "of cases no longer in the table"
    REFUSED = "of refused cases"
    FAILED = "of cases that failed since"
    SEGMENTER = "of segmenters no longer used"
    BATCH = "of batches beyond the last"
    DATASET = "of data sets no longer configured"
    PICTURE = "pictures, which run.pictures turns off"
    PAGE = "pages of accepted cases"


@dataclass(frozen=True)
class Leftover:
    """A file that belongs to nothing any more, and why."""

    path: Path
    why: Why


Reason = Callable[[str], Why | None]
"""Why a case has no files in a folder; None where it may have some."""


def leftovers(project: Project) -> list[Leftover]:
    """Find what belongs to nothing any more.

    What tells that others are ours (a sidecar, `dataset.json`, the note of a BIDS data set) comes
    after them: a removal that is killed can be told to go on.

    Raises
    ------
    RunError
        TABLE_INVALID when `check` has not been there since the table changed.
    """
    search = _Search(project)
    found = chain(search.of_stages(), search.of_batches(), search.of_datasets())
    once = {left.path: left for left in found}
    return _without_links(once.values(), project.results.root)


def clean(project: Project, *, yes: bool) -> list[Leftover]:
    """Find what belongs to nothing any more, and remove it if `yes`.

    Raises
    ------
    RunError
        RESULTS_BUSY where it is to be removed while a run is at work.
    """
    if yes and (claim := claim_run(project.results)).problem is not None:
        raise claim.problem
    found = leftovers(project)
    if yes:
        remove(project.results, found)
    return found


def remove(results: Results, found: Sequence[Leftover]) -> None:
    """Remove files, and the folders that this leaves empty."""
    with disk_errors(results.root):
        for left in found:
            left.path.unlink(missing_ok=True)
    emptied = {folder for left in found for folder in left.path.parents}
    below = [folder for folder in emptied if results.root in folder.parents]
    for folder in sorted(below, key=lambda folder: len(folder.parts), reverse=True):
        with suppress(OSError):  # not empty
            folder.rmdir()


def summary(found: Sequence[Leftover]) -> str:
    """How many files there are of what kind."""
    counts = Counter(left.why for left in found)
    kinds = ", ".join(f"{counts[why]} {why}" for why in Why if why in counts)
    return f"leftover files: {len(found)}" + (f" ({kinds})" if kinds else "")


def reminder(project: Project) -> Iterator[str]:
    """A line that says what there is, and how to remove it; none where there is nothing."""
    if found := leftovers(project):
        yield (
            f"{summary(found)}; {project.command('clean')} lists them, "
            f"{project.command('clean --yes')} removes them"
        )


class _Search:
    """What there should be, and what there is."""

    def __init__(self, project: Project) -> None:
        self.config: Config = project.config
        self.results: Results = project.results
        self.batches: Collection[str] = project.table.batches
        checked = load_checked(project.table)
        self.known = {c.case.id for c in checked}
        self.sound = {c.case.id for c in checked if c.status is Status.OK}
        self._listed: dict[Path, set[str]] = {}

    def files_in(self, folder: Path) -> set[str]:
        """Names of the files in a folder, listed once."""
        if folder not in self._listed:
            self._listed[folder] = files_in(folder)
        return self._listed[folder]

    def why(self, case: str) -> Why | None:
        """Why a case has no files in any stage."""
        if case not in self.known:
            return Why.ABSENT
        return None if case in self.sound else Why.REFUSED

    def of_stages(self) -> Iterator[Leftover]:
        """Files of single cases, and tables of batches beside them."""
        results, used = self.results, self.config.used_segmenters
        yield from self._tables(results.check, self.batches, Why.BATCH)
        for folder in folders_in(results.segmented):
            if folder.name not in used:
                stage = results.segment(folder.name)
                yield from self._cases(stage, lambda _: Why.SEGMENTER)
                yield from self._tables(stage, (), Why.SEGMENTER)
        stages = [*map(results.segment, used), results.labels, results.measures]
        if self.keeps_unrestricted:
            stages.append(results.unrestricted)
        else:
            yield from self._cases(results.unrestricted, lambda _: Why.DATASET)
            yield from self._tables(results.unrestricted, (), Why.DATASET)
        for stage in stages:
            yield from self._cases(stage, self._after(stage))
            yield from self._tables(stage, self.batches, Why.BATCH)
        yield from self._cases(results.pages, self._paged)
        if not self.config.run.pictures:
            there = self.files_in(results.measures.path)
            pictures = map(results.picture, sorted(self.sound))
            yield from (Leftover(p, Why.PICTURE) for p in pictures if p.name in there)

    def of_batches(self) -> Iterator[Leftover]:
        """What was gathered of batches that are no more."""
        tables = self.results.batch_structure_status("").parent
        for folder in (tables, *folders_in(self.results.quality_tables)):
            for name in sorted(self.files_in(folder)):
                batch, _, ending = name.partition(".")
                if ending in ("jsonl", "parquet") and self._is_beyond(batch, self.batches):
                    yield Leftover(folder / name, Why.BATCH)

    def of_datasets(self) -> Iterator[Leftover]:
        """Data sets of another name or id, and lists and notes of them."""
        results, wanted = self.results, self.datasets
        names = {dataset.folder.name for dataset in wanted}
        found = [
            path
            for dataset in exported_datasets(results.nnunet)
            if dataset.folder.name not in names
            for path in _files_of(dataset)
        ]
        found += [
            results.converted(name.removesuffix(".json"))
            for name in sorted(self.files_in(results.all_converted))
            if name.startswith("Dataset") and name.removesuffix(".json") not in names
        ]
        lists = set(data_lists(self.config))
        if self.by_hand:
            lists |= set(data_lists(self.config, UNRESTRICTED))
        folder = monai_folder(self.config)
        found += [
            path
            for name in sorted(self.files_in(folder))
            if DATA_LIST.fullmatch(name) and (path := folder / name) not in lists
        ]
        for folder in folders_in(results.all_bids):
            if folder.name not in self.bids:
                found += own_files(folder)
        for folder in folders_in(results.all_segmentations):
            if folder.name not in self.segmentations:
                found += own_segmentations(folder)
        for variant, wants in (
            ("", not self.config.export.only_unrestricted),
            (UNRESTRICTED, self.keeps_unrestricted),
        ):
            path = results.left_out(variant)
            if not wants and path.name in self.files_in(path.parent):
                found.append(path)
        yield from (Leftover(path, Why.DATASET) for path in found)

    @cached_property
    def by_hand(self) -> bool:
        """Whether there is a data set of `backsplit export --only-unrestricted`.

        It stays, unless it has a case that is no more: then nothing of it can be trained on.
        """
        dataset = unrestricted_dataset(self.config)
        if self.config.export.only_unrestricted or not dataset.json.exists():
            return False
        return set(dataset.cases()) <= self.sound

    @property
    def keeps_unrestricted(self) -> bool:
        """Whether there should be label maps without restricted segmenters."""
        return self.config.export.only_unrestricted or self.by_hand

    @property
    def datasets(self) -> list[NnUNetDataset]:
        """Data sets that there should be."""
        by_hand = [unrestricted_dataset(self.config)] if self.by_hand else []
        return [*datasets(self.config), *by_hand]

    @property
    def bids(self) -> set[str]:
        """Names of the BIDS data sets that there should be."""
        if self.config.export.bids is None:
            return set()
        by_hand = {self.config.unrestricted_name} if self.by_hand else set()
        return {bids_folder(self.config).name} | by_hand

    @property
    def segmentations(self) -> set[str]:
        """Names of the data sets that there should be segmentations of."""
        if not self.config.export.segmentations:
            return set()
        by_hand = {self.config.unrestricted_name} if self.by_hand else set()
        return {segmentations_folder(self.config).name} | by_hand

    def _after(self, stage: StageFolder) -> Reason:
        there = self.files_in(stage.path)
        tables = [t for batch in self.batches if (t := stage.table(batch)).name in there]
        rows = (row for table in tables for row in outcomes_in(table))
        failed = {row.case for row in rows if row.status is Status.FAILED}
        return lambda case: self.why(case) or (Why.FAILED if case in failed else None)

    @property
    def _paged(self) -> Reason:
        table = self.results.page_status
        if not table.exists():  # due again
            return self.why
        done = {row.case for row in outcomes_in(table) if row.status is Status.DONE}
        return lambda case: self.why(case) or (None if case in done else Why.PAGE)

    def _cases(self, stage: StageFolder, why: Reason) -> Iterator[Leftover]:
        """Files of the cases that have no place in a stage, each with a sidecar that says so."""
        there = self.files_in(stage.path)
        for case in sorted(stage.sidecars_in(there)):
            reason = why(case)
            if reason is None or not _is_sidecar(stage.sidecar(case), case):
                continue
            files = [stage.output(case)]
            if stage == self.results.measures:
                files.append(self.results.picture(case))
            files.append(stage.sidecar(case))
            yield from (Leftover(path, reason) for path in files if path.name in there)

    def _tables(self, stage: StageFolder, batches: Collection[str], why: Why) -> Iterator[Leftover]:
        """Status tables of batches that are no more, and their keys."""
        for name in sorted(self.files_in(stage.path)):
            batch = name.partition(".")[0]
            table = stage.table(batch)
            if name in (table.name, key_path(table).name) and self._is_beyond(batch, batches):
                yield Leftover(stage.path / name, why)

    def _is_beyond(self, batch: str, batches: Collection[str]) -> bool:
        return BATCH.fullmatch(batch) is not None and batch not in batches


def _is_sidecar(path: Path, case: str) -> bool:
    """Whether a file is what a stage says of a case, of any version."""
    try:
        said = read_json(path)
        return said["case"] == case and "fingerprint" in said
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _files_of(dataset: NnUNetDataset) -> Iterator[Path]:
    """What an export wrote of a data set; beside it may lie what others added."""
    for folder in (dataset.images, dataset.labels):
        names = (name for name in sorted(files_in(folder)) if name.endswith(VOLUME_ENDING))
        yield from (folder / name for name in names)
    there = files_in(dataset.folder)
    last = (*dataset.label_tables, dataset.splits, dataset.json)
    yield from (path for path in last if path.name in there)


def _without_links(found: Iterable[Leftover], root: Path) -> list[Leftover]:
    """Those that lie in a folder of the results with no link on the way to it."""
    links: dict[Path, bool] = {}

    def is_behind_link(folder: Path) -> bool:
        if folder not in links:
            is_below = root in folder.parents
            links[folder] = is_below and (folder.is_symlink() or is_behind_link(folder.parent))
        return links[folder]

    return [left for left in found if not is_behind_link(left.path.parent)]
