"""nnU-Net's and MONAI's layouts: folds, names, and what a second export leaves behind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from totalsegmentator.nifti_ext_header import load_multilabel_nifti

from backsplit.export.folds import cross_validation
from backsplit.flow.engine import forget_incomplete
from backsplit.flow.plan import Plan
from backsplit.flow.project import open_project
from support.examples import examples
from support.project import ct_like, load, save


@examples()
@given(st.lists(st.integers(0, 30), min_size=2, max_size=60))
def test_folds_cover_every_case_once_and_never_split_a_patient(patients):
    cases = [f"c{i:03d}" for i in range(len(patients))]
    groups = {case: f"p{patient}" for case, patient in zip(cases, patients, strict=True)}
    folds = cross_validation(cases, groups)
    count = len(set(patients))
    assert len(folds) == (min(5, count) if count > 1 else 0)
    if folds:
        assert sorted(c for fold in folds for c in fold["val"]) == cases
    for fold in folds:
        assert fold["val"] and fold["train"]
        assert sorted(fold["train"] + fold["val"]) == cases
        assert not {groups[c] for c in fold["train"]} & {groups[c] for c in fold["val"]}
    assert folds == cross_validation(list(reversed(cases)), groups)


@pytest.fixture
def organs(project):
    """Two cases with a liver and a kidney from files, and fat from intensities."""
    for name in ("a", "b"):
        project.add(name)
        labels = np.zeros(ct_like().shape, np.uint8)
        labels[2:5, 5:15, 5:12] = 1
        labels[6:10, 5:15, 8:18] = 2
        save(project.folder / "organs" / f"{name}.nii.gz", labels)
    project.settings["segmenters"]["given"] = {
        "kind": "files",
        "path": "organs/{case}.nii.gz",
        "labels": {"liver": 1, "kidney": 2},
    }
    project.settings["structures"] = {
        "fat": "tissue/fat",
        "liver": "given/liver",
        "kidney": "given/kidney",
    }
    return project


def export(project, **compose):
    project.write(compose=compose)
    for verb in (["check"], ["segment", "tissue"], ["segment", "given"], ["compose"]):
        project.run(*verb)
    for verb in ("measure", "judge", "export"):
        project.run(verb)
    return project.results / "datasets" / "nnunet"


def test_label_maps_open_with_names(organs):
    """Each viewer's table, read as its format is defined, says what dataset.json says."""
    (organs.folder / "organs" / "b.nii.gz").unlink()  # b has unknown anatomy: `ignore` is a label
    root = export(organs, nested=["kidney", "liver"])
    colours: dict[str, set[tuple[int, ...]]] = {}
    for folder in sorted(root.iterdir()):
        labels = json.loads((folder / "dataset.json").read_text())["labels"]
        by_id = {number: name for name, number in labels.items()}
        snap = re.findall(
            r'^ *(\d+) +(\d+) +(\d+) +(\d+) +([01]) +([01]) +([01]) +"([^"]+)"$',
            (folder / "labels.label").read_text(), re.MULTILINE,
        )  # fmt: skip
        assert {int(row[0]): row[7] for row in snap} == {**by_id, 0: "Clear Label"}
        slicer = [
            line.split()
            for line in (folder / "labels.ctbl").read_text().splitlines()
            if not line.startswith("#")
        ]
        assert {int(row[0]): row[1] for row in slicer} == by_id
        niivue = json.loads((folder / "labels.niivue.json").read_text())
        assert dict(zip(niivue["I"], niivue["labels"], strict=True)) == by_id
        assert niivue["A"] == [0, *[255] * (len(by_id) - 1)]
        rgb = list(zip(niivue["R"], niivue["G"], niivue["B"], strict=True))
        assert [tuple(map(int, row[2:5])) for row in slicer] == rgb
        assert [tuple(map(int, row[1:4])) for row in snap] == rgb
        for number, name in by_id.items():
            colours.setdefault(name, set()).add(rgb[number])
        for path in (folder / "labelsTr").iterdir():  # and so do the label maps themselves
            inside = dict(list(by_id.items())[1:])
            if path.name == "a.nii.gz":  # without unknown anatomy
                inside.pop(labels.get("ignore"), None)
            assert load_multilabel_nifti(path)[1] == inside
    assert all(len(found) == 1 for found in colours.values())  # the same in every set
    assert len({next(iter(found)) for found in colours.values()}) == len(colours)


