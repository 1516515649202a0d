"""Label files that exist: one multilabel file, or one binary file per structure."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backsplit.batch import one_by_one
from backsplit.cases import Case
from backsplit.config import Dataset, Files
from backsplit.errors import BacksplitError, CaseError, Code
from backsplit.segment.base import Labelled
from backsplit.segment.timing import Timings
from backsplit.volume import Array, Grid, read_grid, read_labels, require_same_grid


class FilesSegmenter:
    """Reads the labels that somebody made before."""

    def __init__(self, config: Files, dataset: Dataset) -> None:
        self.config = config
        self.timings = Timings()
        self.dataset = dataset

    def classes(self) -> dict[str, int]:
        """Names to values: those of the file, or 1, 2, 3 … for binary files."""
        if isinstance(self.config.labels, dict):
            return dict(self.config.labels)
        return {name: value for value, name in enumerate(self.config.labels, start=1)}

    def weights(self) -> Sequence[Path]:
        """None."""
        return ()

    def identity(self) -> dict[str, Any]:
        """Nothing but the files themselves, which are inputs."""
        return {}

    def inputs(self, case: Case) -> Mapping[str, Path]:
        """The label files of a case by role; a file that is not there is not listed."""
        return {role: path for role, path in self._paths(case).items() if path.exists()}

    def label(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Labelled | CaseError]]:
        """Read each case's files onto one label map."""
        return one_by_one(cases, self._label_case)

    def _paths(self, case: Case) -> dict[str, Path]:
        if isinstance(self.config.labels, dict):
            return {"labels": _fill(self.config.path, case, None)}
        return {name: _fill(self.config.path, case, name) for name in self.config.labels}

    def _label_case(self, case: Case) -> Labelled:
        grid = read_grid(case.images[self.dataset.grid_channel])
        if isinstance(self.config.labels, dict):
            if self.config.path == "{lesion}" and case.lesion is None:
                return Labelled(np.zeros(grid.shape, np.uint8), grid)
            return self._multilabel(self._paths(case)["labels"], grid)
        return self._binaries(self._paths(case), grid)

    def _multilabel(self, path: Path, grid: Grid) -> Labelled:
        array = _read(path, grid)
        known = np.zeros(65536, dtype=bool)
        known[list(self.classes().values())] = True
        counts = np.bincount(array.ravel(), minlength=2)
        others = {str(v): int(counts[v]) for v in np.flatnonzero(counts) if v and not known[v]}
        dtype = np.uint8 if max(self.classes().values()) <= 255 else np.uint16
        labels = np.where(known[array], array, 0).astype(dtype)
        return Labelled(labels, grid, {"voxels_of_other_values": others} if others else {})

    def _binaries(self, paths: Mapping[str, Path], grid: Grid) -> Labelled:
        """Put binary masks on one map; where two overlap, the one that is listed first wins."""
        missing = [str(path) for path in paths.values() if not path.exists()]
        if missing:
            raise CaseError(
                Code.FILE_MISSING,
                f"{missing[0]} does not exist ({len(missing)} of {len(paths)} files of this "
                "segmenter are missing); add it (empty where the structure is absent)",
            )
        labels = np.zeros(grid.shape, np.uint8 if len(paths) <= 255 else np.uint16)
        overlaps: dict[str, int] = {}
        for value, (name, path) in enumerate(paths.items(), start=1):
            mask = _read(path, grid)
            if mask.max() > 1:
                raise CaseError(
                    Code.LABEL_UNDECLARED,
                    f"{path} holds the value {int(mask.max())} but is read as a binary mask of "
                    f"{name!r}; declare it as a multilabel file",
                )
            inside = mask == 1
            taken = inside & (labels != 0)
            if taken.any():
                overlaps[name] = int(taken.sum())
            labels[inside & ~taken] = value
        return Labelled(
            labels, grid, {"voxels_lost_to_earlier_files": overlaps} if overlaps else {}
        )


def _read(path: Path, grid: Grid) -> Array:
    labels = read_labels(path)
    require_same_grid(str(path), labels.grid, grid, "the image")
    if labels.array.max() > 65535:
        raise CaseError(
            Code.LABEL_UNDECLARED, f"{path} holds the value {labels.array.max()}; 65535 is the most"
        )
    return labels.array


def _fill(pattern: str, case: Case, name: str | None) -> Path:
    """Fill {case}, {name} and {column}; a column's path starts at the table's folder."""
    values = {column: case.column_path(column) for column in case.columns}
    values["case"] = case.id
    if name is not None:
        values["name"] = name
    fields = [field for _, field, _, _ in string.Formatter().parse(pattern) if field is not None]
    unknown = [field for field in fields if field not in values]
    if unknown:
        raise BacksplitError(
            Code.CONFIG_INVALID,
            f"the path {pattern!r} names {{{unknown[0]}}}, but the table has "
            f"{', '.join(sorted(values))}; correct the path or add the column",
        )
    return Path(pattern.format_map(values))
