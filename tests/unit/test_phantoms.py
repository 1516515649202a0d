"""Phantoms: reproducible, left is left, lesions where they were asked for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from totalsegmentator.registry import get_task_classes

from backsplit.demo.phantoms import DEMO_CASES, make_phantom, write_demo

IDS = {name: value for value, name in get_task_classes("total").items()}


@pytest.fixture(scope="module")
def phantoms():
    return {case: make_phantom(seed, lesions) for case, (seed, lesions) in DEMO_CASES.items()}


def centre(phantom, name):
    """Centre of mass, mm, LPS."""
    index = ndimage.center_of_mass(phantom.anatomy == IDS[name])[::-1]
    return np.asarray(phantom.grid.origin) + np.asarray(index) * phantom.grid.spacing


def test_same_seed_same_phantom_and_another_seed_another(phantoms):
    seed, lesions = DEMO_CASES["phantom_01"]
    again = make_phantom(seed, lesions)
    for one in ("image", "anatomy", "lesion"):
        np.testing.assert_array_equal(getattr(phantoms["phantom_01"], one), getattr(again, one))
    assert (make_phantom(seed + 1).anatomy != again.anatomy).any()


def test_organs_lie_where_they_do_in_a_patient(phantoms):
    for phantom in phantoms.values():
        at = {n: centre(phantom, n) for n in ("liver", "spleen", "kidney_left", "kidney_right")}
        at |= {n: centre(phantom, n) for n in ("heart", "aorta", "vertebrae_T8", "vertebrae_L3")}
        assert at["kidney_left"][0] > 0 > at["kidney_right"][0]  # +x is the patient's left
        assert at["spleen"][0] > 0 > at["liver"][0]
        assert at["heart"][2] > at["liver"][2] > at["kidney_left"][2]
        assert at["vertebrae_T8"][2] > at["vertebrae_L3"][2]
        assert at["aorta"][1] < at["vertebrae_L3"][1]  # in front of the spine


def test_intensities_are_those_of_ct(phantoms):
    for phantom in phantoms.values():
        assert phantom.image.dtype == np.int16
        mean = {n: phantom.image[phantom.anatomy == IDS[n]].mean() for n in ("liver", "aorta")}
        assert 60 < mean["liver"] < 130 and 130 < mean["aorta"] < 200
        lung = phantom.image[phantom.anatomy == IDS["lung_upper_lobe_left"]]
        assert -900 < np.median(lung) < -780
        assert -1024 <= phantom.image.min() < -950


def test_lesions_are_in_their_organ_or_across_its_border(phantoms):
    organs = {1: ("kidney_left", "kidney_right"), 2: ("liver",)}
    for case, (_, kinds) in DEMO_CASES.items():
        phantom = phantoms[case]
        asked = {1 if kind.startswith("kidney") else 2 for kind in kinds}
        assert set(np.unique(phantom.lesion)) - {0} == asked
        for value in asked:
            lesion = phantom.lesion == value
            inside = np.isin(phantom.anatomy, [IDS[n] for n in organs[value]])
            share = (lesion & inside).sum() / lesion.sum()
            name = "kidney" if value == 1 else "liver"
            assert (share < 1) == (f"{name}_border" in kinds)
            assert share > 0.2
            assert lesion.sum() * phantom.grid.voxel_ml > 0.5
    assert sum(not kinds for _, kinds in DEMO_CASES.values()) == 1


def test_writing_twice_touches_nothing(tmp_path):
    def written():
        files = [path for folder in write_demo(tmp_path) for path in folder.iterdir()]
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    first = written()
    assert len(first) == 12
    assert written() == first


def test_a_lesion_whose_centre_would_be_bone_or_air_is_left_out():
    """It once took everything that was not the lesion."""
    phantom = make_phantom(203, ("liver_border", "liver"), (6.0, 6.0, 6.0))
    assert 0 < (phantom.lesion > 0).mean() < 0.01
