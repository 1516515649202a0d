"""The lesion balance: what a file says, counted before any conversion, against the label map."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cc3d
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from backsplit.cases.claims import FileValues
from backsplit.cases.drawn import DrawnTarget, drawn_targets, resampled, told
from backsplit.compose.balance import hold_balance
from backsplit.compose.layers import Overruled, State
from backsplit.errors import CaseError, Code
from backsplit.volume import LabelMap, stack_masks
from backsplit.volume.drawn import Drawn, drawn_voxels
from backsplit.volume.resample import resample_lesions
from support.composing import grid_of
from support.examples import examples

IDS = {"background": 0, "tumor": 1, "cyst": 2, "liver": 3}
VALUES = FileValues(
    "lesion", {1: (1,), 2: (2, 4)}, {1: "tumor", 2: "cyst", 5: "ignore"}, {}, (5, ()), {}
)
FILES = {"lesion": Path("a.nii.gz")}
VOXEL_ML = 0.001


def held(drawn, written, overruled=()):
    (entry,) = hold_balance(FILES, [drawn], np.array([0, *written]), overruled, VOXEL_ML, IDS)
    return entry


def voxels(count, **known):
    return DrawnTarget("tumor", "lesion", "voxels", 0, 0, count, count * VOXEL_ML, **known)


def contours(ml, tolerance_ml, parts=3, gaps=0):
    return DrawnTarget("tumor", "lesion", "contours", parts, gaps, None, ml, tolerance_ml)


def test_every_voxel_counts_where_none_is_resampled():
    entry = held(voxels(10), [10, 0])
    assert (entry.written_voxels, entry.taken_voxels, entry.voxels) == (10, 0, 10)
    for kept in (9, 11):
        with pytest.raises(CaseError) as caught:
            held(voxels(10), [kept, 0])
        assert caught.value.code is Code.LESION_CHANGED
        assert (
            f"a.nii.gz has 10 voxels of tumor; on the image's grid it would be {kept} voxels"
            in (caught.value.what)
        )
    with pytest.raises(CaseError) as caught:
        held(voxels(10), [0, 0])
    assert caught.value.code is Code.LESION_LOST
    assert held(voxels(0), [0, 0]).written_voxels == 0  # nothing was drawn, nothing is lost


def test_what_others_took_by_rule_is_no_loss():
    """Of lesions alone: what a segmenter lost is no lesion."""
    lost = [
        Overruled(State("targets", 1), State("targets", 2), 3),
        Overruled(State("targets", 1), State("organs", 3), 4),
        Overruled(State("organs", 1), State("targets", 2), 90),
        Overruled(State("targets", 2), State("targets", 1), 70),
    ]
    entry = held(voxels(10), [3, 0], lost)
    assert (entry.written_voxels, entry.taken_voxels) == (3, 7)
    assert held(voxels(7), [0, 0], lost).taken_voxels == 7  # all of it lies in a stronger target
    with pytest.raises(CaseError):
        held(voxels(11), [3, 0], lost)


@pytest.mark.parametrize(
    ("ml", "tolerance", "kept", "code"),
    [(0.010, 0.002, 8, None), (0.010, 0.002, 12, None), (0.010, 0.002, 7, "LESION_CHANGED"),
     (0.010, 0.002, 13, "LESION_CHANGED"), (0.001, 0.9, 0, "LESION_LOST"), (0.0, 0.5, 3, None)],
)  # fmt: skip
def test_contours_may_differ_by_what_their_conversion_may_change(ml, tolerance, kept, code):
    if code is None:
        assert held(contours(ml, tolerance), [kept, 0]).written_voxels == kept
        return
    with pytest.raises(CaseError) as caught:
        held(contours(ml, tolerance), [kept, 0])
    assert caught.value.code == code and "3 contours" in caught.value.what


def test_voxels_are_counted_by_target():
    array = np.zeros((3, 4, 5), np.uint16)
    array[0, 0], array[1, 0, :2], array[2, 0, 0] = 1, 2, 4
    labels = LabelMap(array, grid_of(array.shape, (1, 2, 3)))
    labels = replace(labels, drawn=drawn_voxels(labels.counts, labels.grid))
    tumor, cyst = drawn_targets(labels, {1: (1,), 2: (2,), 4: (2,)}, VALUES)
    assert (tumor.voxels, cyst.voxels) == (5, 3) and cyst.ml == pytest.approx(0.018)
    assert told([tumor, cyst]) == "tumor: 5 voxels, 0.03 ml; cyst: 3 voxels, 0.018 ml"
    assert told([voxels(0), contours(1.5, 0)]) == "tumor: nothing; tumor: 3 contours, 1.5 ml"


@examples(80)
@given(hnp.arrays(bool, (3, 3, 4, 5)))
def test_a_voxel_that_masks_of_a_target_share_counts_once(masks):
    """Segments 1 is the tumour; 2 and 4 are the cyst, and may overlap."""
    grid = grid_of(masks.shape[1:])
    numbers = (1, 2, 4)
    array, overlaps = stack_masks(zip(numbers, masks, strict=True), masks.shape[1:], 4)
    drawn = {
        n: Drawn("frames", int(m.any(axis=(1, 2)).sum()), int(m.sum()), float(m.sum()) * VOXEL_ML)
        for n, m in zip(numbers, masks, strict=True)
    }
    labels = LabelMap(array, grid, dict(zip("abc", numbers, strict=True)), overlaps, (), drawn)
    claims = {1: (1,), 2: (2,), 4: (2,)}
    tumor, cyst = drawn_targets(labels, claims, VALUES)
    union = masks[1] | masks[2]
    assert tumor.voxels == masks[0].sum() and cyst.voxels == union.sum()
    assert cyst.ml == pytest.approx(union.sum() * VOXEL_ML)
    assert cyst.kind == "frames" and tumor.is_empty == (not masks[0].any())


@examples(40)
@given(
    st.integers(0, 10**6), st.tuples(*[st.floats(0.7, 4)] * 3), st.tuples(*[st.floats(0.7, 4)] * 3)
)
def test_resampling_stays_within_its_tolerance(seed, spacing, other):
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(16, 18, 20)), 1.5)
    mask = np.zeros(noise.shape, np.uint8)
    inside = (slice(2, -2),) * 3
    mask[inside] = noise[inside] > np.quantile(noise, 0.95)
    grid = grid_of(mask.shape, spacing)
    size = [
        int(np.ceil(n * a / b)) + 2
        for n, a, b in zip(mask.shape[::-1], spacing, other, strict=True)
    ]
    to = grid_of(tuple(size[::-1]), other)
    drawn = resampled(voxels(0), mask, to)
    lesions = cc3d.connected_components(mask, connectivity=26, return_N=True)[1]
    assert drawn.voxels is None and drawn.tolerance_ml == pytest.approx(lesions * to.voxel_ml)
    of_file = DrawnTarget(
        "tumor", "lesion", "voxels", 0, 0, None, float(mask.sum() * grid.voxel_ml)
    )
    of_file = resampled(of_file, mask, to)
    moved = int((resample_lesions(mask, grid, to) > 0).sum())
    entries = hold_balance(FILES, [of_file], np.array([0, moved]), (), to.voxel_ml, IDS)
    assert entries[0].written_voxels == moved