def test_nested_sets_are_data_sets_that_agree_and_nnunet_takes_them(organs):
    (organs.folder / "organs" / "b.nii.gz").unlink()  # b has unknown anatomy
    root = export(organs, nested=["kidney", "liver"])
    names = ["Dataset007_Test", *(f"Dataset{8 + k:03d}_Test_nested{k}" for k in range(3))]
    (root / names[1] / "labelsTr" / "a.nii.gz").write_bytes(b"half a fi")
    organs.run("export")  # what lies there is not taken for a label map
    assert sorted(p.name for p in root.iterdir()) == names
    for name in names:
        verify_dataset_integrity(str(root / name), num_processes=1)
    full, *sets = (
        {case: load(root / name / "labelsTr" / f"{case}.nii.gz") for case in "ab"} for name in names
    )
    ids = json.loads((organs.results / "labels" / "labels.json").read_text())
    declared = [json.loads((root / name / "dataset.json").read_text())["labels"] for name in names]
    assert declared[1] == {"background": 0, "tumor": 1, "cyst": 2}
    assert declared[3] == {
        "background": 0, "tumor": 1, "cyst": 2, "kidney": 3, "liver": 4, "ignore": 5,
    }  # fmt: skip
    for case in "ab":
        for k, labels in enumerate(sets):
            for target in (1, 2):
                np.testing.assert_array_equal(labels[case] == target, full[case] == target)
            for number, name in enumerate(["kidney", "liver"][:k], start=3):
                np.testing.assert_array_equal(labels[case] == number, full[case] == ids[name])
        assert not (sets[0][case] > 2).any()
    assert (sets[1]["b"] == 4).sum() == (full["b"] == ids["ignore"]).sum() > 0
    before = {p: p.stat().st_mtime_ns for p in root.rglob("labelsTr/*")}
    organs.run("export")
    assert before == {p: p.stat().st_mtime_ns for p in root.rglob("labelsTr/*")}


@pytest.mark.parametrize("first", ["tissue", "given"])
def test_what_ignored_voxels_can_be_is_told_and_true(organs, first):
    """Composed with the missing file, each of those voxels is background or a listed structure."""
    order = ["targets", first, "given" if first == "tissue" else "tissue"]
    root = export(organs, nested=["kidney", "fat", "liver"], order=order)
    whole = load(root / "Dataset007_Test" / "labelsTr" / "b.nii.gz")
    kept = (organs.folder / "organs" / "b.nii.gz").read_bytes()
    (organs.folder / "organs" / "b.nii.gz").unlink()
    root = export(organs, nested=["kidney", "fat", "liver"], order=order)
    described = json.loads((root / "Dataset007_Test" / "dataset.json").read_text())
    hidden = [] if first == "tissue" else ["fat"]  # weaker bands are hidden too
    assert described["unknown"] == {"b": [*hidden, "liver", "kidney"]}
    names = described["labels"]
    ignored = load(root / "Dataset007_Test" / "labelsTr" / "b.nii.gz") == names["ignore"]
    could = [0, *(names[name] for name in described["unknown"]["b"])]
    assert set(np.unique(whole[ignored])) == set(could)
    nested = [json.loads(path.read_text()) for path in sorted(root.glob("*_nested?/dataset.json"))]
    assert "unknown" not in nested[0]
    assert [set(one["unknown"]["b"]) for one in nested[1:]] == [
        {"kidney"}, {"kidney", *hidden}, {"kidney", "liver", *hidden},
    ]  # fmt: skip
    listed = json.loads((root.parent / "monai" / "datalist.json").read_text())
    assert listed["unknown"] == described["unknown"]
    assert "structures are left out in 1 of 2 cases" in organs.run("check").stderr
    told = organs.run("export").stderr
    assert (
        "1 of 2 cases have voxels of unknown anatomy" in told and "nnUNetTrainerBackSplit" in told
    )
    (organs.folder / "organs" / "b.nii.gz").write_bytes(kept)
    root = export(organs, order=order)
    assert "unknown" not in json.loads((root / "Dataset007_Test" / "dataset.json").read_text())


