"""Measures against SimpleITK's and SciPy's own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from scipy import ndimage
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from backsplit.cases.instances import find_instances
from backsplit.measure.agreement import compare
from backsplit.measure.lesions import COLUMNS as LESIONS
from backsplit.measure.lesions import burden, diameter_mm, measure_lesion
from backsplit.measure.table import measure
from backsplit.volume import Grid
from backsplit.volume.grid import SIDES
from support.sidecars import lesion

ALONG = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
FLIPPED = (-1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0)  # sagittal slices, to the right
OBLIQUE = tuple(
    Rotation.from_euler("zyx", [20, -15, 10], degrees=True).as_matrix().ravel().tolist()
)
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


def _box(box: tuple[int, ...], image: sitk.Image) -> list[float]:
    """Lowest and highest x, y, z of the outer edges of ITK's box of voxels, mm."""
    low, high = np.array(box[:3]) - 0.5, np.array(box[:3]) + np.array(box[3:]) - 0.5
    corners = np.array(np.meshgrid(*np.stack([low, high], axis=1))).reshape(3, -1).T
    mm = [image.TransformContinuousIndexToPhysicalPoint(corner.tolist()) for corner in corners]
    return [*np.min(mm, axis=0), *np.max(mm, axis=0)]


@pytest.mark.parametrize("direction", [ALONG, FLIPPED, OBLIQUE])
def test_voxels_on_each_side_of_the_volume_are_counted(direction):
    """Each side of the volume by the patient's side that it faces, as ITK's axes say."""
    grid = Grid(SHAPE[::-1], (0.7, 0.8, 2.5), (-20.0, 30.0, 5.0), direction)
    labels = np.random.default_rng(4).integers(0, 6, SHAPE).astype(np.uint8)
    table = measure(_image(np.int16), labels, NAMES, grid).set_index("structure")
    image = _itk(labels, grid)
    centre = np.array(
        image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in grid.size])
    )
    on_border = sitk.LabelShapeStatisticsImageFilter()
    on_border.Execute(image)
    for axis in range(3):
        for end in (0, SHAPE[axis] - 1):
            middle = [(n - 1) / 2 for n in grid.size]
            middle[2 - axis] = end
            way = np.array(image.TransformContinuousIndexToPhysicalPoint(middle)) - centre
            along = int(np.argmax(np.abs(way)))
            side = SIDES[2 * along + int(way[along] > 0)]
            for value in range(1, 6):
                count = (labels.take(end, axis) == value).sum()
                assert table.loc[NAMES[value], f"border_{side}"] == count
    edge = np.ones(SHAPE, bool)
    edge[1:-1, 1:-1, 1:-1] = False
    for value in range(1, 6):
        assert on_border.GetNumberOfPixelsOnBorder(value) == (labels[edge] == value).sum()


def test_edges_are_what_lies_on_both_sides_of_the_surface():
    """Against every pair of neighbours, one by one, with the area of their common face."""
    grid = Grid(SHAPE[::-1], (0.7, 0.8, 2.5), (0, 0, 0), ALONG)
    image, labels = _image(np.int16), _labels()
    labels[5, 10:14, 14:16] = 3  # next to another structure
    table = measure(image, labels, NAMES, grid).set_index("structure")
    areas = {0: 0.7 * 0.8, 1: 0.7 * 2.5, 2: 0.8 * 2.5}
    pairs = []
    for axis, area in areas.items():
        ends = [np.arange(SHAPE[axis] - 1), np.arange(1, SHAPE[axis])]
        values = [[a.take(end, axis).ravel() for end in ends] for a in (labels, image.astype(int))]
        for (a, b), (va, vb) in (values, [side[::-1] for side in values]):
            pairs.append(np.stack([a, b, va, vb, np.full(a.shape, area)], axis=1))
    inside, outside, value, beyond, area = np.concatenate(pairs).T
    for label in (1, 2, 3, 5):
        row, mine = table.loc[NAMES[label]], inside == label
        face, within = mine & (outside != label), mine & (outside == label)
        expected = {
            "edge_inside": np.average(value[face], weights=area[face]),
            "edge_outside": np.average(beyond[face], weights=area[face]),
            "edge_step": np.average(np.abs(value - beyond)[face], weights=area[face]),
            "texture": np.average(np.abs(value - beyond)[within], weights=area[within]),
            "shared_fraction": area[face & (outside > 0)].sum() / area[face].sum(),
        }
        assert row[list(expected)].to_dict() == pytest.approx(expected)
    assert table.loc["hollow", "shared_fraction"] > 0


