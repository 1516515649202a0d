"""Changes of the case table: rows, ids, cells, columns."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from support.project import save
from support.tiny import Change, Tiny, lesions


def many_cases(tiny: Tiny) -> None:
    for number, case in enumerate(("d", "e"), start=3):
        tiny.new_case(case, number)
    tiny.settings["qc"]["cohort"] = {"fewest": 5}


def add_case(tiny: Tiny) -> None:
    if all(row["case"] != "d" for row in tiny.rows):
        tiny.new_case("d", 4)


def add_case_first(tiny: Tiny) -> None:
    add_case(tiny)
    tiny.rows.insert(0, tiny.rows.pop())


def remove_case(case: str, tiny: Tiny) -> None:
    tiny.rows = [row for row in tiny.rows if row["case"] != case]


def rename_case(tiny: Tiny) -> None:
    """Another id for the same files."""
    for row in tiny.rows:
        if row["case"] == "c":
            row["case"] = "renamed"
            organ = tiny.folder / "organs" / "c.nii.gz"
            if organ.exists():
                organ.with_name("renamed.nii.gz").write_bytes(organ.read_bytes())


def exchange_ids(tiny: Tiny) -> None:
    for row in tiny.rows:
        row["case"] = {"a": "c", "c": "a"}.get(row["case"], row["case"])


def reverse_rows(tiny: Tiny) -> None:
    tiny.rows.reverse()


def cell(case: str, column: str, value: str) -> Change:
    def change(tiny: Tiny) -> None:
        for row in tiny.rows:
            if row["case"] == case:
                row[column] = value

    return change


def every_cell(column: str, value: str) -> Change:
    def change(tiny: Tiny) -> None:
        for row in tiny.rows:
            row[column] = value

    return change


def without_column(column: str) -> Change:
    def change(tiny: Tiny) -> None:
        for row in tiny.rows:
            row.pop(column, None)

    return change


def lesion_files(tiny: Tiny) -> None:
    """A lesion file for each target instead of one for both."""
    for number, row in enumerate(tiny.rows):
        row.pop("lesion", None)
        for value, target in enumerate(("tumor", "cyst"), start=1):
            path = f"lesions/{number}_{target}.nii.gz"
            save(tiny.folder / path, (lesions(number) == value).astype("uint8"))
            row[f"lesion_{target}"] = path


def reverse_columns(tiny: Tiny) -> None:
    tiny.rows = [dict(reversed(row.items())) for row in tiny.rows]


TABLE_CHANGES: Mapping[str, Change] = {
    "case added": add_case,
    "case added first": add_case_first,
    "case removed": partial(remove_case, "a"),
    "last case removed": partial(remove_case, "c"),
    "case renamed": rename_case,
    "ids exchanged": exchange_ids,
    "rows reversed": reverse_rows,
    "id twice": cell("c", "case", "b"),
    "id invalid": cell("c", "case", "../c"),
    "columns reversed": reverse_columns,
    "image_ct": cell("a", "image_ct", "images/b.nii.gz"),
    "image_ct empty": cell("a", "image_ct", ""),
    "image_mr": cell("a", "image_mr", "images/b_mr.nii.gz"),
    "lesion": cell("a", "lesion", "lesions/b.nii.gz"),
    "lesion none": cell("a", "lesion", "none"),
    "lesion empty": cell("a", "lesion", ""),
    "lesion files of each target": lesion_files,
    "a lesion file of one target": every_cell("lesion_cyst", "none"),
    "patient": cell("a", "patient", "p1"),
    "patient gone": without_column("patient"),
    "exclude": cell("a", "exclude", "liver; cord"),
    "exclude unknown": cell("a", "exclude", "nothing"),
    "exclude gone": without_column("exclude"),
    "site": cell("a", "site", "s1"),
    "site gone": without_column("site"),
    "masks": cell("a", "masks", "masks/c"),
    "masks nowhere": cell("a", "masks", "masks/nowhere"),
    "fold": cell("c", "fold", "0"),
    "a column more": every_cell("scanner", "x"),
}  # fmt: skip
