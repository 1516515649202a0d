"""Label files that exist: one multilabel file, or one binary file per structure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backsplit.cases.labels import label_files, put_on_grid
from backsplit.cases.table import Case
from backsplit.config.base import MOST_LABEL
from backsplit.config.model import Run
from backsplit.config.segmenters import Files
from backsplit.config.slices import Labelling
from backsplit.errors import CaseError, Code, shown
from backsplit.segment.base import Labelled, Licence, Segmenter
from backsplit.segment.licences import UNSTATED, stated_licence
from backsplit.segment.timing import Timings
from backsplit.store.disk import is_there
from backsplit.volume import Array, Grid, LabelMap, read_grid, read_label_map, stack_masks
from backsplit.volume.pieces import count_values
from backsplit.work.batch import one_by_one


def build(section: Files, inputs: Labelling, run: Run) -> Segmenter:
    """Make the segmenter of a section."""
    return FilesSegmenter(section, inputs)


class FilesSegmenter:
    """Reads the labels that somebody made before."""

    def __init__(self, section: Files, inputs: Labelling) -> None:
        self.section = section
        self.placing = inputs.placing
        self.timings = Timings()

    def classes(self) -> dict[str, int]:
        """Names to values: those of the file; 1, 2, 3 … for names in DICOM and binary files."""
        labels = self.section.labels
        if isinstance(labels, dict):
            taken = {value for value in labels.values() if isinstance(value, int)}
            free = iter(v for v in range(1, MOST_LABEL + 1) if v not in taken)
            return {n: v if isinstance(v, int) else next(free) for n, v in labels.items()}
        return {name: value for value, name in enumerate(labels, start=1)}

    def licence(self) -> Licence:
        """What the configuration says; else nobody has said."""
        return stated_licence(self.section) or UNSTATED

    def weights(self) -> Sequence[Path]:
        """None."""
        return ()

    def identity(self) -> dict[str, Any]:
        """Version of how files are put on one map."""
        return {"method": 3}

    def inputs(self, case: Case) -> Mapping[str, Path]:
        """The label files of a case by role; a file that is not there is not listed."""
        paths = label_files(self.section.label_paths, case)
        return {role: path for role, path in paths.items() if is_there(path)}

    def label(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Labelled | CaseError]]:
        """Read each case's files onto one label map."""
        return one_by_one(cases, self._label_case)

    def _label_case(self, case: Case) -> Labelled:
        grid = read_grid(case.images[self.placing.grid_channel])
        paths = label_files(self.section.label_paths, case)
        if not isinstance(self.section.labels, dict):
            return self._binaries(paths, grid, case)
        column = self.section.lesion_column
        if column is not None and case.lesions.get(column) is None:
            why = f"the table says `none` in {column}, and nothing else holds it"
            unknown = dict.fromkeys(self.section.labels, why)
            return Labelled(np.zeros(grid.shape, np.uint8), grid, unknown=unknown)
        return self._multilabel(self._read(paths["labels"], grid, case), paths["labels"])

    def _read(self, path: Path, grid: Grid, case: Case) -> LabelMap:
        labels = self.section.labels
        wanted = labels.values() if isinstance(labels, dict) else None
        label_map = read_label_map(path, grid, wanted, is_mask=wanted is None)
        return put_on_grid(path, label_map, grid, case, self.placing)

    def _multilabel(self, labels: LabelMap, path: Path) -> Labelled:
        values, lacking = self._values_in(labels, path)
        table = np.zeros(int(labels.array.max()) + 1, np.uint16)
        for value, new in values.items():
            if value < len(table):
                table[value] = new
        overlaps: dict[int, tuple[int, ...]] = {}
        free = max(self.classes().values()) + 1
        for value, members in labels.overlaps.items():
            named = tuple(values[m] for m in members if m in values)
            if len(named) > 1:
                overlaps[free], table[value], free = named, free, free + 1
            elif named:
                table[value] = named[0]
        counts = np.bincount(labels.array.ravel(), minlength=len(table))
        others = {str(v): int(counts[v]) for v in np.flatnonzero(counts) if v and not table[v]}
        notes: dict[str, Any] = {"voxels_of_other_values": others} if others else {}
        return Labelled(
            table.astype(np.min_scalar_type(free - 1))[labels.array],
            labels.grid,
            overlaps,
            self._unknown(lacking),
            notes | _geometry_notes(labels.notes),
        )

    def _unknown(self, lacking: Mapping[str, str]) -> dict[str, str]:
        """Classes that are unknown because nobody looked for them, as far as `missing` says so."""
        return dict(lacking) if self.section.missing == "unknown" else {}

    def _values_in(self, labels: LabelMap, path: Path) -> tuple[dict[int, int], dict[str, str]]:
        """Value in the file to class id, and the classes that the file lacks by name, with why.

        Raises
        ------
        CaseError
            LABEL_UNDECLARED where the file lacks every one of them.
        """
        assert isinstance(self.section.labels, dict)
        found: dict[int, int] = {}
        lacking: dict[str, str] = {}
        for name, value in self.section.labels.items():
            hits = labels.values_of(value)
            found |= dict.fromkeys(hits, self.classes()[name])
            if not hits:
                lacking[name] = f"{path.name} has no segment {shown(value)!r}"
        if not found:
            wanted = ", ".join(str(value) for value in self.section.labels.values())
            raise CaseError(
                Code.LABEL_UNDECLARED,
                f"{path} has no segment of {shown(wanted)}; it has "
                f"{shown(', '.join(labels.names)) or 'no names'}",
                "correct this segmenter's labels",
            )
        return found, lacking

    def _binaries(self, paths: Mapping[str, Path], grid: Grid, case: Case) -> Labelled:
        """Put binary masks on one map; where they overlap, all of them are kept.

        A mask that can not be used makes its own structure unknown, and no other.

        Raises
        ------
        CaseError
            What is wrong with the first, where none can be used.
        """
        lacking = {n: f"{path} does not exist" for n, path in paths.items() if not is_there(path)}
        if len(lacking) == len(paths):
            raise CaseError(
                Code.FILE_MISSING,
                f"{next(iter(paths.values()))} does not exist, nor does any other of "
                f"{len(paths)} files of this segmenter",
                "add them (empty where one is absent)",
            )
        notes: list[str] = []
        faults: dict[str, CaseError] = {}

        def masks() -> Iterator[tuple[int, Array]]:
            for name, value in self.classes().items():
                if name in lacking:
                    continue
                try:
                    labels = self._read(paths[name], grid, case)
                    mask = _as_mask(labels, paths[name], name)
                except CaseError as error:
                    faults[name] = error
                    continue
                notes.extend(labels.notes)
                yield value, mask

        array, overlaps = stack_masks(masks(), grid.shape, len(paths))
        if faults and len(faults) + len(lacking) == len(paths):
            raise next(iter(faults.values()))
        unknown = self._unknown(lacking) | {n: f"{e.code}: {e.what}" for n, e in faults.items()}
        return Labelled(array, grid, overlaps, unknown, _geometry_notes(notes))


def _as_mask(labels: LabelMap, path: Path, name: str) -> Array:
    """What is not 0, in a file of one value.

    Raises
    ------
    CaseError
        LABEL_UNDECLARED: it holds several.
    """
    counts = count_values(labels.array, int(labels.array.max()) + 1)
    values = [value for value in np.flatnonzero(counts).tolist() if value]
    if len(values) > 1:
        raise CaseError(
            Code.LABEL_UNDECLARED,
            f"{path} holds the values {shown(', '.join(map(str, values)))}, but stands for "
            f"{name!r} alone",
            f"save it with one value, or take {name} out of the list and read the file by a "
            f"segmenter of its own, with labels: {{{name}: {values[0]}}}",
        )
    return np.asarray(labels.array != 0)


def _geometry_notes(notes: Sequence[str]) -> dict[str, Any]:
    return {"geometry": list(notes)} if notes else {}
