"""Lesion files: which of their values are which target; single lesions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backsplit.cases.claims import file_values, target_claims
from backsplit.cases.instances import Given, find_instances, grown
from backsplit.cases.lesion import check_lesion, read_lesion
from backsplit.config.slices import lesion_values
from backsplit.errors import CaseError, Code
from backsplit.volume import Grid, LabelMap, read_grid
from backsplit.volume.drawn import Drawn
from support.cases import read_cases
from support.dicom import write_rtstruct
from support.project import ct_like, load, save

SHAPE = ct_like().shape
UPRIGHT = (1, 0, 0, 0, 1, 0, 0, 0, 1)


def lesion_case(project, configured, lesion, **sections):
    project.add("a", lesion=lesion)
    config = configured(**sections)
    (case,) = read_cases(config)
    return case, lesion_values(config), read_grid(case.images["ct"])


def asked_of(config):
    (case,) = read_cases(config)
    return file_values(case, "lesion", lesion_values(config))


def values_at(*values, dtype=np.uint8):
    lesion = np.zeros(SHAPE, dtype)
    for number, value in enumerate(values):
        lesion[4 + number, 8:10, 9 + number] = value
    return lesion


def test_values_of_a_lesion_file_are_targets(project, configured):
    case, values, grid = lesion_case(project, configured, values_at(1, 2))
    lesion = read_lesion(case, values, grid)
    assert lesion.claims == {1: (1,), 2: (2,)} and lesion.given is None
    np.testing.assert_array_equal(lesion.map.array, load(case.lesions["lesion"]))
    for known in (grid, None):
        assert check_lesion(case, "lesion", values, known).notes == ()
    project.rows[0]["lesion"] = "none"
    config = configured()
    assert read_lesion(read_cases(config)[0], lesion_values(config), grid) is None


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
    case, values, grid = lesion_case(project, configured, values_at(1, 2, 3), targets=targets)
    lesion = read_lesion(case, values, grid)
    assert lesion.claims == claims and (lesion.given is not None) == instances


def test_a_value_that_nobody_declares_is_refused(project, configured):
    case, values, grid = lesion_case(project, configured, values_at(1, 5, 7, 7))
    with pytest.raises(CaseError) as caught:
        read_lesion(case, values, grid)
    assert caught.value.code is Code.LABEL_UNDECLARED
    assert caught.value.what.endswith(
        "holds the value 5 (2 voxels); declared values: 0 background, 1 tumor, 2 cyst"
    )


def test_lesion_values_read_as_anatomy_are_declared(project, configured):
    kits = {"kind": "files", "path": "{lesion}", "labels": {"kidney": 5}}
    case, values, grid = lesion_case(
        project, configured, values_at(1, 5), targets={"tumor": "*"},
        segmenters={"kits": kits}, structures={"kidney": "kits/kidney"},
    )  # fmt: skip
    declared = file_values(case, "lesion", values).declared
    assert declared == {0: "background", 5: "kidney", "*": "tumor"}
    assert read_lesion(case, values, grid).claims == {1: (1,)}


def test_dicom_names_are_matched_to_targets(project, configured):
    project.add("a")
    config = configured(targets={"tumor": "GTV*", "cyst": ["Cyst", 4]})
    labels = LabelMap(
        values_at(1, 2, 3, 9), Grid(SHAPE[::-1], (1, 1, 1), (0, 0, 0), UPRIGHT),
        {"GTV-1": 1, "GTV-2": 2, "Cyst": 3, "Heart": 5}, {9: (1, 3, 5), 10: (5,), 11: (2, 1)},
    )  # fmt: skip
    assert target_claims(Path("x.dcm"), labels, asked_of(config)) == {
        1: (1,), 2: (1,), 3: (2,), 9: (1, 2), 11: (1,),
    }  # fmt: skip
    nothing = LabelMap(labels.array, labels.grid, {"Heart": 5, "Lung": 6})
    config = configured(targets={"tumor": "GTV*", "cyst": "Cyst"})
    with pytest.raises(CaseError) as caught:
        target_claims(Path("x.dcm"), nothing, asked_of(config))
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
    (case,), values = read_cases(config), lesion_values(config)
    grid = read_grid(case.images["ct"])
    note = (
        f"a.nii.gz is put from {read_grid(case.lesions['lesion']).describe()} on the image's grid"
    )
    assert check_lesion(case, "lesion", values, grid).notes == (note,)
    lesion = read_lesion(case, values, grid)
    before = 12 * np.prod(spacing) / 1000
    after = (lesion.map.array == 1).sum() * 12 / 1000
    assert lesion.map.notes == (
        note,
        f"tumor: {before:.4g} ml before, {after:.4g} ml after",
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
    (case,), values = read_cases(config), lesion_values(config)
    lesion = read_lesion(case, values, read_grid(case.images["ct"]))
    assert lesion.map.notes[1].startswith("tumor: 0.018 ml before, ")
    assert set(np.unique(lesion.map.array)) == {0, value}


def test_dicom_is_not_looked_at_without_its_image(project, configured):
    targets = {"tumor": "GTV"}
    case, values, grid = lesion_case(project, configured, values_at(1), targets=targets)
    write_rtstruct(case.lesions["lesion"], {"another region": []})
    assert check_lesion(case, "lesion", values, None).notes == ()
    with pytest.raises(CaseError) as caught:
        check_lesion(case, "lesion", values, grid)
    assert caught.value.code is Code.LABEL_UNDECLARED


def test_each_region_of_a_target_has_a_voxel(project, configured, monkeypatch):
    case, values, grid = lesion_case(
        project, configured, values_at(1, 3), targets={"tumor": "GTV*", "cyst": "Cyst"}
    )
    drawn = {n: Drawn("contours", 4, None, 0.2, tolerance_ml=0.9) for n in (1, 2, 3, 5)}
    names = {"GTV-1": 1, "GTV-2": 2, "Cyst": 3, "Heart": 5}
    labels = LabelMap(values_at(1, 3), grid, names, drawn=drawn)
    monkeypatch.setattr("backsplit.cases.lesion.read_label_map", lambda *_, **__: labels)
    for read in (read_lesion, lambda *of: check_lesion(of[0], "lesion", *of[1:])):
        with pytest.raises(CaseError) as caught:
            read(case, values, grid)
        assert caught.value.code is Code.LESION_LOST
        assert "'GTV-2' (4 contours, 0.2 ml) has no voxel" in caught.value.what
    labels = LabelMap(values_at(1, 9), grid, names, {9: (2, 3)}, drawn=drawn)
    assert read_lesion(case, values, grid) is not None  # where they overlap both have one


@pytest.mark.parametrize(("ml", "fine"), [(0.024, True), (0.036, True), (0.037, False)])
def test_a_region_that_is_put_on_the_grid_keeps_its_volume(
    project, configured, monkeypatch, ml, fine
):
    """Two voxels of 12 mm³, where 12 mm³ more or less are usual; said before any GPU time."""
    case, values, grid = lesion_case(project, configured, values_at(1), targets={"tumor": "GTV"})
    drawn = {1: Drawn("contours", 4, None, ml, tolerance_ml=0.012)}
    labels = LabelMap(values_at(1), grid, {"GTV": 1}, drawn=drawn)
    monkeypatch.setattr("backsplit.cases.lesion.read_label_map", lambda *_, **__: labels)
    if fine:
        assert check_lesion(case, "lesion", values, grid).drawn[0].parts == 4
        return
    with pytest.raises(CaseError) as caught:
        check_lesion(case, "lesion", values, grid)
    assert caught.value.code is Code.LESION_CHANGED
    assert "0.037 ml of tumor in 4 contours; on the image's grid it would be 0.024 ml" in (
        caught.value.what
    )


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
    numbers = np.repeat(np.arange(301)[:, None], 4, axis=1)
    found = find_instances(labels, np.flatnonzero(labels), 2, grid, Given(given, numbers))
    assert [(i.number, i.target, i.voxels) for i in found] == [(7, 1, 1), (8, 2, 1), (300, 1, 2)]
    assert found[2].box == (slice(1, 2), slice(1, 2), slice(1, 4))
    assert found[2].centroid_mm == (12.0, 22.0, 33.0)
    assert found[2].mask((slice(0, 2), slice(1, 3), slice(1, 4)), labels.shape).tolist() == [
        [[False] * 3] * 2, [[True, False, True], [False] * 3],
    ]  # fmt: skip
    assert find_instances(labels * 0, np.flatnonzero(labels), 2, grid) == []
