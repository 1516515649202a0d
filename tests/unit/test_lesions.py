"""Measures of lesions, and agreement of segmenters, against plain readings with SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import pdist

from backsplit.cases.instances import find_instances
from backsplit.measure.agreement import agreement, compare
from backsplit.measure.lesions import diameter_mm, measure_lesion
from backsplit.store.sidecars import LesionEntry
from backsplit.volume import Grid

UPRIGHT = (1, 0, 0, 0, 1, 0, 0, 0, 1)
SPACING = (0.9, 1.7, 4.0)
NAMES = ["background", "tumor", "liver", "spleen"]


@pytest.fixture
def grid():
    return Grid((40, 30, 14), SPACING, (3.0, -7.0, 11.0), UPRIGHT)


def measured(labels, image, grid, host):
    (instance,) = find_instances(labels, np.flatnonzero(labels == 1), 1, grid)
    found = LesionEntry(
        instance=1, target="tumor", voxels=instance.voxels, volume_ml=0.1,
        centroid_mm=(0, 0, 0), box_zyx=((0, 1),) * 3, host=host, host_basis="inside",
        inside_fraction=0.5, shell_fraction=0.4, closed_fraction=0.3, distance_mm=1.5,
    )  # fmt: skip
    return measure_lesion(image, labels, grid, instance, NAMES, found, None)


@pytest.mark.parametrize("host", ["liver", "spleen"])
def test_contrast_is_taken_against_the_host_within_10_mm(grid, host):
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 2, 3], grid.shape).astype(np.uint8)
    labels[5:8, 12:16, 15:22] = 1
    image = rng.normal(50, 10, grid.shape).astype(np.float32)
    away = ndimage.distance_transform_edt(labels != 1, sampling=SPACING[::-1])
    shell = image[(labels == NAMES.index(host)) & (away <= 10.0)].astype(float)
    inside = image[labels == 1].astype(float)
    row = measured(labels, image, grid, host)
    assert row["mean"] == pytest.approx(inside.mean())
    assert row["host_mean"] == pytest.approx(shell.mean())
    assert row["contrast"] == pytest.approx(inside.mean() - shell.mean())
    assert row["contrast_to_noise"] == pytest.approx(row["contrast"] / shell.std())
    assert (row["host"], row["host_basis"], row["touches_border"]) == (host, "inside", False)
    assert (row["inside_fraction"], row["distance_mm"]) == (0.5, 1.5)
    assert row["volume_ml"] == pytest.approx(inside.size * np.prod(SPACING) / 1000)


def test_the_host_counts_up_to_10_mm_and_not_beyond():
    grid = Grid((60, 5, 5), (1.0, 1.0, 1.0), (0, 0, 0), UPRIGHT)
    labels = np.zeros(grid.shape, np.uint8)
    labels[2, 2, 30] = 1
    labels[2, 2, 40:50] = 2  # the first of them lies 10 mm away
    image = np.arange(60.0) + np.zeros(grid.shape)
    assert measured(labels, image, grid, "liver")["host_mean"] == 40
    labels[2, 2, 40] = 0
    row = measured(labels, image, grid, "liver")
    assert np.isnan([row["host_mean"], row["contrast"], row["contrast_to_noise"]]).all()
    row = measured(labels, image, grid, None)
    assert row["mean"] == 30 and np.isnan(row["contrast"])


def test_a_host_of_one_value_has_no_contrast_to_noise(grid):
    labels = np.full(grid.shape, 2, np.uint8)
    labels[5, 5, 5] = 1
    row = measured(labels, np.where(labels == 1, 90.0, 40.0), grid, "liver")
    assert row["contrast"] == 50 and np.isnan(row["contrast_to_noise"])


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("end", [0, -1])
def test_a_lesion_at_any_side_of_the_image_may_go_on_outside(grid, axis, end):
    labels = np.zeros(grid.shape, np.uint8)
    at = [5, 5, 5]
    at[axis] = end
    labels[tuple(at)] = 1
    assert measured(labels, labels * 1.0, grid, None)["touches_border"]
    at[axis] = 1 if end == 0 else -2
    labels[:] = 0
    labels[tuple(at)] = 1
    assert not measured(labels, labels * 1.0, grid, None)["touches_border"]


@pytest.mark.parametrize("count", [1, 2, 3, 49, 50, 51, 300])
@pytest.mark.parametrize("kind", ["solid", "flat", "straight", "nearly flat"])
def test_a_diameter_is_the_longest_of_all_distances(grid, count, kind):
    rng = np.random.default_rng(count)
    index = rng.integers(0, 200, (count, 3)).astype(float)
    if kind == "flat":
        index[:, 0] = index[:, 1]
    elif kind == "straight":
        index[:, 0] = index[:, 1] = index[:, 2]
    elif kind == "nearly flat":
        index[:, 0] = 1e-7 * index[:, 0]
    points = grid.to_mm(index)
    expected = pdist(points).max() if count > 1 else 0.0
    assert diameter_mm(index, grid) == pytest.approx(expected, abs=1e-5)


# agreement


def test_every_two_segmenters_are_compared_on_what_both_can_label(grid):
    rng = np.random.default_rng(1)
    maps = [rng.integers(0, 5, grid.shape).astype(np.uint8) for _ in range(3)]
    layers = {
        "organs": (maps[0], {1: (2,), 2: (2, 3), 3: (3,)}),
        "other": (maps[1], {4: (2,)}),
        "third": (maps[2], {1: (3,), 2: (4,)}),
    }
    rows = list(agreement(layers, {2: "liver", 3: "spleen", 4: "fat", 5: "bone"}, grid))
    found = {(row["structure"], row["first"], row["second"]): row for row in rows}
    expected = {
        ("liver", "organs", "other"): (np.isin(maps[0], [1, 2]), maps[1] == 4),
        ("spleen", "organs", "third"): (np.isin(maps[0], [2, 3]), maps[2] == 1),
    }
    assert found.keys() == expected.keys() and len(rows) == 2
    for key, (a, b) in expected.items():
        assert found[key]["dice"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))


def surface(mask):
    return mask & ~ndimage.binary_erosion(mask)


@pytest.mark.parametrize("seed", range(6))
def test_surfaces_are_compared_in_mm_as_scipy_does(grid, seed):
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(2, *grid.shape)), (0, 2, 3, 3))
    a, b = noise > 0.02
    if seed % 2:  # apart, and at the border of the volume
        a[:, :, 20:], b[:, :, :15] = False, False
    edges = surface(a), surface(b)
    ways = [
        ndimage.distance_transform_edt(~edges[1 - i], sampling=SPACING[::-1])[edges[i]]
        for i in (0, 1)
    ]
    found = compare(a, b, grid)
    assert found["dice"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    assert found["surface_mm"] == pytest.approx(np.concatenate(ways).mean(), rel=1e-5)
    assert found["hausdorff95_mm"] == pytest.approx(
        max(np.percentile(way, 95) for way in ways), rel=1e-5
    )


def test_where_somebody_found_nothing_there_is_no_surface(grid):
    nothing = np.zeros(grid.shape, bool)
    some = nothing.copy()
    some[3, 4, 5] = True
    for pair in ((some, nothing), (nothing, some)):
        found = compare(*pair, grid)
        assert found["dice"] == 0 and np.isnan([found["surface_mm"], found["hausdorff95_mm"]]).all()
    assert np.isnan(list(compare(nothing, nothing, grid).values())).all()
