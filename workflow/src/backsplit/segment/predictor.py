"""The resident nnU-Net predictor: a network is loaded once per process and stays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from backsplit.segment.weights import require_accepted
from backsplit.volume import Array


@dataclass(frozen=True)
class Model:
    """Which network, and how it is applied.

    Attributes
    ----------
    folder : trained-model folder (Trainer__Plans__Configuration)
    folds : folds whose logits are averaged
    checkpoint : file name in each fold
    device : torch device
    step_size : step of the sliding window as a share of the patch
    mirroring : test-time mirroring, where the checkpoint allows it
    """

    folder: Path
    folds: tuple[int | str, ...]
    checkpoint: str = "checkpoint_final.pth"
    device: str = "cpu"
    step_size: float = 0.5
    mirroring: bool = True


@lru_cache(maxsize=16)
def load(model: Model) -> Any:  # noqa: ANN401 (nnU-Net's predictor is untyped)
    """Give nnU-Net's own predictor with the model's weights; loaded on the first call only.

    Raises
    ------
    BacksplitError
        WEIGHTS_UNKNOWN or WEIGHTS_CHANGED: no checkpoint is opened that nobody accepted.
    """
    require_accepted(model.folder / f"fold_{fold}" / model.checkpoint for fold in model.folds)
    silence_nnunet()
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    device = torch.device(model.device)
    predictor = nnUNetPredictor(
        tile_step_size=model.step_size,
        use_gaussian=True,
        use_mirroring=model.mirroring,
        perform_everything_on_device=device.type == "cuda",
        device=device,
        verbose=False,
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(
        str(model.folder), use_folds=model.folds, checkpoint_name=model.checkpoint
    )
    return predictor


def predict(model: Model, images: Sequence[Path]) -> tuple[Array, dict[str, Any], Any]:
    """Predict the label map of one case.

    Parameters
    ----------
    model : the network
    images : one file per channel

    Returns
    -------
    labels, properties, reader
        Label map in the axis order of the model's own reader, the reader's properties of the
        image, and the reader, whose `write_seg` puts the labels on the image's grid.
    """
    predictor = load(model)
    reader = predictor.plans_manager.image_reader_writer_class()
    array, properties = reader.read_images([str(path) for path in images])
    labels = predictor.predict_single_npy_array(array, properties, None, None, False)
    return labels, properties, reader


def silence_nnunet() -> None:
    """Set the folders that nnU-Net warns about; a predictor uses none of them."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ.setdefault(name, os.devnull)
