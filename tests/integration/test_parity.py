"""The engine's labels against TotalSegmentator's and nnU-Net's own, voxel by voxel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from totalsegmentator.map_tasks_config import TASK_CONFIGS
from totalsegmentator.registry import get_task_classes

from backsplit.cases.table import Case
from backsplit.config.model import Run
from backsplit.config.segmenters import NnUNet, TotalSegmentator
from backsplit.config.slices import Labelling, Placing
from backsplit.demo.phantoms import make_phantom
from backsplit.errors import CaseError, Code
from backsplit.segment.nnunet import NnUNetSegmenter
from backsplit.segment.totalseg.tasks import _part_maps, engine_task, private_home
from backsplit.segment.totalsegmentator import TotalSegmentatorSegmenter
from backsplit.segment.weights import accept, demo_weights, files_of
from support.networks import random_network
from support.project import load

pytestmark = pytest.mark.slow
INPUTS = Labelling(("ct",), Placing("ct"))
RUN = Run(device="cpu")
THEIRS = """
import json, sys
from totalsegmentator.python_api import totalsegmentator
if __name__ == "__main__":
    image, out, options = sys.argv[1:]
    totalsegmentator(image, out, ml=True, device="cpu", quiet=True, nr_thr_saving=1,
                     **json.loads(options))
"""


@pytest.fixture(autouse=True)
def ledger(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKSPLIT_WEIGHTS", str(tmp_path / "ledger"))


def theirs(tmp_path: Path, image: Path, weights: Path, **options) -> np.ndarray:
    """TotalSegmentator's own function in a process of its own, nothing of ours in it."""
    home = tmp_path / "ts-home"
    home.mkdir(exist_ok=True)
    settings = {"totalseg_id": "none", "send_usage_stats": False, "prediction_counter": 0}
    (home / "config.json").write_text(json.dumps(settings))
    script, out = tmp_path / "theirs.py", tmp_path / "theirs.nii.gz"
    script.write_text(THEIRS)
    environment = {
        **os.environ,
        "TOTALSEG_HOME_DIR": str(home),
        "TOTALSEG_WEIGHTS_PATH": str(weights),
    }
    command = [sys.executable, str(script), str(image), str(out), json.dumps(options)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return np.asarray(nib.load(out).dataobj).transpose(2, 1, 0)


def ours(image: Path, weights: Path, **options) -> np.ndarray:
    for folder in weights.glob("Dataset*"):
        accept(files_of(folder))
    config = TotalSegmentator(kind="totalsegmentator", weights=str(weights), **options)
    case = Case("a", 2, {"ct": image}, {}, {}, image.parent)
    ((_, result),) = TotalSegmentatorSegmenter(config, INPUTS, RUN).label([case])
    assert not isinstance(result, Exception), result
    return result.array


def phantom_file(tmp_path: Path, spacing, axes: str, part=(slice(None),) * 3) -> Path:
    """A phantom with another spacing and orientation (nibabel's axis codes)."""
    phantom = make_phantom(900, ("liver",), spacing)
    image = nib.Nifti1Image(phantom.image[part].transpose(2, 1, 0), phantom.grid.affine_ras)
    target = nib.orientations.axcodes2ornt(axes)
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.io_orientation(image.affine), target)
    )
    path = tmp_path / f"{axes}.nii.gz"
    nib.save(turned, path)
    return path


@pytest.mark.parametrize(
    ("axes", "spacing"),
    [("RAS", (3.0, 3.0, 4.0)), ("PSR", (2.3, 3.1, 7.0)), ("LPS", (5.0, 2.5, 3.3))],
)
def test_phantoms_of_other_spacing_and_orientation(tmp_path, axes, spacing):
    image = phantom_file(tmp_path, spacing, axes)
    a = ours(image, demo_weights(), task="total", fastest=True)
    b = theirs(tmp_path, image, demo_weights(), task="total", fastest=True)
    assert len(np.unique(a)) > 15
    np.testing.assert_array_equal(a, b)


