"""The conda environment and the constraints: whole, alike, and enough."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def pins(lines) -> dict[str, str]:
    found = (re.fullmatch(r"([a-z0-9.-]+)==(\S+)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


@pytest.fixture(scope="module")
def constraints():
    return pins((ROOT / "envs" / "constraints.txt").read_text().splitlines())


@pytest.fixture(scope="module")
def conda():
    data = yaml.safe_load((ROOT / "envs" / "backsplit.yaml").read_text())
    (of_pip,) = [part["pip"] for part in data["dependencies"] if isinstance(part, dict)]
    found = pins(of_pip)
    assert len(found) == len(of_pip), "conda reads this file far from any other: versions only"
    return found


def test_conda_has_the_versions_that_everything_is_tested_with(conda, constraints):
    assert conda.items() <= constraints.items()


def test_conda_has_all_that_the_package_asks_for(conda):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for line in (*project["dependencies"], *extras["slurm"], *extras["dicom"]):
        asked = Requirement(line)
        assert asked.specifier.contains(conda[canonicalize_name(asked.name)]), line


def test_what_tests_alone_need_is_not_in_it(conda, constraints):
    assert {"pytest", "ruff", "mypy", "hypothesis"} <= constraints.keys() - conda.keys()


def test_every_rule_that_runs_something_names_it():
    for path in sorted((ROOT / "rules").glob("*.smk")):
        for rule in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            if "shell:" not in rule:
                continue  # a target, no job
            assert '"../envs/backsplit.yaml"' in rule, rule.splitlines()[0]
