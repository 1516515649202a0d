"""A trained model for others: a folder that nnU-Net runs without our trainer.

What is left out is what prediction does not need: the optimiser, the log, the settings of training,
and the cases of dataset.json's `unknown`.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from backsplit.errors import Code, RunError
from backsplit.store.disk import atomic_path
from backsplit.store.provenance import write_json
from backsplit.train.binary import Binary
from backsplit.train.trainer import nnUNetTrainerBackSplit

PLAIN = "nnUNetTrainer"
"""nnU-Net's own trainer, which builds the network of the plans."""
FINAL = "checkpoint_final.pth"


def pack(model: Path, out: Path, folds: Sequence[int] | None, checkpoint: str = FINAL) -> Path:
    """Write a model folder that nnU-Net runs without us.

    Parameters
    ----------
    model : trained-model folder (Trainer__Plans__Configuration) of nnUNetTrainerBackSplit
    out : folder that gets DATASET/nnUNetTrainer__Plans__Configuration, as nnUNet_results has it
    folds : which; None: all that have the checkpoint
    checkpoint : which file of each fold

    Returns
    -------
    folder
        The model folder; predictions are those of `model`.

    Raises
    ------
    RunError
        WEIGHTS_MISSING, MODEL_INVALID; TRAINING_UNSUITED: the network is not that of the plans;
        WOULD_OVERWRITE.
    """
    first = Binary(model, 0, checkpoint)
    there = sorted(int(path.parent.name[5:]) for path in model.glob(f"fold_[0-9]*/{checkpoint}"))
    loaded = {fold: Binary(model, fold, checkpoint).load() for fold in folds or there or [0]}
    for found in loaded.values():
        if (name := found["trainer_name"]) not in (PLAIN, nnUNetTrainerBackSplit.__name__):
            raise RunError(
                Code.TRAINING_UNSUITED,
                f"{model} was trained by {name}, whose network is not that of the plans; "
                "nnU-Net cannot build it without backsplit",
                "share it unpacked, to be used with backsplit installed and nnUNet_extTrainer set",
            )
    settings = next(iter(loaded.values()))["init_args"]["configuration"]
    name = f"{PLAIN}__{first.plans['plans_name']}__{settings}"
    folder: Path = out / first.plans["dataset_name"] / name
    if folder.exists():
        raise RunError(
            Code.WOULD_OVERWRITE,
            f"{folder} already exists",
            f"remove it: rm -r {shlex.quote(str(folder))}",
        )
    for fold, found in loaded.items():
        path = folder / f"fold_{fold}" / FINAL
        path.parent.mkdir(parents=True)
        with atomic_path(path) as temporary:
            torch.save(_for_prediction(found), temporary)
    write_json(folder / "plans.json", first.plans)
    kept = {key: value for key, value in first.description.items() if key != "unknown"}
    write_json(folder / "dataset.json", kept)
    return folder


def _for_prediction(checkpoint: dict[str, Any]) -> dict[str, Any]:
    axes = checkpoint.get("inference_allowed_mirroring_axes")
    return {
        "network_weights": checkpoint["network_weights"],
        "trainer_name": PLAIN,
        "init_args": {"configuration": checkpoint["init_args"]["configuration"]},
        "inference_allowed_mirroring_axes": axes,
    }
