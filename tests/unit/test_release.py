"""What is said of a release, in several files, is the same."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import yaml

from backsplit import __version__
from support.documents import DOCUMENTS
from support.project import ROOT


def notes(tag: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / ".github" / "release_notes.py"), tag]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_notes_of_a_release_are_the_changelog_s_lines():
    done = notes(f"v{__version__}")
    assert done.returncode == 0, done.stderr
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert done.stdout.startswith("- ") and done.stdout.strip() in changelog
    assert "\n## " not in done.stdout


def test_a_tag_of_another_version_is_refused():
    done = notes("v99.0")
    assert done.returncode != 0 and __version__ in done.stderr


def test_the_citation_names_the_paper_and_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == __version__
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["preferred-citation"]["identifiers"][0]["value"] == "arXiv:2511.19394"


def test_the_public_ci_runs_targets_that_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert runs and all(f"\n{run.removeprefix('make ')}: " in makefile for run in runs)
    versions = jobs["unit"]["strategy"]["matrix"]["python"]
    assert versions[0] == "3.11" and len(versions) == 3


def test_the_public_ci_checks_the_addresses_that_make_links_checks():
    (listed,) = re.findall(r"^LINKED := (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.M)
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    (step,) = (step for step in jobs["links"]["steps"] if "lychee" in step["uses"])
    assert step["with"] == {"args": f"--config lychee.toml {listed}", "fail": True}
    files = {path for pattern in shlex.split(listed) for path in ROOT.glob(pattern)}
    assert files >= set(DOCUMENTS)
