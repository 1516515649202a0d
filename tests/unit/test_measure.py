"""Measures against SimpleITK's and SciPy's own."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage
from scipy.spatial.distance import cdist

from backsplit.instances import find_instances
from backsplit.qc.agreement import compare
from backsplit.qc.lesions import diameter_mm, measure_lesion
from backsplit.qc.measure import SIDES, measure
from backsplit.volume import Grid

ALONG = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
FLIPPED = (-1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0)  # sagittal slices, to the right
NAMES = ["background", "blobs", "border", "hollow", "empty", "noise"]
SHAPE = (24, 36, 40)


def _labels() -> np.ndarray:
    z, y, x = np.ogrid[:24, :36, :40]
    labels = np.zeros(SHAPE, np.uint8)
    for cz, cy, cx, radius in ((8, 10, 10, 5), (18, 10, 30, 3), (8, 10, 20, 1)):
        labels[(z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = 1
    labels[:3, 20:30, :12] = 2
    labels[(z - 14) ** 2 + (y - 26) ** 2 + (x - 27) ** 2 <= 49] = 3
    labels[(z - 14) ** 2 + (y - 26) ** 2 + (x - 27) ** 2 <= 9] = 0
    noise = np.random.default_rng(1).random(SHAPE) < 0.02
    labels[noise & (labels == 0) & (np.arange(40) > 36)] = 5
    return labels


def _image(dtype: type) -> np.ndarray:
    values = np.random.default_rng(2).normal(100, 30, SHAPE).clip(0, 255)
    return values.astype(dtype)


def _itk(array: np.ndarray, grid: Grid) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    return image


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
@pytest.mark.parametrize("direction", [ALONG, FLIPPED])
def test_measures_equal_simpleitk_s(dtype, direction):
    grid = Grid(SHAPE[::-1], (0.7, 0.8, 2.5), (-20.0, 30.0, 5.0), direction)
    image, labels = _image(dtype), _labels()
    table = measure(image, labels, NAMES, grid).set_index("structure")
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.ComputePerimeterOn()
    shape.Execute(_itk(labels, grid))
    levels = sitk.LabelIntensityStatisticsImageFilter()
    levels.Execute(_itk(labels, grid), _itk(image, grid))
    for value in (1, 2, 3, 5):
        row = table.loc[NAMES[value]]
        assert row["voxels"] == shape.GetNumberOfPixels(value)
        assert row["volume_ml"] == pytest.approx(shape.GetPhysicalSize(value) / 1000)
        centroid = row[["centroid_x", "centroid_y", "centroid_z"]].tolist()
        assert centroid == pytest.approx(shape.GetCentroid(value), abs=1e-6)
        assert row["surface_mm2"] == pytest.approx(shape.GetPerimeter(value))
        assert row["compactness"] == pytest.approx(shape.GetRoundness(value))
        assert row["mean"] == pytest.approx(levels.GetMean(value), rel=1e-6)
        assert row["minimum"] == levels.GetMinimum(value)
        assert row["maximum"] == levels.GetMaximum(value)
        population = levels.GetStandardDeviation(value) * np.sqrt(1 - 1 / row["voxels"])
        assert row["sd"] == pytest.approx(population, rel=1e-4)
        exact = np.percentile(image[labels == value], [5, 50, 95], method="inverted_cdf")
        within = 0 if np.issubdtype(dtype, np.integer) else 255 / 60000
        assert row[["p05", "p50", "p95"]].tolist() == pytest.approx(exact.tolist(), abs=within)
        edges = sum(row[f"border_{side}"] > 0 for side in SIDES)
        assert (edges > 0) == (shape.GetNumberOfPixelsOnBorder(value) > 0) == row["touches_border"]
    assert table.loc["empty", "voxels"] == 0 and np.isnan(table.loc["empty", "mean"])


def test_parts_holes_boxes_and_sides_equal_scipy_s():
    grid = Grid(SHAPE[::-1], (0.7, 0.8, 2.5), (-20.0, 30.0, 5.0), ALONG)
    labels = _labels()
    table = measure(_image(np.int16), labels, NAMES, grid).set_index("structure")
    for value in (1, 2, 3, 5):
        row, mask = table.loc[NAMES[value]], labels == value
        parts, number = ndimage.label(mask, np.ones((3, 3, 3)))
        sizes = np.bincount(parts[mask])[1:]
        assert row["components"] == number
        assert row["largest_fraction"] == pytest.approx(sizes.max() / mask.sum())
        assert row["components_large"] == np.sum(
            (sizes * grid.voxel_ml >= 0.1) & (sizes >= 0.05 * mask.sum())
        )
        box = ndimage.find_objects(mask.astype(int))[0]
        low = grid.to_mm(np.array([[side.start - 0.5 for side in box]]))[0]
        high = grid.to_mm(np.array([[side.stop - 0.5 for side in box]]))[0]
        assert row[[f"box_{a}_min" for a in "xyz"]].tolist() == pytest.approx(low.tolist())
        assert row[[f"box_{a}_max" for a in "xyz"]].tolist() == pytest.approx(high.tolist())
    holes = (ndimage.binary_fill_holes(labels == 3) & (labels == 0)).sum()
    assert table.loc["hollow", "holes_ml"] == pytest.approx(holes * grid.voxel_ml) and holes > 0
    first, second = (8, 10, 10), (18, 10, 30)
    apart = np.linalg.norm(np.diff(grid.to_mm(np.array([first, second])), axis=0))
    assert table.loc["blobs", "spread_mm"] == pytest.approx(apart, abs=0.2)
    border = table.loc["border"]
    assert border["border_inferior"] == 120 and border["border_right"] == 30
    assert border["border_left"] == border["border_superior"] == 0
    assert border["blunt_left"] == 1 and table.loc["hollow", "blunt_left"] < 0.5


def test_an_empty_label_map_has_no_structure():
    grid = Grid((4, 3, 2), (1, 1, 1), (0, 0, 0), ALONG)
    image = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    table = measure(image, np.zeros((2, 3, 4), np.uint8), ["background", "a"], grid)
    assert table["voxels"].tolist() == [24, 0] and table["components"].tolist() == [0, 0]


@pytest.mark.parametrize("voxels", [1, 2, 3, 9, 400])
def test_the_diameter_is_the_longest_distance(voxels):
    rng = np.random.default_rng(voxels)
    index = rng.integers(0, [4, 20, 20], (voxels, 3))
    grid = Grid((20, 20, 4), (0.7, 0.8, 3.0), (0, 0, 0), ALONG)
    points = grid.to_mm(index)
    assert diameter_mm(index, grid) == pytest.approx(cdist(points, points).max(), abs=1e-9)


def test_flat_and_straight_lesions_have_a_diameter_too():
    grid = Grid((20, 20, 4), (0.5, 0.5, 3.0), (0, 0, 0), ALONG)
    flat = np.array([[1, y, x] for y in range(5) for x in range(9)])
    straight = np.array([[1, 2, x] for x in range(7)])
    assert diameter_mm(flat, grid) == pytest.approx(np.hypot(2, 4))
    assert diameter_mm(straight, grid) == pytest.approx(3.0)


def test_a_lesion_is_measured_against_its_host():
    grid = Grid((30, 30, 30), (1, 1, 1), (0, 0, 0), ALONG)
    labels = np.zeros((30, 30, 30), np.uint8)
    labels[5:25, 5:25, 5:25] = 2
    labels[10:14, 10:16, 10:13] = 1
    image = np.where(labels == 1, 30, np.where(labels == 2, 100, -900)).astype(np.int16)
    image += (np.indices(labels.shape).sum(axis=0) % 2 * 10).astype(np.int16)
    places = np.flatnonzero(labels == 1)
    (instance,) = find_instances(labels, places, 1, grid)
    found = {"host": "liver", "host_basis": "inside", "inside_fraction": 1.0, "distance_mm": 0.0}
    row = measure_lesion(image, labels, grid, instance, ["background", "tumor", "liver"], found)
    assert row["volume_ml"] == pytest.approx(0.072) and row["host"] == "liver"
    assert row["max_diameter_mm"] == pytest.approx(np.sqrt(9 + 25 + 4))
    assert row["max_axial_diameter_mm"] == pytest.approx(np.sqrt(25 + 4))
    assert row["contrast"] == pytest.approx(-70, abs=0.5)
    assert row["contrast_to_noise"] == pytest.approx(-14, abs=0.2)
    assert not row["touches_border"]


def test_agreement_equals_simpleitk_s():
    grid = Grid((30, 30, 20), (0.7, 0.9, 2.0), (0, 0, 0), ALONG)
    z, y, x = np.ogrid[:20, :30, :30]
    a = (z - 9) ** 2 + (y - 14) ** 2 + (x - 14) ** 2 <= 49
    b = (z - 10) ** 2 + (y - 15) ** 2 + (x - 18) ** 2 <= 36
    found = compare(a, b, grid)
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(_itk(a.astype(np.uint8), grid), _itk(b.astype(np.uint8), grid))
    assert found["dice"] == pytest.approx(overlap.GetDiceCoefficient())
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (a, b)]
    points = [grid.to_mm(np.argwhere(edge)) for edge in edges]
    away = cdist(*points)
    ways = away.min(axis=1), away.min(axis=0)
    assert found["surface_mm"] == pytest.approx(np.concatenate(ways).mean())
    assert found["hausdorff95_mm"] == pytest.approx(max(np.percentile(w, 95) for w in ways))
    nothing = compare(a, np.zeros_like(a), grid)
    assert nothing["dice"] == 0 and np.isnan(nothing["surface_mm"])
    assert np.isnan(compare(a & b & False, a & False, grid)["dice"])
