"""Structures that several segmenters label, from the folder to the label map and its manifest."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from scipy import ndimage
from typer.testing import CliRunner

from backsplit.cli import app
from support.incremental import Engine
from support.project import load, save

WITHOUT, NO_IMAGE = "case_00001", "case_00588"
ORGANS = {"kidney_right": 2, "kidney_left": 3}
KIDNEYS = ["given/kidney", "organs/kidney_left", "organs/kidney_right"]


@pytest.fixture
def kits(tmp_path, monkeypatch, shared) -> Path:
    """KiTS23 as it is downloaded, a segmenter with larger kidneys, and a case without its file."""
    monkeypatch.chdir(tmp_path)
    for name in ("build_kits.py", "build_common.py"):
        shutil.copy(shared / "layouts" / name, tmp_path)
    subprocess.run([sys.executable, "build_kits.py"], check=True, capture_output=True)
    done = CliRunner().invoke(app, ["init", "data/kits23", "--preset", "kits23"])
    assert done.exit_code == 0, done.output
    for path in sorted(Path("truth/kits23").glob("*.nii.gz")):
        larger = np.zeros(load(path).shape, np.uint8)
        for value in ORGANS.values():
            larger[ndimage.binary_dilation(load(path) == value, iterations=2)] = value
        image = sitk.ReadImage(str(path))
        grid = image.GetSpacing(), image.GetOrigin(), image.GetDirection()
        save(Path("organs") / path.name, larger, *grid)
    return tmp_path


def composed(kidney: object, **others: object) -> Path:
    """Compose the data set with a structure `kidney`; returns its results."""
    path = Path("mine/config.yaml")
    config = yaml.safe_load(path.read_text())
    config["segmenters"] = {
        "organs": {"kind": "files", "path": "organs/{case}.nii.gz", "labels": ORGANS},
        "given": {"kind": "files", "path": "{lesion}", "labels": {"kidney": 1}},
    }
    config["structures"] = {"kidney": kidney} | others
    config["compose"] = {"hosts": {"tumor": ["kidney"], "cyst": ["kidney"]}}
    config["run"] |= {"pictures": False, "device": "cpu"}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    Engine(path).run()
    return Path("mine/results")


@pytest.mark.shared
def test_the_kidney_is_as_drawn_where_it_is_drawn_and_the_segmenter_s_where_it_is_not(kits):
    table = Path("mine/cases.tsv")
    lines = [line.split("\t") for line in table.read_text().splitlines()]
    at = lines[0].index("lesion")
    for line in lines[1:]:
        if line[0] == WITHOUT:
            line[at] = "none"
    table.write_text("".join("\t".join(line) + "\n" for line in lines))
    results = composed(KIDNEYS)
    ids = json.loads((results / "labels" / "labels.json").read_text())
    seen = 0
    for line in lines[1:]:
        case = line[0]
        if case == NO_IMAGE:
            continue
        labels = load(results / "labels" / f"{case}.nii.gz")
        network = np.isin(load(Path("organs") / f"{case}.nii.gz"), [*ORGANS.values()])
        sidecar = json.loads((results / "labels" / f"{case}.json").read_text())
        heard = {entry["layer"]: entry for entry in sidecar["opinions"]}
        if case == WITHOUT:
            np.testing.assert_array_equal(labels == ids["kidney"], network)
            assert heard["organs"]["stands"] == network.sum() and heard["given"]["said"] == 0
            continue
        drawn = load(kits / "data/kits23/dataset" / case / "segmentation.nii.gz")
        np.testing.assert_array_equal(labels == ids["kidney"], drawn == 1)
        np.testing.assert_array_equal(labels == ids["tumor"], drawn == 2)
        np.testing.assert_array_equal(labels == ids["cyst"], drawn == 3)
        assert heard["given"]["stands"] == (drawn == 1).sum() < network.sum()
        assert heard["organs"]["set_aside"] == network.sum()
        assert any("of organs set aside" in line for line in sidecar["summary"])
        seen += 1
    assert seen == 3
    done = CliRunner().invoke(app, ["verify", "--deep", "--config", "mine/config.yaml"])
    assert done.exit_code == 0, done.output


@pytest.mark.shared
def test_joined_kidneys_are_as_before_and_ignoring_leaves_their_difference_out(kits):
    results = composed({"of": KIDNEYS, "by": "union"})
    ids = json.loads((results / "labels" / "labels.json").read_text())
    case = WITHOUT
    drawn = load(kits / "data/kits23/dataset" / case / "segmentation.nii.gz")
    network = load(Path("organs") / f"{case}.nii.gz") > 0
    labels = load(results / "labels" / f"{case}.nii.gz")
    np.testing.assert_array_equal(labels == ids["kidney"], ((drawn == 1) | network) & (drawn < 2))
    results = composed({"of": KIDNEYS, "disagree": "ignore"})
    labels = load(results / "labels" / f"{case}.nii.gz")
    np.testing.assert_array_equal(labels == ids["kidney"], (drawn == 1) & network)
    differ = ((drawn == 1) ^ network) & (drawn < 2)
    np.testing.assert_array_equal(labels == ids["ignore"], differ)
    np.testing.assert_array_equal(np.isin(labels, [1, 2]), drawn > 1)
