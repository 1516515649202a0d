"""Train the demo's network on phantoms, in TotalSegmentator's own weights layout.

The network is nnU-Net's, built from nnU-Net plans; images reach it as TotalSegmentator brings
them there at inference (closest canonical orientation, 6 mm, nnU-Net's CT normalisation). It
learns the classes that phantoms have; the other channels of TotalSegmentator's `total` are there
and always lose. For phantoms only: it has never seen a patient.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from backsplit.demo.phantoms import Phantom, make_phantom
from backsplit.store.provenance import file_sha256, write_json
from backsplit.volume import Array

TASK_ID = 298
"""`total --fastest` of TotalSegmentator: the lightest of its networks, 6 mm."""
SPACING_MM = 6.0
TRAINER = "nnUNetTrainer_4000epochs_NoMirroring"
PATCH = (56, 48, 64)
FEATURES = (10, 20, 40, 80)
STEPS = 1200
POOL = 64
BATCH = 2
FIRST_SEED = 10_000
"""Training phantoms have seeds from here on; the demo's and the evaluation's lie below."""
NEVER = -30.0
"""Bias of a channel that phantoms do not have."""
LESION_KINDS = ("kidney", "kidney_border", "liver", "liver_border")


@dataclass(frozen=True)
class Sample:
    """A training phantom at 6 mm: normalised image and class indices, (z, y, x)."""

    image: Array
    labels: Array


def train(out: Path, seed: int = 0, steps: int = STEPS) -> Path:
    """Train the network and write its folder; takes about ten minutes on two cores.

    Parameters
    ----------
    out : folder that gets Dataset298_… and sha256.json
    seed : of the phantoms and of the network
    steps : of the optimiser

    Returns
    -------
    folder
        The trained-model folder.
    """
    import torch
    from totalsegmentator.registry import get_task_classes

    torch.manual_seed(seed)
    names = {0: "background", **get_task_classes("total")}
    raw = [_at_6mm(_random_phantom(FIRST_SEED + seed * POOL + i)) for i in range(POOL)]
    intensities = _intensity_properties(raw)
    present = sorted({int(v) for _, labels in raw for v in np.unique(labels)})
    index = np.zeros(256, np.int64)
    index[present] = np.arange(len(present))
    scale = intensities["0"]
    samples = [Sample(_normalise(image, scale), index[labels]) for image, labels in raw]
    plans = _plans(intensities)
    network = _network(plans, {names[v]: i for i, v in enumerate(present)})
    _optimise(network, samples, steps, seed)
    labels = {name: value for value, name in names.items()}
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": POOL,
        "file_ending": ".nii.gz",
    }
    weights = _widen(network.state_dict(), _network(plans, labels), present)
    return _write(out, plans, dataset, weights)


def _random_phantom(seed: int) -> Phantom:
    """Give a phantom no, one or two lesions."""
    random = np.random.default_rng(seed)
    kinds = random.choice(LESION_KINDS, size=random.integers(0, 3), replace=False)
    return make_phantom(seed, tuple(str(kind) for kind in kinds))


def _at_6mm(phantom: Phantom) -> tuple[Array, Array]:
    """Bring image and anatomy to 6 mm as TotalSegmentator does; (z, y, x) of its files."""
    from totalsegmentator.alignment import as_closest_canonical
    from totalsegmentator.resampling import change_spacing

    resampled = []
    for array, order in ((phantom.image.astype(np.int32), 1), (phantom.anatomy, 0)):
        image = nib.Nifti1Image(array.transpose(2, 1, 0), phantom.grid.affine_ras)
        small = change_spacing(
            as_closest_canonical(image), [SPACING_MM] * 3, order=order, dtype=np.int32
        )
        resampled.append(np.asarray(small.dataobj).transpose(2, 1, 0))
    return resampled[0], resampled[1]


def _intensity_properties(raw: Sequence[tuple[Array, Array]]) -> dict[str, dict[str, float]]:
    """Statistics of the foreground, as nnU-Net's fingerprint has them."""
    values = np.concatenate([image[labels > 0] for image, labels in raw]).astype(float)
    low, middle, high = np.percentile(values, (0.5, 50, 99.5))
    return {
        "0": {
            "mean": float(values.mean()),
            "std": float(values.std()),
            "median": float(middle),
            "min": float(values.min()),
            "max": float(values.max()),
            "percentile_00_5": float(low),
            "percentile_99_5": float(high),
        }
    }


def _normalise(image: Array, scale: Mapping[str, float]) -> Array:
    """Normalise with nnU-Net's own CT scheme."""
    from nnunetv2.preprocessing.normalization.default_normalization_schemes import CTNormalization

    scheme = CTNormalization(use_mask_for_norm=False, intensityproperties=dict(scale))
    return np.asarray(scheme.run(image.astype(np.float32)))


