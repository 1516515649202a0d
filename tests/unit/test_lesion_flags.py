"""Flags of lesions: empty files, gaps, masks that cover the body, lesions outside it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from backsplit.judge.lesions import flag_lesions
from backsplit.judge.verdicts import verdicts
from backsplit.measure.body import find_body
from backsplit.measure.lesions import COLUMNS, DRAWN, drawn_row, flat_end
from backsplit.store.sidecars import DrawnEntry
from backsplit.volume import Volume
from support.composing import grid_of

ENTRY = {
    "target": "tumor", "column": "lesion", "kind": "voxels", "parts": 0, "gaps": 0, "voxels": 9,
    "value": None, "ml": 0.9, "tolerance_ml": 0.0, "written_voxels": 9, "taken_voxels": 0,
}  # fmt: skip


def drawn(*entries):
    """The table of what was drawn; entries as (case, changes), and the share of the body."""
    rows = [
        {"case": case, **drawn_row(DrawnEntry(**ENTRY | entry), 0.1, 1), "body_fraction": share}
        for case, entry, share in entries
    ]
    return pd.DataFrame(rows, columns=DRAWN)


def lesions(*rows):
    known = [dict(zip(("case", "target", "instance", "volume_ml", "outside_fraction"), row,
                      strict=True)) for row in rows]  # fmt: skip
    return pd.DataFrame(known, columns=COLUMNS)


def flagged(table, of_lesions=None):
    found = flag_lesions(table, lesions() if of_lesions is None else of_lesions)
    return [(f.case, f.subject, f.rule, str(f.severity)) for f in found.itertuples()]


NOTHING = {"voxels": 0, "ml": 0.0, "written_voxels": 0}


def test_a_file_without_any_lesion_is_said_and_a_target_that_is_not_there_is_not():
    table = drawn(
        ("a", NOTHING, 0.0), ("a", NOTHING | {"target": "cyst"}, 0.0),
        ("b", NOTHING, 0.0), ("b", {"target": "cyst"}, 0.01),
        ("c", NOTHING | {"column": "lesion_tumor"}, 0.0),
        ("c", {"target": "cyst", "column": "lesion_cyst"}, 0.0),
    )  # fmt: skip
    assert flagged(table) == [
        ("a", "tumor, cyst", "lesion_empty", "warn"), ("c", "tumor", "lesion_empty", "warn"),
    ]  # fmt: skip


def test_a_mask_of_another_value_than_most_is_a_warning():
    """A file with 2 where others have 1 may hold another kind of lesion."""
    usual = [(case, {"value": 1}, 0.0) for case in "abc"]
    odd = flag_lesions(drawn(*usual, ("d", {"value": 2}, 0.0), ("e", {}, 0.0)), lesions())
    assert odd[["case", "rule", "severity", "value", "expected"]].values.tolist() == [
        ["d", "lesion_value", "warn", "2", "1, as in 3 of 4 cases"]
    ]
    assert flagged(drawn(*usual)) == []
    assert flagged(drawn(("a", {"value": 1}, 0.0), ("b", {"value": 255}, 0.0))) == []
    apart = ("d", {"value": 255, "column": "lesion_cyst", "target": "cyst"}, 0.0)
    assert flagged(drawn(*usual, apart)) == []


def test_contours_that_leave_out_slices_are_a_warning():
    with_gaps = {"kind": "contours", "parts": 4, "gaps": 3, "voxels": None}
    table = drawn(
        ("a", with_gaps, 0.0), ("b", with_gaps | {"gaps": 0}, 0.0),
        ("c", with_gaps | {"kind": "frames", "voxels": 9}, 0.0),  # a frame is what a mask has
    )  # fmt: skip
    assert flagged(table) == [("a", "tumor", "lesion_gaps", "warn")]


@pytest.mark.parametrize(("share", "said"), [(0.49, False), (0.51, True), (np.nan, False)])
def test_a_lesion_that_is_most_of_the_body_is_for_review(share, said):
    table = drawn(("a", {}, share))
    assert flagged(table) == ([("a", "tumor", "lesion_covers", "review")] if said else [])
    verdict = verdicts(["a"], flag_lesions(table, lesions()), pd.DataFrame({"case": []}))
    assert verdict["verdict"].tolist() == ["review" if said else "accept"]


def test_a_lesion_outside_the_body_is_said_once_a_target():
    rows = lesions(("a", "tumor", 1, 2.0, 0.6), ("a", "tumor", 2, 5.0, 1.0),
                   ("a", "cyst", 3, 1.0, 0.4), ("b", "tumor", 1, 1.0, np.nan))  # fmt: skip
    found = flag_lesions(drawn(), rows)
    assert found["rule"].tolist() == ["lesion_outside"] and found["case"].tolist() == ["a"]
    assert "lesion 2 (tumor) is 100% outside the body (and 1 more)" in found["message"][0]


@pytest.mark.parametrize("spacing", [(0.8, 0.8, 1.0), (2.0, 2.0, 3.0), (5.0, 5.0, 8.0)])
def test_the_body_is_where_tissue_is(spacing):
    """An ellipsoid of tissue in air, with a couch below; to within a few mm."""
    size_mm = np.array([60.0, 100.0, 140.0])
    shape = tuple(int(n) for n in size_mm / spacing[::-1])
    axes = np.meshgrid(*[(np.arange(n) + 0.5) / n - 0.5 for n in shape], indexing="ij")
    inside = (axes[1] / 0.35) ** 2 + (axes[2] / 0.42) ** 2 < 1
    image = np.where(inside, 40, -1000).astype(np.int16)
    image[:, -1] = 0
    body = find_body(Volume(image, grid_of(shape, spacing)))
    assert body is not None
    assert body.voxels == pytest.approx(inside.sum(), rel=0.06)
    well_in = (axes[1] / 0.30) ** 2 + (axes[2] / 0.36) ** 2 < 1
    well_out = (axes[1] / 0.41) ** 2 + (axes[2] / 0.48) ** 2 > 1
    assert body.outside(np.flatnonzero(well_in), shape) < 0.01
    assert body.outside(np.flatnonzero(well_out), shape) > 0.97
    assert find_body(Volume(np.full((4, 5, 6), -1000, np.int16), grid_of((4, 5, 6)))) is None


def measured(**columns):
    """Lesions of target tumor, one row each; columns are lists, or the same for all."""
    count = max(len(value) for value in columns.values() if isinstance(value, list))
    rows = {"target": "tumor", "instance": list(range(1, count + 1)), "volume_ml": 1.0} | columns
    return pd.DataFrame(rows, index=range(count)).reindex(columns=list(COLUMNS))


def said_of(rows, measures=None):
    found = flag_lesions(drawn(), rows, measures)
    return [(f.case, f.rule, str(f.severity)) for f in found.itertuples()]


def test_lesions_of_a_single_voxel_are_dust_from_three_on():
    rows = measured(case=["a"] * 4 + ["b"] * 3, voxels=[1, 1, 1, 90, 1, 1, 2])
    assert said_of(rows) == [("a", "lesion_dust", "warn")]
    assert "3 of 4 lesions are single voxels" in flag_lesions(drawn(), rows)["message"][0]


def test_a_cut_lesion_has_a_flat_end():
    """Half a ball and a ball, measured; the same half at the image's border is no cut."""
    axes = np.meshgrid(*[np.arange(24)] * 3, indexing="ij")
    ball = sum((a - 12) ** 2 for a in axes) < 81
    half = ball & (axes[0] >= 12)
    ends = [flat_end(np.argwhere(mask), (24,) * 3) for mask in (ball, half)]
    assert ends[0] < 0.5 and ends[1] == pytest.approx(1.5, abs=0.15)
    assert flat_end(np.argwhere(half) - [12, 0, 0], (24,) * 3) < 0.5
    assert np.isnan(flat_end(np.argwhere(ball[:5, :5, :5] | True)[:2], (24,) * 3))
    rows = measured(
        case=["a", "b", "c"], voxels=[1600, 3200, 100], flat_end=[ends[1], ends[0], 2.0]
    )
    assert said_of(rows) == [("a", "lesion_cut", "warn")]


