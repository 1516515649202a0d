"""Rows of the case table, what is wrong with them, and what their lesion files say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backsplit.cases.check import check_cases
from backsplit.cases.instances import find_instances, grown
from backsplit.cases.labels import label_files, put_on_grid, require_placeable, snap_note
from backsplit.cases.lesion import (
    VOLUME_TOLERANCE,
    check_lesion,
    declared_values,
    read_lesion,
    target_claims,
)
from backsplit.cases.table import (
    Checked,
    batches,
    excluded,
    load_checked,
    open_table,
    write_checked,
)
from backsplit.config.model import Config
from backsplit.errors import CaseError, Code, RunError
from backsplit.store.status import Status
from backsplit.volume import Grid, LabelMap, read_grid
from support.project import ct_like, load, save

SHAPE = ct_like().shape
UPRIGHT = (1, 0, 0, 0, 1, 0, 0, 0, 1)


@pytest.fixture
def configured(project, monkeypatch):
    """Write the project and read its configuration, as it is seen from its folder."""
    monkeypatch.chdir(project.folder)

    def read(**sections):
        project.write(**sections)
        return Config.model_validate(project.settings)

    return read


def read_cases(config):
    table = open_table(config)
    return table.cases(range(len(table)))


def checked(config, **options):
    cases = read_cases(config)
    return check_cases(cases, cases, config, **options)


def codes(problems):
    return [(problem.case, problem.column, str(problem.code)) for problem in problems]


# the table


def test_a_row_becomes_a_case(project, configured):
    project.add("a", site="north")
    project.add("b")
    project.rows[1]["lesion"] = "none"
    project.rows[0]["patient"] = "p7"
    first, second = read_cases(configured())
    folder = project.folder.resolve()
    assert (first.id, first.row, second.row) == ("a", 2, 3)
    assert first.images == {"ct": folder / "images" / "a.nii.gz"}
    assert first.lesion == folder / "lesions" / "a.nii.gz" and second.lesion is None
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
            Checked(case, Status.OK, "", "a note")
            for case in table.batch(name)
        ]  # fmt: skip
        write_checked(said, config.results.check.table(name))
    found = [(c.case.id, str(c.status), c.code, c.message) for c in load_checked(table)]
    assert found == [("a", "ok", "", "a note"), ("b", "refused", "NOT_3D", "flat"),
                     ("c", "ok", "", "a note")]  # fmt: skip
    assert [c.case.id for c in load_checked(table, "00002")] == ["c"]
    header, row = config.results.check.table("00002").read_text().splitlines()
    assert header.split("\t") == ["case", "status", "code", "message", "image_ct", "lesion", "site"]
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
    ]


# what is wrong with a case


def test_sound_cases_are_ok_and_say_what_was_noted(project, configured):
    project.add("a")
    project.add("b")
    save(project.folder / "lesions" / "b.nii.gz", np.zeros(SHAPE, np.uint8),
         origin=(-40.02, -50, 60))  # fmt: skip
    problems, said = checked(configured())
    assert problems == [] and [str(c.status) for c in said] == ["ok", "ok"]
    assert said[0].message == "" and "b.nii.gz lies 0.02 mm off its image" in said[1].message


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
        problems[2].value == "bone; spleen;f?t" and "'spleen' is no structure" in problems[2].what
    )
    assert problems[3].what == "is empty" and problems[3].value == ""
    assert said[1].message == (
        "image_ct: is empty; give the path of the image; lesion: is empty; "
        "give the lesion file, or `none` where the patient has no lesion"
    )


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("a", None), ("A.b_c-9", None), ("x" * 128, None), ("x" * 129, "is no case id"),
        ("", "is no case id"), ("-a", "is no case id"), ("a..b", "is no case id"),
        ("a/b", "is no case id"), ("ä", "is no case id"),
        ("labels", "is a name of ours or of Windows"), ("Con", "is a name of ours or of Windows"),
        ("lpt1.x", "is a name of ours or of Windows"), ("labels2", None),
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
    assert "stands in row 4 as well" in problems[0].what
    assert "stands in row 2 as well" in problems[1].what
    assert [str(c.status) for c in said] == ["refused", "ok", "refused"]
    project.rows[:] = [dict(project.rows[0], case="a") for _ in range(12)]
    (problem, *_), _ = checked(configured())
    assert "stands in row 3, 4, 5, 6, 7, 8, 9, 10, 11 as well" in problem.what


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
    assert said[0].message == "pet is on a grid of its own (7x6x6 voxels of 9x9x9 mm)"
    assert said[2].message == ""


def test_given_label_files_are_held_against_the_grid(project, configured):
    project.add("a")
    project.add("b")
    save(project.folder / "organs" / "a.nii.gz", np.ones(SHAPE, np.uint8))
    given = {"kind": "files", "path": "organs/{case}.nii.gz", "labels": {"liver": 1}}
    settings = {"segmenters": {"given": given}, "structures": {"liver": "given/liver"}}
    assert checked(configured(**settings))[0] == []  # that b has none is said by the segmenter
    save(project.folder / "organs" / "b.nii.gz", np.ones((5, 5, 5), np.uint8))
    problems, _ = checked(configured(**settings))
    assert codes(problems) == [("b", "segmenters.given", "GRID_MISMATCH")]
    assert problems[0].value is None
    kits = given | {"path": "{lesion}", "labels": {"liver": 9}}
    assert checked(configured(segmenters={"given": kits}))[0] == []


def test_a_file_that_breaks_a_reader_is_one_problem(project, configured, monkeypatch):
    project.add("a")

    def broken(*_):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("backsplit.cases.check.check_lesion", broken)
    problems, _ = checked(configured())
    assert codes(problems) == [("a", "lesion", "INTERNAL")]
    assert "could not be looked at (ZeroDivisionError: by zero)" in problems[0].what


# label files


def test_label_files_lie_where_the_pattern_says(project, configured):
    project.add("a", organs="more/a.nii.gz")
    several = {"kind": "files", "path": "x/{case}/{name}.nii.gz", "labels": ["liver", "fat"]}
    one = {"kind": "files", "path": "{organs}", "labels": {"bone": 1}}
    config = configured(
        segmenters={"several": several, "one": one},
        structures={"liver": "several/liver", "bone": "one/bone"},
    )
    (case,) = read_cases(config)
    assert label_files(config.segmenters["several"], case) == {
        "liver": Path("x/a/liver.nii.gz"), "fat": Path("x/a/fat.nii.gz"),
    }  # fmt: skip
    found = label_files(config.segmenters["one"], case)
    assert found == {"labels": project.folder.resolve() / "more" / "a.nii.gz"}
    one["path"] = "{case}/{organs}"
    config = configured(segmenters={"several": several, "one": one})
    found = label_files(config.segmenters["one"], case)
    assert found == {"labels": Path(f"a/{project.folder.resolve()}/more/a.nii.gz")}
    one["path"] = "{other}/{case}.nii.gz"
    config = configured(segmenters={"several": several, "one": one})
    with pytest.raises(
        RunError, match=r"names \{other\}, but the table has case, image_ct, lesion"
    ):
        label_files(config.segmenters["one"], case)


@pytest.mark.parametrize(
    ("policy", "drawn_on", "placed"),
    [
        ("channels", "pet", True), ("channels", "other", False), ("any", "other", True),
        ("any", "pet", True), ("refuse", "pet", False), ("refuse", "ct", True),
        ("any", "far", False),
    ],
)  # fmt: skip
def test_labels_on_other_grids_are_placed_where_allowed(
    project, configured, policy, drawn_on, placed
):
    project.add("a")
    save(project.folder / "pet.nii.gz", np.zeros((8, 8, 8), np.int16), spacing=(5, 5, 5))
    project.rows[0]["image_pet"] = "pet.nii.gz"
    dataset = project.settings["dataset"] | {"channels": ["ct", "pet"], "other_grids": policy}
    config = configured(dataset=dataset)
    (case,) = read_cases(config)
    reference = read_grid(project.folder / "images" / "a.nii.gz")
    pet = read_grid(project.folder / "pet.nii.gz")
    grid = {
        "pet": pet, "ct": reference, "other": Grid((9, 9, 9), (4, 4, 4), pet.origin, UPRIGHT),
        "far": Grid((9, 9, 9), (4, 4, 4), (900, 0, 0), UPRIGHT),
    }[drawn_on]  # fmt: skip
    labels = LabelMap(np.ones(grid.shape, np.uint8), grid, {"n": 1}, {3: (1, 2)}, ("before",))
    path = Path("drawn.nii.gz")
    if not placed:
        for act in (
            lambda: require_placeable(path, grid, reference, case, config.dataset),
            lambda: put_on_grid(path, labels, reference, case, config.dataset),
        ):
            with pytest.raises(CaseError) as caught:
                act()
            code = Code.GRID_NO_OVERLAP if drawn_on == "far" else Code.GRID_MISMATCH
            assert caught.value.code is code
        return
    require_placeable(path, grid, reference, case, config.dataset)
    found = put_on_grid(path, labels, reference, case, config.dataset)
    assert found.grid == reference and found.array.shape == reference.shape and found.array.any()
    assert (found.names, found.overlaps, found.notes[0]) == ({"n": 1}, {3: (1, 2)}, "before")
    if drawn_on == "ct":
        assert found.notes == ("before",)
    else:
        note = f"drawn.nii.gz was put from {grid.describe()} on the image's grid"
        assert found.notes[1:] == (note,)


def test_a_channel_without_a_file_lends_no_grid(project, configured):
    project.add("a")
    project.rows[0]["image_pet"] = "missing.nii.gz"
    config = configured(dataset=project.settings["dataset"] | {"channels": ["ct", "pet"]})
    (case,) = read_cases(config)
    reference = read_grid(case.images["ct"])
    other = Grid((9, 9, 9), (4, 4, 4), reference.origin, UPRIGHT)
    with pytest.raises(CaseError) as caught:
        require_placeable(Path("drawn.nii.gz"), other, reference, case, config.dataset)
    assert caught.value.code is Code.GRID_MISMATCH


@pytest.mark.parametrize(("off", "noted"), [(0.0, False), (0.0009, False), (0.0011, True)])
def test_only_what_float32_does_not_round_away_is_noted(off, noted):
    grid = Grid((4, 4, 4), (1, 1, 1), (0, 0, 0), UPRIGHT)
    other = Grid((4, 4, 4), (1, 1, 1), (off, 0, 0), UPRIGHT)
    assert bool(snap_note(Path("x.nii"), other, grid)) == noted


# lesion files


def lesion_case(project, configured, lesion, **sections):
    project.add("a", lesion=lesion)
    config = configured(**sections)
    (case,) = read_cases(config)
    return case, config, read_grid(case.images["ct"])


def values_at(*values, dtype=np.uint8):
    lesion = np.zeros(SHAPE, dtype)
    for number, value in enumerate(values):
        lesion[4 + number, 8:10, 9 + number] = value
    return lesion


def test_values_of_a_lesion_file_are_targets(project, configured):
    case, config, grid = lesion_case(project, configured, values_at(1, 2))
    lesion = read_lesion(case, config, grid)
    assert lesion.claims == {1: (1,), 2: (2,)} and not lesion.instances
    np.testing.assert_array_equal(lesion.map.array, load(case.lesion))
    assert check_lesion(case, config, grid) == () == check_lesion(case, config, None)
    project.rows[0]["lesion"] = "none"
    configured()
    assert read_lesion(read_cases(config)[0], config, grid) is None


@pytest.mark.parametrize(
    ("targets", "claims", "instances"),
    [
        ({"tumor": [1, 2], "cyst": 3}, {1: (1,), 2: (1,), 3: (2,)}, True),
        ({"tumor": "*"}, {1: (1,), 2: (1,), 3: (1,)}, True),
        ({"tumor": "*", "cyst": 2}, {1: (1,), 3: (1,), 2: (2,)}, True),
        ({"tumor": 1, "cyst": 2, "scar": 3}, {1: (1,), 2: (2,), 3: (3,)}, False),
        ({"tumor": 1, "cyst": 2, "scar": 3, "rare": 9},
         {1: (1,), 2: (2,), 3: (3,), 9: (4,)}, False),
    ],
)  # fmt: skip
def test_lists_and_wildcards_make_values_instances(project, configured, targets, claims, instances):
    case, config, grid = lesion_case(project, configured, values_at(1, 2, 3), targets=targets)
    lesion = read_lesion(case, config, grid)
    assert lesion.claims == claims and lesion.instances == instances


def test_a_value_that_nobody_declares_is_refused(project, configured):
    case, config, grid = lesion_case(project, configured, values_at(1, 5, 7, 7))
    with pytest.raises(CaseError) as caught:
        read_lesion(case, config, grid)
    assert caught.value.code is Code.LABEL_UNDECLARED
    assert caught.value.what.endswith(
        "holds the value 5 (2 voxels), declared are 0 background, 1 tumor, 2 cyst"
    )


def test_lesion_values_read_as_anatomy_are_declared(project, configured):
    kits = {"kind": "files", "path": "{lesion}", "labels": {"kidney": 5}}
    case, config, grid = lesion_case(
        project, configured, values_at(1, 5), targets={"tumor": "*"},
        segmenters={"kits": kits}, structures={"kidney": "kits/kidney"},
    )  # fmt: skip
    assert declared_values(config) == {0: "background", 5: "kidney", "*": "tumor"}
    assert read_lesion(case, config, grid).claims == {1: (1,)}


def test_dicom_names_are_matched_to_targets(project, configured):
    project.add("a")
    config = configured(targets={"tumor": "GTV*", "cyst": ["Cyst", 4]})
    labels = LabelMap(
        values_at(1, 2, 3, 9), Grid(SHAPE[::-1], (1, 1, 1), (0, 0, 0), UPRIGHT),
        {"GTV-1": 1, "GTV-2": 2, "Cyst": 3, "Heart": 5}, {9: (1, 3, 5), 10: (5,), 11: (2, 1)},
    )  # fmt: skip
    assert target_claims(Path("x.dcm"), labels, config) == {
        1: (1,), 2: (1,), 3: (2,), 4: (2,), 9: (1, 2), 11: (1,),
    }  # fmt: skip
    nothing = LabelMap(labels.array, labels.grid, {"Heart": 5, "Lung": 6})
    config = configured(targets={"tumor": "GTV*", "cyst": "Cyst"})
    with pytest.raises(CaseError) as caught:
        target_claims(Path("x.dcm"), nothing, config)
    assert caught.value.what == (
        "x.dcm has none of the targets GTV*, Cyst; it has 5 'Heart', 6 'Lung'"
    )


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.5), (4.0, 4.0, 6.0), (1.9, 2.0, 3.0)])
def test_a_lesion_from_another_grid_keeps_its_volume_and_says_so(project, configured, spacing):
    project.add("a")
    drawn = np.zeros((20, 20, 20), np.uint8)
    drawn[2, 2:5, 2:6] = 1
    save(project.folder / "lesions" / "a.nii.gz", drawn, spacing=spacing)
    config = configured(dataset=project.settings["dataset"] | {"other_grids": "any"})
    (case,) = read_cases(config)
    grid = read_grid(case.images["ct"])
    assert check_lesion(case, config, grid) == ("a.nii.gz will be put on the image's grid",)
    lesion = read_lesion(case, config, grid)
    before = 12 * np.prod(spacing) / 1000
    after = (lesion.map.array == 1).sum() * 12 / 1000
    large = " (CHANGED)" if abs(after / before - 1) > VOLUME_TOLERANCE else ""
    assert lesion.map.notes == (
        f"a.nii.gz was put from {read_grid(case.lesion).describe()} on the image's grid",
        f"tumor: {before:.4g} ml before, {after:.4g} ml after{large}",
    )
    assert after == pytest.approx(before, abs=0.0121)


@pytest.mark.parametrize("value", [255, 256, 65535])
def test_the_volume_of_any_value_is_held_against_that_before(project, configured, value):
    project.add("a")
    drawn = np.zeros((20, 20, 20), np.uint16)
    drawn[2, 2:5, 2:6] = value
    save(project.folder / "lesions" / "a.nii.gz", drawn, spacing=(1.0, 1.0, 1.5))
    dataset = project.settings["dataset"] | {"other_grids": "any"}
    config = configured(dataset=dataset, targets={"tumor": value})
    (case,) = read_cases(config)
    lesion = read_lesion(case, config, read_grid(case.images["ct"]))
    assert lesion.map.notes[1].startswith("tumor: 0.018 ml before, ")
    assert set(np.unique(lesion.map.array)) == {0, value}


def test_dicom_is_not_looked_at_without_its_image(project, configured):
    case, config, grid = lesion_case(project, configured, values_at(1))
    case.lesion.write_bytes(bytes(128) + b"DICM" + b"no more than that")
    assert check_lesion(case, config, None) == ()
    with pytest.raises(CaseError) as caught:
        check_lesion(case, config, grid)
    assert caught.value.code is Code.FILE_UNREADABLE


# single lesions


def test_a_box_grows_by_so_many_mm_and_a_voxel_and_ends_at_the_grid():
    grid = Grid((50, 40, 30), (0.7, 1.0, 4.0), (0, 0, 0), UPRIGHT)
    box = (slice(10, 12), slice(20, 21), slice(3, 5))
    assert grown(box, 4.1, grid) == (slice(7, 15), slice(14, 27), slice(0, 12))
    assert grown(box, 4.0, grid) == (slice(8, 14), slice(15, 26), slice(0, 12))
    assert grown(box, 500, grid) == (slice(0, 30), slice(0, 40), slice(0, 50))
    assert grown(box, 0, grid) == (slice(9, 13), slice(19, 22), slice(2, 6))


def test_lesions_that_the_file_numbers_keep_their_numbers():
    labels = np.zeros((4, 5, 6), np.uint8)
    given = np.zeros(labels.shape, np.uint16)
    labels[1, 1, 1:4], given[1, 1, 1:4] = 1, [300, 7, 300]
    labels[2, 2, 2], given[2, 2, 2] = 2, 8
    labels[3, 3, 3], given[3, 3, 3] = 3, 9  # a structure, no target
    grid = Grid((6, 5, 4), (1, 2, 3), (10, 20, 30), UPRIGHT)
    found = find_instances(labels, np.flatnonzero(labels), 2, grid, given)
    assert [(i.number, i.target, i.voxels) for i in found] == [(7, 1, 1), (8, 2, 1), (300, 1, 2)]
    assert found[2].box == (slice(1, 2), slice(1, 2), slice(1, 4))
    assert found[2].centroid_mm == (12.0, 22.0, 33.0)
    assert found[2].mask((slice(0, 2), slice(1, 3), slice(1, 4)), labels.shape).tolist() == [
        [[False] * 3] * 2, [[True, False, True], [False] * 3],
    ]  # fmt: skip
    assert find_instances(labels * 0, np.flatnonzero(labels), 2, grid) == []
