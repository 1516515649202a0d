"""What a shell offers for the next word: names of the configuration in use, without a delay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml

from backsplit.cli import names
from backsplit.config.model import Config
from backsplit.study.arms import arms_of

SETTINGS = {
    "dataset": {"name": "Test", "id": 7, "cases": "cases.csv", "channels": ["ct"]},
    "targets": {"tumor": 1},
    "segmenters": {
        "tissue": {"kind": "threshold", "bands": {"fat": [-190, -30], "soft": [-30, 90]}},
        "bones": {"kind": "threshold", "bands": {"bone": [250, None]}},
    },
    "structures": {"fat": "tissue/fat", "soft": "tissue/soft", "bone": "bones/bone"},
    "compose": {"nested": ["bone", "fat"]},
    "study": {
        "arms": {
            "lesions": {"structures": []},
            "all": {},
            "some": {"nested": True},
            "part": {"structures": ["fat", "soft"], "nested": True},
            "without": {"leave_one_out": ["bone", "fat"]},
            "bare": {"leave_one_out": "soft"},
        }
    },
}
TABLE = "case;image_ct\npt_1;a.nii\npt-2;b.nii\nother.3;c\n$(touch hit);d\npt 4;e\n-rf;f\n;g\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.yaml").write_text(yaml.safe_dump(SETTINGS, sort_keys=False))
    (tmp_path / "cases.csv").write_text(TABLE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def offered(complete, incomplete="", **params):
    return complete(SimpleNamespace(params=params), incomplete)


def by_bash(*words: str) -> tuple[list[str], list[str]]:
    """What bash would offer for the last word, and the modules that were imported for it."""
    code = (
        "import sys, json, atexit; from backsplit.cli import app; sys.argv = ['backsplit']; "
        "atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr)); "
        "app(prog_name='backsplit')"
    )
    environment = {"_BACKSPLIT_COMPLETE": "complete_bash", "COMP_CWORD": str(len(words))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment, "COMP_WORDS": " ".join(["backsplit", *words])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.split(), json.loads(done.stderr.splitlines()[-1])


def test_bash_is_offered_cases_and_nothing_heavy_is_imported_for_it(folder):
    found, modules = by_bash("explain", "pt")
    assert found == ["pt_1", "pt-2"]
    heavy = {"numpy", "pandas", "SimpleITK", "torch", "snakemake", "scipy", "pydicom"}
    assert not heavy & {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["segment", ""], ["tissue", "bones"]),
        (["study", "labels", "--arm", "some"], ["some_0", "some_1", "some_2"]),
        (["judge", "--explain", "other"], ["other.3"]),
        (["explain", "-c", "elsewhere.yaml", ""], []),
    ],
)
def test_each_verb_offers_the_names_that_it_takes(folder, words, expected):
    assert by_bash(*words)[0] == expected


def test_names_that_a_shell_would_not_take_literally_are_left_out(folder):
    assert offered(names.complete_cases) == ["pt_1", "pt-2", "other.3"]


def test_arms_are_those_that_the_study_has(folder):
    config = Config.model_validate(SETTINGS)
    every = arms_of(config.study, list(config.structures), config.compose.nested)
    assert offered(names.complete_arms) == [arm.name for arm in every]


@pytest.mark.parametrize("text", ["", "[", "dataset: 3", "dataset: {cases: gone.tsv}", "\0"])
def test_what_is_wrong_offers_nothing_and_says_nothing(folder, text):
    (folder / "mine/config.yaml").write_text(text)
    for complete in (names.complete_cases, names.complete_segmenters, names.complete_arms):
        assert offered(complete) == []


def test_the_configuration_on_the_command_line_counts(folder):
    other = SETTINGS | {"segmenters": {"net": {}}}
    (folder / "other.yaml").write_text(yaml.safe_dump(other))
    assert offered(names.complete_segmenters, config=folder / "other.yaml") == ["net"]
    assert offered(names.complete_segmenters, "b") == ["bones"]
