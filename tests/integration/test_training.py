"""What docs/training.md says, done: nnU-Net and MONAI begin to train on the data set as it is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from backsplit.demo.phantoms import make_phantom
from support.project import ROOT

pytestmark = pytest.mark.slow

ORGANS = {"spleen": 1, "kidney_right": 2, "kidney_left": 3, "liver": 5}
"""Ids of TotalSegmentator's task `total`, which phantoms have."""


def blocks(language: str) -> list[str]:
    text = (ROOT / "docs" / "training.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def data_set(project_in, tmp_path_factory):
    """Six phantoms; two are of one patient, in one the organs are unknown."""
    project = project_in(tmp_path_factory.mktemp("training"))
    for number in range(6):
        case = f"p{number}"
        phantom = make_phantom(200 + number, ("liver", "kidney"), (7.0, 7.0, 8.0))
        project.add(case, phantom.image, phantom.lesion, patient="twice" if number < 2 else case)
        for folder, array in (
            ("images", phantom.image),
            ("lesions", phantom.lesion),
            ("organs", phantom.anatomy),
        ):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing(phantom.grid.spacing)
            (project.folder / folder).mkdir(exist_ok=True)
            sitk.WriteImage(image, str(project.folder / folder / f"{case}.nii.gz"))
    (project.folder / "organs" / "p5.nii.gz").unlink()
    given = {"kind": "files", "path": "organs/{case}.nii.gz", "labels": ORGANS}
    project.settings["dataset"]["id"] = 501
    project.settings["targets"] = {"kidney_tumor": 1, "liver_tumor": 2}
    project.settings["segmenters"]["given"] = given | {"missing": "unknown"}
    project.settings["structures"] = {
        **{name: f"given/{name}" for name in ORGANS},
        "bone": "tissue/bone",
    }
    project.write(compose={"nested": ["liver"]})
    project.snakemake()
    return project


def test_nnunet_plans_trains_and_tells_of_the_lesions(data_set):
    folder = data_set.folder
    script = "set -euo pipefail\n" + "".join(blocks("bash"))
    script = re.sub(r"(-tr \w+)", r"\1 -device cpu", script)
    short = {"epochs": 1, "iterations": 2, "validation_iterations": 1}
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "BACKSPLIT_TRAIN": json.dumps(short),
        "nnUNet_compile": "false",
        "nnUNet_n_proc_DA": "1",
        "nnUNet_def_n_proc": "2",
    }
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    extended(folder, done.stdout + done.stderr)
    (log,) = (folder / "trained").glob("*/*/fold_0/training_log_*.txt")
    (dataset,) = (data_set.results / "datasets" / "nnunet").glob("Dataset501*")
    fold = json.loads((dataset / "splits_final.json").read_text())[0]
    assert f"{len(fold['train'])} training and {len(fold['val'])} validation" in log.read_text()
    assert re.search(r"train_loss -?\d", log.read_text())
    predicted = sorted(p.name.split(".")[0] for p in log.parent.glob("validation/*.nii.gz"))
    assert predicted == sorted(fold["val"])
    described = json.loads((dataset / "dataset.json").read_text())
    assert described["labels"]["ignore"] == 8 and set(described["unknown"]) == {"p5"}
    of_targets = json.loads((log.parent / "validation" / "targets.json").read_text())
    assert list(of_targets["Dice"]) == ["kidney_tumor", "liver_tumor"]
    told = json.loads((folder / "lesion.json").read_text())
    assert list(told["mean"]) == ["1"] and len(told["metric_per_case"]) == len(predicted)


def extended(folder: Path, told: str) -> None:
    """The network of lesions alone has gone on with anatomy."""
    assert re.search(r"probabilities of kept classes differ by \d\.\de-\d\d at most, on p\d", told)
    assert "nnUNetv2_train 501 3d_fullres 1 -tr nnUNetTrainerBackSplit -p nnUNetPlans --c" in told
    (fold,) = (folder / "trained").glob("Dataset501*/*/fold_1")
    stored = torch.load(fold / "checkpoint_final.pth", weights_only=False, map_location="cpu")
    origin = stored["init_args"]["backsplit"]["extended"]
    assert "Dataset502" in origin["from"] and sum(origin["share"].values()) == pytest.approx(1)
    assert len(stored["logging"]["train_losses"]) == 1
    assert stored["logging"]["lrs"] == [pytest.approx(0.01 / 11)]  # it warms up
    assert list(fold.glob("validation/*.nii.gz"))


def test_monai_trains_on_the_data_list(data_set, monkeypatch):
    monkeypatch.chdir(data_set.folder)
    (script,) = blocks("python")
    found: dict = {}
    exec(compile(script, "docs/training.md", "exec"), found)
    assert found["step"] >= found["STEPS"] and np.isfinite(float(found["loss"]))
    assert found["ignore"] == 8 and found["logits"].shape[1] == 8
    listed = json.loads((data_set.results / "datasets/monai/datalist.json").read_text())["training"]
    assert len(found["training"]) == sum(item["fold"] != 0 for item in listed) < 6
    # an ignored voxel of p5 is no target and no bone, whatever else it is
    possible = found["possible_classes"](found["listed"]["unknown"], found["names"], 2, ["p5"])
    could = [found["names"][i] for i in np.flatnonzero(possible[0].numpy())]
    assert could == ["background", *ORGANS]
    logits = torch.zeros(1, 8, 1, 1, 1).requires_grad_()
    label = torch.full((1, 1, 1, 1, 1), 8)
    (gradient,) = torch.autograd.grad(found["loss_of"](logits, label, possible), logits)
    taken = {found["names"][i] for i in np.flatnonzero(gradient.flatten().numpy() > 0)}
    assert taken == {"kidney_tumor", "liver_tumor", "bone"}