def test_a_part_that_reaches_the_border_is_not_stray():
    """Beyond the border it may be connected; what lies within is not."""
    grid = Grid((20, 20, 20), (1, 1, 2), (0, 0, 0), ALONG)
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[8:12, 8:12, 8:12] = labels[:2, :4, :4] = 1
    labels[15:17, 15:17, 15:17] = 1
    row = measure(np.zeros(labels.shape, np.int16), labels, ["background", "a"], grid).iloc[1]
    assert row["stray_fraction"] == pytest.approx(8 / 104)
    labels[:2, :4, :4] = 0  # the box round what is left is cropped, and no border of the volume
    row = measure(np.zeros(labels.shape, np.int16), labels, ["background", "a"], grid).iloc[1]
    assert row["stray_fraction"] == pytest.approx(8 / 72)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
@pytest.mark.parametrize("direction", [ALONG, FLIPPED, OBLIQUE])
def test_measures_equal_simpleitk_s(dtype, direction):
    grid = Grid(SHAPE[::-1], (0.7, 0.8, 2.5), (-20.0, 30.0, 5.0), direction)
    image, labels = _image(dtype), _labels()
    table = measure(image, labels, NAMES, grid).set_index("structure")
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.ComputePerimeterOn()
    shape.Execute(_itk(labels, grid))
    levels = sitk.LabelIntensityStatisticsImageFilter()
    levels.SetNumberOfBins(1 << 16)
    levels.Execute(_itk(labels, grid), _itk(image, grid))
    plain = sitk.LabelStatisticsImageFilter()
    plain.Execute(_itk(image, grid), _itk(labels, grid))
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
        assert row["voxels"] == plain.GetCount(value)
        assert row["mean"] == pytest.approx(plain.GetMean(value), rel=1e-6)
        ends = plain.GetMinimum(value), plain.GetMaximum(value)
        assert (row["minimum"], row["maximum"]) == ends
        assert row["p50"] == pytest.approx(levels.GetMedian(value), abs=1)
        moments = np.sqrt(sorted(shape.GetPrincipalMoments(value), reverse=True))
        assert row[[f"axis_{i}_mm" for i in (1, 2, 3)]].tolist() == pytest.approx(moments.tolist())
        found = row[[f"box_{axis}_{end}" for end in ("min", "max") for axis in "xyz"]].tolist()
        assert found == pytest.approx(_box(shape.GetBoundingBox(value), _itk(labels, grid)))
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
    found = lesion(host="liver", host_basis="inside", inside_fraction=1.0, distance_mm=0.0)
    row = measure_lesion(
        image, labels, grid, instance, ["background", "tumor", "liver"], found, None
    )
    assert row["volume_ml"] == pytest.approx(0.072) and row["host"] == "liver"
    assert row["max_diameter_mm"] == pytest.approx(np.sqrt(9 + 25 + 4))
    assert row["max_axial_diameter_mm"] == pytest.approx(np.sqrt(25 + 4))
    assert row["contrast"] == pytest.approx(-70, abs=0.5)
    assert row["contrast_to_noise"] == pytest.approx(-14, abs=0.2)
    assert not row["touches_border"]


@pytest.mark.parametrize("direction", [ALONG, FLIPPED, OBLIQUE])
def test_lesions_on_anisotropic_and_oblique_grids_equal_simpleitk_s(direction):
    """Place, size and diameter of each of three lesions; slices are those across the body."""
    grid = Grid((30, 36, 24), (0.6, 0.9, 3.0), (-10.0, 5.0, 40.0), direction)
    labels = np.zeros(grid.shape, np.uint8)
    for box in (np.s_[2:7, 3:12, 4:9], np.s_[12:14, 20:30, 20:22], np.s_[20, 5, 5]):
        labels[box] = 1
    labels[18:, 28:, 25:] = 1  # in a corner
    image = np.random.default_rng(0).normal(50, 10, grid.shape).astype(np.float32)
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.ComputeFeretDiameterOn()
    parts = sitk.ConnectedComponent(_itk(labels, grid), True)
    shape.Execute(parts)
    theirs = {
        tuple(np.round(shape.GetCentroid(value), 6)): (
            shape.GetPhysicalSize(value) / 1000, shape.GetFeretDiameter(value),
            shape.GetNumberOfPixelsOnBorder(value) > 0,
        )
        for value in shape.GetLabels()
    }  # fmt: skip
    found = {}
    axis, _ = grid.array_axis(2)
    for instance in find_instances(labels, np.flatnonzero(labels), 1, grid):
        row = measure_lesion(image, labels, grid, instance, ["background", "tumor"], lesion(), None)
        centroid = tuple(np.round([row[f"centroid_{a}"] for a in "xyz"], 6))
        found[centroid] = row["volume_ml"], row["max_diameter_mm"], row["touches_border"]
        index = np.stack(np.unravel_index(instance.places, labels.shape), axis=1)
        slices = [grid.to_mm(index[index[:, axis] == at]) for at in np.unique(index[:, axis])]
        axial = max(float(cdist(points, points).max()) for points in slices)
        assert row["max_axial_diameter_mm"] == pytest.approx(axial)
        assert row["host"] is None and np.isnan(row["contrast"])
    np.testing.assert_allclose(sorted(found), sorted(theirs), atol=2e-6)
    for ours, itk in zip(sorted(found), sorted(theirs), strict=True):
        assert found[ours] == pytest.approx(theirs[itk])


