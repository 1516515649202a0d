"""The workflow as a module of somebody else's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from backsplit.store.locks import claimed
from backsplit.store.results import Results
from support.project import ROOT, Project

pytestmark = pytest.mark.slow

DOCUMENT = (ROOT / "docs" / "module.md").read_text("utf-8")
TAGGED = "git+file:///opt/backsplit/workflow/Snakefile@v0.1.0"


def their_snakefile(ours: str) -> str:
    """The Snakefile that the documentation shows, with ours from elsewhere."""
    (shown,) = re.findall(r"^```\n(configfile.*?)^```$", DOCUMENT, re.M | re.S)
    assert shown.count(TAGGED) == 1
    return shown.replace(TAGGED, ours)


@pytest.fixture
def theirs(tmp_path: Path) -> Project:
    """Another workflow with a data set; its configuration holds ours in a section."""
    project = Project(tmp_path)
    project.add("a")
    project.add("b")
    project.write()
    sections = {"backsplit": project.settings, "of_their_own": 3}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(sections, sort_keys=False))
    return project


def snakemake(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *options],
        cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def repository(folder: Path) -> Path:
    """A git repository of what the workflow consists of, with a tag."""
    for name in ("Snakefile", "workflow/Snakefile"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for name in ("rules", "envs", "workflow/report"):
        shutil.copytree(ROOT / name, folder / name)
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"], ["tag", "v0.1.0"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder


def test_a_workflow_from_git_makes_the_data_set_of_another_one(theirs, tmp_path_factory):
    repo = repository(tmp_path_factory.mktemp("repo"))
    shutil.rmtree(repo / "rules")  # what is read is the tag's
    snakefile = f"git+file://{repo}/workflow/Snakefile@v0.1.0"
    (theirs.folder / "Snakefile").write_text(their_snakefile(snakefile))
    done = snakemake(theirs.folder)
    assert done.returncode == 0, done.stderr
    assert (theirs.folder / "count.txt").read_text().strip() == "2"
    labels = theirs.results / "datasets" / "nnunet" / "Dataset007_Test" / "labelsTr"
    assert len(list(labels.iterdir())) == 2
    again = snakemake(theirs.folder)
    assert "Nothing to be done" in again.stderr, again.stderr
    report = snakemake(theirs.folder, "--report", "report.zip")  # with our captions
    assert report.returncode == 0, report.stderr


@pytest.mark.parametrize("name", ["workflow/Snakefile", "Snakefile"])
def test_a_workflow_from_a_path_has_every_rule_and_takes_no_target_over(theirs, name):
    (theirs.folder / "Snakefile").write_text(their_snakefile(str(ROOT / name)))
    listed = snakemake(theirs.folder, "--list-rules").stdout.split()
    ours = {"check", "cases", "segment", "compose", "measure", "judge", "export", "report", "all"}
    assert {f"bs_{rule}" for rule in ours} | {"all", "count"} <= set(listed)
    planned = snakemake(theirs.folder, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "bs_segment" in planned.stdout and "count" in planned.stdout


def test_what_is_wrong_in_their_configuration_of_ours_is_said(theirs):
    (theirs.folder / "Snakefile").write_text(their_snakefile(str(ROOT / "Snakefile")))
    config = (theirs.folder / "config.yaml").read_text()
    (theirs.folder / "config.yaml").write_text(config.replace("  targets:", "  target:"))
    done = snakemake(theirs.folder, "--dry-run")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "config of the module" in said and "`target`" in said
    assert "of_their_own" not in said


def test_a_results_folder_in_use_is_refused(theirs):
    (theirs.folder / "Snakefile").write_text(their_snakefile(str(ROOT / "Snakefile")))
    with claimed(Results(theirs.results), "run", print):
        done = snakemake(theirs.folder)
    assert done.returncode != 0 and "RESULTS_BUSY" in done.stderr, done.stderr
    assert not (theirs.results / "check").exists()
