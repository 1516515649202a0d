"""Compose one batch of cases: read every layer, write one label map, keep the promises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backsplit.batch import Details, one_by_one
from backsplit.cases import Case, declared_lesion_values, require_declared
from backsplit.compose.layers import Composed, Layer, compose
from backsplit.config import Config
from backsplit.errors import CaseError, Code
from backsplit.provenance import file_sha256, read_json, sidecar_path
from backsplit.scheme import Classes, Scheme
from backsplit.volume import (
    GRID_TOLERANCE_MM,
    Array,
    Grid,
    atomic_path,
    encode_nifti,
    read_grid,
    read_labels,
    require_same_grid,
)


class ComposeStage:
    """The label maps of the data set.

    Parameters
    ----------
    config : the configuration
    scheme : names and ids
    classes : what each segmenter can label
    layer_paths : segmenter to a function from case id to its label map
    failures : segmenter to {case id: what went wrong}
    """

    name = "compose"

    def __init__(
        self,
        config: Config,
        scheme: Scheme,
        classes: Mapping[str, Classes],
        failures: Mapping[str, Mapping[str, str]],
    ) -> None:
        self.config = config
        self.scheme = scheme
        self.failures = failures
        self.declared = declared_lesion_values(config)
        self.tables = {name: scheme.layer_table(name, classes[name]) for name in config.layers}

    def outputs(self, case: Case) -> Mapping[str, Path]:
        """The label map."""
        return {"labels": self.config.run.results / "labels" / f"{case.id}.nii.gz"}

    def made_from(self, case: Case) -> Mapping[str, Any]:
        """The lesion file, every layer, the scheme and the rules."""
        inputs = {"grid": _hash(case.images[self.config.dataset.grid_channel])}
        if case.lesion is not None:
            inputs["lesion"] = _hash(case.lesion)
        for segmenter in self.config.layers:
            if case.id not in self.failures[segmenter]:
                inputs[segmenter] = _hash(self._layer_path(segmenter, case))
        return {
            "stage": "compose",
            "version": 1,
            "inputs": inputs,
            "failed": {s: self.failures[s][case.id] for s in self._failed(case)},
            "config": {
                "layers": self.config.layers,
                "unknown": self.config.compose.unknown,
                "targets": dict(self.scheme.targets),
                "ids": self.scheme.ids,
                "sources": {s: dict(sorted(m.items())) for s, m in self.scheme.sources.items()},
            },
        }

    def work(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Details | CaseError]]:
        """Compose case after case."""
        return one_by_one(cases, self._compose_case)

    def _compose_case(self, case: Case) -> Details:
        image = case.images[self.config.dataset.grid_channel]
        grid = read_grid(image)
        failed = self._failed(case)
        self._require_enough(case, failed)
        lesion = self._read_lesion(case, grid)
        composed = compose(self._layers(case, grid, lesion, failed), grid.shape, self.scheme.dtype)
        ignored = 0
        if failed and self.config.compose.unknown == "ignore":
            unlabelled = composed.labels == 0
            ignored = int(unlabelled.sum())
            composed.labels[unlabelled] = self.scheme.ignore_id
        output = self.outputs(case)["labels"]
        with atomic_path(output) as temporary:
            temporary.write_bytes(encode_nifti(composed.labels, grid, like=image))
            assert_promises(temporary, grid, lesion, self.scheme)
        return self._details(case, composed, grid, failed, ignored)

    def _failed(self, case: Case) -> list[str]:
        """Segmenters that could not label this case."""
        return [name for name in self.config.layers if case.id in self.failures[name]]

    def _require_enough(self, case: Case, failed: Sequence[str]) -> None:
        if not failed:
            return
        reason = self.failures[failed[0]][case.id]
        if len(failed) == len(self.config.layers):
            raise CaseError(
                Code.NOTHING_LABELLED,
                f"{case.id}: every segmenter failed ({failed[0]}: {reason}); "
                "mend that, or leave the case out",
            )
        if self.config.compose.unknown == "drop":
            raise CaseError(
                Code.SEGMENTER_FAILED,
                f"{case.id}: segmenter {failed[0]} failed ({reason}) and compose.unknown is drop; "
                "mend that, or set compose.unknown to ignore",
            )

    def _read_lesion(self, case: Case, grid: Grid) -> Array | None:
        """Lesion as target ids on the case's grid; None where the table says `none`."""
        if case.lesion is None:
            return None
        lesion = read_labels(case.lesion)
        require_same_grid(str(case.lesion), lesion.grid, grid, "its image")
        require_declared(case.lesion, lesion.array, self.declared)
        return self.scheme.lesion_table()[lesion.array]

    def _layers(
        self, case: Case, grid: Grid, lesion: Array | None, failed: Sequence[str]
    ) -> Iterator[Layer]:
        """Read the layers one at a time, the strongest first."""
        if lesion is not None:
            yield Layer("targets", lesion)
        for segmenter in self.config.layers:
            if segmenter in failed:
                continue
            path = self._layer_path(segmenter, case)
            labels = read_labels(path)
            require_same_grid(str(path), labels.grid, grid, "its image")
            yield Layer(segmenter, self.tables[segmenter][labels.array])

    def _layer_path(self, segmenter: str, case: Case) -> Path:
        return self.config.run.results / "segment" / segmenter / f"{case.id}.nii.gz"

    def _details(
        self, case: Case, composed: Composed, grid: Grid, failed: Sequence[str], ignored: int
    ) -> Details:
        """Tell a reader of the sidecar what the map holds and who was overruled, by name."""
        names = self.scheme.names
        counts = np.bincount(composed.labels.ravel(), minlength=self.scheme.ignore_id + 1)
        unused = {
            s: read_json(sidecar_path(self._layer_path(s, case))).get("voxels", {})
            for s in self.config.layers
            if s not in failed
        }
        return {
            "voxel_ml": round(grid.voxel_ml, 9),
            "voxels": {name: int(counts[i]) for name, i in self.scheme.ids.items()},
            "layers": [
                {
                    "layer": a.layer,
                    "claimed": a.claimed,
                    "kept": a.kept,
                    "agreed": a.agreed,
                    "overruled": a.overruled,
                }
                for a in composed.accounts
            ],
            "overruled": [
                {
                    "loser": names[o.loser],
                    "loser_layer": o.loser_layer,
                    "winner": names[o.winner],
                    "winner_layer": o.winner_layer,
                    "voxels": o.voxels,
                }
                for o in sorted(composed.overruled, key=lambda o: -o.voxels)
            ],
            "classes_without_structure": {
                s: {n: v for n, v in voxels.items() if n not in self.scheme.sources[s]}
                for s, voxels in unused.items()
            },
            "failed_segmenters": {s: self.failures[s][case.id] for s in failed},
            "ignored_voxels": ignored,
        }