def _plans(intensities: Mapping[str, Any]) -> dict[str, Any]:
    """nnU-Net plans of a small plain U-Net at 6 mm."""
    resampling = "resample_data_or_seg_to_shape"
    stages = len(FEATURES)
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": BATCH,
        "patch_size": list(PATCH),
        "median_image_size_in_voxels": list(PATCH),
        "spacing": [SPACING_MM] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": list(FEATURES),
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [[3, 3, 3]] * stages,
                "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
                "n_conv_per_stage": [2] * stages,
                "n_conv_per_stage_decoder": [1] * (stages - 1),
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    for what, order in (("data", 3), ("seg", 1), ("probabilities", 1)):
        configuration[f"resampling_fn_{what}"] = resampling
        configuration[f"resampling_fn_{what}_kwargs"] = {
            "is_seg": what == "seg",
            "order": order,
            "order_z": 0,
            "force_separate_z": None,
        }
    return {
        "dataset_name": _folder_name(),
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [SPACING_MM] * 3,
        "original_median_shape_after_transp": list(PATCH),
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": dict(intensities),
    }


def _folder_name() -> str:
    """Name of the data set's folder, from TotalSegmentator's own table."""
    from totalsegmentator.map_tasks_config import TASK_ID_WEIGHTS_CONFIGS

    return str(TASK_ID_WEIGHTS_CONFIGS[TASK_ID]["foldername"])


def _network(plans: Mapping[str, Any], labels: Mapping[str, int]) -> Any:  # noqa: ANN401
    """Build nnU-Net's network for so many labels from the plans."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    configuration = PlansManager(dict(plans)).get_configuration("3d_fullres")
    return get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        1,
        len(labels),
        deep_supervision=False,
    )


def _optimise(network: Any, samples: Sequence[Sample], steps: int, seed: int) -> None:  # noqa: ANN401
    """Minimise cross entropy plus soft Dice, with random shifts and intensities."""
    import torch

    random = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, total_steps=steps)
    network.train()
    for step in range(steps):
        chosen = random.choice(len(samples), BATCH, replace=False)
        pairs = [_augmented(samples[i], random) for i in chosen]
        image = torch.from_numpy(np.stack([p[0] for p in pairs])[:, None])
        labels = torch.from_numpy(np.stack([p[1] for p in pairs]))
        loss = _loss(network(image), labels)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)  # noqa: T201


def _augmented(sample: Sample, random: np.random.Generator) -> tuple[Array, Array]:
    """Put a sample somewhere into the patch, as nnU-Net pads it, with other intensities."""
    image = np.zeros(PATCH, np.float32)
    labels = np.zeros(PATCH, np.int64)
    source, target = [], []
    for size, patch in zip(sample.image.shape, PATCH, strict=True):
        shift = int(random.integers(min(0, patch - size) - 3, max(0, patch - size) + 4))
        source.append(slice(max(0, -shift), min(size, patch - shift)))
        target.append(slice(max(0, shift), max(0, shift) + source[-1].stop - source[-1].start))
    image[tuple(target)] = sample.image[tuple(source)]
    labels[tuple(target)] = sample.labels[tuple(source)]
    image = image * random.uniform(0.95, 1.05) + random.uniform(-0.05, 0.05)
    return image.astype(np.float32), labels


def _loss(logits: Any, labels: Any) -> Any:  # noqa: ANN401
    """Cross entropy and soft Dice (Milletari 2016) over the classes of the batch."""
    import torch

    probabilities = logits.softmax(1)
    wanted = torch.nn.functional.one_hot(labels, logits.shape[1]).movedim(-1, 1)
    axes = (0, 2, 3, 4)
    overlap = (probabilities * wanted).sum(axes)
    total = probabilities.sum(axes) + wanted.sum(axes)
    dice = (2 * overlap + 1) / (total + 1)
    return torch.nn.functional.cross_entropy(logits, labels) + 1 - dice[1:].mean()


def _widen(trained: Mapping[str, Any], wide: Any, present: Sequence[int]) -> dict[str, Any]:  # noqa: ANN401
    """Give the output layers all channels of the task; those nobody taught always lose."""
    import torch

    state = wide.state_dict()
    for key, value in trained.items():
        if "seg_layers" not in key:
            state[key] = value
            continue
        full = torch.zeros_like(state[key])
        if key.endswith("bias"):
            full += NEVER
        full[present] = value
        state[key] = full
    wide.load_state_dict(state)
    # nnU-Net names most tensors more than once; cast as a whole they are stored once
    return dict(wide.half().state_dict())


def _write(
    out: Path, plans: Mapping[str, Any], dataset: Mapping[str, Any], weights: Mapping[str, Any]
) -> Path:
    """Write the trained-model folder and the SHA-256 of its files."""
    import torch

    folder = out / _folder_name() / f"{TRAINER}__nnUNetPlans__3d_fullres"
    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans, indent=1) + "\n", "utf-8")
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=1) + "\n", "utf-8")
    torch.save(
        {
            "network_weights": dict(weights),
            "trainer_name": TRAINER,
            "init_args": {"configuration": "3d_fullres"},
            "inference_allowed_mirroring_axes": None,
        },
        folder / "fold_0" / "checkpoint_final.pth",
    )
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    write_json(out / "sha256.json", {str(p.relative_to(out)): file_sha256(p) for p in files})
    return folder
