"""Preprocessed data sets of all arms: one plan, one set of images, each arm's own labels."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from backsplit.config.study import SmallNetwork
from backsplit.errors import Code, RunError
from backsplit.export.nnunet import NnUNetDataset
from backsplit.store.provenance import read_json
from backsplit.study.sets import LabelSet
from backsplit.train.plans import Planning, Relabel, by_table, plan
from backsplit.volume import Array

SMALLEST_SIDE = 4
"""Of the coarsest feature map, as nnU-Net's planner has it."""

Plans = dict[str, Any]


def small_plans(plans: Mapping[str, Any], configuration: str, small: SmallNetwork) -> Plans:
    """Plans with a smaller network and another spacing, its strides as nnU-Net would choose them.

    Raises
    ------
    RunError
        TRAINING_UNSUITED: the patch is too small for so many stages, or the plan has no such
        configuration.
    """
    from nnunetv2.experiment_planning.experiment_planners.network_topology import (
        get_pool_and_conv_props,
    )

    made = deepcopy(dict(plans))
    _require_configuration(made, configuration)
    chosen = made["configurations"][configuration]
    stages = len(small.features)
    order = made["transpose_forward"]
    spacing = [small.spacing_mm[::-1][axis] for axis in order]
    wanted = [small.patch[::-1][axis] for axis in order]
    found = get_pool_and_conv_props(spacing, wanted, SMALLEST_SIDE, stages - 1)
    _, strides, kernels, patch, _ = found
    if len(strides) < stages:
        raise RunError(
            Code.TRAINING_UNSUITED,
            f"study.small: a patch of {list(small.patch)} can be halved {len(strides) - 1} times, "
            f"and {stages} stages take {stages - 1}",
            "enlarge the patch, or name fewer features",
        )
    chosen |= {"spacing": spacing, "patch_size": [int(n) for n in patch]}
    chosen["batch_size"] = small.batch_size
    kwargs = chosen["architecture"]["arch_kwargs"]
    kwargs |= {
        "n_stages": stages,
        "features_per_stage": list(small.features),
        "strides": [list(stride) for stride in strides[:stages]],
        "kernel_sizes": [list(kernel) for kernel in kernels[: stages - 1]] + [[3, 3, 3]],
        "n_conv_per_stage_decoder": [1] * (stages - 1),
    }
    blocks = "n_blocks_per_stage" if "n_blocks_per_stage" in kwargs else "n_conv_per_stage"
    kwargs[blocks] = [1] * stages
    return made


def _require_configuration(plans: Mapping[str, Any], configuration: str) -> None:
    if configuration not in plans["configurations"]:
        raise RunError(
            Code.TRAINING_UNSUITED,
            f"nnU-Net plans {', '.join(plans['configurations'])} for these images, but not "
            f"{configuration}",
            "name one of them in study.configuration",
        )


def plan_apart(dataset: NnUNetDataset, planning: Planning) -> Path:
    """Plan and preprocess the data set with every label; returns its plan.

    The data sets of the arms have its number, and nnU-Net refuses to plan where it finds a number
    twice: it does so in a folder of its own, which is then moved.
    """
    apart = planning.preprocessed / f".{dataset.folder.name}.part"
    shutil.rmtree(apart, ignore_errors=True)  # of a job that was killed
    apart.mkdir(parents=True)
    made = plan(dataset, replace(planning, preprocessed=apart / "preprocessed"))
    folder = made.parent.rename(planning.folder(dataset))
    shutil.rmtree(apart)
    return folder / made.name


def relabelled(
    labels: LabelSet, dataset: NnUNetDataset, plans: Path, configuration: str
) -> Relabel:
    """How the preprocessed label maps of the exported data set become those of an arm.

    Structures without noise are looked up. Others are resampled as nnU-Net does, and what was
    looked up of lesions and unknown voxels is laid on top: these are the same in every arm.

    Parameters
    ----------
    labels : the arm's set
    dataset : its raw data set
    plans : the shared plan
    configuration : of nnU-Net
    """
    if labels.noise is None and labels.control is None:
        return lambda case, seg: by_table(labels.table(case))(case, seg)
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(read_json(plans))
    chosen = manager.get_configuration(configuration)
    preprocessor = chosen.preprocessor_class(verbose=False)
    structures = list(labels.ids.values())

    def relabel(case: str, seg: Array) -> Array:
        clean = by_table(labels.table(case))(case, seg)
        label = next(dataset.labels.glob(f"{case}.*"))
        images = [str(path) for path in labels.source.images(case)]
        _, drawn, _ = preprocessor.run_case(
            images, str(label), manager, chosen, dict(labels.described())
        )
        free = np.isin(clean, [0, *structures])
        drawn = np.where(np.isin(drawn, structures), drawn, 0)
        return np.where(free, drawn, clean).astype(clean.dtype)

    return relabel
