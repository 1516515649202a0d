"""The embedded demo, through the real TotalSegmentator and nnU-Net code, offline."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from totalsegmentator.registry import get_task_classes

from backsplit.demo.evaluation import STRUCTURES
from backsplit.demo.phantoms import DEMO_CASES, make_phantom
from backsplit.segment.weights import demo_weights, require_accepted
from support.documents import commands
from support.project import ROOT, load

pytestmark = pytest.mark.slow

TUTORIAL = commands("docs/tutorial-phantoms.md")
RUN = "backsplit run --config demo/config.yaml"


def call(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    home = folder / "home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path, "HOME": str(home)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """What the first tutorial says up to its first run, in a folder of its own."""
    folder = tmp_path_factory.mktemp("demo")
    for line in TUTORIAL[: TUTORIAL.index(RUN) + 1]:
        if not line.startswith("pip "):
            call(folder, *shlex.split(line))
    return folder


def test_the_data_set_is_whole_and_lesions_intact(demo):
    folder = demo / "results" / "datasets" / "nnunet" / "Dataset500_Phantoms"
    verify_dataset_integrity(str(folder), num_processes=1)
    described = json.loads((folder / "dataset.json").read_text())
    assert described["numTraining"] == 6
    assert list(described["labels"])[:4] == ["background", "kidney_tumor", "liver_tumor", "lungs"]
    for case, (seed, lesions) in DEMO_CASES.items():
        labels = load(folder / "labelsTr" / f"{case}.nii.gz")
        truth = make_phantom(seed, lesions).lesion
        np.testing.assert_array_equal(np.where(labels <= 2, labels, 0), truth)
    verdicts = pd.read_csv(demo / "results" / "qc" / "verdicts.tsv", sep="\t")
    assert list(verdicts["verdict"]) == ["accept"] * 6
    command = ["snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "2"]
    again = call(demo, *command, "--configfile", "demo/config.yaml")
    assert "Nothing to be done" in again.stderr
    assert not list((demo / "home").rglob(".totalsegmentator"))  # a home of ours, not the user's


def test_the_network_knows_phantoms_it_has_not_seen(demo):
    classes = get_task_classes("total")
    dice = []
    for case, (seed, lesions) in DEMO_CASES.items():
        truth = make_phantom(seed, lesions).anatomy
        labels = load(demo / "results" / "segment" / "organs" / f"{case}.nii.gz")
        for pattern in STRUCTURES.values():
            values = [value for value, name in classes.items() if fnmatchcase(name, pattern)]
            a, b = np.isin(truth, values), np.isin(labels, values)
            dice.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    print(f"mean Dice {np.mean(dice):.3f}, lowest {np.min(dice):.3f}")
    assert np.mean(dice) > 0.8


def test_labels_equal_those_of_totalsegmentator_s_own_command(demo, tmp_path):
    home = tmp_path / "ts"
    home.mkdir()
    settings = {
        "totalseg_id": "none",
        "send_usage_stats": False,
        "prediction_counter": 0,
        "statistics_disclaimer_shown": True,
    }
    (home / "config.json").write_text(json.dumps(settings))
    environment = {
        **os.environ,
        "TOTALSEG_HOME_DIR": str(home),
        "TOTALSEG_WEIGHTS_PATH": str(demo_weights()),
    }
    command = [str(Path(sys.executable).parent / "TotalSegmentator"), "--ml", "--fastest"]
    command += ["-i", str(demo / "demo" / "phantom_04" / "ct.nii.gz")]
    command += ["-o", str(tmp_path / "theirs.nii.gz"), "-d", "cpu", "-ns", "1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    theirs = np.asarray(nib.load(tmp_path / "theirs.nii.gz").dataobj).transpose(2, 1, 0)
    ours = load(demo / "results" / "segment" / "organs" / "phantom_04.nii.gz")
    np.testing.assert_array_equal(ours, theirs)


def test_the_readme_starts_with_the_commands_of_the_tutorial():
    assert set(TUTORIAL[:2]) | {RUN} == set(commands("README.md")[:3])


def test_the_tutorial_goes_on_with_a_structure_more(demo):
    """Last: it changes the data set."""
    told, again, study = TUTORIAL[TUTORIAL.index(RUN) + 1 :]
    explained = call(demo, *shlex.split(told)).stdout
    assert "segment organs" in explained and "sha256" in explained
    config = demo / "demo" / "config.yaml"
    text = config.read_text()
    assert text.count("  spleen: organs/spleen\n") == 1
    config.write_text(text.replace("  spleen:", "  stomach: organs/stomach\n  spleen:"))
    segmented = demo / "results" / "segment" / "organs" / "phantom_01.nii.gz"
    before = segmented.stat().st_mtime_ns
    assert again == RUN
    said = call(demo, *shlex.split(again))
    assert "compose: 6/6" in said.stderr and "segment" not in said.stderr
    assert segmented.stat().st_mtime_ns == before
    described = demo / "results" / "datasets" / "nnunet" / "Dataset500_Phantoms" / "dataset.json"
    assert "stomach" in json.loads(described.read_text())["labels"]
    assert study == "make study"


def test_the_shipped_weights_are_small_and_those_that_were_recorded():
    files = [p for p in demo_weights().rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 2 * 1024 * 1024
    require_accepted((p for p in files if p.suffix == ".pth"), "organs")
