"""The paper's protocol as configurations, and its figures beside a study's."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from backsplit.cli import app
from backsplit.config.file import load_config
from backsplit.config.study import Paper
from backsplit.start.presets import PRESETS
from backsplit.study.arms import arms_of, reference_arm
from backsplit.study.paper import FIGURES, SOURCE, beside
from support import downloads, nbia

MAKERS = {
    "kits23": downloads.kits23,
    "panther": downloads.panther,
    "nsclc": nbia.nsclc,
    "autopet": downloads.autopet,
    "mswal": downloads.mswal,
}


def init(*arguments: str):
    return CliRunner().invoke(app, ["init", "data", *arguments])


@pytest.mark.parametrize("name", MAKERS)
def test_the_protocol_of_each_data_set_is_one_command(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    MAKERS[name](Path("data"))
    done = init("--preset", name, "--study")
    assert done.exit_code == 0, done.output
    paths = sorted(Path("mine").glob("*.yaml"))
    assert len(paths) == 1 + len(PRESETS[name].sources)
    configs = [load_config(path) for path in paths]
    assert len({config.run.results for config in configs}) == len(configs)
    assert {config.study.trained for config in configs} == {Path("mine/trained")}
    for path, config in zip(paths, configs, strict=True):
        assert f"`backsplit study plan -c {path}`" in done.output
        source = path.stem.removeprefix("config").removeprefix("-")
        assert config.study.paper == "-".join(filter(None, (name, source)))
        assert config.study.folds == (0, 1, 2, 3, 4) and config.study.budget.epochs == 1000
        arms = {arm.name: arm for arm in arms_of(config.study, tuple(config.structures), ())}
        assert reference_arm(config.study, tuple(arms.values())) == "binary"
        assert arms["backsplit"].structures == tuple(config.structures)
        assert {figure.arm for figure in FIGURES[config.study.paper]} <= set(arms)


def test_kits_has_the_papers_target_and_its_ablations(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    downloads.kits23(Path("data"))
    assert init("--preset", "kits23", "--study").exit_code == 0
    config = load_config(Path("mine/config.yaml"))
    assert dict(config.targets) == {"cyst": (3,)} and list(config.structures) == ["kidney", "tumor"]
    arms = {arm.name: arm for arm in arms_of(config.study, tuple(config.structures), ())}
    assert arms["incremental_1"].structures == ("kidney",)
    assert arms["tuned"].start == "binary"
    assert {arm.unknown for arm in arms.values() if arm.share < 1} == {"marginal", "background"}
    again = init("--preset", "kits23", "--study")
    assert again.exit_code == 1 and "(code WOULD_OVERWRITE)" in again.output


@pytest.mark.parametrize("arguments", [(), ("--preset", "kits19"), ("--preset", "lits")])
def test_other_data_sets_have_no_protocol(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    downloads.kits23(Path("data"))
    done = init("--study", *arguments)
    assert done.exit_code == 1 and "--study needs a data set of the paper" in done.output
    assert "kits23, panther, nsclc, autopet, mswal" in done.output and not Path("mine").exists()


def test_figures_are_put_beside_those_of_the_study():
    assert set(FIGURES) == set(get_args(Paper))
    rows = [
        ("binary", 0, "a", "cyst", "argmax", 0.2, np.inf),
        ("binary", 1, "b", "cyst", "argmax", 0.4, 12.0),
        ("binary", 0, "c", "cyst", "argmax", np.nan, np.nan),  # nothing there, nothing predicted
        ("binary", 0, "a", "cyst", "0.5", 0.9, 1.0),
        ("binary", 0, "a", "any target", "argmax", 0.9, 1.0),
    ]
    columns = ["arm", "fold", "case", "target", "decision", "dice", "hd95_mm"]
    scores = pd.DataFrame(rows, columns=columns).assign(nsd=0.5)
    table = beside(scores, "kits23").set_index(["what", "arm", "score"])
    dice = table.loc[("main comparison", "binary", "dice")]
    assert dice["yours"] == pytest.approx(0.3) and dice["paper"] == 0.1787 and dice["cases"] == 2
    assert table.loc[("main comparison", "binary", "hd95_mm"), "yours"] == 12
    assert np.isnan(table.loc[("main comparison", "backsplit", "dice"), "yours"])
    assert (table["source"] == SOURCE).all()