def test_the_burden_has_a_row_for_each_case_and_target():
    rows = [("a", "tumor", 2.0), ("a", "tumor", 1.5), ("b", "cyst", 0.25)]
    table = burden(
        pd.DataFrame(rows, columns=["case", "target", "volume_ml"]),
        ["a", "b", "c"],
        ["tumor", "cyst"],
    )
    found = {(r.case, r.target): (r.lesions, r.volume_ml, r.largest_ml) for r in table.itertuples()}
    assert found == {
        ("a", "tumor"): (2, 3.5, 2.0), ("a", "cyst"): (0, 0, 0), ("b", "tumor"): (0, 0, 0),
        ("b", "cyst"): (1, 0.25, 0.25), ("c", "tumor"): (0, 0, 0), ("c", "cyst"): (0, 0, 0),
    }  # fmt: skip
    empty = burden(pd.DataFrame(columns=list(LESIONS)), ["a"], ["tumor"])
    assert empty[["lesions", "volume_ml"]].to_numpy().tolist() == [[0, 0]]


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


def test_a_structure_in_the_first_slice_alone_has_axes_too():
    labels = np.zeros((6, 9, 12), np.uint8)
    labels[0, 2:5, 3:10] = 1
    grid = Grid((12, 9, 6), (0.7, 0.9, 3.0), (0, 0, 0), ALONG)
    row = measure(np.zeros(labels.shape, np.int16), labels, ["background", "flat"], grid).iloc[1]
    expected = [0.7 * np.std(range(7)), 0.9 * np.std(range(3)), 0]
    assert [row[f"axis_{i}_mm"] for i in (1, 2, 3)] == pytest.approx(expected)
    assert row["touches_border"] and row["border_inferior"] == 21 and row["border_superior"] == 0


def test_a_structure_that_is_not_there_has_neither_parts_nor_shares():
    labels = np.zeros((6, 9, 12), np.uint8)
    labels[2, 2:5, 3:10] = 1
    grid = Grid((12, 9, 6), (1, 1, 1), (0, 0, 0), ALONG)
    names = ["background", "there", "absent"]
    table = measure(np.ones(labels.shape, np.int16), labels, names, grid)
    row = table[table["structure"] == "absent"].iloc[0]
    assert row["voxels"] == row["components"] == row["components_large"] == row["holes_ml"] == 0
    shares = ["largest_fraction", "stray_fraction", "spread_mm", "axis_1_mm", "mean", "centroid_x"]
    assert row[shares].isna().all()


def test_cavities_belong_to_the_one_structure_that_encloses_them():
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[2:9, 2:9, 2:9] = 1
    labels[4:6, 4:6, 4:6] = 0  # within the first alone
    labels[7, 7, 7] = 0  # and another one
    labels[11:16, 2:9, 2:5], labels[11:16, 2:9, 5:9] = 1, 2
    labels[13, 5, 4:6] = 0  # between both
    labels[0:2, 15:19, 15:19] = 2
    labels[0, 16, 16] = 0  # open: at the border of the volume
    grid = Grid((20, 20, 20), (1, 1, 2), (0, 0, 0), ALONG)
    table = measure(np.ones(labels.shape, np.int16), labels, ["background", "a", "b"], grid)
    assert table["holes_ml"].tolist()[1:] == pytest.approx([9 * 0.002, 0])
