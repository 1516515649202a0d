"""Licences of segmenters, and data sets without those that may not be used commercially."""

from __future__ import annotations

import json

import numpy as np
import pytest
from totalsegmentator import registry

from backsplit.config.model import Config
from backsplit.flow.project import open_project
from backsplit.segment.base import Commercial, Licence
from backsplit.segment.licences import licences
from backsplit.store.tsv import read_rows
from support import flow
from support.project import load, save


def licence_of(**section: object) -> Licence:
    """Licence of a segmenter by its section."""
    config = {
        "dataset": {"name": "a", "id": 1, "cases": "cases.tsv"},
        "targets": {"tumor": 1},
        "segmenters": {"one": section},
        "structures": {"any": "one/any"},
    }
    return licences(Config.model_validate(config))["one"]


@pytest.mark.parametrize("task", registry.TASKS)
def test_tasks_that_need_a_licence_are_restricted(task):
    licence = licence_of(kind="totalsegmentator", task=task)
    assert licence.source and licence.terms
    if registry.requires_license(task):
        assert licence.commercial is Commercial.NO
    else:
        assert licence.restricted == (task == "brain_aneurysm")


def test_unknown_licences_are_restricted():
    files = {"kind": "files", "path": "{case}.nii.gz", "labels": {"liver": 1}}
    assert licence_of(**files).commercial is Commercial.UNKNOWN
    assert licence_of(**files).restricted
    said = licence_of(**files, licence="CC-BY-4.0", commercial=True)
    assert said.name == "CC-BY-4.0" and not said.restricted
    assert licence_of(**files, commercial=False).commercial is Commercial.NO
    assert not licence_of(kind="threshold", bands={"fat": (0, 1)}).restricted
    bought = licence_of(kind="totalsegmentator", task="tissue_types", commercial=True)
    assert not bought.restricted


def given(project, name, commercial):
    """A segmenter of files, with what is said of their use."""
    path = str(project.folder / name / "{case}.nii.gz")
    return {"kind": "files", "path": path, "labels": {name: 1}, "commercial": commercial}


def two_sources(project, cases=3):
    """Organs that overlap each other and the lesion; the first may not be used commercially."""
    for number in range(cases):
        project.add(f"case_{number}")
        liver, spleen = np.zeros((2, 12, 20, 24), np.uint8)
        liver[2:9, 6:14, 6:16] = 1
        spleen[4:11, 8:16, 12:20] = 1
        save(project.folder / "liver" / f"case_{number}.nii.gz", liver)
        save(project.folder / "spleen" / f"case_{number}.nii.gz", spleen)
    tissue = project.settings["segmenters"]["tissue"]
    spleens, livers = given(project, "spleen", True), given(project, "liver", False)
    project.settings["segmenters"] = {"a": livers, "b": spleens, "tissue": tissue}
    project.settings["structures"] = {
        "liver": "a/liver",
        "spleen": "b/spleen",
        "bone": "tissue/bone",
        "fat": "tissue/fat",
    }
    project.settings["compose"] = {
        "order": ["targets", "a", "b", "tissue"],
        "groups": {"organs": ["liver", "spleen"]},
        "except": [{"winner": "fat", "loser": "liver"}],
        "hosts": {"tumor": ["liver", "spleen"]},
        "repair": {"rim_mm": 3, "holes": True},
    }


def labels_of(folder):
    return json.loads((folder / "dataset.json").read_text())["labels"]


