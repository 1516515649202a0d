"""Label one batch of cases with one segmenter, onto the disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backsplit.batch import Details
from backsplit.cases import Case
from backsplit.config import Config
from backsplit.errors import CaseError, Code
from backsplit.provenance import file_sha256
from backsplit.segment import build
from backsplit.segment.base import Labelled
from backsplit.segment.weights import require_accepted
from backsplit.volume import read_grid, require_same_grid, write_labels


def label_path(results: Path, segmenter: str, case: str) -> Path:
    """Where the label map of a segmenter lies."""
    return results / "segment" / segmenter / f"{case}.nii.gz"


class SegmentStage:
    """The label maps of one segmenter."""

    def __init__(self, config: Config, segmenter: str) -> None:
        self.config = config
        self.name = f"segment {segmenter}"
        self.key = segmenter
        self.segmenter = build(config, segmenter)
        weights = self.segmenter.weights()
        require_accepted(weights)
        self.identity = {
            **self.segmenter.identity(),
            "weights": {"/".join(path.parts[-4:]): file_sha256(path) for path in weights},
        }
        self.classes = self.segmenter.classes()

    def outputs(self, case: Case) -> Mapping[str, Path]:
        """The label map."""
        return {"labels": label_path(self.config.run.results, self.key, case.id)}

    def made_from(self, case: Case) -> Mapping[str, Any]:
        """Files of the case, the segmenter's section, its versions and weights."""
        inputs: dict[str, str] = {}
        image = case.images[self.config.dataset.grid_channel]
        for role, path in {"grid": image, **self.segmenter.inputs(case)}.items():
            try:
                inputs[role] = file_sha256(path)
            except OSError as error:
                raise CaseError(
                    Code.FILE_MISSING, f"{path} can not be read ({error.strerror}); restore it"
                ) from None
        section = self.config.segmenters[self.key].model_dump(mode="json")
        return {
            "stage": "segment",
            "version": 1,
            "inputs": inputs,
            "config": section,
            **self.identity,
        }

    def work(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Details | CaseError]]:
        """Label the cases and write each map as soon as it is there."""
        for case, labelled in self.segmenter.label(cases):
            if isinstance(labelled, CaseError):
                yield case, labelled
                continue
            try:
                yield case, self._write(case, labelled)
            except CaseError as error:
                yield case, error

    def _write(self, case: Case, labelled: Labelled) -> Details:
        image = case.images[self.config.dataset.grid_channel]
        grid = read_grid(image)
        require_same_grid(f"the label map of {self.key}", labelled.grid, grid, "the image")
        with self.segmenter.timings.phase("write"):
            write_labels(self.outputs(case)["labels"], labelled.array, grid, like=image)
        counts = np.bincount(labelled.array.ravel(), minlength=1)
        voxels = {
            name: int(counts[value]) if value < len(counts) else 0
            for name, value in self.classes.items()
        }
        return {
            "segmenter": self.key,
            "classes": {str(value): name for name, value in self.classes.items()},
            "voxels": {name: count for name, count in voxels.items() if count},
            "notes": dict(labelled.notes),
        }
