"""The case table: its rows, batches, and what was said of them."""

from __future__ import annotations

import pytest

from backsplit.cases.table import (
    Checked,
    batches,
    excluded,
    load_checked,
    open_table,
    write_checked,
)
from backsplit.errors import Code, RunError
from backsplit.store.status import Status
from support.cases import read_cases
from support.project import ct_like

SHAPE = ct_like().shape
UPRIGHT = (1, 0, 0, 0, 1, 0, 0, 0, 1)


def test_a_row_becomes_a_case(project, configured):
    project.add("a", site="north")
    project.add("b")
    project.rows[1]["lesion"] = "none"
    project.rows[0]["patient"] = "p7"
    first, second = read_cases(configured())
    folder = project.folder.resolve()
    assert (first.id, first.row, second.row) == ("a", 2, 3)
    assert first.images == {"ct": folder / "images" / "a.nii.gz"}
    assert first.lesions == {"lesion": folder / "lesions" / "a.nii.gz"} == first.lesion_files
    assert second.lesions == {"lesion": None} and not second.lesion_files
    assert first.columns["site"] == "north" and second.columns["site"] == ""
    assert first.column_path("lesion") == str(folder / "lesions" / "a.nii.gz")
    assert (first.patient, second.patient) == ("p7", "b")


@pytest.mark.parametrize(
    ("case", "patient"),
    [("sub-01_ses-2", "sub-01"), ("sub-01", "sub-01"), ("x_sub-01_ses-2", "x_sub-01_ses-2")],
)
def test_a_patient_is_told_from_an_id_as_bids_writes_it(project, configured, case, patient):
    project.add(case)
    assert read_cases(configured())[0].patient == patient


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (["case", "image_ct"], "lacks the column lesion (it has case, image_ct)"),
        (["case"], "lacks the columns image_ct, lesion (it has case)"),
    ],
)
def test_columns_that_a_table_lacks_are_named(project, configured, columns, text):
    project.add("a")
    config = configured()
    rows = "\t".join(columns) + "\n" + "\t".join("x" for _ in columns) + "\n"
    (project.folder / "cases.tsv").write_text(rows)
    with pytest.raises(RunError) as caught:
        open_table(config)
    assert caught.value.code is Code.TABLE_INVALID and text in caught.value.what


def test_batches_are_rows_in_order():
    assert batches(5, 2) == {"00001": range(0, 2), "00002": range(2, 4), "00003": range(4, 5)}
    assert batches(4, 2) == {"00001": range(0, 2), "00002": range(2, 4)}
    assert batches(0, 2) == {}


def test_a_batch_that_is_not_there_is_refused(project, configured):
    for name in "abcde":
        project.add(name)
    table = open_table(configured())
    assert len(table) == 5 and table.ids == list("abcde")
    assert [case.id for case in table.batch("00003")] == ["e"]
    assert [(case.id, case.row) for case in table.with_ids({"d", "b", "z"})] == [("b", 3), ("d", 5)]
    with pytest.raises(RunError, match="5 cases in batches of 2 make 00001 to 00003"):
        table.batch("00004")


def test_names_to_exclude_are_parted_by_semicolons(project, configured):
    project.add("a", exclude=" liver ;; vertebrae*;")
    project.add("b")
    assert [excluded(case) for case in read_cases(configured())] == [["liver", "vertebrae*"], []]


def test_what_check_said_is_read_again(project, configured):
    for name in "abc":
        project.add(name, status="my own", site=f"site {name}")
    config = configured()
    table = open_table(config)
    for name in table.batches:
        with pytest.raises(RunError, match="run `backsplit check` first"):
            load_checked(table, name)
        said = [
            Checked(case, Status.REFUSED, "NOT_3D", "flat") if case.id == "b" else
            Checked(case, Status.OK, "", "a note", "tumor: 4 voxels, 2 ml")
            for case in table.batch(name)
        ]  # fmt: skip
        write_checked(said, config.results.check.table(name))
    assert [c.drawn for c in load_checked(table)] == [
        "tumor: 4 voxels, 2 ml",
        "",
        "tumor: 4 voxels, 2 ml",
    ]
    found = [(c.case.id, str(c.status), c.code, c.message) for c in load_checked(table)]
    assert found == [("a", "ok", "", "a note"), ("b", "refused", "NOT_3D", "flat"),
                     ("c", "ok", "", "a note")]  # fmt: skip
    assert [c.case.id for c in load_checked(table, "00002")] == ["c"]
    header, row = config.results.check.table("00002").read_text().splitlines()
    assert header.split("\t") == [
        "case",
        "status",
        "code",
        "message",
        "drawn",
        "image_ct",
        "lesion",
        "site",
    ]
    assert row.split("\t")[:2] == ["c", "ok"] and row.endswith("\tsite c")
    project.rows[2]["case"] = "other"
    with pytest.raises(RunError, match="other cases than the case table"):
        load_checked(open_table(configured()), "00002")
    write_checked([], project.folder / "none.tsv")
    assert (project.folder / "none.tsv").read_text().split() == [
        "case",
        "status",
        "code",
        "message",
        "drawn",
    ]
