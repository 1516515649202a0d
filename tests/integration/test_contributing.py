"""Somebody follows CONTRIBUTING.md, on a copy of the package."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pandas as pd
import pytest
import yaml

import backsplit
from backsplit.config.quality import AnatomyRules
from backsplit.judge.anatomy import Case, findings
from support.measured import row
from support.project import ROOT, ct_like, load, save

pytestmark = pytest.mark.slow

GUIDE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def block(path: str) -> str:
    """The code that goes to, or into, a file of the package."""
    (found,) = re.findall(rf"^ *```python\n( *# {path}\b.*?)^ *```$", GUIDE, re.M | re.S)
    return dedent(found)


def insert(file: Path, before: str, text: str) -> None:
    content = file.read_text("utf-8")
    assert content.count(before) == 1, f"{file.name} has not exactly one {before!r}"
    file.write_text(content.replace(before, text + before), "utf-8")


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    copied = tmp_path / "source" / "backsplit"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(backsplit.__file__).parent, copied, ignore=ignored)
    monkeypatch.setenv("PYTHONPATH", str(copied.parent))
    return copied


def test_a_new_kind_of_segmenter_labels(package, project):
    sections = package / "config" / "segmenters.py"
    insert(sections, "\nSegmenterConfig = Annotated", f"\n{block('config/segmenters.py')}\n\n")
    sections.write_text(
        re.sub(r"(SegmenterConfig = Annotated\[\s*)", r"\1Bright | ", sections.read_text())
    )
    (package / "segment" / "bright.py").write_text(block("segment/bright.py"))
    project.add("a")
    project.settings["segmenters"]["mine"] = {"kind": "bright", "share": 0.25}
    project.settings["structures"] = {"bone": "mine/bright"}
    project.write()
    project.run("check")
    project.run("segment", "mine")
    image = ct_like(0)
    labels = load(project.results / "segment" / "mine" / "a.nii.gz")
    np.testing.assert_array_equal(labels, image > 0.25 * image.max())
    project.settings["segmenters"]["mine"]["share"] = 2
    project.write()
    assert "segmenters.mine.share" in project.run("check", ok=False).stderr


def test_the_code_that_is_shown_passes_ruff(package):
    """Written where it belongs, so that it is held against what holds for the package."""
    shown = {"segment/bright.py", "start/readers/sided.py"}
    for path in shown:
        (package / path).write_text(block(path))
    config = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    for command in (["check"], ["format", "--check"]):
        files = [str(package / path) for path in sorted(shown)]
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *config, *files],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_new_layout_is_recognised(package, tmp_path):
    (package / "start" / "readers" / "sided.py").write_text(block("start/readers/sided.py"))
    layouts, command = package / "start" / "layouts.py", package / "cli" / "start.py"
    insert(
        layouts,
        "from backsplit.start.suggest",
        "from backsplit.start.readers.sided import find_sided\n",
    )
    insert(layouts, '    "nnunet": find_nnunet,', '    "sided": find_sided,\n')
    insert(command, '    NNUNET = "nnunet"', '    SIDED = "sided"\n')
    for case in ("a", "b"):
        save(tmp_path / "data" / f"{case}_img.nii.gz", ct_like(0))
    save(tmp_path / "data" / "a_msk.nii.gz", np.ones((12, 20, 24), np.uint8))
    done = subprocess.run(
        [sys.executable, "-c", "from backsplit.cli import app; app()", "init", "data"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "mine" / "cases.tsv", sep="\t", dtype=str)
    assert list(table["case"]) == ["a", "b"]
    assert table["lesion"][0].endswith("a_msk.nii.gz")


def test_the_rule_of_anatomy_that_is_shown_finds_what_it_is_for():
    (shown,) = re.findall(r"^```yaml\n(qc:\n  rules:.*?)^```$", GUIDE, re.M | re.S)
    rules = AnatomyRules.model_validate(yaml.safe_load(shown)["qc"]["rules"])
    for ml, wrong in ((30, []), (500, ["gallbladder"])):
        found = findings(Case({"gallbladder": row(ml=ml)}, is_ct=True), rules)
        assert [finding.subject for finding in found] == wrong


def test_every_file_that_it_names_exists():
    inside = ROOT / "workflow" / "src" / "backsplit"
    named = re.findall(r"`([\w./]+/[\w.]*|[\w/]+\.(?:md|py|yaml|cff|yml))`", GUIDE)
    known = {"segment/bright.py", "start/readers/sided.py"}
    lost = {n for n in named if not (ROOT / n).exists() and not (inside / n).exists()}
    assert len(named) > 20
    assert {n for n in lost if not n.startswith("results/")} <= known
