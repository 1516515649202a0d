"""Label files that exist: one multilabel file, or one binary file per structure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backsplit.cases.labels import label_files
from backsplit.cases.table import Case
from backsplit.config.model import Run
from backsplit.config.segmenters import Files
from backsplit.config.slices import Labelling
from backsplit.errors import CaseError
from backsplit.segment.base import Labelled, Licence, Segmenter
from backsplit.segment.label_files import LabelFiles
from backsplit.segment.licences import UNSTATED, stated_licence
from backsplit.segment.timing import Timings
from backsplit.store import versions
from backsplit.store.disk import is_there
from backsplit.volume import read_grid
from backsplit.work.batch import one_by_one


def build(section: Files, inputs: Labelling, run: Run) -> Segmenter:
    """Make the segmenter of a section."""
    return FilesSegmenter(section, inputs)


class FilesSegmenter(Segmenter):
    """Reads the labels that somebody made before."""

    def __init__(self, section: Files, inputs: Labelling) -> None:
        self.section = section
        self.placing = inputs.placing
        labels = section.label_values or tuple(section.labels)
        self.files = LabelFiles(labels, section.missing, inputs.placing)
        self.timings = Timings()

    def classes(self) -> dict[str, int]:
        """Names to values: those of the file; 1, 2, 3 … for names in DICOM and binary files."""
        return self.files.classes

    def licence(self) -> Licence:
        """What the configuration says; else nobody has said."""
        return stated_licence(self.section) or UNSTATED

    def identity(self) -> dict[str, Any]:
        """Version of how files are put on one map, and of where they are said to have labels."""
        return {"method": 4, "coverage": versions.COVERAGE}

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
        column = self.section.lesion_column
        if column is not None and case.lesions.get(column) is None:
            why = f"the table says `none` in {column}"
            unknown = dict.fromkeys(self.section.labels, why)
            return Labelled(np.zeros(grid.shape, np.uint8), grid, unknown=unknown)
        return self.files.read(paths, grid, case)
