"""What Snakemake's workflow catalog asks of a workflow with standardized usage.

Its own words: https://snakemake.github.io/snakemake-workflow-catalog/docs/about/adding_workflows.html
"""

from __future__ import annotations

import yaml

from support.project import ROOT


def test_the_catalog_finds_what_it_asks_for():
    assert {"snakemake", "workflow"} <= set((ROOT / "README.md").read_text().lower().split())
    assert (ROOT / "workflow" / "Snakefile").is_file()
    assert (ROOT / "config" / "README.md").is_file()
    assert list(ROOT.glob("rules/*.smk"))


def test_the_catalog_can_read_how_the_workflow_is_used():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage.keys() == {"mandatory-flags", "software-stack-deployment", "report"}
    assert usage["mandatory-flags"].keys() == {"desc", "flags"}
    assert all(isinstance(text, str) for text in usage["mandatory-flags"].values())
    deployment = usage["software-stack-deployment"]
    assert deployment.keys() == {"conda", "apptainer", "apptainer+conda"}
    assert all(isinstance(works, bool) for works in (*deployment.values(), usage["report"]))
