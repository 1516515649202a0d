"""Label one batch of cases with one segmenter, onto the disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from os.path import relpath
from pathlib import Path
from typing import Any

import numpy as np

from backsplit.cases.table import Case
from backsplit.config.kind import SegmenterSection
from backsplit.config.slices import Placing
from backsplit.errors import CaseError
from backsplit.segment.base import Labelled, Segmenter
from backsplit.segment.weights import require_accepted
from backsplit.store import versions
from backsplit.store.provenance import file_sha256, input_sha256, plain
from backsplit.store.results import StageFolder
from backsplit.store.sidecars import CoverageEntry, SegmentDetails
from backsplit.volume import Array, Grid, read_geometry, read_grid, write_labels
from backsplit.volume.coverage import covers
from backsplit.volume.pieces import count_values
from backsplit.volume.resample import require_overlap, resample_labels
from backsplit.work.batch import attempt


class SegmentStage:
    """The label maps of one segmenter.

    Parameters
    ----------
    name : of the segmenter
    segmenter : who labels
    section : its section
    placing : which grid its label maps are on
    folder : where they go
    """

    def __init__(
        self,
        name: str,
        segmenter: Segmenter,
        section: SegmenterSection,
        placing: Placing,
        folder: StageFolder,
    ) -> None:
        self.name = f"segment {name}"
        self.key = name
        self.folder = folder
        self.segmenter = segmenter
        self.grid_channel = placing.grid_channel
        reads_files = bool(section.label_paths)
        self.inputs = [section.what_decides(), plain(placing) if reads_files else None]
        weights, root = self.segmenter.weights(), self.segmenter.weights_root()
        require_accepted(weights, name)
        self.identity = {
            **self.segmenter.identity(),
            **self.segmenter.contents(),
            "weights": {
                Path(relpath(path, root)).as_posix(): file_sha256(path) for path in weights
            },
        }
        self.classes = self.segmenter.classes()

    def outputs(self, case: Case) -> Mapping[str, Path]:
        """The label map."""
        return {"labels": self.folder.output(case.id)}

    def made_from(self, case: Case) -> Mapping[str, Any]:
        """Files of the case, the segmenter's section, its versions and weights."""
        image = case.images[self.grid_channel]
        paths = {"grid": image, **self.segmenter.inputs(case)}
        inputs = {role: input_sha256(path) for role, path in paths.items()}
        read = {path for path in paths.values() if path in case.images.values()} - {image}
        in_part = any(not covers(read_grid(path), read_grid(image)) for path in read)
        return {
            "stage": "segment",
            "version": versions.SEGMENT,
            "inputs": inputs,
            "config": self.inputs,
            "classes": self.classes,
            **({"coverage": versions.COVERAGE} if in_part else {}),
            **self.identity,
        }

    def work(self, cases: Sequence[Case]) -> Iterator[tuple[Case, SegmentDetails | CaseError]]:
        """Label the cases and write each map as soon as it is there."""
        for case, labelled in self.segmenter.label(cases):
            if isinstance(labelled, CaseError):
                yield case, labelled
                continue
            yield case, attempt(case, partial(self._write, labelled))

    def _write(self, labelled: Labelled, case: Case) -> SegmentDetails:
        image = case.images[self.grid_channel]
        geometry = read_geometry(image)
        grid = geometry.grid
        array, notes = labelled.array, dict(labelled.notes)
        within = {name: [part] for name, part in labelled.within.items()}
        if not labelled.grid.is_same(grid):  # its channel has a grid of its own
            require_overlap(f"the label map of {self.key}", labelled.grid, grid)
            array = resample_labels(array, labelled.grid, grid)
            if not covers(labelled.grid, grid):
                for name in self.classes:
                    within.setdefault(name, []).append(labelled.grid)
            notes["resampled"] = f"from {labelled.grid.describe()} to the image's grid"
        with self.segmenter.timings.phase("write"):
            write_labels(self.outputs(case)["labels"], array, grid, geometry.like(image))
        return SegmentDetails(
            segmenter=self.key,
            classes={value: name for name, value in self.classes.items()},
            overlaps=dict(labelled.overlaps),
            unknown=dict(labelled.unknown),
            voxels=self._count(array, labelled.overlaps),
            notes=notes,
            coverage=_coverage(within),
        )

    def _count(self, array: Array, overlaps: Mapping[int, tuple[int, ...]]) -> dict[str, int]:
        """Voxels of each class that has any; where masks overlap, each of them counts."""
        counts = count_values(array)
        voxels = dict.fromkeys(self.classes, 0)
        names = {value: name for name, value in self.classes.items()}
        for value in np.flatnonzero(counts).tolist():
            for member in overlaps.get(value, (value,)):
                if member in names:
                    voxels[names[member]] += int(counts[value])
        return {name: count for name, count in voxels.items() if count}


def _coverage(within: Mapping[str, Sequence[Grid]]) -> tuple[CoverageEntry, ...]:
    """Parts of the image with the classes that were looked for in each of them only."""
    classes: dict[Grid, list[str]] = {}
    for name, grids in within.items():
        for grid in grids:
            classes.setdefault(grid, []).append(name)
    return tuple(
        CoverageEntry(
            classes=tuple(names),
            size=grid.size,
            spacing=grid.spacing,
            origin=grid.origin,
            direction=grid.direction,
        )
        for grid, names in classes.items()
    )
