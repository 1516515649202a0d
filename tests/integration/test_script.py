"""`import backsplit` in a script: the example of the README, and what its functions give."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import backsplit
from backsplit.errors import RunError
from support.project import ROOT, Project, load

pytestmark = pytest.mark.slow

(EXAMPLE,) = re.findall(
    r"^```python\n(import backsplit\n.*?)^```$",
    (ROOT / "README.md").read_text("utf-8"),
    re.M | re.S,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Project:
    """The README's project, composed and measured by the command."""
    project = Project(tmp_path_factory.mktemp("script") / "mine")
    project.add("pt_001")
    project.add("pt_002")
    project.settings["run"]["results"] = "results"
    project.write()
    for verb in (["check"], ["segment", "tissue"], ["compose"], ["measure"]):
        project.run(*verb)
    return project


@pytest.fixture
def opened(made, monkeypatch):
    monkeypatch.chdir(made.folder)
    return backsplit.open_project("config.yaml")


def test_the_example_of_the_readme_runs(made):
    code = EXAMPLE.replace('"mine/config.yaml"', '"config.yaml"')
    assert code != EXAMPLE and len(code.splitlines()) <= 12
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=made.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "'tumor': 1" in done.stdout and "volume_ml" in done.stdout


def test_a_case_composed_in_memory_is_the_one_that_was_written(made, opened):
    written = load(made.results / "labels" / "pt_001.nii.gz")
    before = sorted(made.folder.rglob("*"))
    composed = backsplit.compose_case(opened, "pt_001")
    np.testing.assert_array_equal(composed.labels, written)
    assert sorted(made.folder.rglob("*")) == before


def test_measures_in_memory_are_those_that_were_written(opened):
    tables = backsplit.measure_case(opened, "pt_001")
    written = pd.read_parquet(opened.results.batch_quality("measures", "00001"))
    theirs = written[written["case"] == "pt_001"].drop(columns="case")
    ours = tables["measures"][theirs.columns]
    pd.testing.assert_frame_equal(
        ours.reset_index(drop=True), theirs.reset_index(drop=True), check_dtype=False
    )


def test_an_unknown_case_is_named(opened):
    with pytest.raises(RunError, match="pt_009"):
        backsplit.compose_case(opened, "pt_009")


def test_a_file_is_read_from_its_name(made, opened):
    volume = backsplit.read_volume("images/pt_001.nii.gz")
    np.testing.assert_array_equal(volume.array, load(made.folder / "images" / "pt_001.nii.gz"))
    assert backsplit.load_config("config.yaml") == opened.config


def test_importing_it_loads_no_library():
    code = (
        "import sys, backsplit; print(len([m for m in sys.modules if '.' not in m])); "
        "print(sorted({'numpy', 'pandas', 'torch', 'pydantic'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "[]"
    assert {"compose_case", "load_config"} <= set(dir(backsplit))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = backsplit.nothing
