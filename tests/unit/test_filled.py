"""Parts and holes of organs with their lesions in them, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from backsplit.cases.instances import find_instances
from backsplit.measure.filled import in_label_map, in_segmentation
from backsplit.measure.table import measure
from backsplit.volume import Grid
from support.examples import examples

SHAPE = (5, 6, 7)
NAMES = ["background", "tumor", "liver", "spleen"]
EVERY = np.ones((3, 3, 3))


def grid_of(shape):
    return Grid(shape[::-1], (1.0, 1.0, 1.0), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def holes_of(labels, label):
    """Voxels of background whose region has no other neighbour than a label, nor the border."""
    regions, count = ndimage.label(labels == 0)
    padded = np.pad(labels, 1, constant_values=255)
    total = 0
    for region in range(1, count + 1):
        mask = np.pad(regions == region, 1)
        round_it = set(padded[ndimage.binary_dilation(mask) & ~mask].tolist()) - {0}
        total += int(mask.sum()) if round_it == {label} else 0
    return total


@examples(120)
@given(
    hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 2, 2, 2, 3])),
    st.lists(st.sampled_from([None, 2, 3]), min_size=60, max_size=60),
)
def test_parts_and_holes_equal_scipy_s_with_each_lesion_in_its_host(labels, hosts):
    grid = grid_of(SHAPE)
    lesions = find_instances(labels, np.flatnonzero(labels == 1), 1, grid)
    pairs = list(zip(lesions, hosts, strict=False))
    expected = labels.copy()
    for lesion, host in pairs:
        if host is not None:
            expected.reshape(-1)[lesion.places] = host
    image = labels.astype(np.int16)
    table = measure(image, labels, NAMES, grid, in_label_map(labels, pairs))
    for label in (2, 3):
        mask = expected == label
        sizes = np.bincount(ndimage.label(mask, EVERY)[0].ravel())[1:]
        row = table.iloc[label]
        assert row["components"] == len(sizes)
        assert row["holes_ml"] == pytest.approx(holes_of(expected, label) / 1000)
        if len(sizes):
            assert row["largest_fraction"] == pytest.approx(sizes.max() / mask.sum())
        assert row["voxels"] == (labels == label).sum()  # its own size is without lesions
    tumor = ndimage.label(labels == 1, EVERY)[1]
    assert table.iloc[1]["components"] == tumor == len(lesions)


def organ_with_a_hole(size):
    """A ball, a lesion within it, and the ball that a segmenter left the lesion out of."""
    z, y, x = np.ogrid[-12:13, -12:13, -12:13]
    ball = z**2 + y**2 + x**2 <= 100
    lesion = z**2 + y**2 + (x - 3) ** 2 <= size**2
    return ball, lesion


@pytest.mark.parametrize("size", [1, 3, 5])
def test_what_a_segmenter_left_out_for_a_lesion_is_no_hole(size):
    ball, lesion = organ_with_a_hole(size)
    composed = np.where(lesion, 1, np.where(ball, 2, 0)).astype(np.uint8)
    layer = (ball & ~lesion).astype(np.uint8) * 4
    grid = grid_of(ball.shape)
    (found,) = find_instances(composed, np.flatnonzero(lesion), 1, grid)
    names = ["background", "a", "b", "c", "liver"]
    image = composed.astype(np.int16)
    assert measure(image, layer, names, grid).iloc[4]["holes_ml"] == pytest.approx(
        lesion.sum() / 1000
    )
    for hosts in ([4], [1, 4], []):  # the class that is there takes it; without host it is no hole
        filled = in_segmentation(layer, [(found, hosts)], len(names), grid)
        row = measure(image, layer, names, grid, filled).iloc[4]
        assert row["holes_ml"] == 0 and row["components"] == 1
        assert row["voxels"] == (layer == 4).sum()
        assert (filled.array[lesion] == (4 if hosts else 5)).all()


def test_a_lesion_that_parts_its_host_leaves_it_whole():
    ball, _ = organ_with_a_hole(1)
    slab = np.zeros_like(ball)
    slab[11:14] = True
    lesion = slab & ball
    composed = np.where(lesion, 1, np.where(ball, 2, 0)).astype(np.uint8)
    grid = grid_of(ball.shape)
    (found,) = find_instances(composed, np.flatnonzero(lesion), 1, grid)
    image = composed.astype(np.int16)
    cut = measure(image, composed, NAMES, grid).iloc[2]
    assert cut["components"] == 2 and cut["stray_fraction"] > 0.3
    whole = measure(image, composed, NAMES, grid, in_label_map(composed, [(found, 2)])).iloc[2]
    assert whole["components"] == whole["largest_fraction"] == 1 and whole["stray_fraction"] == 0


def test_other_holes_stay_holes():
    ball, lesion = organ_with_a_hole(3)
    composed = np.where(lesion, 1, np.where(ball, 2, 0)).astype(np.uint8)
    composed[12, 12, 6:8] = 0
    grid = grid_of(ball.shape)
    (found,) = find_instances(composed, np.flatnonzero(lesion), 1, grid)
    filled = in_label_map(composed, [(found, 2)])
    row = measure(composed.astype(np.int16), composed, NAMES, grid, filled).iloc[2]
    assert row["holes_ml"] == pytest.approx(0.002)
    assert in_label_map(composed, [(found, None)]) is None
