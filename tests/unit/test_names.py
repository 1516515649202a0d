"""Names that come from elsewhere: of cases, channels, structures, files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from totalsegmentator.registry import get_task_classes

from backsplit.config.base import is_case_id
from backsplit.start.names import (
    case_ids,
    is_mask_name,
    lesions_and_anatomy,
    stem,
    structure_name,
)
from support.examples import examples

SAME = {
    "kidney_right": ["Right_kidney", "kidney-R", "RightKidney", "kidney right", "Kidneys_Right",
                     "R_kidney", "kidneyR", "RKidney", "KIDNEY_RIGHT"],
    "kidney": ["kidney", "Kidneys", "KIDNEY"],
    "lung_left": ["Lung-Left", "left lung", "lungs_left", "LeftLung", "Lung_L"],
    "urinary_bladder": ["bladder", "Urinary Bladder", "UrinaryBladder"],
    "esophagus": ["oesophagus", "Esophagus"],
    "gallbladder": ["gall_bladder", "Gallbladder", "GallBladder"],
    "inferior_vena_cava": ["postcava", "IVC", "inferior vena cava"],
    "adrenal_gland_left": ["left_adrenal_gland", "AdrenalGlandLeft", "adrenal_left"],
    "vertebrae_l1": ["vertebrae_L1"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "spelling"), [(n, s) for n, all_ in SAME.items() for s in all_])
def test_a_structure_is_the_same_however_it_is_spelled(name, spelling):
    assert structure_name(spelling) == name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("kidney_left", "kidney_right"), ("kidney_left", "kidney"),
        ("vertebrae_L1", "vertebrae_R1"),
        ("lung", "lung_left"), ("pancreas", "pancrea_head"), ("colon", "small_bowel"),
        ("adrenal_gland_left", "kidney_left"), ("iliac_vena_left", "iliac_artery_left"),
    ],
)  # fmt: skip
def test_different_structures_stay_different(one, other):
    assert structure_name(one) != structure_name(other)


@pytest.mark.parametrize("task", ["total", "total_mr", "head_glands_cavities"])
def test_classes_of_totalsegmentator_stay_different(task):
    names = list(get_task_classes(task).values())
    assert len({structure_name(name) for name in names}) == len(names)


def test_ids_of_cases_are_such_as_check_takes():
    names = [
        *("p 001 (pre)", "p.001", "Müller", "Muller", "#12", "-x", "p'1", "[a]", "p.001.nii"),
        *("CON", "con", "nul.x", "labels", "a..b", "肝", "P.001", "a", "a", "a-2", "x" * 300),
    ]
    ids = case_ids(names)
    assert all(map(is_case_id, ids)) and len({i.lower() for i in ids}) == len(names)
    assert ids[:4] == ["p-001-pre", "p.001", "Muller", "Muller-2"]
    assert ids[names.index("CON")] == "case-CON"


@examples()
@given(st.lists(st.text(max_size=12), max_size=8))
def test_ids_of_any_names_are_valid_and_differ(names):
    ids = case_ids(names)
    assert all(map(is_case_id, ids)) and len({i.lower() for i in ids}) == len(names)


@pytest.mark.parametrize(
    ("names", "lesions"),
    [
        ("kidney tumor cyst", "tumor cyst"),
        ("liver cancer", "cancer"),
        ("GTVp GTVn lung", "GTVp GTVn"),
        ("left right", "left right"),
        ("brain_mets brain", "brain_mets"),
        ("meniscus metatarsal Lesion", "Lesion"),
        ("masseter mass adrenal_masses2", "mass adrenal_masses2"),
        ("lung pleural_effusion aneurysm", "pleural_effusion aneurysm"),
        ("brain edema enhancing_tumor TumorCore", "edema enhancing_tumor TumorCore"),
        ("gallstone gallbladder lymph_node PDAC", "gallstone lymph_node PDAC"),
    ],
)
def test_lesions_are_told_from_anatomy_by_name(names, lesions):
    found, _ = lesions_and_anatomy({name: i + 1 for i, name in enumerate(names.split())})
    assert list(found) == lesions.split()


@pytest.mark.parametrize(
    ("name", "is_mask"),
    [
        ("T1w_label-lesion_roi", True), ("ct_seg", True), ("brainmask", False), ("msk", True),
        ("annotation_1", True), ("gtv", True), ("lesionMask", True), ("desc-brain_mask", True),
        ("T1w", False), ("ct", False), ("SUV", False), ("flair", False), ("dwi", False),
    ],
)  # fmt: skip
def test_files_that_are_called_as_masks_are(name, is_mask):
    assert is_mask_name(name) == is_mask


def test_every_volume_that_can_be_read_is_found():
    names = ["a.nii.gz", "a.NII", "a.nrrd", "a.nhdr", "a.mha", "a.mhd"]
    assert {stem(name) for name in names} == {"a"}
    assert stem("a.nii.gz.txt") is None and stem("a.raw") is None and stem("._a.nii.gz") is None
