"""Commands that documents show run, as they are shown, in the project that documents show.

All but those that tests/support/document_commands.py lists.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from backsplit.cli import app
from support.document_commands import HERE, SUBPROCESS, here, run_by
from support.documents import Command, blocks
from support.project import ROOT, Project

pytestmark = pytest.mark.slow


def table(document: str) -> list[list[str]]:
    """The table that a document shows, cells of each line."""
    (block,) = (b for b in blocks("") if b.document == document and b.code.startswith("case\t"))
    return [line.split("\t") for line in block.code.splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the project of docs/own-data.md, and the cases of docs/review.md, after a run.

    Its structures come from intensities; of the network there are the demo's weights.
    """
    folder = tmp_path_factory.mktemp("documents")
    project = Project(folder / "mine")
    head, *rows = table("docs/own-data.md")
    for case in [row[0] for row in rows + table("docs/review.md")[1:]]:
        project.add(case)
    assert list(project.rows[0]) == head
    assert [list(row.values()) for row in project.rows[: len(rows)]] == rows
    (shown_there,) = (b for b in blocks("yaml") if b.document == "docs/own-data.md")
    given = yaml.safe_load(shown_there.code)
    organs = {**given["segmenters"]["organs"], "weights": "demo", "fastest": True}
    project.settings |= {
        **{name: given[name] for name in ("dataset", "run")},
        "targets": {**given["targets"], "cyst": 2},
        "segmenters": {**given["segmenters"], "organs": organs},
        "structures": {"fat": given["structures"]["fat"]},
        "export": {"bids": {}, "segmentations": ["seg_nrrd"]},
    }
    project.settings["run"] |= {"device": "cpu", "pages": "all"}
    project.write()
    for name in ("Snakefile", "rules", "envs", "profiles", "workflow"):  # as in a clone
        (folder / name).symlink_to(ROOT / name)
    with contextlib.chdir(folder):
        call("backsplit run")
        yield folder


def call(line: str) -> str:
    """Call a command as a shell does."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"{line}\nexit $?"],
        env={**os.environ, "PATH": path, "HOME": str(Path.cwd())},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def run(line: str) -> None:
    """Run a command in the current folder."""
    if line.startswith(SUBPROCESS):
        call(line)
        return
    program, *arguments = shlex.split(line)
    assert program == "backsplit", f"say in NOT_RUN why nothing runs {line!r}, or run it in a test"
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("line", HERE)
def test_a_command_runs(finished, line):
    run(line)


@pytest.mark.parametrize("line", ["docker pull backsplit", "backsplit labels nowhere"])
def test_a_command_that_nothing_runs_is_noticed(finished, line):
    new = Command("README.md:1", line, whole=True)
    assert run_by(new) is None
    with pytest.raises(AssertionError):
        run(here(new))


def test_a_run_leaves_what_is_listed(finished):
    (listing,) = (block for block in blocks("") if block.document == "docs/results.md")
    first = [line[:38].strip() for line in listing.code.splitlines() if line.startswith("results/")]
    assert len(first) > 10
    for entry in first:
        path, *more = re.split(r" \+ |, ", re.sub(r"<\w+>|…|NAME", "*", entry))
        same_name = re.sub(r"(\.nii)?\.\w+$", "", path)
        for name in [path, *(same_name + end if end[0] == "." else end for end in more)]:
            found = (finished / "mine" / "results").glob(name.removeprefix("results/"))
            assert list(found), name


def test_the_decisions_that_are_shown_count(finished):
    head, *rows = table("docs/review.md")
    decisions = finished / "mine" / "results" / "qc" / "decisions.tsv"
    decisions.write_text("".join("\t".join(row) + "\n" for row in [head, *rows]))
    assert CliRunner().invoke(app, ["judge"]).exit_code == 0
    verdicts = pd.read_csv(decisions.with_name("verdicts.tsv"), sep="\t").set_index("case")
    assert [verdicts["verdict"][row[0]] for row in rows] == [row[1] for row in rows]


def test_the_demo_has_the_table_that_is_shown(finished):
    assert CliRunner().invoke(app, ["demo", "make", "demo"]).exit_code == 0
    written = [line.split("\t") for line in Path("demo/cases.tsv").read_text().splitlines()]
    assert written[:2] == table("docs/tutorial-phantoms.md")
