"""Sources that looked at a part of the image only: elsewhere they are not asked."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from support.incremental import Engine
from support.project import Project, ct_like, load, save

SHAPE = (12, 20, 24)
SPACING, ORIGIN = (2.0, 2.0, 3.0), (-40.0, -50.0, 60.0)
LOW, HIGH = 4, 10
"""Slices that the label file on a smaller grid has."""


def body(margin: int) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:-1, margin:-margin, margin:-margin] = 1
    return mask


OWN = {"a": body(4), "b": body(5), "c": body(6)}
FILE = {"kind": "files", "labels": {"liver": 1}}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    """Three segmenters of one structure; `a`, the first, has label files of some slices."""
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    project.add("one", ct_like(), np.zeros(SHAPE, np.uint8))
    part = OWN["a"][LOW:HIGH]
    save(tmp_path / "a" / "one.nii.gz", part, SPACING, (*ORIGIN[:2], ORIGIN[2] + LOW * SPACING[2]))
    for name in ("b", "c"):
        save(tmp_path / name / "one.nii.gz", OWN[name], SPACING, ORIGIN)
    project.settings["segmenters"] = {
        name: FILE | {"path": f"{name}/{{case}}.nii.gz"} for name in OWN
    }
    project.settings["run"] |= {"pictures": False}
    return project


def composed(project: Project, structure: object) -> tuple[np.ndarray, dict]:
    project.settings["structures"] = {"liver": structure}
    Engine(project.write()).run()
    ids = json.loads((project.results / "labels" / "labels.json").read_text())
    labels = load(project.results / "labels" / "one.nii.gz")
    sidecar = json.loads((project.results / "labels" / "one.json").read_text())
    return np.where(labels == ids["ignore"], 9, labels == ids["liver"]), sidecar


SOURCES = ["a/liver", "b/liver", "c/liver"]
WAYS = {
    "first": ("a", "b"),
    "union": ("a", "b"),
    "intersection": ("c", "c"),
    "majority": ("b", "b"),  # of two who differ the first decides
}
"""Who is followed where all three looked, and where `a` did not."""


def test_each_voxel_is_decided_by_those_who_looked_at_it(project):
    for by, (inside, outside) in WAYS.items():
        found, sidecar = composed(project, {"of": SOURCES, "by": by})
        expected = OWN[outside].copy()
        expected[LOW:HIGH] = OWN[inside][LOW:HIGH]
        np.testing.assert_array_equal(found, expected, err_msg=by)
        for heard in sidecar["opinions"]:
            assert heard["said"] == heard["stands"] + heard["set_aside"] + heard["ignored"]
        for account in sidecar["layers"]:
            told = [account[key] for key in ("kept", "agreed", "overruled", "set_aside")]
            assert account["claimed"] == sum(told)
    found, _ = composed(project, {"of": SOURCES, "disagree": "ignore"})
    expected = np.where(OWN["b"] == OWN["c"], OWN["c"], 9)
    expected[LOW:HIGH] = np.where(OWN["a"] == OWN["c"], OWN["c"], 9)[LOW:HIGH]
    np.testing.assert_array_equal(found, expected)
    table = pd.read_parquet(project.results / "qc" / "agreement.parquet")
    dice = {(row.first, row.second): row.dice for row in table.itertuples()}
    for first, second in (("a", "b"), ("b", "c")):  # where both looked
        slices = slice(LOW, HIGH) if first == "a" else slice(None)
        sizes = [OWN[name][slices].sum() for name in (first, second)]
        assert dice[first, second] == pytest.approx(2 * sizes[1] / sum(sizes))


def test_what_a_file_does_not_hold_is_absent_where_the_configuration_says_so(project):
    project.settings["segmenters"]["a"]["missing"] = "absent"
    found, _ = composed(project, SOURCES)
    expected = np.zeros(SHAPE, np.uint8)
    expected[LOW:HIGH] = OWN["a"][LOW:HIGH]
    np.testing.assert_array_equal(found, expected)
    del project.settings["segmenters"]["a"]["missing"]
    found, _ = composed(project, SOURCES)  # composed again
    expected[:LOW], expected[HIGH:] = OWN["b"][:LOW], OWN["b"][HIGH:]
    np.testing.assert_array_equal(found, expected)


def test_a_channel_with_a_smaller_field_of_view_is_not_asked_outside_of_it(project):
    """Bands of an MR whose voxels are twice as large, and which ends at slice 6."""
    mr = np.full((3, 10, 12), 10, np.int16)
    mr[:, 1:9, 1:11] = 100
    centre = [o + s / 2 for o, s in zip(ORIGIN, SPACING, strict=True)]
    save(project.folder / "mr.nii.gz", mr, tuple(2 * s for s in SPACING), tuple(centre))
    project.rows[0]["image_mr"] = "mr.nii.gz"
    project.settings["dataset"]["channels"] = ["ct", "mr"]
    bands = {"kind": "threshold", "channel": "mr", "bands": {"body": [50, None]}, "within": "image"}
    project.settings["segmenters"] = {"a": bands, "b": project.settings["segmenters"]["b"]}
    found, sidecar = composed(project, ["a/body", "b/liver"])
    assert "a looked at a part of the image only, for body" in sidecar["summary"]
    coverage = json.loads((project.results / "segment" / "a" / "one.json").read_text())["coverage"]
    assert [entry["classes"] for entry in coverage] == [["body"]]
    expected = OWN["b"].copy()
    expected[:6] = 0
    expected[:6, 2:18, 2:22] = 1
    np.testing.assert_array_equal(found, expected)


def test_where_no_source_looked_a_structure_is_unknown(project):
    """The only source has some slices: the body outside of them is left out of the loss."""
    project.settings["segmenters"] = {"a": project.settings["segmenters"]["a"]}
    patient = ct_like() > -500
    expected = OWN["a"].copy()
    expected[:LOW], expected[HIGH:] = 9 * patient[:LOW], 9 * patient[HIGH:]
    found, sidecar = composed(project, "a/liver")
    np.testing.assert_array_equal(found, expected)
    (liver,) = sidecar["structures"]
    assert (liver["status"], liver["voxels"]) == ("unknown", OWN["a"][LOW:HIGH].sum())
    assert liver["reason"].startswith("looked for in a part of the image only")
    (described,) = project.results.glob("datasets/nnunet/*/dataset.json")
    assert json.loads(described.read_text())["unknown"] == {"one": ["liver"]}
    project.settings["compose"] = {"unknown": "background"}
    found, sidecar = composed(project, "a/liver")
    expected[expected == 9] = 0
    np.testing.assert_array_equal(found, expected)
    assert sidecar["structures"][0]["status"] == "unknown"
    project.settings["compose"] = {"unknown": "drop"}
    project.settings["segmenters"]["a"]["missing"] = "absent"
    found, sidecar = composed(project, "a/liver")
    np.testing.assert_array_equal(found, expected)
    assert sidecar["structures"][0]["status"] != "unknown"
    del project.settings["segmenters"]["a"]["missing"]
    Engine(project.write()).run()
    (row,) = pd.read_csv(project.results / "labels" / "00001.tsv", sep="\t").to_dict("records")
    assert (row["status"], row["code"]) == ("failed", "STRUCTURE_UNKNOWN")


def test_a_smaller_grid_that_holds_the_body_leaves_nothing_unknown(project):
    image = np.full(SHAPE, -1000, np.int16)
    image[LOW:HIGH] = ct_like()[LOW:HIGH]
    save(project.folder / "images" / "one.nii.gz", image, SPACING, ORIGIN)
    project.settings["segmenters"] = {"a": project.settings["segmenters"]["a"]}
    found, sidecar = composed(project, "a/liver")
    expected = np.zeros_like(found)
    expected[LOW:HIGH] = OWN["a"][LOW:HIGH]
    np.testing.assert_array_equal(found, expected)
    assert sidecar["structures"][0]["status"] != "unknown"
