"""Label files of a case onto one label map: one multilabel file, or one binary file a class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from backsplit.cases.labels import put_on_grid
from backsplit.cases.table import Case
from backsplit.config.base import MOST_LABEL, LabelValue
from backsplit.config.slices import Placing
from backsplit.errors import CaseError, Code, shown
from backsplit.segment.base import Labelled
from backsplit.store.disk import is_there
from backsplit.volume import Array, Grid, LabelMap, read_label_map, stack_masks
from backsplit.volume.coverage import covers


@dataclass(frozen=True)
class LabelFiles:
    """How the label files of a case are read.

    Attributes
    ----------
    labels : name to value in one file; or names, of a binary file each
    missing : what a binary file, or a segment by name, that is not there means, and voxels of the
        image that are not on a file's grid
    placing : which grids the files may be on
    """

    labels: Mapping[str, LabelValue] | tuple[str, ...]
    missing: Literal["unknown", "absent"]
    placing: Placing

    @cached_property
    def classes(self) -> dict[str, int]:
        """Names to values: those of the file; 1, 2, 3 … for names in DICOM and binary files."""
        labels = self.labels
        if not isinstance(labels, tuple):
            taken = {value for value in labels.values() if isinstance(value, int)}
            free = iter(v for v in range(1, MOST_LABEL + 1) if v not in taken)
            return {n: v if isinstance(v, int) else next(free) for n, v in labels.items()}
        return {name: value for value, name in enumerate(labels, start=1)}

    def read(self, paths: Mapping[str, Path], grid: Grid, case: Case) -> Labelled:
        """Read the files of a case onto one label map.

        Parameters
        ----------
        paths : the one file as `labels`; or a file by the name of each class
        grid : the image's
        case : whose files

        Raises
        ------
        CaseError
            What is wrong with the file; of binary files only where none can be used.
        """
        if isinstance(self.labels, tuple):
            return self._binaries(paths, grid, case)
        if not is_there(paths["labels"]):
            raise CaseError(
                Code.FILE_MISSING,
                f"{paths['labels']} does not exist",
                "add it; or correct this segmenter's `path`, or the column that it names",
            )
        labels, part = self._read(paths["labels"], grid, case)
        found = self._multilabel(labels, paths["labels"])
        return found if part is None else replace(found, within=dict.fromkeys(self.classes, part))

    def _read(self, path: Path, grid: Grid, case: Case) -> tuple[LabelMap, Grid | None]:
        """A file on the image's grid, and its own grid where the rest of the image is unknown.

        A file of named segments is cropped to what they hold, so that the rest is known.
        """
        wanted = None if isinstance(self.labels, tuple) else self.labels.values()
        labels = read_label_map(path, grid, wanted, is_mask=wanted is None)
        known = bool(labels.names) or self.missing == "absent" or covers(labels.grid, grid)
        placed = put_on_grid(path, labels, grid, case, self.placing)
        return placed, None if known else labels.grid

    def _multilabel(self, labels: LabelMap, path: Path) -> Labelled:
        values, lacking = self._values_in(labels, path)
        table = np.zeros(len(labels.counts), np.uint16)
        for value, new in values.items():
            if value < len(table):
                table[value] = new
        overlaps: dict[int, tuple[int, ...]] = {}
        free = max(self.classes.values()) + 1
        for value, members in labels.overlaps.items():
            named = tuple(values[m] for m in members if m in values)
            if len(named) > 1:
                overlaps[free], table[value], free = named, free, free + 1
            elif named:
                table[value] = named[0]
        others = {str(v): labels.voxels_of([v]) for v in labels.values if not table[v]}
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
        return dict(lacking) if self.missing == "unknown" else {}

    def _values_in(self, labels: LabelMap, path: Path) -> tuple[dict[int, int], dict[str, str]]:
        """Value in the file to class id, and the classes that the file lacks by name, with why.

        Raises
        ------
        CaseError
            LABEL_UNDECLARED where the file lacks every one of them.
        """
        assert not isinstance(self.labels, tuple)
        found: dict[int, int] = {}
        lacking: dict[str, str] = {}
        for name, value in self.labels.items():
            hits = labels.values_of(value)
            found |= dict.fromkeys(hits, self.classes[name])
            if not hits:
                lacking[name] = f"{path.name} has no segment {shown(value)!r}"
        if not found:
            wanted = ", ".join(str(value) for value in self.labels.values())
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
                f"{next(iter(paths.values()))} does not exist, nor does any other of the "
                f"{len(paths)} files of this segmenter",
                "add them (an empty mask where a structure is absent)",
            )
        notes: list[str] = []
        faults: dict[str, CaseError] = {}
        within: dict[str, Grid] = {}

        def masks() -> Iterator[tuple[int, Array]]:
            for name, value in self.classes.items():
                if name in lacking:
                    continue
                try:
                    labels, part = self._read(paths[name], grid, case)
                    mask = _as_mask(labels, paths[name], name)
                except CaseError as error:
                    faults[name] = error
                    continue
                if part is not None:
                    within[name] = part
                notes.extend(labels.notes)
                yield value, mask

        array, overlaps = stack_masks(masks(), grid.shape, len(paths))
        if faults and len(faults) + len(lacking) == len(paths):
            raise next(iter(faults.values()))
        unknown = self._unknown(lacking) | {n: f"{e.code}: {e.what}" for n, e in faults.items()}
        return Labelled(array, grid, overlaps, unknown, _geometry_notes(notes), within)


def _as_mask(labels: LabelMap, path: Path, name: str) -> Array:
    """What is not 0, in a file of one value.

    Raises
    ------
    CaseError
        LABEL_UNDECLARED: it holds several.
    """
    values = labels.values
    if len(values) > 1:
        raise CaseError(
            Code.LABEL_UNDECLARED,
            f"{path} holds the values {shown(', '.join(map(str, values)))}, but is the mask "
            f"of {name!r} only",
            f"save it with one value, or take {name} out of the list and read the file with "
            f"another segmenter of kind files, with labels: {{{name}: {values[0]}}}",
        )
    return np.asarray(labels.array != 0)


def _geometry_notes(notes: Sequence[str]) -> dict[str, Any]:
    return {"geometry": list(notes)} if notes else {}
