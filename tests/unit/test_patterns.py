"""Folders of no known layout: patterns for images, lesions and anatomy, and whose the cases are."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backsplit.errors import BacksplitError, Code
from backsplit.start.patterns import Patterns, as_expression
from support import nbia
from support.examples import examples
from support.start import by_patterns, found_in, section, started, statuses, volume


def refused(root: Path, images: dict[str, str], lesion: str = "", **more: object) -> str:
    with pytest.raises(BacksplitError) as caught:
        found_in(root, patterns=Patterns(images, lesion, **more))
    assert caught.value.code is Code.LAYOUT_UNKNOWN
    return str(caught.value)


def test_values_of_lesion_files_are_read(tmp_path):
    root = tmp_path / "data"
    for case in ("p 1", "p2"):
        volume(root / case / "scan" / "ct.nii.gz")
    volume(root / "p2" / "gtv_final.nii.gz", 1, 4)
    config, report, said = started(
        root, root, patterns=Patterns({"ct": "{case}/scan/ct.nii.gz"}, "{case}/gtv_*.nii.gz")
    )
    assert config.targets == {"lesion_1": (1,), "lesion_4": (4,)}
    table = (root / "cases.tsv").read_text().splitlines()
    assert table[1:] == ["p-1\tp 1/scan/ct.nii.gz\t", "p2\tp2/scan/ct.nii.gz\tp2/gtv_final.nii.gz"]
    decide = " ".join(section(said, "to decide"))
    assert "1 of 2 cases have no lesion file" in decide and "nothing says what they mean" in decide
    assert statuses(report) == ["refused", "ok"]  # what is not known is not taken for `none`


def test_names_of_values_tell_lesions_from_anatomy(tmp_path):
    volume(tmp_path / "p1" / "ct.nii.gz")
    volume(tmp_path / "p1" / "les.nii.gz", 1, 2)
    images, labels = {"ct": "{case}/ct.nii.gz"}, {"Right_kidney": 1, "stone": 2}
    config, report, _ = by_patterns(tmp_path, images, "{case}/les.nii.gz", labels=labels)
    assert config.targets == {"stone": (2,)}
    assert config.structures["Right_kidney"].of == ("given/Right_kidney",)
    assert config.structures["kidney_left"].of == ("organs/kidney_left",)
    assert statuses(report) == ["ok"]


def test_a_lesion_file_for_each_target(tmp_path):
    for case in ("a", "b"):
        volume(tmp_path / case / "ct.nii.gz")
        volume(tmp_path / case / "tumor.nii.gz", 255)
    volume(tmp_path / "a" / "cyst.nii.gz", 1)
    lesions = {"tumor": "{case}/tumor.nii.gz", "cyst": "{case}/cyst.nii.gz"}
    config, report, said = by_patterns(tmp_path, {"ct": "{case}/ct.nii.gz"}, lesions=lesions)
    header, first, second = (tmp_path / "mine" / "cases.tsv").read_text().splitlines()
    assert header.split("\t") == ["case", "image_ct", "lesion_tumor", "lesion_cyst"]
    assert first.endswith("cyst.nii.gz") and second.endswith("\t")
    assert any("1 of 2 cases have no file of cyst (b): write `none`" in line for line in said)
    assert list(config.targets) == ["tumor", "cyst"] and statuses(report) == ["ok", "refused"]


def test_a_file_for_each_structure_lesions_among_them(tmp_path):
    for case in ("P 1", "P_2"):
        volume(tmp_path / "ImageTr" / case / "ct.nii.gz")
        for name in ("liver", "pancreas", "liver_lesion", "Pancreatic_PDAC"):
            volume(tmp_path / "LabelTr" / case / "seg" / f"{name}.nii.gz", 1)
    config, report, _ = by_patterns(
        tmp_path, {"ct": "ImageTr/{case}/ct.nii.gz"}, "LabelTr/{case}/seg/{name}.nii.gz"
    )
    assert list(config.targets) == ["Pancreatic_PDAC", "liver_lesion"]
    assert config.segmenters["given"].labels == ("liver", "pancreas")
    assert config.structures["liver"].of == ("given/liver",)
    assert statuses(report) == ["ok", "ok"]
    columns = report.checked[0].case.columns
    assert columns["anatomy_given"].endswith("LabelTr/P 1/seg")


def test_images_beside_the_structures_are_no_structures(tmp_path):
    for case in ("a", "b"):
        for name in ("image", "Brain", "GTVp"):
            volume(tmp_path / case / f"{name}.nii.gz", *([1] * (name != "image")))
    config, report, _ = by_patterns(tmp_path, {"ct": "{case}/image.nii.gz"}, "{case}/{name}.nii.gz")
    assert config.segmenters["given"].labels == ("Brain",) and list(config.targets) == ["GTVp"]
    assert statuses(report) == ["ok", "ok"]


@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG"])
def test_names_in_lesion_files_of_dicom_become_targets(tmp_path, kind):
    nbia.nsclc(tmp_path)
    (root,) = tmp_path.glob("*/NSCLC-Radiomics")
    number = "3" if kind == "RTSTRUCT" else "300"
    config, report, said = by_patterns(
        root, {"ct": "{case}/*/0.000000-*"}, f"{{case}}/*/{number}.000000-*/*.dcm"
    )
    names = ["GTV-1", "gtv-2", "gtv-pre-op"] if kind == "RTSTRUCT" else ["Neoplasm_Primary"]
    assert list(config.targets) == names
    assert any("and how often: " in line for line in section(said, "found"))
    assert statuses(report)[:2] == ["ok", "ok"]


def test_anatomy_whose_files_are_named_after_case_and_structure(tmp_path):
    for case in ("a", "b"):
        volume(tmp_path / f"{case}_ct.nii.gz")
        volume(tmp_path / f"{case}_gtv.nii.gz", 1)
        for name in ("liver", "spleen"):
            volume(tmp_path / "organs" / f"{case}_{name}_mask.nii.gz", 1)
    config, report, _ = by_patterns(
        tmp_path,
        {"ct": "{case}_ct.nii.gz"},
        "{case}_gtv.nii.gz",
        anatomy={"drawn": "organs/{case}_{name}_mask.nii.gz"},
    )
    assert config.segmenters["drawn"].path == "{anatomy_drawn}{name}_mask.nii.gz"
    assert config.structures["spleen"].of == ("drawn/spleen",) and statuses(report) == ["ok", "ok"]
    assert report.checked[0].case.columns["anatomy_drawn"].endswith("organs/a_")


def test_anatomy_whose_files_have_names_that_no_class_can_have(tmp_path):
    for case in ("a", "b"):
        volume(tmp_path / case / "ct.nii.gz")
        volume(tmp_path / case / "gtv.nii.gz", 1)
        for name in ("Aorta", "01 Leber (ganz)", "02 Milz", "Milz", "ignore"):
            volume(tmp_path / case / "seg" / f"{name}.nii.gz", 1)
    config, report, said = by_patterns(
        tmp_path,
        {"ct": "{case}/ct.nii.gz"},
        "{case}/gtv.nii.gz",
        anatomy={"drawn": "{case}/seg/{name}.nii.gz"},
    )
    assert config.segmenters["drawn"].labels == {
        "Aorta": "Aorta", "Leber_ganz": "01 Leber (ganz)", "Milz": "Milz", "Milz_2": "02 Milz",
    }  # fmt: skip
    assert config.structures["Leber_ganz"].of == ("drawn/Leber_ganz",)
    left_out = section(said, "left out")
    assert len(left_out) == 2 and all("seg/ignore.nii.gz" in line for line in left_out)
    assert statuses(report) == ["ok", "ok"]


@pytest.mark.parametrize("named", [True, False])
def test_anatomy_in_one_file_of_its_own(tmp_path, named):
    for case in ("a", "b"):
        volume(tmp_path / case / "ct.nii.gz")
        volume(tmp_path / case / "ptv.nii.gz", 1, 2)
        volume(tmp_path / case / "organs.nii.gz", 1, 3)
    labels = {"PTV70": 1, "PTV63": 2, "brainstem": 1, "Parotid_R": 3} if named else {}
    config, report, said = by_patterns(
        tmp_path,
        {"ct": "{case}/ct.nii.gz"},
        "{case}/ptv.nii.gz",
        anatomy={"given": "{case}/organs.nii.gz"},
        labels=labels,
    )
    names = {"brainstem": 1, "Parotid_R": 3} if named else {"given_1": 1, "given_3": 3}
    assert config.segmenters["given"].labels == names
    assert config.segmenters["given"].path == "{anatomy_given}"
    assert list(config.targets) == (["PTV70", "PTV63"] if named else ["lesion_1", "lesion_2"])
    assert set(names) <= set(config.structures) and statuses(report) == ["ok", "ok"]
    decide = " ".join(section(said, "to decide"))
    assert ("values 1, 3 were found in files of given" in decide) != named
    assert section(said, "left out") == ["nothing"]


def test_anatomy_of_lesion_files_and_of_others_are_two_segmenters(tmp_path):
    volume(tmp_path / "a" / "ct.nii.gz")
    volume(tmp_path / "a" / "les.nii.gz", 1, 2)
    volume(tmp_path / "a" / "seg" / "spleen.nii.gz", 1)
    config, report, _ = by_patterns(
        tmp_path,
        {"ct": "{case}/ct.nii.gz"},
        "{case}/les.nii.gz",
        anatomy={"given": "{case}/seg/{name}.nii.gz"},
        labels={"liver": 1, "tumor": 2},
    )
    assert config.structures["liver"].of == ("given_2/liver",)
    assert config.structures["spleen"].of == ("given/spleen",) and statuses(report) == ["ok"]


def test_a_case_without_image_is_said(tmp_path):
    for case in ("a", "b"):
        volume(tmp_path / "lesions" / f"{case}.nii.gz", 1)
    volume(tmp_path / "images" / "a.nii.gz")
    _, report, said = by_patterns(tmp_path, {"ct": "images/{case}.nii.gz"}, "lesions/{case}.nii.gz")
    assert statuses(report) == ["ok", "refused"]
    line = "1 of 2 cases match no image 'images/{case}.nii.gz': b"
    assert line in section(said, "to decide")


# patients


def test_a_patient_is_known_from_whichever_pattern_names_it(tmp_path):
    for patient, case in (("p1", "a"), ("p1", "b"), ("p2", "c")):
        volume(tmp_path / "images" / f"{case}.nii.gz")
        volume(tmp_path / patient / f"{case}_seg.nii.gz", 1)
    images = {"ct": "images/{case}.nii.gz"}
    _, report, _ = by_patterns(tmp_path, images, "{patient}/{case}_seg.nii.gz")
    assert [c.case.columns["patient"] for c in report.checked] == ["p1", "p1", "p2"]


def test_cases_of_one_name_in_several_patients_are_told_apart(tmp_path):
    for patient in ("p1", "p2"):
        for case in ("pre", "post"):
            volume(tmp_path / patient / case / "ct.nii.gz")
            volume(tmp_path / patient / case / "gtv.nii.gz", 1)
    _, report, _ = by_patterns(
        tmp_path, {"ct": "{patient}/{case}/ct.nii.gz"}, "{patient}/{case}/gtv.nii.gz"
    )
    assert [c.case.id for c in report.checked] == ["p1_post", "p1_pre", "p2_post", "p2_pre"]
    assert statuses(report) == ["ok"] * 4
    volume(tmp_path / "masks" / "pre.nii.gz", 1)
    said = refused(tmp_path, {"ct": "{patient}/{case}/ct.nii.gz"}, "masks/{case}.nii.gz")
    assert "belongs to the patients p1 and p2" in said


@pytest.mark.parametrize(
    ("expression", "patients", "said"),
    [
        (r"^[0-9]+", ["1", "1", "2"], "only 2 patients: 2 folds instead of 5"),
        (r"^(\d)_", ["1", "1", "2"], "only 2 patients: 2 folds instead of 5"),
        (r"_x$", ["_x", "_x", "_x"], "all 3 cases are of one patient (_x)"),
        (
            r"nothing",
            ["1_a_x", "1_b_x", "2_a_x"],
            "--patient fits no part of 3 cases (1_a_x, 1_b_x, 2_a_x)",
        ),
    ],
)
def test_a_regular_expression_gives_the_patient(tmp_path, expression, patients, said):
    for case in ("1_a_x", "1_b_x", "2_a_x"):
        volume(tmp_path / f"{case}.nii.gz")
        volume(tmp_path / "seg" / f"{case}.nii.gz", 1)
    patterns = Patterns({"ct": "{case}.nii.gz"}, "seg/{case}.nii.gz")
    _, report, lines = started(tmp_path, patterns=patterns, patient=expression)
    assert [c.case.patient for c in report.checked] == patients
    assert any(said in line for line in section(lines, "to decide"))


def test_an_expression_that_is_none_is_refused(tmp_path):
    volume(tmp_path / "a.nii.gz")
    with pytest.raises(BacksplitError) as caught:
        found_in(tmp_path, patterns=Patterns({"ct": "{case}.nii.gz"}), patient="(")
    assert caught.value.code is Code.LAYOUT_UNKNOWN and "--patient" in caught.value.what


# what a pattern means


@pytest.mark.parametrize(
    ("pattern", "path", "case"),
    [
        ("{case}/ct_[0-9].nii.gz", "a/ct_4.nii.gz", "a"),
        ("{case}/ct_[!0-9].nii.gz", "a/ct_x.nii.gz", "a"),
        ("[a-c]_{case}.nii.gz", "b_17.nii.gz", "17"),
        ("**/{case}_ct.nii.gz", "x/y/a_ct.nii.gz", "a"),
        ("{case}/{case}.nii.gz", "[a]/[a].nii.gz", "[a]"),
        ("{case}/c?.nii.gz", "p.1/ct.nii.gz", "p.1"),
        ("{case}/[[]x].nii.gz", "a/[x].nii.gz", "a"),
    ],
)
def test_brackets_mean_the_same_in_what_is_found_and_in_what_is_captured(
    tmp_path, pattern, path, case
):
    volume(tmp_path / path)
    volume(tmp_path / "elsewhere" / "other_99.nii.gz")
    found = found_in(tmp_path, patterns=Patterns({"ct": pattern}))
    assert [c.id for c in found.cases] == [case]
    assert found.cases[0].images["ct"] == tmp_path / path


NAMES = st.text("ab]-[!^*?.\\&~|", max_size=6)


@examples(500)
@given(NAMES, NAMES)
def test_an_expression_fits_what_a_shell_pattern_fits(pattern, name):
    if "**" in pattern:
        return
    assert bool(re.fullmatch(as_expression(pattern), name)) == fnmatchcase(name, pattern)


@pytest.mark.parametrize(
    ("images", "lesion", "said"),
    [
        ({"ct": "ct.nii.gz"}, "", "names no case"),
        ({"ct": "{case}/*.nii.gz"}, "", "both fit '{case}/*.nii.gz' for the case a"),
        ({"ct": "/data/{case}.nii.gz"}, "", "does not start at"),
        ({"ct": "../{case}.nii.gz"}, "", "does not start at"),
        ({"ct": "{case}/nothing.nii.gz"}, "", "no case was found"),
        ({"ct": "{case}/ct.nii.gz"}, "{case}/{name}*.gz", "what follows {name}"),
    ],
)
def test_patterns_that_name_no_file_or_several_are_refused(tmp_path, images, lesion, said):
    volume(tmp_path / "a" / "ct.nii.gz")
    volume(tmp_path / "a" / "pet.nii.gz")
    assert said in refused(tmp_path, images, lesion)
