"""What is wrong with a case: ids, files, geometry, label files."""

from __future__ import annotations

import numpy as np
import pytest

from backsplit.cases.check import check_cases
from backsplit.config.slices import checking
from support.cases import read_cases
from support.project import ct_like, save

SHAPE = ct_like().shape
UPRIGHT = (1, 0, 0, 0, 1, 0, 0, 0, 1)


def checked(config, **options):
    cases = read_cases(config)
    return check_cases(cases, cases, checking(config), config.dataset.cases, **options)


def codes(problems):
    return [(problem.case, problem.column, str(problem.code)) for problem in problems]


def test_sound_cases_are_ok_and_say_what_was_noted(project, configured):
    project.add("a")
    project.add("b")
    save(project.folder / "lesions" / "b.nii.gz", np.zeros(SHAPE, np.uint8),
         origin=(-40.02, -50, 60))  # fmt: skip
    problems, said = checked(configured())
    assert problems == [] and [str(c.status) for c in said] == ["ok", "ok"]
    assert said[0].message == "" and "b.nii.gz is 0.02 mm off the image grid" in said[1].message


def test_all_that_is_wrong_with_a_case_is_said(project, configured):
    project.add("a", lesion=np.full(SHAPE, 5, np.uint8), exclude="bone; spleen;f?t")
    (project.folder / "images" / "a.nii.gz").unlink()
    project.add("b")
    project.rows[1] |= {"image_ct": "", "lesion": ""}
    problems, said = checked(configured())
    assert codes(problems) == [
        ("a", "image_ct", "FILE_MISSING"), ("a", "lesion", "LABEL_UNDECLARED"),
        ("a", "exclude", "PATTERN_UNMATCHED"), ("b", "image_ct", "FILE_MISSING"),
        ("b", "lesion", "FILE_MISSING"),
    ]  # fmt: skip
    assert [str(c.status) for c in said] == ["refused", "refused"]
    assert said[0].code == "FILE_MISSING,LABEL_UNDECLARED,PATTERN_UNMATCHED"
    assert said[1].code == "FILE_MISSING"
    assert [p.row for p in problems] == [2, 2, 2, 3, 3]
    assert (
        problems[2].value == "bone; spleen;f?t"
        and "'spleen' is not a structure" in problems[2].what
    )
    assert problems[3].what == "is empty" and problems[3].value == ""
    assert said[1].message == (
        "image_ct: is empty; give the path of the image; lesion: is empty; "
        "give the lesion file, or `none` if the patient has no lesion"
    )


INVALID = "is not a valid case id"
RESERVED = "is a reserved name (backsplit or Windows)"


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("a", None), ("A.b_c-9", None), ("x" * 128, None), ("x" * 129, INVALID),
        ("", INVALID), ("-a", INVALID), ("a..b", INVALID),
        ("a/b", INVALID), ("ä", INVALID),
        ("labels", RESERVED), ("Con", RESERVED), ("lpt1.x", RESERVED), ("labels2", None),
    ],
)  # fmt: skip
def test_ids_are_names_of_files_on_every_system(project, configured, case, said):
    project.add("a")
    project.rows[0]["case"] = case
    problems, _ = checked(configured())
    assert [p.what for p in problems] == ([said] if said else [])
    assert {str(p.code) for p in problems} <= {"CASE_ID_INVALID"}


def test_rows_of_one_id_name_each_other(project, configured):
    for name in ("a", "b", "A"):
        project.add(name)
    problems, said = checked(configured())
    assert codes(problems) == [
        ("a", "case", "CASE_ID_DUPLICATE"),
        ("A", "case", "CASE_ID_DUPLICATE"),
    ]
    assert "duplicates row 4 " in problems[0].what
    assert "duplicates row 2 " in problems[1].what
    assert [str(c.status) for c in said] == ["refused", "ok", "refused"]
    project.rows[:] = [dict(project.rows[0], case="a") for _ in range(12)]
    (problem, *_), _ = checked(configured())
    assert "duplicates row 3, 4, 5, 6, 7, 8, 9, 10, 11 " in problem.what


def test_channels_have_to_overlap_and_may_have_grids_of_their_own(project, configured):
    project.add("near")
    project.add("far")
    project.add("same")
    pet = np.arange(6 * 6 * 7, dtype=np.int16).reshape(6, 6, 7)
    save(project.folder / "near.nii.gz", pet, spacing=(9, 9, 9))
    save(project.folder / "far.nii.gz", pet, spacing=(9, 9, 9), origin=(4000, 0, 0))
    save(project.folder / "same.nii.gz", ct_like(5))
    for row in project.rows:
        row["image_pet"] = f"{row['case']}.nii.gz"
    config = configured(dataset=project.settings["dataset"] | {"channels": ["ct", "pet"]})
    problems, said = checked(config, threads=1)
    assert codes(problems) == [("far", "image_pet", "GRID_NO_OVERLAP")]
    assert said[0].message == "pet has its own grid (7x6x6 voxels of 9x9x9 mm)"
    assert said[2].message == ""


def test_given_label_files_are_held_against_the_grid(project, configured):
    project.add("a")
    project.add("b")
    save(project.folder / "organs" / "a.nii.gz", np.ones(SHAPE, np.uint8))
    given = {"kind": "files", "path": "organs/{case}.nii.gz", "labels": {"liver": 1}}
    settings = {"segmenters": {"given": given}, "structures": {"liver": "given/liver"}}
    problems, said = checked(configured(**settings))
    assert not problems and said[0].message == ""
    assert said[1].message == "given has no file organs/b.nii.gz (labels)"
    save(project.folder / "organs" / "b.nii.gz", np.ones((5, 5, 5), np.uint8), (5, 5, 5))
    problems, said = checked(configured(**settings))
    assert codes(problems) == [("b", "segmenters.given", "GRID_MISMATCH")]
    assert said[1].status == "ok" and not said[1].code  # its structures are unknown, that is all
    assert said[1].message.startswith("given, labels: ") and "(GRID_MISMATCH)" in said[1].message
    kits = given | {"path": "{lesion}", "labels": {"liver": 9}}
    assert checked(configured(segmenters={"given": kits}))[0] == []


def test_a_file_that_breaks_a_reader_is_one_problem(project, configured, monkeypatch):
    project.add("a")

    def broken(*_):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("backsplit.cases.check.check_lesion", broken)
    problems, _ = checked(configured())
    assert codes(problems) == [("a", "lesion", "INTERNAL")]
    assert "could not be checked (ZeroDivisionError: by zero)" in problems[0].what
