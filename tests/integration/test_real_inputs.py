"""Real images and real networks, where they are at hand (marked `shared`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from support.project import Project, load

pytestmark = [pytest.mark.shared, pytest.mark.slow]

MODEL = "Dataset901_OpenKBP/nnUNetTrainerNoMirroring__nnUNetPlans__3d_fullres"
ORGANS = ["brainstem", "spinal_cord", "parotid_right", "parotid_left", "esophagus", "larynx",
          "mandible"]  # fmt: skip
"""Values 1..7 of the given organ files."""
CASES = ("pt_100", "pt_109", "pt_112", "pt_115")


@pytest.fixture(scope="module")
def openkbp(tmp_path_factory, shared) -> Project:
    """Four head-and-neck CTs that the network has never seen, through the whole workflow."""
    project = Project(tmp_path_factory.mktemp("openkbp"))
    data = shared / "data" / "openkbp"
    project.rows = [
        {
            "case": case,
            "image_ct": str(data / case / "ct.nii.gz"),
            "lesion": str(data / case / "ptv.nii.gz"),
        }
        for case in CASES
    ]
    project.write(
        dataset={"name": "OpenKBP", "id": 901, "cases": "cases.tsv"},
        targets={"PTV70": 1, "PTV63": 2, "PTV56": 3},
        segmenters={
            "organs": {"kind": "nnunet", "model": str(shared / "models" / MODEL), "folds": [0]},
            "tissue": {"kind": "threshold", "bands": {"fat": [-190, -30], "air": [None, -500]}},
        },
        structures={n: f"organs/{n}" for n in ORGANS} | {"fat": "tissue/fat", "air": "tissue/air"},
        run={"device": "cpu", "batch_size": 4},
    )
    refused = project.snakemake(ok=False)
    assert "was never accepted" in refused.stdout + refused.stderr
    project.run("weights", "accept", "organs")
    project.snakemake()
    return project


def test_lesions_are_intact_to_the_voxel(openkbp, shared):
    verdicts = pd.read_csv(openkbp.results / "qc" / "verdicts.tsv", sep="\t")
    assert list(verdicts["verdict"]) == ["accept"] * 4
    for case in CASES:
        labels = load(openkbp.results / "labels" / f"{case}.nii.gz")
        lesion = load(shared / "data" / "openkbp" / case / "ptv.nii.gz")
        np.testing.assert_array_equal(np.where(labels <= 3, labels, 0), lesion)


def test_organs_agree_with_those_that_clinicians_drew(openkbp, shared):
    dice = []
    for case in CASES:
        given = sitk.ReadImage(str(shared / "data" / "openkbp" / case / "organs.nii.gz"))
        ours = sitk.ReadImage(str(openkbp.results / "segment" / "organs" / f"{case}.nii.gz"))
        assert ours.GetSize() == given.GetSize()
        a, b = sitk.GetArrayFromImage(given), sitk.GetArrayFromImage(ours)
        for value in range(1, 8):
            if (a == value).any():
                both = ((a == value) & (b == value)).sum()
                dice.append(2 * both / ((a == value).sum() + (b == value).sum()))
    print(f"mean Dice {np.mean(dice):.3f} over {len(dice)} organs")
    assert np.mean(dice) > 0.68


def test_nnunet_plans_and_preprocesses_the_data_set(openkbp, tmp_path):
    folder = openkbp.results / "datasets" / "nnunet" / "Dataset901_OpenKBP"
    verify_dataset_integrity(str(folder), num_processes=1)
    environment = {
        **os.environ,
        "nnUNet_raw": str(folder.parent),
        "nnUNet_preprocessed": str(tmp_path / "preprocessed"),
        "nnUNet_results": str(tmp_path / "results"),
    }
    command = str(Path(sys.executable).parent / "nnUNetv2_plan_and_preprocess")
    done = subprocess.run(
        [command, "-d", "901", "-c", "3d_fullres", "-np", "2", "--verify_dataset_integrity"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    prepared = tmp_path / "preprocessed" / "Dataset901_OpenKBP"
    cases = {p.name.split(".")[0] for p in (prepared / "nnUNetPlans_3d_fullres").glob("pt_*")}
    assert {c.removesuffix("_seg") for c in cases} == set(CASES)


def test_example_ct_through_totalsegmentator(tmp_path, shared):
    """The real 3 mm CT, with a lesion drawn into its liver's place."""
    project = Project(tmp_path)
    source = shared / "data" / "totalsegmentator" / "example_ct.nii.gz"
    image = sitk.ReadImage(str(source))
    lesion = np.zeros(image.GetSize()[::-1], np.uint8)
    lesion[40:46, 40:46, 40:48] = 1
    drawn = sitk.GetImageFromArray(lesion)
    drawn.CopyInformation(image)
    sitk.WriteImage(drawn, str(tmp_path / "lesion.nii.gz"))
    project.rows = [{"case": "example", "image_ct": str(source), "lesion": "lesion.nii.gz"}]
    settings = {
        "dataset": {"name": "Example", "id": 3, "cases": "cases.tsv"},
        "targets": {"tumor": 1},
        "segmenters": {
            "organs": {
                "kind": "totalsegmentator",
                "task": "total",
                "fast": True,
                "weights": str(shared / "models" / "totalsegmentator"),
            }
        },
        "structures": {
            "lungs": "organs/lung_*",
            "liver": "organs/liver",
            "vertebrae": "organs/vertebrae_*",
            "heart": "organs/heart",
        },
        "compose": {"segmenter_lesions": {"organs/kidney_cyst_*": "ignore"}},
        "run": {"device": "cpu"},
    }
    project.write(**settings)
    project.run("weights", "accept", "organs")
    project.snakemake()
    labels = load(project.results / "labels" / "example.nii.gz")
    np.testing.assert_array_equal(np.where(labels == 1, 1, 0), lesion)
    sidecar = json.loads((project.results / "labels" / "example.json").read_text())
    assert sum(sidecar["voxels"].values()) == labels.size
    folder = project.results / "datasets" / "nnunet" / "Dataset003_Example"
    verify_dataset_integrity(str(folder), num_processes=1)
    segmented = json.loads((project.results / "segment" / "organs" / "example.json").read_text())
    assert segmented["made_from"]["weights"]
    assert set(segmented["voxels"]) <= set(segmented["classes"].values())