def assert_promises(path: Path, grid: Grid, lesion: Array | None, scheme: Scheme) -> None:
    """Hold the written file against the promises; called before it gets its name.

    Parameters
    ----------
    path : label map as written
    grid : the image's grid
    lesion : target ids (z, y, x), or None for no lesion
    scheme : names and ids

    Raises
    ------
    CaseError
        PROMISE_BROKEN: a lesion voxel lost, added or moved; another grid; an id of no name.
    """
    written = read_labels(path)
    distance = written.grid.distance_mm(grid)
    if distance > GRID_TOLERANCE_MM:
        raise CaseError(
            Code.PROMISE_BROKEN,
            f"{path} was written {distance:.3g} mm off its image's grid; report this as a bug",
        )
    highest = int(written.array.max())
    if highest > scheme.ignore_id:
        raise CaseError(
            Code.PROMISE_BROKEN, f"{path} holds the id {highest}, which has no name; report this"
        )
    count = len(scheme.targets)
    targets = np.where(written.array <= count, written.array, 0)
    same = not targets.any() if lesion is None else np.array_equal(targets, lesion)
    if not same:
        raise CaseError(
            Code.PROMISE_BROKEN,
            f"{path} does not hold the lesion voxels of the lesion file; report this as a bug",
        )


def _hash(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise CaseError(
            Code.FILE_MISSING,
            f"{path} can not be read ({error.strerror}); restore it, or run the stage before again",
        ) from None
