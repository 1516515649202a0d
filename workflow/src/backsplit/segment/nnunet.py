"""Any trained nnU-Net v2 model as a segmenter."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from backsplit.batch import one_by_one
from backsplit.cases import Case
from backsplit.config import Dataset, NnUNet, channels_of
from backsplit.errors import BacksplitError, CaseError, Code
from backsplit.provenance import read_json, versions
from backsplit.segment.base import Labelled
from backsplit.segment.device import choose_device
from backsplit.segment.predictor import Model, predict
from backsplit.segment.threshold import require_finite
from backsplit.volume import read_labels, read_volume, require_same_grid


class NnUNetSegmenter:
    """Applies a trained-model folder; the network loads once per job."""

    def __init__(self, config: NnUNet, dataset: Dataset, device: str) -> None:
        self.config = config
        self.channels = channels_of(config, dataset)
        self.device = device

    @cached_property
    def _dataset_json(self) -> dict[str, Any]:
        path = self.config.model / "dataset.json"
        try:
            return read_json(path)
        except (OSError, ValueError) as error:
            raise BacksplitError(
                Code.MODEL_INVALID,
                f"{path} can not be read ({error}); `model` must be a trained-model folder "
                "(Trainer__Plans__Configuration) with dataset.json, plans.json and fold_*",
            ) from None

    def classes(self) -> dict[str, int]:
        """Names from the model's dataset.json, background left out."""
        labels = self._dataset_json.get("labels", {})
        classes: dict[str, int] = {}
        for name, value in labels.items():
            if name in ("background", "ignore"):
                continue
            if not isinstance(value, int):
                raise BacksplitError(
                    Code.MODEL_INVALID,
                    f"{self.config.model} was trained on regions ({name!r} is {value}); "
                    "region models are not supported as segmenters yet; "
                    "predict with nnU-Net and give the files to a `files` segmenter",
                )
            classes[name] = value
        return classes

    def identity(self) -> dict[str, Any]:
        """Version of nnU-Net."""
        return {"versions": versions("nnunetv2")}

    def inputs(self, case: Case) -> Mapping[str, Path]:
        """One image per channel."""
        return {f"image_{channel}": case.images[channel] for channel in self.channels}

    def label(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Labelled | CaseError]]:
        """Predict each case with the resident network."""
        expected = len(self._dataset_json.get("channel_names", {}))
        if expected and expected != len(self.channels):
            raise BacksplitError(
                Code.MODEL_INVALID,
                f"{self.config.model} has {expected} input channels but is given "
                f"{list(self.channels)}; set `channel` to as many, in the model's order",
            )
        model = Model(
            folder=self.config.model,
            folds=self.config.folds,
            checkpoint=self.config.checkpoint,
            device=choose_device(self.device),
            step_size=self.config.step_size,
            mirroring=self.config.mirroring,
        )
        return one_by_one(cases, lambda case: self._label_case(model, case))

    def weights(self) -> Sequence[Path]:
        """Descriptions and checkpoints of the folds that are used."""
        folder = self.config.model
        files = [folder / "dataset.json", folder / "plans.json"]
        files += [folder / f"fold_{fold}" / self.config.checkpoint for fold in self.config.folds]
        for path in files:
            if not path.is_file():
                there = ", ".join(sorted(p.name for p in folder.glob("fold_*"))) or "no folds"
                raise BacksplitError(
                    Code.WEIGHTS_MISSING,
                    f"{path} does not exist; the model folder has {there}; "
                    "correct `model`, `folds` or `checkpoint`",
                )
        return files

    def _label_case(self, model: Model, case: Case) -> Labelled:
        paths = [case.images[channel] for channel in self.channels]
        first = read_volume(paths[0])
        require_finite(paths[0], first.array)
        labels, properties, reader = predict(model, paths)
        # the model's own writer undoes what its reader did to axes and orientation
        with tempfile.TemporaryDirectory(prefix="backsplit-") as folder:
            written = Path(folder) / "labels.nii.gz"
            reader.write_seg(labels, str(written), properties)
            result = read_labels(written)
        require_same_grid(f"the prediction of {case.id}", result.grid, first.grid, "its image")
        dtype = np.uint8 if max(self.classes().values()) <= 255 else np.uint16
        return Labelled(result.array.astype(dtype, copy=False), first.grid)
