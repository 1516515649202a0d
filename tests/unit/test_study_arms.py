"""Arms of a study: which structures, noise and controls each has."""

from __future__ import annotations

import pytest

from backsplit.study.arms import Control, Noise, arms_of, reference_arm
from support.arms import ORGANS, arms, study


def test_an_arm_has_the_structures_that_it_names_in_the_order_of_their_ids():
    found = arms(
        study(all={}, none={"structures": []}, two={"structures": ["kidney_left", "liver"]})
    )
    assert found["all"].structures == ORGANS
    assert found["none"].structures == ()
    assert found["two"].structures == ("liver", "kidney_left")


def test_nested_arms_take_structures_in_the_order_of_compose_nested():
    found = arms(study(nested={"nested": True}), nested=("kidney_right", "liver"))
    assert {name: arm.structures for name, arm in found.items()} == {
        "nested_0": (),
        "nested_1": ("kidney_right",),
        "nested_2": ("liver", "kidney_right"),
    }


def test_an_arm_for_each_structure_that_is_left_out():
    found = arms(study(without={"leave_one_out": ["liver", "kidney_left"]}))
    assert found["without_liver"].structures == ("kidney_left", "kidney_right")
    assert found["without_kidney_left"].structures == ("liver", "kidney_right")


def test_noise_and_controls_are_read_from_their_keys():
    found = arms(
        study(
            elastic={"noise": {"elastic_mm": 6, "seed": 3}},
            swapped={"noise": {"swap": [["kidney_left", "kidney_right"]]}},
            control={"control": "blobs"},
        )
    )
    assert found["elastic"].noise == Noise("elastic", 6.0, seed=3)
    assert found["swapped"].noise == Noise("swap", pairs=(("kidney_left", "kidney_right"),))
    assert found["control"].control == Control("blobs")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"noise": {"elastic_mm": 6, "grow_mm": 3}}, "give one of"),
        ({"noise": {"elastic_mm": 6}, "control": "blobs"}, "cannot be combined"),
        ({"structures": [], "control": "blobs"}, "without structures"),
        ({"from": "nobody"}, "`from` must name"),
        ({"share": 0}, "greater than 0"),
    ],
)
def test_an_arm_that_makes_no_sense_is_refused(section, said):
    with pytest.raises(ValueError, match=said):
        study(arm=section)


def test_the_others_are_compared_with_the_arm_of_lesions_alone():
    given = study(all={}, binary={"structures": []})
    assert reference_arm(given, arms_of(given, ORGANS, ())) == "binary"
