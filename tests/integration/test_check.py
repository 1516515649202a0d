"""`backsplit check`: every problem of a configuration and a table, at once."""

from __future__ import annotations

import numpy as np
import pandas as pd

from support.project import ct_like, save


def bad_table(project):
    """One case for each fault, and two that are good."""
    project.add("good_1")
    project.add("good_2")
    project.add("no_image")
    (project.folder / "images" / "no_image.nii.gz").unlink()
    project.add("twin")
    project.add("twin")
    project.add("evil")
    project.rows[-1]["case"] = "../x"
    project.add("off_grid")
    save(
        project.folder / "lesions" / "off_grid.nii.gz",
        np.zeros((9, 16, 20), np.uint8),
        spacing=(2.4, 2.4, 4.0),
    )
    project.add("shifted")
    save(
        project.folder / "lesions" / "shifted.nii.gz",
        np.zeros((12, 20, 24), np.uint8),
        origin=(-40, -50, 63),
    )
    project.add("text")
    (project.folder / "images" / "text.nii.gz").write_text("no image at all\n" * 30)
    project.add("undeclared", lesion=np.full(ct_like().shape, 5, np.uint8))
    project.add("no_lesion_given")
    project.rows[-1]["lesion"] = ""
    project.add("healthy")
    project.rows[-1]["lesion"] = "none"


EXPECTED = {
    "no_image": "FILE_MISSING",
    "twin": "CASE_ID_DUPLICATE",
    "../x": "CASE_ID_INVALID",
    "off_grid": "GRID_MISMATCH",
    "shifted": "GRID_MISMATCH",
    "text": "FILE_UNREADABLE",
    "undeclared": "LABEL_UNDECLARED",
    "no_lesion_given": "FILE_MISSING",
}


def test_each_fault_has_one_message_with_row_column_value_and_remedy(project):
    bad_table(project)
    project.write()
    said = project.run("check").stderr.splitlines()
    assert len(said) == 9 + 1  # `twin` stands twice, the rest once; then the summary
    for row, case in enumerate((r["case"] for r in project.rows), start=2):
        mine = [line for line in said if f"row {row}," in line]
        if case not in EXPECTED:
            assert not mine
            continue
        (line,) = mine
        assert f"(code {EXPECTED[case]})" in line
        assert "cases.tsv" in line and "value '" in line and "; " in line
    table = pd.read_csv(project.results / "cases.tsv", sep="\t", keep_default_na=False)
    assert list(table["case"]) == [r["case"] for r in project.rows]
    assert dict(zip(table["case"], table["code"], strict=True)) == {
        r["case"]: EXPECTED.get(r["case"], "") for r in project.rows
    }
    assert list(table.columns)[:4] == ["case", "status", "code", "message"]


def test_configuration_and_table_problems_are_reported_together(project):
    bad_table(project)
    project.write(structures={"liver": "tissue/liver"}, compose={"unknwon": "ignore"})
    said = project.run("check", ok=False).stderr
    assert "`compose.unknwon`" in said
    assert "GRID_MISMATCH" in said and "CASE_ID_DUPLICATE" in said
    project.write(compose={})
    said = project.run("check", ok=False).stderr
    assert "PATTERN_UNMATCHED" in said and "bone" in said  # what there is instead
    assert "GRID_MISMATCH" in said


def test_a_bad_table_is_one_clear_error(project):
    project.add("a")
    project.write()
    table = project.folder / "cases.tsv"
    text = table.read_text()
    for broken in (text.replace("image_ct", "image"), "", "case\timage_ct\tlesion\n", "a\tb\n1\n"):
        table.write_text(broken)
        said = project.run("check", ok=False).stderr
        assert "TABLE_INVALID" in said and "Traceback" not in said


def test_csv_serves_as_well_as_tsv(project):
    project.add("a", site="b, c")
    project.write()
    table = project.folder / "cases.tsv"
    rows = pd.read_csv(table, sep="\t")
    rows.to_csv(project.folder / "cases.csv", index=False)
    dataset = {**project.settings["dataset"], "cases": "cases.csv"}
    project.write(dataset=dataset)
    project.run("check")
    table = pd.read_csv(project.results / "cases.tsv", sep="\t")
    assert list(table["status"]) == ["ok"] and list(table["site"]) == ["b, c"]


def test_stop_makes_a_refused_case_an_error(project):
    bad_table(project)
    project.write(run={"on_bad_case": "stop"})
    assert "on_bad_case" in project.run("check", ok=False).stderr
