"""A data set of phantoms as nnU-Net has preprocessed it, with small plans; no process is started.

nnU-Net's own preprocessor makes the files; only the planner is left out, whose patches would be
too large for a test.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backsplit.demo import training
from backsplit.demo.phantoms import make_phantom
from support.project import save

ORGANS = {"liver": 5, "kidney_left": 3, "kidney_right": 2, "spleen": 1, "lung": (10, 11, 12, 13)}
"""Structure to ids of phantoms."""
LESIONS = {"kidney_tumor": 1, "liver_tumor": 2}
SPACING = (6.0, 6.0, 6.0)
HU = {"mean": 60.0, "std": 50.0, "percentile_00_5": -150.0, "percentile_99_5": 250.0}
HU |= {"min": -1000.0, "max": 1000.0, "median": 60.0}
DARKER_HU = 100
"""Lesions are darker than the demo's, so that a small network finds them after a hundred steps."""
KINDS = (("liver", "liver"), ("liver", "kidney"), ("liver",))

PLAIN = "PlainConvUNet"
RESIDUAL = "ResidualEncoderUNet"


def paths(monkeypatch: Any, folder: Path) -> None:
    """Tell nnU-Net where the data sets of a folder are, and to start as little as it can."""
    for name in ("raw", "preprocessed", "results"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv(f"nnUNet_{name}", str(folder / name))
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    monkeypatch.setenv("nnUNet_compile", "false")
    torch.set_num_threads(1)


def plans(
    name: str,
    network: str = PLAIN,
    patch: tuple[int, int, int] = (16, 16, 16),
    features: Sequence[int] = (8, 16, 32),
) -> dict[str, Any]:
    """Plans of a small network, as nnU-Net's planner would write them."""
    made = training._plans({"0": HU})
    made["dataset_name"] = name
    configuration = made["configurations"]["3d_fullres"]
    configuration["patch_size"] = list(patch)
    configuration["spacing"] = list(SPACING)
    architecture = configuration["architecture"]
    architecture["network_class_name"] = (
        f"dynamic_network_architectures.architectures.unet.{network}"
    )
    kwargs, stages = architecture["arch_kwargs"], len(features)
    kwargs |= {
        "n_stages": stages,
        "features_per_stage": list(features),
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
        "n_conv_per_stage_decoder": [1] * (stages - 1),
    }
    if network == PLAIN:
        kwargs["n_conv_per_stage"] = [1] * stages
    else:
        del kwargs["n_conv_per_stage"]
        kwargs["n_blocks_per_stage"] = [1] * stages
    return made


def label_map(
    phantom: Any, targets: Sequence[str], structures: Sequence[str], unknown: Sequence[str] = ()
) -> np.ndarray:
    """Lesions over structures; where one is unknown, what nobody labelled is `ignore`."""
    names = ["background", *targets, *structures]
    labels = np.zeros(phantom.image.shape, np.uint8)
    for name in structures:
        if name not in unknown:
            labels[np.isin(phantom.anatomy, ORGANS[name])] = names.index(name)
    if unknown:
        labels[(labels == 0) & (phantom.image > -300)] = len(names)
    for name, value in LESIONS.items():
        if name in targets:
            labels[phantom.lesion == value] = names.index(name)
        elif "tumor" in targets:
            labels[phantom.lesion == value] = names.index("tumor")
    return labels


def data_set(
    folder: Path,
    number: int,
    targets: Sequence[str] = ("tumor",),
    structures: Sequence[str] = tuple(ORGANS),
    unknown: Mapping[str, Sequence[str]] | None = None,
    cases: int = 6,
    made: Mapping[str, Any] | None = None,
    more: Sequence[str] = (),
) -> str:
    """Write raw and preprocessed files of a data set; two cases are validated, the others trained.

    Parameters
    ----------
    unknown : case to structures that are unknown there
    made : its plans
    more : names of further classes, without a voxel

    Returns
    -------
    name
        Of the data set: DatasetNNN_phantoms.
    """
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    name = f"Dataset{number:03d}_phantoms{number}"
    raw, ready = folder / "raw" / name, folder / "preprocessed" / name
    names = ["background", *targets, *structures, *more]
    described: dict[str, Any] = {
        "channel_names": {"0": "CT"},
        "labels": {label: i for i, label in enumerate(names)},
        "numTraining": cases,
        "file_ending": ".nii.gz",
        "targets": list(targets),
    }
    if unknown:
        described["labels"]["ignore"] = len(names)
        described["unknown"] = {case: list(some) for case, some in unknown.items()}
    made = made or plans(name)
    manager = PlansManager(dict(made))
    configuration = manager.get_configuration("3d_fullres")
    out = ready / configuration.data_identifier
    out.mkdir(parents=True)
    preprocessor = DefaultPreprocessor(verbose=False)
    ids = [f"p{i}" for i in range(cases)]
    for i, case in enumerate(ids):
        phantom = make_phantom(300 + i, KINDS[i % 3], SPACING)
        labels = label_map(phantom, targets, structures, (unknown or {}).get(case, ()))
        dark = np.where(phantom.lesion > 0, phantom.image - DARKER_HU, phantom.image)
        image = save(raw / "imagesTr" / f"{case}_0000.nii.gz", dark.astype(np.int16), SPACING)
        drawn = save(raw / "labelsTr" / f"{case}.nii.gz", labels, SPACING)
        save(ready / "gt_segmentations" / f"{case}.nii.gz", labels, SPACING)
        preprocessor.run_case_save(
            str(out / case), [str(image)], str(drawn), manager, configuration, described
        )
    splits = [{"train": ids[:-2], "val": ids[-2:]}]
    (raw / "dataset.json").write_text(json.dumps(described))
    (raw / "splits_final.json").write_text(json.dumps(splits))
    for file, content in (
        ("dataset.json", described),
        (f"{made['plans_name']}.json", made),
        ("splits_final.json", splits),
        ("dataset_fingerprint.json", {}),
    ):
        (ready / file).write_text(json.dumps(content))
    return name


def settings(folder: Path, name: str, **given: Any) -> None:
    """Write the data set's settings of training."""
    short = {"epochs": 2, "iterations": 3, "validation_iterations": 2}
    (folder / "preprocessed" / name / "backsplit.json").write_text(json.dumps(short | given))


def trainer_of(kind: type, name: str, continued: bool = False) -> Any:
    """The trainer as `nnUNetv2_train` makes it, on the CPU."""
    from nnunetv2.paths import nnUNet_preprocessed

    ready = Path(nnUNet_preprocessed) / name
    made = json.loads((ready / "nnUNetPlans.json").read_text())
    described = json.loads((ready / "dataset.json").read_text())
    made["continue_training"] = continued
    return kind(made, "3d_fullres", 0, described, torch.device("cpu"))
