"""What is known of each structure: unknown is not absent, and cut off is not whole."""

from __future__ import annotations

import numpy as np
import pytest

from backsplit.compose.status import statuses, touched_sides, unknown_structures
from backsplit.scheme.scheme import Scheme
from backsplit.store.sidecars import StructureEntry
from backsplit.volume import Grid

SCHEME = Scheme(
    {"tumor": 7},
    ("background", "tumor", "liver", "kidney", "fat", "vein"),
    {
        "organs": {"liver": "liver", "kidney_left": "kidney", "kidney_right": "kidney"},
        "more": {"kidney": "kidney", "cyst": "ignore", "vein_a": "vein"},
        "tissue": {"fat": "fat"},
    },
)
UPRIGHT = (1, 0, 0, 0, 1, 0, 0, 0, 1)


@pytest.mark.parametrize(
    ("failed", "missing", "excluded", "expected"),
    [
        ({}, {}, (), {}),
        ({"tissue": "no memory"}, {}, (), {"fat": "tissue failed: no memory"}),
        # a structure of several sources is known when one of them looked for all of it
        ({"organs": "bad"}, {}, (), {"liver": "organs failed: bad"}),
        ({}, {"organs": {"kidney_left": "gone"}}, (), {}),
        (
            {"organs": "bad"},
            {"more": {"kidney": "k.nii does not exist"}},
            (),
            {
                "liver": "organs failed: bad",
                "kidney": "organs failed: bad; more/kidney: k.nii does not exist",
            },
        ),
        (
            {"more": "bad"},
            {"organs": {"kidney_left": "gone"}},
            (),
            {"kidney": "organs/kidney_left: gone; more failed: bad", "vein": "more failed: bad"},
        ),
        ({}, {"more": {"vein_a": "gone", "cyst": "no"}}, (), {"vein": "more/vein_a: gone"}),
        (
            {},
            {},
            ("liv*", "f?t", "spleen"),
            {"liver": "excluded in the case table", "fat": "excluded in the case table"},
        ),
        ({"tissue": "x"}, {}, ("fat",), {"fat": "excluded in the case table"}),
    ],
)
def test_a_structure_is_unknown_where_nobody_could_look_for_it(failed, missing, excluded, expected):
    assert unknown_structures(SCHEME, failed, missing, excluded) == expected


def test_who_labels_lesions_of_an_organ_has_not_looked_for_the_organ():
    names = ("background", "tumor", "liver")
    sources = {"organs": {"liver": "liver"}, "lesions": {"liver_lesion": "liver"}}
    scheme = Scheme({"tumor": 7}, names, sources, lent={"lesions": ("liver_lesion",)})
    failed = {"organs": "out of memory"}
    assert unknown_structures(scheme, failed, {}, ()) == {"liver": "organs failed: out of memory"}
    assert unknown_structures(scheme, {"lesions": "out of memory"}, {}, ()) == {}


def test_each_structure_has_a_status():
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[1, 2, 2:4] = 2  # within
    labels[0, 2, 0] = 3  # at two sides
    labels[2, 2, 2] = 1  # a target is no structure
    grid = Grid((6, 5, 4), (1, 1, 1), (0, 0, 0), UPRIGHT)
    counts = np.bincount(labels.ravel(), minlength=7)
    rows = statuses(labels, grid, SCHEME, counts, {"vein": "no file"})
    assert [row.model_dump() for row in rows] == [
        dict(zip(StructureEntry.model_fields, values, strict=True))
        for values in (
            ("liver", "labelled", 2, "", ""),
            ("kidney", "truncated", 1, "right,inferior", ""),
            ("fat", "absent", 0, "", ""),
            ("vein", "unknown", 0, "", "no file"),
        )
    ]


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        (UPRIGHT, ["right", "left", "anterior", "posterior", "inferior", "superior"]),
        (
            (-1, 0, 0, 0, -1, 0, 0, 0, -1),
            ["left", "right", "posterior", "anterior", "superior", "inferior"],
        ),
        (  # x of the volume runs to superior, y to the left, z to posterior
            (0, 1, 0, 0, 0, 1, 1, 0, 0),
            ["inferior", "superior", "right", "left", "anterior", "posterior"],
        ),
    ],
)
def test_sides_are_the_patient_s_whichever_way_the_volume_runs(direction, expected):
    """`expected`: sides at the low and the high end of x, y and z of the volume."""
    grid = Grid((5, 5, 5), (1, 2, 3), (0, 0, 0), direction)
    for number, side in enumerate(expected):
        labels = np.zeros((5, 5, 5), np.uint8)
        at = [2, 2, 2]
        at[2 - number // 2] = -1 if number % 2 else 0
        labels[tuple(at)] = 3
        touched = touched_sides(labels, grid, 5)
        assert touched[1:] == [[], [], [side], []]
