"""Colours of labels: told apart as they are drawn, by every eye; by the colour-science package."""

from __future__ import annotations

import colour
import numpy as np
import pytest

from backsplit.scheme.colours import FILL, GREY, LINE, TARGETS, is_outlined, label_colours

DEMO = (
    *("lungs", "liver", "spleen", "kidney_right", "kidney_left", "heart", "aorta", "vertebrae"),
    *("fat", "soft_tissue"),
)
ABDOMEN = (
    *("spleen", "kidney_right", "kidney_left", "gallbladder", "liver", "stomach", "pancreas"),
    *("colon", "duodenum", "aorta", "inferior_vena_cava", "urinary_bladder", "prostate"),
)
HEAD_AND_NECK = (
    *("brain", "spinal_cord", "parotid_left", "parotid_right", "submandibular_left"),
    *("submandibular_right", "esophagus", "trachea", "thyroid_gland", "mandible", "skull"),
    *("common_carotid_artery_left", "common_carotid_artery_right"),
)
SETS = {"demo": DEMO, "abdomen": ABDOMEN, "head and neck": HEAD_AND_NECK}

APART = 4.0
"""CIEDE2000; below about 1 nobody sees a difference, from 2 on anybody who compares does (Luo, Cui
and Rigg 2001; Mokrzycki and Tatol 2011)."""

SIGHTS = {
    "normal": np.eye(3),
    "protanopia": colour.blindness.matrix_cvd_Machado2009("Protanomaly", 1.0),
    "deuteranopia": colour.blindness.matrix_cvd_Machado2009("Deuteranomaly", 1.0),
}


def colours_of(names, targets=("tumor",)):
    all_names = ["background", *targets, *names, "ignore"]
    return dict(zip(all_names, label_colours(all_names, len(targets)), strict=True))


def seen(rgb, sight: str, opacity: float) -> np.ndarray:
    """CIE Lab of colours over soft tissue."""
    blended = ((1 - opacity) * GREY + opacity * np.array(rgb, float)) / 255
    linear = colour.models.eotf_sRGB(blended) @ SIGHTS[sight].T
    return colour.XYZ_to_Lab(colour.RGB_to_XYZ(np.clip(linear, 0, 1), "sRGB"))


def distances(first, second) -> np.ndarray:
    return colour.delta_E(first[:, None], second[None], method="CIE 2000")


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("names", SETS.values(), ids=SETS)
def test_structures_are_apart_as_they_are_drawn(names, sight):
    colours = colours_of(names)
    for lines, opacity in ((False, FILL), (True, LINE)):
        drawn = [colours[name] for name in names if is_outlined(name) == lines]
        if not drawn:
            continue
        lab = seen(drawn, sight, opacity)
        apart = distances(lab, lab)[~np.eye(len(drawn), dtype=bool)]
        assert not len(apart) or apart.min() > APART
        # from the image itself, from lesions and from what is unknown
        others = [seen([(GREY,) * 3], sight, 1.0), seen(TARGETS[:3], sight, 1.0)]
        assert distances(lab, np.concatenate(others)).min() > APART


def test_fat_and_bone_are_lines():
    lines = ["fat", "torso_fat", "subcutaneous_fat", "vertebrae", "vertebrae_L1", "rib_left_3"]
    lines += ["hip_left", "femur_right", "sacrum", "bone", "skull", "soft_tissue", "body"]
    assert all(is_outlined(name) for name in lines)
    filled = ["liver", "fatty_liver_part", "lung_upper_lobe_left", "aorta", "spinal_cord", "tribe"]
    assert not any(is_outlined(name) for name in ["liver", *filled[2:]])


@pytest.mark.parametrize("names", [*SETS.values(), [f"s{i}" for i in range(60)]])
def test_never_three_in_a_row_are_blue_violet(names):
    rgb = np.array([c for n, c in colours_of(names).items() if n in names]) / 255
    oklab = colour.XYZ_to_Oklab(colour.RGB_to_XYZ(rgb, "sRGB", apply_cctf_decoding=True))
    hue = np.degrees(np.arctan2(oklab[:, 2], oklab[:, 1])) % 360
    violet = (hue > 262) & (hue < 330)
    assert not (violet[2:] & violet[1:-1] & violet[:-2]).any()


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("aorta", 0, 40), ("iliac_artery_left", 0, 40), ("portal_vein", 240, 280),
     ("inferior_vena_cava", 240, 280), ("lung_left", 210, 260), ("gallbladder", 130, 165)],
)  # fmt: skip
def test_hues_are_those_of_atlases(name, low, high):
    rgb = np.array(colours_of([name])[name]) / 255
    lab = colour.XYZ_to_Oklab(colour.RGB_to_XYZ(rgb, "sRGB", apply_cctf_decoding=True))
    assert low < np.degrees(np.arctan2(lab[2], lab[1])) % 360 < high


def test_colours_depend_on_what_came_before_alone():
    few, many = colours_of(ABDOMEN[:5]), colours_of((*ABDOMEN, *DEMO[-3:]))
    assert all(many[name] == few[name] for name in few)
    assert len(label_colours([f"s{i}" for i in range(1000)], 9)) == 1000
    assert colours_of(ABDOMEN) == colours_of(ABDOMEN)
