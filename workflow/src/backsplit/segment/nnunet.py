"""Any trained nnU-Net v2 model as a segmenter."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from backsplit.cases.table import Case
from backsplit.config.base import MOST_LABEL
from backsplit.config.model import Run
from backsplit.config.segmenters import NnUNet
from backsplit.config.slices import Labelling
from backsplit.errors import CaseError, Code, RunError, shown
from backsplit.segment.base import Labelled, Licence, Segmenter
from backsplit.segment.device import choose_device
from backsplit.segment.licences import UNSTATED, stated_licence
from backsplit.segment.network import Model, Network, Prepared, load
from backsplit.segment.pipeline import Steps, overlap
from backsplit.segment.timing import Timings
from backsplit.store.provenance import read_json, versions
from backsplit.store.results import VOLUME_ENDING
from backsplit.volume import (
    Array,
    Grid,
    Volume,
    read_labels,
    read_volume,
    reads_alike,
    require_same_grid,
    save_nifti,
)
from backsplit.volume.intensity import require_finite
from backsplit.volume.resample import resample_image


def build(section: NnUNet, inputs: Labelling, run: Run) -> Segmenter:
    """Make the segmenter of a section."""
    return NnUNetSegmenter(section, inputs, run)


class NnUNetSegmenter:
    """Applies a trained-model folder; the network loads once per job."""

    def __init__(self, config: NnUNet, inputs: Labelling, run: Run) -> None:
        self.config = config
        self.channels = inputs.channels
        self.settings = run
        self.timings = Timings()

    @cached_property
    def _dataset_json(self) -> dict[str, Any]:
        path = self.config.model / "dataset.json"
        try:
            data = read_json(path)
            if not isinstance(data, dict) or not isinstance(data.get("labels"), dict):
                raise ValueError("it holds no `labels` with names and values")
            if not isinstance(data.get("channel_names", {}), dict):
                raise ValueError("its `channel_names` are no names by number")
            return data
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(
                Code.MODEL_INVALID,
                f"{path} can not be read ({error})",
                "`model` must be a trained-model folder "
                "(Trainer__Plans__Configuration) with dataset.json, plans.json and fold_*",
            ) from None

    def classes(self) -> dict[str, int]:
        """Names from the model's dataset.json, background left out."""
        classes: dict[str, int] = {}
        for name, value in self._dataset_json["labels"].items():
            if name in ("background", "ignore"):
                continue
            if isinstance(value, int) and not 1 <= value <= MOST_LABEL:
                raise RunError(
                    Code.MODEL_INVALID,
                    f"{self.config.model}/dataset.json gives {shown(name)!r} the value "
                    f"{shown(value)}, which no label map can hold",
                    "use another model",
                )
            if not isinstance(value, int):
                region = f"{shown(name)!r} is {shown(value)}"
                raise RunError(
                    Code.MODEL_INVALID,
                    f"{self.config.model} was trained on regions ({region}); "
                    "region models are not supported as segmenters yet",
                    "predict with nnU-Net and give the files to a `files` segmenter",
                )
            classes[name] = value
        return classes

    def licence(self) -> Licence:
        """What the configuration says; else nobody has said."""
        return stated_licence(self.config) or UNSTATED

    def identity(self) -> dict[str, Any]:
        """Version of nnU-Net."""
        return {"versions": versions("nnunetv2")}

    def inputs(self, case: Case) -> Mapping[str, Path]:
        """One image per channel."""
        return {f"image_{channel}": case.images[channel] for channel in self.channels}

    def label(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Labelled | CaseError]]:
        """Predict each case with the resident network; three cases are in work at a time."""
        expected = len(self._dataset_json.get("channel_names", {}))
        if expected and expected != len(self.channels):
            raise RunError(
                Code.MODEL_INVALID,
                f"{self.config.model} has {expected} input channels but is given "
                f"{list(self.channels)}",
                "set `channel` to as many, in the model's order",
            )
        model = Model(
            folder=self.config.model,
            folds=self.config.folds,
            checkpoint=self.config.checkpoint,
            device=choose_device(self.settings.device),
            step_size=self.config.step_size,
            mirroring=self.config.mirroring,
        )
        with self.timings.phase("load"):
            network = load(model)
        yield from overlap(cases, Engine(network, self.channels, self.timings, self.settings).steps)

    def weights(self) -> Sequence[Path]:
        """Descriptions and checkpoints of the folds that are used."""
        folder = self.config.model
        files = [folder / "dataset.json", folder / "plans.json"]
        files += [folder / f"fold_{fold}" / self.config.checkpoint for fold in self.config.folds]
        for path in files:
            if not path.is_file():
                there = ", ".join(sorted(p.name for p in folder.glob("fold_*"))) or "no folds"
                raise RunError(
                    Code.WEIGHTS_MISSING,
                    f"{path} does not exist; the model folder has {there}",
                    "correct `model`, `folds` or `checkpoint`",
                )
        return files


