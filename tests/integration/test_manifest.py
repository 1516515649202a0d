"""The manifest of a data set, and `backsplit verify` against what lies on the disk."""

from __future__ import annotations

import hashlib
import json
from importlib import resources

import jsonschema
import numpy as np
import pandas as pd
import pytest

from backsplit.record.manifest import manifest_schema
from support.project import save

pytestmark = pytest.mark.slow


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def made(project):
    project.add("good")
    project.add("none", lesion=np.zeros((12, 20, 24), np.uint8))
    project.add("bad")
    project.misplace("bad")
    project.write()
    project.snakemake()
    return json.loads((project.results / "manifest.json").read_text())


def test_the_schema_that_ships_is_the_one_of_the_code():
    shipped = resources.files("backsplit.record").joinpath("manifest.schema.json").read_text()
    assert shipped == manifest_schema()


def test_verify_finds_every_change_against_the_manifest(project):
    manifest = made(project)
    jsonschema.validate(manifest, json.loads(manifest_schema()))
    assert manifest["counts"] == {
        "cases": 3,
        "refused": 1,
        "failed": {"segment tissue": 0, "compose": 0, "measure": 0},
        "verdicts": {"accept": 2, "reject": 1},
        "exported": 2,
        "left_out": 1,
    }
    tissue = manifest["segmenters"]["tissue"]
    assert tissue["licence"]["commercial"] == "yes" and tissue["cases"] == 2
    assert manifest["datasets"][0]["labels"]["tumor"] == 1
    table = project.results / "manifest.parquet"
    assert manifest["files"]["sha256"] == sha256(table)
    files = pd.read_parquet(table)
    assert len(files) == manifest["files"]["rows"]
    inputs = files[files["kind"] == "input"]
    assert set(inputs["role"]) == {"image_ct", "lesion"} and set(inputs["case"]) == {"good", "none"}
    for folder, rows in ((project.folder, inputs), (project.results, files.drop(inputs.index))):
        assert [sha256(folder / path) for path in rows["path"]] == list(rows["sha256"])

    assert "0 differ" in project.run("verify").stderr
    dataset = project.results / "datasets" / "nnunet" / "Dataset007_Test"
    stranger = dataset / "imagesTr" / "stranger_0000.nii.gz"
    stranger.write_bytes(b"?")
    (dataset / "labelsTr" / "none.nii.gz").unlink()
    with (dataset / "labelsTr" / "good.nii.gz").open("ab") as stream:
        stream.write(b"\0")
    lesion = project.folder / "lesions" / "good.nii.gz"
    save(lesion, np.ones((12, 20, 24), np.uint8))
    told = project.run("verify", ok=False).stdout.splitlines()
    assert len(told) == 4
    assert any(f"{lesion} has changed" in line for line in told)
    assert any("good.nii.gz has changed" in line and "labelsTr" in line for line in told)
    assert any("none.nii.gz is gone" in line for line in told)
    assert any("stranger_0000.nii.gz is not in the manifest" in line for line in told)
    table.write_bytes(table.read_bytes() + b"\0")
    assert "MANIFEST_INVALID" in project.run("verify", ok=False).stderr


def test_a_manifest_does_not_depend_on_the_jobs_that_made_it(project):
    first = made(project)
    jobs = project.results / "provenance" / "jobs"
    noted = {path.relative_to(jobs).as_posix() for path in jobs.rglob("*.jsonl")}
    assert {"compose/00001.jsonl", "segment/tissue/00001.jsonl", "judge/all.jsonl"} <= noted
    told = project.run("explain", "good").stdout
    assert "licence: none, commercial use: yes" in told
    assert told.count("  by job ") == 3 and "(batch 00001," in told
    before = (project.results / "manifest.parquet").read_bytes()
    for verb in ("export", "manifest"):
        project.run(verb)
    assert json.loads((project.results / "manifest.json").read_text()) == first
    assert (project.results / "manifest.parquet").read_bytes() == before