def test_five_networks_merge_as_in_totalsegmentator(tmp_path):
    weights = tmp_path / "weights"
    ids = TASK_CONFIGS["total"]["sub_modes"]["default"]["task_id"]
    maps = _part_maps("total", ids)
    for task_id in ids:
        random_network(weights, task_id, len(maps[task_id]), 1.5, "nnUNetTrainerNoMirroring")
    part = (slice(20, 36), slice(20, 50), slice(30, 60))
    image = phantom_file(tmp_path, (3.0, 3.0, 4.0), "LAS", part)
    a = ours(image, weights, task="total")
    assert len(np.unique(a)) > 20
    np.testing.assert_array_equal(a, theirs(tmp_path, image, weights, task="total"))


def test_the_body_task_is_cleaned_as_totalsegmentator_does(tmp_path):
    weights = tmp_path / "weights"
    random_network(weights, 300, len(get_task_classes("body")), 6.0, "nnUNetTrainer")
    image = phantom_file(tmp_path, (3.0, 3.0, 4.0), "RAS")
    a = ours(image, weights, task="body", fast=True)
    np.testing.assert_array_equal(a, theirs(tmp_path, image, weights, task="body", fast=True))


def test_cropped_tasks_run_totalsegmentator_s_own_function(tmp_path):
    weights = tmp_path / "weights"
    shutil.copytree(demo_weights(), weights)
    entry = TASK_CONFIGS["liver_vessels"]
    random_network(weights, entry["task_id"], 2, 1.5, entry["trainer"])
    config = TotalSegmentator(kind="totalsegmentator", task="liver_vessels", weights=str(weights))
    with private_home(weights):
        assert engine_task(config, weights, "cpu") is None
    image = phantom_file(tmp_path, (3.0, 3.0, 4.0), "RAS")
    a = ours(image, weights, task="liver_vessels")
    assert a.any()
    np.testing.assert_array_equal(a, theirs(tmp_path, image, weights, task="liver_vessels"))
    soon = Run(device="cpu", case_minutes=1e-9)  # its networks too are given up
    case = Case("a", 2, {"ct": image}, {}, {}, image.parent)
    ((_, result),) = TotalSegmentatorSegmenter(config, INPUTS, soon).label([case])
    assert isinstance(result, CaseError) and result.code is Code.TIME_LIMIT


@pytest.mark.shared
@pytest.mark.parametrize("name", ["example_ct", "example_ct_sm", "example_mr_sm"])
def test_real_images(tmp_path, shared, name):
    image = shared / "data" / "totalsegmentator" / f"{name}.nii.gz"
    weights = shared / "models" / "totalsegmentator"
    a = ours(image, weights, task="total", fast=True)
    np.testing.assert_array_equal(a, theirs(tmp_path, image, weights, task="total", fast=True))


MODEL = "Dataset901_OpenKBP/nnUNetTrainerNoMirroring__nnUNetPlans__3d_fullres"


@pytest.mark.shared
@pytest.mark.parametrize("folds", [(0,), (0, 1)])
def test_nnunet_model_with_one_fold_and_with_two(tmp_path, shared, folds):
    model = tmp_path / "Dataset901_OpenKBP" / "nnUNetTrainerNoMirroring__nnUNetPlans__3d_fullres"
    shutil.copytree(shared / "models" / MODEL, model)
    for path in [model, *model.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    checkpoint = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)
    noise = torch.Generator().manual_seed(1)
    for value in checkpoint["network_weights"].values():
        value.add_(0.02 * value.abs().mean() * torch.randn(value.shape, generator=noise))
    (model / "fold_1").mkdir()
    torch.save(checkpoint, model / "fold_1" / "checkpoint_final.pth")
    names = ("pt_100", "pt_109", "pt_112", "pt_115")
    images = {n: shared / "data" / "openkbp" / n / "ct.nii.gz" for n in names}
    (tmp_path / "in").mkdir()
    for name, path in images.items():
        (tmp_path / "in" / f"{name}_0000.nii.gz").symlink_to(path)
    command = [str(Path(sys.executable).parent / "nnUNetv2_predict_from_modelfolder")]
    command += ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-m", str(model)]
    command += ["-f", *map(str, folds), "-device", "cpu", "-npp", "1", "-nps", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    accept(files_of(model))
    segmenter = NnUNetSegmenter(NnUNet(kind="nnunet", model=model, folds=folds), INPUTS, RUN)
    cases = [Case(n, 2, {"ct": p}, {}, {}, p.parent) for n, p in images.items()]
    for case, result in segmenter.label(cases):
        np.testing.assert_array_equal(result.array, load(tmp_path / "out" / f"{case.id}.nii.gz"))
