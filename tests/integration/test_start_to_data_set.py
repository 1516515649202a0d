"""From the folder as it is downloaded to the exported data set, with files for networks."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from totalsegmentator.registry import get_task_classes
from typer.testing import CliRunner

from backsplit.cli import app
from backsplit.start.names import case_ids
from support import downloads, nbia
from support.documents import commands
from support.incremental import Engine
from support.project import load
from support.scans import SHAPE, Scan, class_of, volume


def nsclc_of_segments(root: Path) -> dict[str, Scan]:
    """Without the patient of whom no segmentation was published, who would be refused."""
    scans = nbia.nsclc(root)
    (last,) = root.glob("*/NSCLC-Radiomics/LUNG1-128")
    shutil.rmtree(last)
    return {
        case: Scan(found.organs, {"gtv": found.lesions["gtv"]})
        for case, found in scans.items()
        if case != "LUNG1-128"
    }


CASES = {
    # preset, what makes the data set, options, channels for nnU-Net, patients with several cases
    "kits23": (downloads.kits23, [], ["CT"], {}),
    "kits21": (downloads.kits21, [], ["CT"], {}),
    "kits19": (downloads.kits19, [], ["CT"], {}),
    "panther": (downloads.panther, [], ["mr"], {"10000": 2}),
    "panther2": (partial(downloads.panther, task=2), [], ["mr"], {}),
    "nsclc": (nbia.nsclc, [], ["CT"], {}),
    "nsclc_seg": (nsclc_of_segments, ["--from", "SEG"], ["CT"], {}),
    "autopet": (downloads.autopet, [], ["CT", "pet"], {"PETCT_0410759456": 2}),
    "autopet3": (downloads.autopet3, [], ["CT", "CT"],
                 {"fdg_0410759456": 2, "psma_95b833d46f153cd2": 2}),
    "mswal": (downloads.mswal, [], ["CT"], {}),
    "lits": (downloads.lits, [], ["CT"], {}),
}  # fmt: skip


def as_files(config: dict, scans: dict, folder: Path) -> dict:
    """The configuration with label files of all a task's classes in place of each network."""
    for name, section in config["segmenters"].items():
        if section["kind"] != "totalsegmentator":
            continue
        classes = get_task_classes(section["task"])
        for case, found in scans.items():
            mr = section["task"] == "total_mr"
            known = name == "organs"
            array = found.network(classes, mr=mr) if known else np.zeros(SHAPE, np.uint8)
            volume(folder / name / f"{case}.nii.gz", array)
        config["segmenters"][name] = {
            "kind": "files",
            "path": f"{folder.name}/{name}/{{case}}.nii.gz",
            "labels": {label: value for value, label in classes.items()},
        }
    return config


def run_with_files(scans: dict, folder: Path) -> Path:
    """Run what init wrote with files in place of networks; returns the data set of nnU-Net."""
    path = Path("mine/config.yaml")
    config = as_files(yaml.safe_load(path.read_text()), scans, folder / "truth")
    config["run"] |= {"pictures": False, "device": "cpu"}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    Engine(path).run()
    (exported,) = Path("mine/results/datasets/nnunet").glob("Dataset*")
    return exported


@pytest.mark.parametrize("name", CASES)
def test_a_preset_runs_to_the_data_set(tmp_path, monkeypatch, name):
    make, options, channels, several = CASES[name]
    monkeypatch.chdir(tmp_path)
    scans = make(Path("data"))
    preset = {"autopet3": "autopet", "nsclc_seg": "nsclc", "panther2": "panther"}.get(name, name)
    done = CliRunner().invoke(app, ["init", "data", "--preset", preset, *options])
    assert done.exit_code == 0, done.output
    ids = dict(zip(scans, case_ids(list(scans)), strict=True))
    exported = run_with_files({ids[case]: found for case, found in scans.items()}, tmp_path)
    config = yaml.safe_load(Path("mine/config.yaml").read_text())
    described = json.loads((exported / "dataset.json").read_text())
    assert list(described["channel_names"].values()) == channels
    assert described["numTraining"] == len(scans)
    for case, found in scans.items():
        hold_against(
            config, described["labels"], found, load(exported / "labelsTr" / f"{ids[case]}.nii.gz")
        )
    splits = json.loads((exported / "splits_final.json").read_text())
    rows = Path("mine/cases.tsv").read_text().splitlines()
    at = rows[0].split("\t").index("patient")
    patients = {row.split("\t")[0]: row.split("\t")[at] for row in rows[1:]}
    counts = list(patients.values())
    assert {p: counts.count(p) for p in counts if counts.count(p) > 1} == several
    for split in splits:
        assert not {patients[c] for c in split["train"]} & {patients[c] for c in split["val"]}
    if name == "autopet3":  # the challenge's own
        given = json.loads(Path("data/splits_final.json").read_text())
        assert [s["val"] for s in splits] == [sorted(ids[c] for c in s["val"]) for s in given]


