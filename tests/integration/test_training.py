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

TRAINER = """
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import (
    nnUNetTrainerNoMirroring,
)


class nnUNetTrainerSoon(nnUNetTrainerNoMirroring):
    def initialize(self):
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 2, 1
        super().initialize()
"""

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
    project.write()
    project.snakemake()
    return project


def test_nnunet_plans_trains_and_tells_of_the_lesions(data_set):
    folder = data_set.folder
    (folder / "trainers").mkdir()
    (folder / "trainers" / "nnUNetTrainerSoon.py").write_text(TRAINER)
    script = "set -euo pipefail\n" + "".join(blocks("bash"))
    script = script.replace("nnUNetTrainerNoMirroring", "nnUNetTrainerSoon -device cpu")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "nnUNet_extTrainer": str(folder / "trainers"),
        "nnUNet_compile": "false",
        "nnUNet_n_proc_DA": "1",
        "nnUNet_def_n_proc": "2",
    }
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (log,) = (folder / "trained").glob("*/*/fold_0/training_log_*.txt")
    (dataset,) = (data_set.results / "datasets" / "nnunet").iterdir()
    fold = json.loads((dataset / "splits_final.json").read_text())[0]
    assert f"{len(fold['train'])} training and {len(fold['val'])} validation" in log.read_text()
    assert re.search(r"train_loss -?\d", log.read_text())
    predicted = sorted(p.name.split(".")[0] for p in log.parent.glob("validation/*.nii.gz"))
    assert predicted == sorted(fold["val"])
    declared = json.loads((dataset / "dataset.json").read_text())["labels"]
    assert declared["ignore"] == 8  # p5 has unknown anatomy
    told = json.loads((folder / "lesion.json").read_text())
    assert list(told["mean"]) == ["1"] and len(told["metric_per_case"]) == len(predicted)


def test_monai_trains_on_the_data_list(data_set, monkeypatch):
    monkeypatch.chdir(data_set.folder)
    (script,) = blocks("python")
    found: dict = {}
    exec(compile(script, "docs/training.md", "exec"), found)
    assert found["step"] >= found["STEPS"] and np.isfinite(float(found["loss"]))
    assert found["ignore"] == 8 and found["logits"].shape[1] == 8
    listed = json.loads((data_set.results / "datasets/monai/datalist.json").read_text())["training"]
    assert len(found["training"]) == sum(item["fold"] != 0 for item in listed) < 6
    # what is unknown teaches nothing, and what is known does
    logits = torch.randn(1, 8, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    label = torch.arange(64).reshape(1, 1, 4, 4, 4) % 9
    loss = found["loss_of"](logits, label)
    unknown = (label == 8).expand_as(logits)
    elsewhere = torch.where(unknown, torch.randn_like(logits) * 9, logits)
    torch.testing.assert_close(found["loss_of"](elsewhere, label), loss)
    assert not torch.isclose(found["loss_of"](torch.where(unknown, logits, -logits), label), loss)
