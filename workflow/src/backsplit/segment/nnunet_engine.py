"""A case through one nnU-Net network, or through the stages of a cascade."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from backsplit.cases.table import Case
from backsplit.config.model import Run
from backsplit.segment.base import Labelled
from backsplit.segment.network import LOGIT_BYTES, Network, Prepared
from backsplit.segment.pipeline import Size, Steps
from backsplit.segment.preparation import Source
from backsplit.segment.timing import Timings
from backsplit.store.results import VOLUME_ENDING
from backsplit.volume import (
    Array,
    Grid,
    Volume,
    read_geometry,
    read_grid,
    read_labels,
    read_volume,
    require_same_grid,
    save_nifti,
)
from backsplit.volume.intensity import require_finite
from backsplit.volume.resample import resample_image


@dataclass(frozen=True)
class Ready:
    """A case as the next network wants it.

    Attributes
    ----------
    case, grid : what it came from
    prepared : for the network
    source : the image, where a later stage wants it too
    """

    case: Case
    grid: Grid
    prepared: Prepared
    source: Source | None


@dataclass(frozen=True)
class Predicted:
    """A case that a network has run on.

    Attributes
    ----------
    ready : without what the network got
    labels : (z, y, x) as the model's reader has its images; or None
    logits : as `Network.run` gives them; or None, where labels were made of them on the card
    """

    ready: Ready
    labels: Array | None
    logits: Any


class Engine:
    """The steps of a case.

    Parameters
    ----------
    networks : stages of a cascade, the first one first; of any other model the only one
    channels : of the case, in the model's order
    timings : takes note of where the time goes
    run : settings of the run
    """

    def __init__(
        self, networks: Sequence[Network], channels: Sequence[str], timings: Timings, run: Run
    ) -> None:
        self.networks = networks
        self.channels = channels
        self.timings = timings
        self.limit_s = 60 * run.case_minutes
        chain: list[Any] = [self.prepare]
        for number in range(len(networks)):
            if number:
                chain.append(partial(self.prepare_stage, number))
            chain.append(partial(self.run, number))
        self.steps = Steps((*chain, self.finish), self.size)

    def size(self, case: Case) -> Size:
        """Estimate: channels as read and as float32, twice in the network's spacing, the logits.

        Not in the network alone: they wait for who makes labels of them. On a card they do not.
        """
        grid = read_grid(case.images[self.channels[0]])
        channels, image = len(self.channels), math.prod(grid.shape)
        total = 0
        for network in self.networks:
            small = network.voxels(grid.shape, grid.spacing_zyx)
            logits = 0 if network.on_card else LOGIT_BYTES * network.heads
            total = max(total, image * (8 * channels + 2) + small * (8 * channels + logits))
        return Size(total)

    def prepare(self, case: Case) -> Ready:
        """Read the channels; crop, normalise and resample them."""
        paths = [case.images[channel] for channel in self.channels]
        with self.timings.phase("read"):
            volumes = [read_volume(path) for path in paths]
            for path, volume in zip(paths, volumes, strict=True):
                require_finite(path, volume.array)
            volumes = self._on_one_grid(paths, volumes)
            image, properties = self._as_reader_gives(paths, volumes)
        grid = volumes[0].grid
        del volumes
        with self.timings.phase("prepare"):
            source = Source(image, properties)
            prepared = self.networks[0].prepare(source)
        return Ready(case, grid, prepared, source if len(self.networks) > 1 else None)

    def prepare_stage(self, number: int, predicted: Predicted) -> Ready:
        """Put the labels of the stage before beside the image."""
        labels = self._labels(number - 1, predicted)
        ready = predicted.ready
        assert ready.source is not None
        with self.timings.phase("prepare"):
            return replace(ready, prepared=self.networks[number].prepare(ready.source, labels))

    def run(self, number: int, ready: Ready) -> Predicted:
        """Run a network; on a card its labels are made there at once, so that no logits wait."""
        network = self.networks[number]
        with self.timings.phase("network"):
            logits = network.run(ready.prepared, self.limit_s)
        rest = replace(ready, prepared=Prepared(None, ready.prepared.properties))
        if not network.on_card:
            return Predicted(rest, None, logits)
        return Predicted(rest, self._labels(number, Predicted(rest, None, logits)), None)

    def finish(self, predicted: Predicted) -> Labelled:
        """Make labels of the last logits, on the image's grid."""
        labels = self._labels(len(self.networks) - 1, predicted)
        with self.timings.phase("labels"):
            array = labels if self._reads_as_we_do() else self._as_writer_puts(predicted, labels)
        self.timings.count_case()
        return Labelled(np.ascontiguousarray(array), predicted.ready.grid)

    def _labels(self, number: int, predicted: Predicted) -> Array:
        if predicted.labels is not None:
            return predicted.labels
        with self.timings.phase("labels"):
            properties = predicted.ready.prepared.properties
            return self.networks[number].labels(predicted.logits, properties)

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
        return type(self.networks[-1].reader).__name__ == "SimpleITKIO"

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
                return self.networks[-1].reader.read_images([str(file) for file in files])  # type: ignore[no-any-return]
        if len(volumes) == 1:
            array = volumes[0].array[None]
        else:
            array = np.stack([volume.array for volume in volumes])
        return array, {"spacing": [abs(s) for s in volumes[0].grid.spacing_zyx]}

    def _as_writer_puts(self, predicted: Predicted, labels: Array) -> Array:
        """Let the model's own writer undo what its reader did to axes and orientation."""
        ready = predicted.ready
        with tempfile.TemporaryDirectory(prefix="backsplit-") as folder:
            written = Path(folder) / "labels.nii.gz"
            self.networks[-1].reader.write_seg(labels, str(written), ready.prepared.properties)
            result = read_labels(written)
        name = f"the prediction of {ready.case.id}"
        require_same_grid(name, result.grid, ready.grid, "its image")
        return result.array


def _readable(path: Path, volume: Volume, spare: Path) -> Path:
    """A file in which nnU-Net's readers find the volume: its own, else a new one."""
    if path.name.endswith(VOLUME_ENDING) and read_geometry(path).reads_alike:
        return path
    save_nifti(spare, volume.array, volume.grid)
    return spare
