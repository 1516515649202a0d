"""One plan for all data sets: held against nnU-Net's own preprocessing with the same plan."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import blosc2
import numpy as np
import pytest

from backsplit.demo.phantoms import make_phantom
from backsplit.export.nnunet import datasets
from backsplit.flow.project import open_project
from backsplit.train.plans import Planning, by_table, share
from support.project import save

pytestmark = pytest.mark.slow

ORGANS = {"spleen": 1, "kidney_right": 2, "kidney_left": 3, "liver": 5}
TARGETS = (1, 2)


@pytest.fixture(scope="module")
def planned(project_in, tmp_path_factory):
    """Three phantoms, one with unknown organs; every label set has the same plan."""
    project = project_in(tmp_path_factory.mktemp("plan"))
    for number in range(3):
        phantom = make_phantom(300 + number, ("liver", "kidney"), (8.0, 8.0, 8.0))
        case, spacing = f"p{number}", phantom.grid.spacing
        project.add(case, phantom.image, phantom.lesion)
        for folder, array in (("images", phantom.image), ("lesions", phantom.lesion)):
            save(project.folder / folder / f"{case}.nii.gz", array, spacing)
        save(project.folder / "organs" / f"{case}.nii.gz", phantom.anatomy, spacing)
    (project.folder / "organs" / "p2.nii.gz").unlink()
    given = {"kind": "files", "path": "organs/{case}.nii.gz", "labels": ORGANS}
    project.settings["dataset"]["id"] = 301
    project.settings["targets"] = {"kidney_tumor": 1, "liver_tumor": 2}
    project.settings["segmenters"]["given"] = given
    structures = {name: f"given/{name}" for name in ORGANS}
    project.settings["structures"] = {**structures, "bone": "tissue/bone"}
    project.settings["compose"] = {"nested": ["liver"]}
    project.write()
    project.snakemake("export")
    project.run("train", "plan", "--preprocessed", "shared", "--processes", "1")
    return project


def arrays(folder: Path, case: str) -> tuple[np.ndarray, np.ndarray]:
    read = [blosc2.open(str(folder / f"{case}{end}.b2nd"), mode="r")[:] for end in ("", "_seg")]
    return read[0], read[1]


def cases(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.pkl"))


def configured(folder: Path) -> Path:
    return folder / "nnUNetPlans_3d_fullres"


def test_all_data_sets_have_one_plan_and_the_same_images(planned):
    main, *nested = sorted((planned.folder / "shared").glob("Dataset*"))
    assert len(nested) == 2
    plans = json.loads((main / "nnUNetPlans.json").read_text())
    for folder in nested:
        mine = json.loads((folder / "nnUNetPlans.json").read_text())
        assert mine == {**plans, "dataset_name": folder.name}
        assert cases(configured(folder)) == cases(configured(main)) == ["p0", "p1", "p2"]
        for case in cases(configured(main)):
            image, labels = arrays(configured(main), case)
            same, fewer = arrays(configured(folder), case)
            np.testing.assert_array_equal(same, image)
            for target in TARGETS:  # lesions are the same voxels in every data set
                np.testing.assert_array_equal(fewer == target, labels == target)
            one, other = (configured(f) / f"{case}.b2nd" for f in (main, folder))
            assert one.stat().st_ino == other.stat().st_ino


def test_it_is_what_nnunet_makes_of_each_with_that_plan(planned):
    """Where two organs meet nnU-Net, which resamples label by label, may differ by a voxel."""
    shared = planned.folder / "shared"
    own = planned.folder / "own"
    nested = sorted(shared.glob("Dataset*"))[1:]
    for folder in nested:
        (own / folder.name).mkdir(parents=True)
        for name in ("nnUNetPlans.json", "dataset.json"):
            shutil.copy(folder / name, own / folder.name / name)
        number = folder.name.removeprefix("Dataset")[:3]
        call = "from nnunetv2.experiment_planning.plan_and_preprocess_entrypoints import "
        call += "preprocess_entry; preprocess_entry()"
        command = [sys.executable, "-c", call, "-d", number, "-c", "3d_fullres", "-np", "1"]
        raw = planned.results / "datasets" / "nnunet"
        places = {"nnUNet_raw": raw, "nnUNet_preprocessed": own, "nnUNet_results": own}
        environment = {**os.environ, **{name: str(path) for name, path in places.items()}}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        for case in cases(configured(folder)):
            image, labels = arrays(configured(own / folder.name), case)
            ours, ours_labels = arrays(configured(folder), case)
            np.testing.assert_array_equal(ours, image)
            for target in TARGETS:
                np.testing.assert_array_equal(ours_labels == target, labels == target)
            assert (ours_labels != labels).mean() < 1e-3
            theirs, mine = (
                pickle.loads((configured(f) / f"{case}.pkl").read_bytes())["class_locations"]
                for f in (own / folder.name, folder)
            )
            assert list(mine) == list(theirs)
            for label, places_ in mine.items():
                values = labels[tuple(np.transpose(places_))] if len(places_) else []
                assert label not in TARGETS or set(np.unique(values)) <= {label}


def test_nnunet_trains_on_a_data_set_that_got_its_plan(planned):
    trainers = planned.folder / "trainers"
    trainers.mkdir()
    (trainers / "nnUNetTrainerSoon.py").write_text(
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n\n\n"
        "class nnUNetTrainerSoon(nnUNetTrainer):\n"
        "    def initialize(self):\n"
        "        self.num_epochs = self.num_val_iterations_per_epoch = 1\n"
        "        self.num_iterations_per_epoch = 2\n"
        "        super().initialize()\n"
    )
    environment = {
        **os.environ,
        "nnUNet_raw": str(planned.results / "datasets" / "nnunet"),
        "nnUNet_preprocessed": str(planned.folder / "shared"),
        "nnUNet_results": str(planned.folder / "trained"),
        "nnUNet_extTrainer": str(trainers),
        "nnUNet_compile": "false",
        "nnUNet_n_proc_DA": "1",
        "nnUNet_def_n_proc": "2",
    }
    call = "from nnunetv2.run.run_training import run_training_entry as main; main()"
    command = [sys.executable, "-c", call, "302", "3d_fullres", "0", "-device", "cpu"]
    command += ["-tr", "nnUNetTrainerSoon"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((planned.folder / "trained").rglob("checkpoint_final.pth"))


def test_settings_of_training_outlast_a_second_plan(planned, monkeypatch):
    monkeypatch.chdir(planned.folder)
    project = open_project(Path("config.yaml"))
    main, nested, _ = datasets(project.config)
    shared = planned.folder / "shared"
    planning = Planning(main.folder.parent, shared, "ExperimentPlanner", ["3d_fullres"], 1)
    settings = planning.folder(nested) / "backsplit.json"
    settings.write_text('{"targets": 1}')
    table = project.scheme.nested_table(0, keep_ignore=True)
    plans = shared / main.folder.name / "nnUNetPlans.json"
    share(plans, main, nested, by_table(table), planning)
    assert settings.read_text() == '{"targets": 1}'


def test_a_second_time_replaces_ours_and_nobody_elses(planned):
    (first,) = (planned.folder / "shared").glob("Dataset302*")
    (first / "backsplit_plan.json").unlink()
    done = planned.run("train", "plan", "--preprocessed", "shared", "--processes", "1", ok=False)
    assert "(code WOULD_OVERWRITE)" in done.stderr and f"rm -r shared/{first.name}" in done.stderr


def test_a_case_that_nnunet_would_leave_out_is_named_first(planned):
    image = next((planned.results / "datasets" / "nnunet").glob("Dataset301*/imagesTr/p0*"))
    image.rename(planned.folder / image.name)
    done = planned.run("train", "plan", "--preprocessed", "other", ok=False)
    assert "(code PLANNING_FAILED)" in done.stderr and "p0_0000.nii.gz" in done.stderr
    assert not (planned.folder / "other").exists()
    (planned.folder / image.name).rename(image)


def test_nnunets_reason_is_told(planned):
    done = planned.run(
        "train",
        "plan",
        "--preprocessed",
        "other",
        "--processes",
        "1",
        "--planner",
        "Nobody",
        ok=False,
    )
    assert "(code PLANNING_FAILED)" in done.stderr


def test_the_data_set_has_to_be_exported_first(project):
    project.add("a")
    project.write()
    assert "(code FILE_MISSING)" in project.run("train", "plan", ok=False).stderr