PROPOSED = {
    # maker: options, channels for nnU-Net
    "kits23": (downloads.kits23, [], ["CT"]),
    "nsclc": (nbia.nsclc, [], ["CT"]),
    "autopet3": (downloads.autopet3, [], ["CT", "CT"]),
    "isles": (downloads.isles, [], ["adc", "dwi", "flair"]),
    "atlas": (partial(downloads.atlas, lesions=True), [], ["CT"]),
    "longitudinal": (downloads.longitudinal, [], ["CT"]),
    "by name": (
        partial(downloads.atlas, lesions=True),
        ["--image", "ct={case}/ct.nii.gz", "--lesion", "{case}/segmentations/{name}.nii.gz"],
        ["CT"],
    ),
}


@pytest.mark.parametrize("name", PROPOSED)
def test_a_proposal_runs_to_the_data_set(tmp_path, monkeypatch, name):
    make, options, channels = PROPOSED[name]
    monkeypatch.chdir(tmp_path)
    scans = make(Path("data"))
    done = CliRunner().invoke(app, ["init", "data", *options])
    assert done.exit_code == 0, done.output
    ids = dict(zip(scans, case_ids(list(scans)), strict=True))
    exported = run_with_files({ids[case]: found for case, found in scans.items()}, tmp_path)
    described = json.loads((exported / "dataset.json").read_text())
    assert list(described["channel_names"].values()) == channels
    assert described["numTraining"] == len(scans)
    for case, found in scans.items():
        written = load(exported / "labelsTr" / f"{ids[case]}.nii.gz")
        drawn = np.any(list(found.lesions.values()), axis=0)
        targets = [described["labels"][target] for target in described["targets"]]
        np.testing.assert_array_equal(np.isin(written, targets), drawn)
        images = sorted((exported / "imagesTr").glob(f"{ids[case]}_*"))
        assert [load(path).shape for path in images] == [written.shape] * len(channels)
        rest = found.organs["liver"] & ~drawn
        if "liver" in described["labels"]:
            assert (written[rest] == described["labels"]["liver"]).all()


def hold_against(config: dict, labels: dict, found: Scan, written: np.ndarray) -> None:
    """Lesions are where they were drawn and nowhere else; organs are the preset's structures."""
    drawn = dict(found.lesions)
    if "nodal" in drawn:
        drawn["nodal_gtv"] = drawn.pop("nodal")
    if "lesion" in config["targets"] and "tumor" in drawn:
        drawn["lesion"] = drawn.pop("tumor")
    assert set(drawn) <= set(config["targets"])
    lesions = np.zeros(written.shape, bool)
    for target in config["targets"]:
        mask = drawn.get(target, np.zeros(written.shape, bool))
        np.testing.assert_array_equal(written == labels[target], mask, err_msg=target)
        lesions |= mask
    classes = config["segmenters"]["organs"]["labels"]
    seen = 0
    for organ, mask in found.organs.items():
        name = class_of(organ, mr="lung_left" in classes)
        given = f"given/{organ.removesuffix('_left').removesuffix('_right')}"
        for structure, sources in config["structures"].items():
            wanted = [sources] if isinstance(sources, str) else sources
            if given in wanted or any(fnmatchcase(f"organs/{name}", one) for one in wanted):
                assert (written[mask & ~lesions] == labels[structure]).all(), (organ, structure)
                seen += 1
    assert seen >= 3


def test_the_commands_of_the_tutorial_on_kits23(tmp_path, monkeypatch):
    """What needs the download, TotalSegmentator's weights or a training is tested elsewhere."""
    monkeypatch.chdir(tmp_path)
    scans = downloads.kits23(Path("kits23"))
    shown = commands("docs/tutorial-kits23.md")
    start, checked, run, protocol, price = [
        line
        for line in shown
        if line.startswith("backsplit ") and line.split()[1] not in ("weights", "train")
    ]

    def call(line: str, status: int = 0) -> str:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            shlex.split(line), env={**os.environ, "PATH": path, "HOME": str(tmp_path)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "layout kits" in call(start) and "to decide:" in call(protocol)
    config = as_files(yaml.safe_load(Path("mine/config.yaml").read_text()), scans, Path("truth"))
    Path("mine/config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert "3 cases, 0 refused" in call(checked, 3)  # the files lack most of 117 classes
    assert "exported: 3 of 3 cases" in call(run)
    assert "trainings" in call(price)
