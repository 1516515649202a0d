"""What grows with a data set: jobs with the batches, work with the new cases alone."""

from __future__ import annotations

import re

import pandas as pd
import pytest

pytestmark = pytest.mark.slow


def jobs_planned(project):
    text = project.snakemake("--dry-run", "--quiet", "rules").stdout
    return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", text, re.MULTILINE)}


def times(project, *folders):
    return {
        path.relative_to(project.results).as_posix(): path.stat().st_mtime_ns
        for folder in folders
        for path in (project.results / folder).rglob("*")
        if path.is_file()
    }


def test_a_growing_last_batch_runs_only_its_new_cases(project):
    for number in range(5):
        project.add(f"case_{number}")
    for batch_size, batches in ((1, 5), (5, 1), (3, 2)):
        project.settings["run"] = {"batch_size": batch_size, "device": "cpu", "pictures": False}
        project.write()
        planned = jobs_planned(project)
        for_each = {planned[rule] for rule in ("check", "segment", "compose", "measure")}
        assert for_each == {batches}
        # cases, judge, export, pages, report, manifest, all
        assert planned["total"] == 4 * batches + 7
    project.snakemake()
    assert not list((project.results / "qc" / "cases").glob("*.png"))
    folders = ("segment", "labels", "qc/cases")
    before = times(project, *folders)
    kept = pd.read_parquet(project.results / "qc" / "measures.parquet")

    project.add("case_5")  # fills the second batch
    project.add("case_6")
    project.write()
    project.snakemake()
    after = times(project, *folders)
    written = {name for name in after if after[name] != before.get(name)}
    cases = {re.search(r"case_\d", name)[0] for name in written if "case_" in name}
    assert cases == {"case_5", "case_6"}
    assert not [name for name in written if name.endswith("00001.tsv")]
    grown = pd.read_parquet(project.results / "qc" / "measures.parquet")
    assert list(dict.fromkeys(grown["case"])) == [f"case_{number}" for number in range(7)]
    old = grown[grown["case"].isin(kept["case"])]
    pd.testing.assert_frame_equal(old, kept)