@pytest.mark.parametrize("gone", [False, True])
def test_of_what_a_person_lets_be_ignored_nothing_is_told(organs, gone):
    organs.settings["compose"] = {}
    organs.settings["segmenters"]["given"]["labels"]["kidney_cyst"] = 3
    labels = load(organs.folder / "organs" / "a.nii.gz")
    labels[2:5, 15:17, 5:12] = 3
    save(organs.folder / "organs" / "a.nii.gz", labels)
    if gone:
        (organs.folder / "organs" / "b.nii.gz").unlink()
    lesions = {"given/kidney_cyst": "ignore"}
    root = export(organs, segmenter_lesions=lesions, order=["targets", "given", "tissue"])
    described = json.loads((root / "Dataset007_Test" / "dataset.json").read_text())
    hidden = {"b": ["fat", "liver", "kidney"]} if gone else {}
    assert described["unknown"] == {"a": None} | hidden


def test_of_voxels_that_the_lesion_file_lets_be_ignored_nothing_is_told(organs):
    lesion = load(organs.folder / "lesions" / "a.nii.gz")
    lesion[6, 12:14, 9] = 9
    save(organs.folder / "lesions" / "a.nii.gz", lesion)
    organs.settings["ignore"] = 9
    root = export(organs)
    described = json.loads((root / "Dataset007_Test" / "dataset.json").read_text())
    assert described["unknown"] == {"a": None}


def test_regions_are_what_nnunet_paints_back_to_the_same_ids(organs):
    regions = {"kidney_whole": ["kidney", "tumor", "cyst"], "disease": ["tumor", "cyst"]}
    root = export(organs, emit="regions", regions=regions)
    folder = root / "Dataset007_Test"
    verify_dataset_integrity(str(folder), num_processes=1)
    described = json.loads((folder / "dataset.json").read_text())
    manager = LabelManager(described["labels"], described["regions_class_order"])
    assert manager.has_regions
    labels = load(folder / "labelsTr" / "a.nii.gz")
    assert len(np.unique(labels)) == 6
    masks = np.stack([np.isin(labels, np.atleast_1d(ids)) for ids in manager.foreground_regions])
    painted = manager.convert_probabilities_to_segmentation(masks.astype(np.float32))
    np.testing.assert_array_equal(painted, labels)


def test_channels_on_other_grids_and_skewed_headers_are_rewritten(project):
    image = ct_like(0, (12, 20, 24))
    project.add("a", image)
    pet = np.random.default_rng(0).random((9, 11, 13)).astype(np.float32)
    save(project.folder / "pet.nii.gz", pet, spacing=(4.0, 4.0, 4.0))
    project.rows[0] |= {"image_pet": "pet.nii.gz"}
    drawn = np.zeros(pet.shape, np.uint8)
    drawn[3:6, 4:7, 4:7] = 1
    save(project.folder / "lesions" / "a.nii.gz", drawn, spacing=(4.0, 4.0, 4.0))
    project.settings["dataset"] |= {"channels": ["ct", "pet"]}
    project.write()
    for verb in (["check"], ["segment", "tissue"], ["compose"], ["measure"], ["judge"], ["export"]):
        project.run(*verb)
    folder = project.results / "datasets" / "nnunet" / "Dataset007_Test"
    verify_dataset_integrity(str(folder), num_processes=1)
    ct, other = (sitk.ReadImage(str(folder / "imagesTr" / f"a_{i:04d}.nii.gz")) for i in (0, 1))
    assert (folder / "imagesTr" / "a_0000.nii.gz").is_symlink()
    moved = sitk.Resample(
        sitk.ReadImage(str(project.folder / "pet.nii.gz")), ct, sitk.Transform(), sitk.sitkLinear,
        float(pet.min()),
    )  # fmt: skip
    np.testing.assert_allclose(
        sitk.GetArrayFromImage(other), sitk.GetArrayFromImage(moved), atol=1e-5
    )
    listed = json.loads((project.results / "datasets" / "monai" / "datalist.json").read_text())
    assert "fold" not in listed["training"][0]  # a single patient cannot be split
    assert listed["modality"] == {"0": "CT", "1": "pet"}
    names = [Path(name).name for name in listed["training"][0]["image"]]
    assert names == ["a_0000.nii.gz", "a_0001.nii.gz"]
    sidecar = json.loads((project.results / "labels" / "a.json").read_text())
    lesion_ml = sidecar["voxels"]["tumor"] * sidecar["voxel_ml"]
    assert lesion_ml == pytest.approx(27 * 4.0**3 / 1000, rel=0.1)
    assert any("put from 13x11x9 voxels" in line for line in sidecar["summary"])
    known = pd.read_parquet(project.results / "labels" / "status.parquet")
    assert set(known["structure"]) == {"bone", "fat"}
    project.write(dataset=project.settings["dataset"] | {"other_grids": "refuse"})
    refused = project.run("check", ok=True)
    assert "GRID_MISMATCH" in refused.stdout + refused.stderr


