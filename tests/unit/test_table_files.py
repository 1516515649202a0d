"""Case tables as spreadsheets save them."""

from __future__ import annotations

import pytest

from backsplit.errors import Code, RunError
from backsplit.store.tsv import read_numbered, read_table

HEADER = ["case", "image_ct", "lesion"]
ROWS = [["001", "Übung 1/ct.v1 final.nii.gz", "läsion, alt.nii.gz"], ["002", "b c.nii.gz", "none"]]


def text(separator: str, rows=(HEADER, *ROWS), line_break: str = "\r\n") -> str:
    def cell(value: str) -> str:
        return f'"{value}"' if separator in value else value

    return "".join(separator.join(map(cell, row)) + line_break for row in rows)


READ = {
    "comma.csv": text(",").encode("utf-8-sig"),
    "semicolon.csv": text(";").encode("utf-8-sig"),
    "semicolon.tsv": text(";").encode(),
    "tab.csv": text("\t").encode(),
    "comma.tsv": text(",").encode(),
    "tab.txt": text("\t").encode(),
    "old_mac.tsv": text("\t", line_break="\r").encode(),
    "excel.csv": ("sep=;\r\n" + text(";")).encode(),
    "empty_columns.csv": text(",", [[*row, "", ""] for row in (HEADER, *ROWS)]).encode(),
    "empty_rows.csv": text(",", [HEADER, ["", " ", ""], *ROWS, ["", "", ""]]).encode(),
    "rows_too_long.csv": text(",", [HEADER, *([*row, "", " "] for row in ROWS)]).encode(),
    "spaces.csv": text(" , ").encode(),
    "quoted.csv": text(",", [[f'"{cell}"' for cell in row] for row in (HEADER, ROWS[1])]).encode(),
}


@pytest.mark.parametrize("name", READ)
def test_a_table_is_read_whatever_separates_its_cells(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(READ[name].replace(b'""', b'"') if name == "quoted.csv" else READ[name])
    if name == "spaces.csv":
        path.write_bytes(READ[name].replace("läsion, alt".encode(), "läsion".encode()))
        expected = [[ROWS[0][0], ROWS[0][1], "läsion.nii.gz"], ROWS[1]]
    else:
        expected = ROWS[1:] if name == "quoted.csv" else ROWS
    assert read_table(path) == (HEADER, expected)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (text(",").encode("cp1252"), "row 2 holds the byte 0xdc, which is not UTF-8"),
        (text("\t").encode("utf-16"), "it is in UTF-16"),
        (text("\t").encode("utf-16-be"), "not UTF-8 text"),
        (text(",", [HEADER, [*ROWS[1], "", "x"]]).encode(), "row 2 has 5 cells, the header 3"),
        (
            text(",", [["case", "", "lesion"], ROWS[1]]).encode(),
            "'b c.nii.gz' in column 2, without",
        ),
        (b"", "it is empty"),
    ],
)
def test_what_cannot_be_read_says_how_to_save_it(tmp_path, content, said):
    path = tmp_path / "cases.csv"
    path.write_bytes(content)
    with pytest.raises(RunError) as caught:
        read_table(path)
    assert caught.value.code is Code.TABLE_INVALID and said in caught.value.what
    assert "save it as UTF-8 text" in caught.value.remedy


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "cases.xlsx").write_bytes(b"PK")
    with pytest.raises(RunError, match=r"one of \.tsv, \.csv, \.txt"):
        read_table(tmp_path / "cases.xlsx")


@pytest.mark.parametrize(
    ("excel", "line_break"), [("", "\n"), ("", "\r\n"), ("", "\r"), ("sep=;\r\n", "\r\n")]
)
def test_rows_have_the_lines_of_the_file(tmp_path, excel, line_break):
    path = tmp_path / "cases.csv"
    text = line_break.join(["a;b", "1;2", "", ";", "3;4"])
    path.write_text(excel + text, newline="")
    _, rows, lines = read_numbered(path)
    extra = 1 if excel else 0
    assert (rows, list(lines)) == ([["1", "2"], ["3", "4"]], [2 + extra, 5 + extra])
