"""Small networks with random weights, where TotalSegmentator looks for its own."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from totalsegmentator.map_tasks_config import TASK_ID_WEIGHTS_CONFIGS

from backsplit.demo import training


def random_network(
    weights: Path,
    task_id: int,
    classes: int,
    spacing: float,
    trainer: str,
    patch: int = 32,
    features: tuple[int, ...] = (4, 4, 4, 4),
) -> None:
    """Write a network of so many classes; its labels are noise, and always the same."""
    torch.manual_seed(task_id)
    scale = {"mean": 100.0, "std": 100.0, "percentile_00_5": -900.0, "percentile_99_5": 900.0}
    plans = training._plans({"0": scale})
    configuration = plans["configurations"]["3d_fullres"]
    configuration["patch_size"] = [patch] * 3
    configuration["spacing"] = [spacing] * 3
    configuration["architecture"]["arch_kwargs"]["features_per_stage"] = list(features)
    labels = {"background": 0} | {f"c{i}": i for i in range(1, classes + 1)}
    network = training._network(plans, labels)
    for name, value in network.state_dict().items():
        if "seg_layers" in name and name.endswith("weight"):
            value.mul_(4)  # so that many classes win somewhere
    folder = weights / TASK_ID_WEIGHTS_CONFIGS[task_id]["foldername"]
    folder = folder / f"{trainer}__nnUNetPlans__3d_fullres"
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(dataset))
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainerNoMirroring",
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
