"""Measure one batch of cases and draw a picture of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from backsplit.batch import Details, one_by_one
from backsplit.cases import Case
from backsplit.config import Config
from backsplit.errors import CaseError, Code
from backsplit.provenance import file_sha256
from backsplit.qc.measure import as_rows, measure
from backsplit.scheme import Scheme
from backsplit.volume import Array, Grid, atomic_path, read_labels, read_volume


class Draw(Protocol):
    """Draws image and labels (z, y, x) on a grid to a picture file."""

    def __call__(self, image: Array, labels: Array, grid: Grid, path: Path, *, title: str) -> None:
        """Draw one case."""


class MeasureStage:
    """Measures and pictures of the composed label maps.

    Parameters
    ----------
    config : the configuration
    scheme : names and ids
    draw : who draws the picture, and `draw_version`, which changes when pictures look different
    """

    name = "measure"

    def __init__(self, config: Config, scheme: Scheme, draw: Draw, draw_version: int) -> None:
        self.config = config
        self.scheme = scheme
        self.draw = draw
        self.draw_version = draw_version

    def outputs(self, case: Case) -> Mapping[str, Path]:
        """The case's rows and its picture."""
        folder = self.config.run.results / "qc" / "cases"
        return {
            "measures": folder / f"{case.id}.parquet",
            "picture": folder / f"{case.id}.png",
        }

    def made_from(self, case: Case) -> Mapping[str, Any]:
        """The image, the label map, the names."""
        labels = self._labels(case)
        if not labels.exists():
            raise CaseError(Code.FILE_MISSING, f"{labels} does not exist; compose the case first")
        return {
            "stage": "measure",
            "version": 1,
            "picture_version": self.draw_version,
            "inputs": {
                "image": file_sha256(case.images[self.config.dataset.grid_channel]),
                "labels": file_sha256(labels),
            },
            "config": {"ids": self.scheme.ids, "targets": list(self.scheme.targets)},
        }

    def work(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Details | CaseError]]:
        """Measure case after case."""
        return one_by_one(cases, self._measure_case)

    def _labels(self, case: Case) -> Path:
        return self.config.run.results / "labels" / f"{case.id}.nii.gz"

    def _measure_case(self, case: Case) -> Details:
        path = case.images[self.config.dataset.grid_channel]
        image = read_volume(path)
        labels = read_labels(self._labels(case))
        names = [*self.scheme.names, "ignore"]
        found = measure(image.array, labels.array, names, image.grid.voxel_ml)
        total = found[0].mean
        if any(m.voxels and m.mean != m.mean for m in found) or total in (float("inf"), -total):
            raise CaseError(
                Code.IMAGE_NOT_FINITE,
                f"{path} has voxels that are NaN or infinite, which trainers refuse; "
                "replace them by what the scanner writes for air",
            )
        outputs = self.outputs(case)
        with atomic_path(outputs["measures"]) as temporary:
            pd.DataFrame(as_rows(case.id, "labels", found)).to_parquet(temporary, index=False)
        with atomic_path(outputs["picture"]) as temporary:
            self.draw(image.array, labels.array, image.grid, temporary, title=case.id)
        return {"structures": sum(m.voxels > 0 for m in found[1:])}
