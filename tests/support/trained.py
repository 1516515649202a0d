"""Small nnU-Net models of every kind, really trained, on phantoms, in some seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from totalsegmentator.map_to_binary import class_map

from backsplit.demo import training
from backsplit.demo.phantoms import make_phantom

SPACING = (6.0, 5.0, 5.0)
"""Of the networks, mm, (z, y, x): no phantom has it."""
PATCH = (32, 32, 32)
LABELS = {"background": 0, "liver": 1, "lung": 2, "other": 3}
REGIONS = {"background": 0, "all": [1, 2, 3], "some": [1, 2], "lung": [2]}
REGION_ORDER = [3, 1, 2]
SEEDS = (10_500, 10_501)


def train(
    parent: Path,
    configuration: str,
    labels: Mapping[str, Any] = LABELS,
    order: Sequence[int] | None = None,
    schemes: Sequence[str] = ("CTNormalization",),
    steps: int = 60,
) -> Path:
    """Train a model of `3d_fullres`, `3d_lowres`, `3d_cascade_fullres` or `2d`.

    Parameters
    ----------
    parent : folder that gets nnUNetTrainer__nnUNetPlans__<configuration>
    labels, order : of dataset.json; `order` is the regions' own
    schemes : normalisation of each channel; all channels are the one image
    """
    torch.manual_seed(0)
    plans = _plans(schemes)
    dataset: dict[str, Any] = {
        "channel_names": {str(i): f"channel{i}" for i in range(len(schemes))},
        "labels": dict(labels),
        "numTraining": len(SEEDS),
        "file_ending": ".nii.gz",
    }
    if order is not None:
        dataset["regions_class_order"] = list(order)
    manager = PlansManager(plans)
    chosen = manager.get_configuration(configuration)
    label_manager = manager.get_label_manager(dataset)
    network = get_network_from_plans(
        chosen.network_arch_class_name,
        chosen.network_arch_init_kwargs,
        chosen.network_arch_init_kwargs_req_import,
        determine_num_input_channels(manager, chosen, dataset),
        label_manager.num_segmentation_heads,
        deep_supervision=False,
    )
    samples = [_sample(seed, manager, chosen, dataset, label_manager) for seed in SEEDS]
    _optimise(network, samples, chosen.patch_size, label_manager, steps)
    folder = parent / f"nnUNetTrainer__nnUNetPlans__{configuration}"
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    torch.save(
        {
            "network_weights": network.state_dict(),
            "trainer_name": "nnUNetTrainer",
            "init_args": {"configuration": configuration},
            "inference_allowed_mirroring_axes": (0,),
        },
        folder / "fold_0" / "checkpoint_final.pth",
    )
    return folder


def _plans(schemes: Sequence[str]) -> dict[str, Any]:
    scale = {"mean": 50.0, "std": 200.0, "percentile_00_5": -900.0, "percentile_99_5": 900.0}
    plans = training._plans({str(i): scale for i in range(len(schemes))})
    full = plans["configurations"]["3d_fullres"]
    full["spacing"], full["patch_size"] = list(SPACING), list(PATCH)
    full["normalization_schemes"] = list(schemes)
    full["use_mask_for_norm"] = [scheme.startswith("ZScore") for scheme in schemes]
    kwargs = full["architecture"]["arch_kwargs"]
    kwargs["features_per_stage"] = [8, 12, 16, 16]
    flat = json.loads(json.dumps(full))
    flat["spacing"], flat["patch_size"] = list(SPACING[1:]), [48, 48]
    flat["architecture"]["arch_kwargs"] |= {
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
        "kernel_sizes": [[3, 3]] * 4,
        "strides": [[1, 1], *[[2, 2]] * 3],
    }
    plans["configurations"] |= {
        "2d": flat,
        "3d_lowres": {
            "inherits_from": "3d_fullres",
            "data_identifier": "nnUNetPlans_3d_lowres",
            "spacing": [8.0, 8.0, 8.0],
            "next_stage": "3d_cascade_fullres",
        },
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    }
    return plans


def _sample(seed: int, manager: Any, chosen: Any, dataset: Any, label_manager: Any):
    """Image (channel, z, y, x) and labels (z, y, x) as nnU-Net prepares them."""
    phantom = make_phantom(seed, ("liver",), (5.0, 5.0, 5.0))
    names = {name: value for value, name in class_map["total"].items()}
    truth = np.where(phantom.anatomy > 0, 3, 0).astype(np.int16)
    truth[phantom.anatomy == names["liver"]] = 1
    lobes = [value for name, value in names.items() if name.startswith("lung_")]
    truth[np.isin(phantom.anatomy, lobes)] = 2
    image = np.stack([phantom.image] * len(chosen.normalization_schemes)).astype(np.float32)
    data, seg, _ = DefaultPreprocessor(verbose=False).run_case_npy(
        image, truth[None], {"spacing": [5.0, 5.0, 5.0]}, manager, chosen, dataset
    )
    if chosen.previous_stage_name is not None:
        one_hot = [seg[0] == value for value in label_manager.foreground_labels]
        data = np.vstack([data, np.stack(one_hot).astype(np.float32)])
    return data, np.maximum(seg[0], 0)


def _optimise(network: Any, samples: Any, patch: Sequence[int], manager: Any, steps: int) -> None:
    random = np.random.default_rng(0)
    optimiser = torch.optim.AdamW(network.parameters(), lr=8e-3)
    network.train()
    torch.set_num_threads(1)  # threads of so small a network wait for each other
    for _ in range(steps):
        data, seg = samples[random.integers(len(samples))]
        if len(patch) == 2:
            z = int(random.integers(data.shape[1]))
            data, seg = data[:, z], seg[z]
        start = [int(random.integers(max(1, n - p))) for n, p in zip(seg.shape, patch, strict=True)]
        part = tuple(slice(a, a + p) for a, p in zip(start, patch, strict=True))
        truth = seg[part]
        missing = [(0, p - n) for n, p in zip(truth.shape, patch, strict=True)]
        image = np.pad(data[(slice(None), *part)], [(0, 0), *missing])
        truth = np.pad(truth, missing)
        logits = network(torch.from_numpy(image[None]))
        target = torch.from_numpy(truth[None].astype(np.int64))
        if manager.has_regions:
            wanted = [np.isin(truth, region) for region in manager.foreground_regions]
            wanted = torch.from_numpy(np.stack(wanted)[None].astype(np.float32))
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)
        else:
            loss = torch.nn.functional.cross_entropy(logits, target)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimiser.step()