@dataclass(frozen=True)
class Ready:
    """A case as the network wants it, and where it came from."""

    case: Case
    grid: Grid
    prepared: Prepared


class Engine:
    """The three steps of a case through one network."""

    def __init__(
        self, network: Network, channels: Sequence[str], timings: Timings, run: Run
    ) -> None:
        self.network = network
        self.channels = channels
        self.timings = timings
        self.limit_s = 60 * run.case_minutes
        self.steps = Steps(self.prepare, self.run, self.finish)

    def prepare(self, case: Case) -> Ready:
        """Read the channels; crop, normalise and resample them."""
        paths = [case.images[channel] for channel in self.channels]
        with self.timings.phase("read"):
            volumes = [read_volume(path) for path in paths]
            for path, volume in zip(paths, volumes, strict=True):
                require_finite(path, volume.array)
            volumes = self._on_one_grid(paths, volumes)
            image, properties = self._as_reader_gives(paths, volumes)
        with self.timings.phase("prepare"):
            return Ready(case, volumes[0].grid, self.network.prepare(image, properties))

    def run(self, ready: Ready) -> tuple[Ready, Any]:
        """Run the network."""
        with self.timings.phase("network"):
            return ready, self.network.run(ready.prepared, self.limit_s)

    def finish(self, predicted: tuple[Ready, Any]) -> Labelled:
        """Make labels of the logits, on the image's grid."""
        ready, logits = predicted
        with self.timings.phase("labels"):
            labels = self.network.labels(logits, ready.prepared.properties)
            array = labels if self._reads_as_we_do() else self._as_writer_puts(ready, labels)
        self.timings.cases += 1
        return Labelled(np.ascontiguousarray(array), ready.grid)

    def _on_one_grid(self, paths: Sequence[Path], volumes: Sequence[Volume]) -> list[Volume]:
        """Put the channels of a model on the grid of its first one."""
        first = volumes[0].grid
        if all(volume.grid.is_same(first) for volume in volumes):
            return list(volumes)
        if not self._reads_as_we_do():
            for path, volume in zip(paths, volumes, strict=True):
                require_same_grid(str(path), volume.grid, first, "the model's first channel")
        return [v if v.grid.is_same(first) else resample_image(v, first) for v in volumes]

    def _reads_as_we_do(self) -> bool:
        return type(self.network.reader).__name__ == "SimpleITKIO"

    def _as_reader_gives(
        self, paths: Sequence[Path], volumes: Sequence[Volume]
    ) -> tuple[Array, dict[str, Any]]:
        """Array (channel, z, y, x) and properties as the model's own reader gives them."""
        if not self._reads_as_we_do():
            with tempfile.TemporaryDirectory(prefix="backsplit-") as folder:
                files = [
                    _readable(path, volume, Path(folder) / f"{number}{VOLUME_ENDING}")
                    for number, (path, volume) in enumerate(zip(paths, volumes, strict=True))
                ]
                array, properties = self.network.reader.read_images([str(file) for file in files])
            return array, properties
        array = np.stack([volume.array for volume in volumes]).astype(np.float32)
        return array, {"spacing": [abs(s) for s in volumes[0].grid.spacing_zyx]}

    def _as_writer_puts(self, ready: Ready, labels: Array) -> Array:
        """Let the model's own writer undo what its reader did to axes and orientation."""
        with tempfile.TemporaryDirectory(prefix="backsplit-") as folder:
            written = Path(folder) / "labels.nii.gz"
            self.network.reader.write_seg(labels, str(written), ready.prepared.properties)
            result = read_labels(written)
        name = f"the prediction of {ready.case.id}"
        require_same_grid(name, result.grid, ready.grid, "its image")
        return result.array


def _readable(path: Path, volume: Volume, spare: Path) -> Path:
    """A file in which nnU-Net's readers find the volume: its own, else a new one."""
    if path.name.endswith(VOLUME_ENDING) and reads_alike(path):
        return path
    save_nifti(spare, volume.array, volume.grid)
    return spare