def test_monai_reads_the_images_the_label_maps_and_the_folds(organs, monkeypatch):
    """MONAI's own reader of data lists, and its own loader of what they name."""
    from monai.data import load_decathlon_datalist, load_decathlon_properties
    from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

    root = export(organs, nested=["liver"])
    folder = root.parent / "monai"
    names = ["datalist.json", "datalist_nested0.json", "datalist_nested1.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    load = Compose([LoadImaged(["image", "label"]), EnsureChannelFirstd(["image", "label"])])
    keys = ["name", "description", "reference", "licence", "tensorImageSize", "modality"]
    keys += ["labels", "numTraining", "numTest", "training", "test"]
    ids = json.loads((organs.results / "labels" / "labels.json").read_text())
    for name in names:
        properties = load_decathlon_properties(str(folder / name), keys)
        items = load_decathlon_datalist(str(folder / name), is_segmentation=True)
        assert [item["case"] for item in items] == ["a", "b"]
        assert properties["numTraining"] == len(items)
        for item in items:
            data = load(item)
            image = sitk.GetArrayFromImage(
                sitk.ReadImage(str(organs.folder / "images" / f"{item['case']}.nii.gz"))
            )
            np.testing.assert_array_equal(data["image"][0].numpy().transpose(2, 1, 0), image)
            np.testing.assert_array_equal(data["image"].affine, data["label"].affine)
            found = {properties["labels"][str(int(v))] for v in np.unique(data["label"])}
            assert {"background", "tumor"} <= found <= ids.keys()
            if name == "datalist.json":
                assert {"liver", "kidney"} <= found
        splits = json.loads((root / "Dataset007_Test" / "splits_final.json").read_text())
        assert all(item["case"] in splits[item["fold"]]["val"] for item in items)

    monkeypatch.chdir(organs.folder)
    dataset = root / "Dataset007_Test"
    plan = Plan(open_project(organs.folder / "config.yaml"))
    assert forget_incomplete(plan) == []
    (dataset / "imagesTr" / "b_0000.nii.gz").unlink()  # without an image it is not whole either
    assert [path.resolve() for path in forget_incomplete(plan)] == [dataset / "dataset.json"]
    organs.run("export")
    assert (dataset / "imagesTr" / "b_0000.nii.gz").exists() and forget_incomplete(plan) == []

    (folder / names[0]).unlink()  # as by hand: it is not whole without, and nobody takes it so
    assert "code FILE_MISSING" in organs.run("manifest", ok=False).stderr
    monkeypatch.chdir(organs.folder)
    removed = forget_incomplete(Plan(open_project(organs.write())))
    assert [path.resolve() for path in removed] == [root / "Dataset007_Test" / "dataset.json"]
    organs.run("export")
    organs.run("manifest")
    (folder / "datalist_old.json").write_text("{}")
    assert "datalist_old.json is not in the manifest" in organs.run("verify", ok=False).stdout
    (folder / "datalist_old.json").unlink()

    organs.settings["export"] = {"monai": None}
    export(organs)
    assert not list(folder.iterdir())