def test_a_lesion_at_the_border_is_said():
    rows = measured(case=["a", "a", "b"], touches_border=[True, True, False])
    assert said_of(rows) == [("a", "lesion_border", "warn")]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_reversed_contrast_is_said_where_all_others_have_one_sign(sign):
    cases = [f"c{n:02}" for n in range(20)]
    values = sign * np.linspace(0.5, 3, 20)
    values[3], values[4] = -2 * sign, -0.5 * sign  # the latter is within the noise
    rows = measured(case=cases, contrast_to_noise=values.tolist())
    assert said_of(rows) == [("c03", "lesion_contrast", "warn")]
    assert said_of(rows[:9]) == []
    mixed = rows.assign(contrast_to_noise=[sign * (-1) ** n for n in range(20)])
    assert said_of(mixed) == []


def test_a_target_that_is_most_of_its_organ_is_said():
    rows = measured(
        case=["a", "b", "c"], volume_ml=[90.0, 70.0, 9.0], host=["liver", "liver", None]
    )
    organs = pd.DataFrame(
        {"case": ["a", "b"], "source": "labels", "structure": "liver", "volume_ml": [10.0, 30.0]}
    )
    assert said_of(rows, organs) == [("a", "lesion_fills", "warn")]
    assert "90% of liver" in flag_lesions(drawn(), rows, organs)["message"][0]