@pytest.mark.slow
def test_the_unrestricted_data_set_equals_one_without_restricted_segmenters(project, tmp_path):
    two_sources(project)
    project.write(export={"only_unrestricted": True, "bids": {}})
    project.snakemake()
    told = project.run("licences").stdout.splitlines()
    assert [line.split("\t")[2].split(": ")[1] for line in told] == ["no", "yes", "yes"]
    root = project.results / "datasets" / "nnunet"
    assert [path.name for path in root.iterdir()] == ["Dataset008_Test_unrestricted"]
    found = root / "Dataset008_Test_unrestricted"
    assert "liver" not in labels_of(found) and "spleen" in labels_of(found)
    assert "compose unrestricted: 3 done, 0 failed, 3 in all" in project.run("status").stdout
    explained = project.run("explain", "case_1").stdout
    made = project.results / "unrestricted" / "case_1.nii.gz"
    assert f"compose unrestricted: {made.relative_to(project.folder)}" in explained
    assert project.run("verify").returncode == 0
    lists = project.results / "datasets" / "monai"
    assert [path.name for path in lists.iterdir()] == ["datalist_unrestricted.json"]
    bids = project.results / "datasets" / "bids"
    assert [path.name for path in bids.iterdir()] == ["Test_unrestricted"]
    table = bids / "Test_unrestricted" / "derivatives" / "backsplit" / "dseg.tsv"
    assert "liver" not in table.read_text() and "spleen" in table.read_text()
    # the same data set by somebody who never had those files
    never = type(project)(tmp_path / "never")
    two_sources(never)
    del never.settings["segmenters"]["a"], never.settings["structures"]["liver"]
    never.settings["compose"] |= {"order": ["targets", "b", "tissue"], "except": []}
    never.settings["compose"] |= {"groups": {}, "hosts": {"tumor": ["spleen"]}}
    never.write()
    never.snakemake()
    expected = never.results / "datasets" / "nnunet" / "Dataset007_Test"
    assert labels_of(found) == labels_of(expected)
    for number in range(3):
        name = f"labelsTr/case_{number}.nii.gz"
        assert (found / name).read_bytes() == (expected / name).read_bytes()
        lesion = load(project.folder / "lesions" / f"case_{number}.nii.gz")
        kept = load(found / name)
        np.testing.assert_array_equal(np.where(kept <= 2, kept, 0), lesion)
    # the full data set is still there to be had, beside it
    project.write(export={})
    project.snakemake()
    assert "liver" in labels_of(root / "Dataset007_Test") and found.exists()
    names = {path.name: json.loads(path.read_text())["labels"] for path in lists.iterdir()}
    assert "liver" in names["datalist.json"].values()
    assert "liver" not in names["datalist_unrestricted.json"].values()


def test_a_case_that_restricted_segmenters_alone_label_is_left_out_with_the_reason(
    project, monkeypatch
):
    monkeypatch.chdir(project.folder)
    two_sources(project, cases=2)
    project.settings["segmenters"].pop("tissue")
    project.settings["structures"] = {"liver": "a/liver", "spleen": "b/spleen"}
    project.settings["compose"] = {}
    (project.folder / "spleen" / "case_1.nii.gz").unlink()
    config = project.write()
    flow.check(config, None, 1, print)
    opened = open_project(config)
    for segmenter in "ab":
        flow.segment(opened, segmenter, None, print)
    flow.compose(opened, None, print)
    flow.cases(opened, print)
    flow.measure(opened, None, print)
    flow.judge(opened, print)
    flow.export(opened, print, only_unrestricted=True)
    (row,) = read_rows(project.results / "datasets" / "left_out_unrestricted.tsv")
    assert row["case"] == "case_1" and row["rules"] == "NOTHING_LABELLED"
    assert "every segmenter failed (b: " in row["reason"]
    flow.export(opened, print)  # with it, the case is labelled
    assert not [*read_rows(project.results / "datasets" / "left_out.tsv")]


def test_a_fully_restricted_data_set_is_refused(project):
    two_sources(project, 1)
    for name in ("b", "tissue"):
        del project.settings["segmenters"][name]
    project.settings["structures"] = {"liver": "a/liver"}
    project.settings["compose"] = {}
    project.write()
    for verb in (["check"], ["segment", "a"], ["compose"], ["measure"], ["judge"], ["export"]):
        project.run(*verb)
    told = project.run("export", "--only-unrestricted", ok=False).stderr
    assert "LICENCE_RESTRICTED" in told and "a: unknown, not for commercial use" in told
    project.write(export={"only_unrestricted": True})
    told = project.run("check", ok=False).stderr  # not after days of segmenting
    assert "`export.only_unrestricted`: every segmenter is restricted" in told
