"""Snakemake's own report holds the same tables and figures, with captions and categories."""

from __future__ import annotations

import json
import re
import zipfile

import pytest

pytestmark = pytest.mark.slow

EVIL = '<img src=x onerror="alert(1)"></script><script>alert(2)</script>'

EXPECTED = {
    "Cases": {"flags.tsv": "Flags of each case", "verdicts.tsv": "Every case of the table"},
    "Lesions": {"lesions.tsv": "Every lesion with its size"},
    "Report": {"index.html": "The report on the data set"},
    "Structures": {
        "distributions.svg": "Volume and median intensity",
        "overruled.svg": "Where two layers label",
    },
}


def variable(page: str, name: str) -> dict:
    """A variable that the report's script declares as JSON."""
    start = re.search(rf"var {name} = (?=\{{)", page).end()
    return json.JSONDecoder().raw_decode(page[start:])[0]


def test_tables_and_figures_have_their_place(project):
    for case in ("one", "two"):
        project.add(case, note=EVIL)
    project.write(run={"batch_size": 2, "device": "cpu"})
    (project.results / "qc").mkdir(parents=True)
    decisions = project.results / "qc" / "decisions.tsv"
    decisions.write_text(f"case\tdecision\tnote\none\treview\t{EVIL.replace(chr(34), '')}\n")
    project.snakemake()
    page = (project.results / "report" / "cases" / "one.html").read_text("utf-8")
    assert "alert(2)</script>" not in page
    project.snakemake("--report", "out.zip")
    project.snakemake("--report", "out.html")
    with zipfile.ZipFile(project.folder / "out.zip") as archive:
        names = archive.namelist()
        zipped = archive.read("out/report.html").decode()
        tables = {name.rpartition("/")[2]: archive.read(name).decode() for name in names}
    whole = (project.folder / "out.html").read_text("utf-8")
    for text in (zipped, whole):
        categories, results = variable(text, "categories"), variable(text, "results")
        found = {
            category: {
                results[path]["name"]: results[path]["caption"]
                for paths in groups.values()
                for path in paths
            }
            for category, groups in categories.items()
        }
        assert {c: set(files) for c, files in found.items()} == {
            c: set(files) for c, files in EXPECTED.items()
        }
        for category, files in EXPECTED.items():
            for name, words in files.items():
                assert words in found[category][name]
        assert "alert(2)" not in text  # what is embedded is embedded as data
    assert tables["lesions.tsv"].count("\n") == 5  # two cases with a tumour and a cyst each
    assert "<svg" in tables["distributions.svg"] and "review" in tables["verdicts.tsv"]
