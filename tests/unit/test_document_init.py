"""Each `backsplit init` that a document shows starts a project, and says what is shown."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from backsplit.cli import app
from backsplit.flow.check import check
from support import downloads
from support.documents import blocks, shown
from support.start import model, nnunet_folder, statuses, volume

SHOWN = sorted(
    {
        shlex.join(words)
        for command in shown()
        if command.line.startswith("backsplit init ")
        and (words := shlex.split(command.line.replace(" …", "")))
    }
)
CASES = {"101": "p1", "102": "p2"}
"""Name of each case to its patient."""
NAMES = ("liver", "tumor")
"""What `{name}` stands for."""


def given(words: list[str], option: str) -> Iterator[str]:
    """The values of an option that can be given several times."""
    yield from (value for name, value in pairwise(words) if name == option)


def lay_out(root: Path, words: list[str]) -> None:
    """Write the files that a command speaks of, or a data set of nnU-Net where it names none."""
    if "--preset" in words:
        downloads.kits23(root)
        return
    cases = CASES
    if "--image" not in words:
        nnunet_folder(root)
        cases = {"c_1": "", "c_2": ""}
    values = [int(value.partition("=")[2]) for value in given(words, "--label")] or [1]
    for option in ("--image", "--lesion", "--labels"):
        for value in given(words, option):
            pattern = value.rpartition("=")[2]
            for case, patient in cases.items():
                for name in NAMES if "{name}" in pattern else ("",):
                    path = pattern.format(case=case, patient=patient, name=name)
                    volume(root / path, *(() if option == "--image" else values))
    for value in given(words, "--segmenter"):
        folder = Path(value.partition("=")[2]) / "nnUNetTrainer__nnUNetPlans__3d_fullres"
        model(folder, {"background": 0, "liver": 1, "spinal_cord": 2})


@pytest.mark.parametrize("line", SHOWN)
def test_a_command_starts_a_project_without_faults(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)[1:]
    root = Path("data")
    lay_out(root, words)
    words[1] = str(root)
    if "--update" in words:
        assert CliRunner().invoke(app, ["init", str(root)]).exit_code == 0
        volume(root / "imagesTr" / "c_3_0000.nii.gz")
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    into = dict(pairwise(words)).get("--into", "mine")
    report = check(Path(into) / "config.yaml")
    # networks are not on this machine, and the model has names but no network
    told = {str(problem.code) for problem in report.fatal}
    assert told <= {"WEIGHTS_MISSING", "WEIGHTS_UNKNOWN", "MODEL_INVALID"}
    assert ("MODEL_INVALID" in told) == ("--segmenter" in words)
    assert statuses(report).count("ok") >= 2


def test_every_kind_of_start_is_shown():
    text = " ".join(SHOWN)
    for option in ("--image", "--lesion", "--labels", "--label", "--patient", "--segmenter"):
        assert option in text
    assert re.search(r"--preset kits23( |$)", text) and "--update" in text and "--study" in text


def is_part(shown: object, whole: object) -> bool:
    """Whether each key that is shown has the value that it has in the whole."""
    if isinstance(shown, dict) and isinstance(whole, dict):
        return all(key in whole and is_part(shown[key], whole[key]) for key in shown)
    return shown == whole


def test_the_tutorial_on_kits23_shows_what_is_written_and_said(tmp_path, monkeypatch):
    """Numbers and `…` aside; with fewer than five patients there is something to decide."""
    monkeypatch.chdir(tmp_path)
    downloads.kits23(Path("kits23"))
    said = CliRunner().invoke(app, ["init", "kits23", "--preset", "kits23"]).output
    Path("kits23/dataset/case_00000/imaging.nii.gz").unlink()
    said += CliRunner().invoke(app, ["check"]).output
    tutorial = [b for b in blocks("", "yaml") if b.document == "docs/tutorial-kits23.md"]
    listed = [line for b in tutorial if not b.language for line in b.code.splitlines()]
    for line in listed:
        if not line.endswith("- nothing"):
            told = re.sub(r"\d+", r"\\d+", re.escape(line).replace("…", ".*"))
            assert re.search(f"^{told}$", said, re.M), line
    assert len(listed) > 10
    (shown,) = (yaml.safe_load(b.code) for b in tutorial if b.language == "yaml")
    written = yaml.safe_load(Path("mine/config.yaml").read_text())
    assert is_part(shown, written)
    assert len(written["structures"]) == 13
