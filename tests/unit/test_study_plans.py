"""Plans of a study's networks, and the price of training them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from backsplit.config.study import SmallNetwork, Study
from backsplit.errors import Code, RunError
from backsplit.flow.study import is_made_with
from backsplit.store.provenance import digest
from backsplit.study.arms import arms_of
from backsplit.study.jobs import (
    Shared,
    jobs_of,
)
from backsplit.study.preprocess import small_plans
from backsplit.study.price import Progress, as_time
from support import training
from support.arms import ORGANS


def test_a_small_network_takes_strides_and_kernels_as_nnunet_chooses_them():
    plans = {**training.plans("Dataset001_x"), "transpose_forward": [1, 2, 0]}
    small = SmallNetwork(spacing_mm=(4, 6, 8), patch=(32, 24, 16), features=(8, 16, 32))
    made = small_plans(plans, "3d_fullres", small)["configurations"]["3d_fullres"]
    assert made["spacing"] == [6, 4, 8] and made["patch_size"] == [24, 32, 16]  # y, x, z
    kwargs = made["architecture"]["arch_kwargs"]
    assert kwargs["features_per_stage"] == [8, 16, 32] and kwargs["n_stages"] == 3
    assert kwargs["strides"] == [[1, 1, 1], [2, 2, 1], [2, 2, 2]]  # 8 mm is not below twice 4 mm
    assert len(kwargs["kernel_sizes"]) == len(kwargs["n_conv_per_stage"]) == 3


def test_a_set_is_preprocessed_again_for_another_plan_and_for_another_configuration(tmp_path):
    """One plan has several configurations; only one of them is preprocessed."""
    plans = training.plans("Dataset001_x")
    whole = plans["configurations"]["3d_fullres"]
    plans["configurations"]["3d_lowres"] = {**whole, "data_identifier": "nnUNetPlans_3d_lowres"}
    (tmp_path / "nnUNetPlans.json").write_text(json.dumps(plans))
    (tmp_path / whole["data_identifier"]).mkdir()
    told = digest({key: held for key, held in plans.items() if key != "dataset_name"})
    shared = Shared("nnUNetPlans", told, ORGANS, {})
    assert is_made_with(tmp_path, shared, "3d_fullres")
    assert not is_made_with(tmp_path, shared, "3d_lowres")
    assert not is_made_with(tmp_path, replace(shared, sha256="other"), "3d_fullres")


@pytest.mark.parametrize(
    ("configuration", "patch"), [("3d_fullres", (8, 8, 8)), ("2d", (32, 32, 32))]
)
def test_a_small_network_that_does_not_fit_is_refused(configuration, patch):
    small = SmallNetwork(spacing_mm=(4, 4, 4), patch=patch, features=(8, 16, 32))
    plans = {**training.plans("Dataset001_x"), "transpose_forward": [0, 1, 2]}
    with pytest.raises(RunError) as refused:
        small_plans(plans, configuration, small)
    assert refused.value.code is Code.TRAINING_UNSUITED


def test_the_price_is_epochs_times_what_was_measured():
    given = Study.model_validate(
        {"arms": {"one": {}, "two": {"structures": []}}, "seeds": 2, "folds": [0]}
    )
    jobs = jobs_of(given, arms_of(given, ORGANS, ()))
    one, two, again, _ = jobs
    assert Progress(jobs, 10, {}, {}).all_s() is None
    progress = Progress(jobs, 10, {one: 10, again: 4}, {one: 30.0, two: 20.0})
    assert progress.finished == 1
    assert progress.all_s() == 10 * (30 + 20 + 30 + 20)
    assert progress.left_s() == 10 * 20 + 6 * 30 + 10 * 20
    assert [as_time(s) for s in (40, 600, 18720)] == ["40 s", "10 min", "5.2 h"]
