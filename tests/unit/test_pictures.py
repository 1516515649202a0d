"""Pictures of cases, as a radiologist expects them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from backsplit.report.pictures.montage import draw_montage
from backsplit.report.pictures.panels import CT_WINDOW, LUNG_WINDOW, choose_window
from backsplit.report.pictures.planes import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    Focus,
    find_focus,
    oriented_box,
    oriented_slice,
    pixel_spacing,
)
from backsplit.scheme.colours import label_colours
from backsplit.volume import Grid

NAMES = ["background", "tumor", "cyst", "kidney", "liver", "ignore"]

# columns are the image's x, y, z axes in LPS
DIRECTIONS = {
    "LPS": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "RAS": (-1, 0, 0, 0, -1, 0, 0, 0, 1),
    "PSR": (0, 0, -1, 1, 0, 0, 0, 1, 0),
    "AIL": (0, 0, 1, -1, 0, 0, 0, -1, 0),
    "SLP": (0, 1, 0, 0, 0, 1, 1, 0, 0),
    "oblique": (0.966, -0.259, 0, 0.259, 0.966, 0, 0, 0, 1),
}


def grid_of(shape, direction="LPS", spacing=(1.0, 1.0, 1.0)) -> Grid:
    z, y, x = shape
    return Grid((x, y, z), spacing, (0.0, 0.0, 0.0), tuple(map(float, DIRECTIONS[direction])))


def blob_at(grid: Grid, side: tuple[int, int, int]) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Volume with one bright voxel on a side of the patient (LPS signs), found by position."""
    index = np.argwhere(np.ones(grid.shape, bool))
    axes = np.reshape(grid.direction, (3, 3)) * np.asarray(grid.spacing)
    position = index[:, ::-1] @ axes.T
    centred = position - (position.max(0) + position.min(0)) / 2
    best = index[np.argmax(centred @ np.asarray(side, float))]
    volume = np.zeros(grid.shape)
    volume[tuple(best)] = 1
    return volume, tuple(int(i) for i in best)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("left", [1, -1])
def test_patient_left_is_on_the_right_of_the_picture(direction, left):
    grid = grid_of((9, 11, 13), direction)
    for plane in (AXIAL, CORONAL):
        volume, index = blob_at(grid, (10 * left, 3, 3))
        row_column = np.argwhere(oriented_slice(volume, grid, plane, index))
        columns = oriented_slice(volume, grid, plane, index).shape[1]
        assert len(row_column) == 1
        assert (row_column[0][1] > columns / 2) == (left == 1)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_anterior_and_superior_are_on_top(direction):
    grid = grid_of((9, 11, 13), direction)
    volume, index = blob_at(grid, (1, -10, 3))
    axial = oriented_slice(volume, grid, AXIAL, index)
    assert np.argwhere(axial)[0][0] < axial.shape[0] / 2
    volume, index = blob_at(grid, (1, 3, 10))
    for plane in (CORONAL, SAGITTAL):
        cut = oriented_slice(volume, grid, plane, index)
        assert np.argwhere(cut)[0][0] < cut.shape[0] / 2
    volume, index = blob_at(grid, (1, -10, 3))
    sagittal = oriented_slice(volume, grid, SAGITTAL, index)
    assert np.argwhere(sagittal)[0][1] < sagittal.shape[1] / 2


def test_slices_keep_the_aspect_of_the_spacing():
    grid = grid_of((4, 5, 6), "PSR", spacing=(1.0, 2.0, 3.0))  # x to P, y to S, z to R
    cut = oriented_slice(np.zeros(grid.shape), grid, AXIAL, (0, 0, 0))
    assert cut.shape == (6, 4)
    assert pixel_spacing(grid, AXIAL) == (1.0, 3.0)
    assert pixel_spacing(grid, CORONAL) == (2.0, 3.0)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_box_of_the_lesion_lies_on_the_lesion(direction):
    grid = grid_of((9, 11, 13), direction)
    labels = np.zeros(grid.shape, np.uint8)
    labels[2:5, 1:4, 7:12] = 1
    focus = find_focus(labels, 1, None)
    rows, columns = oriented_box(grid, AXIAL, focus.low, focus.high)
    cut = oriented_slice(labels, grid, AXIAL, focus.index)
    assert cut[rows, columns].all()
    assert cut.sum() == cut[rows, columns].size


def test_focus_is_in_the_largest_lesion():
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[2:8, 2:8, 2:8] = 3  # a structure, larger than any lesion
    labels[1, 1, 1] = 1
    labels[12:15, 13:16, 14:17] = 2
    focus = find_focus(labels, 2, 5)
    assert labels[focus.index] == 2
    assert focus.lesions == 2
    assert (focus.low, focus.high) == ((12, 13, 14), (14, 15, 16))


def test_without_lesion_the_focus_is_where_most_structures_are():
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[2:16, 2, 2] = 3
    labels[9, 5, 6] = 4
    labels[15:] = 5  # ignore is no structure
    assert find_focus(labels, 2, 5).index[0] == 9
    assert find_focus(np.zeros((4, 4, 4), np.uint8), 2, 5) == Focus((2, 2, 2))


def test_window_is_chosen_by_the_data():
    ct = np.full((10, 10, 10), 40.0)
    ct[0] = -1000
    nodule = Focus((5, 5, 5), 1, (5, 5, 5), (5, 5, 5))
    assert choose_window(ct, Focus((0, 0, 0))) == CT_WINDOW
    assert choose_window(ct, nodule) == CT_WINDOW
    lung = np.full((10, 10, 10), -800.0)
    lung[5, 5, 5] = 30
    assert choose_window(lung, nodule) == LUNG_WINDOW
    mr = np.linspace(0, 1000, 1000).reshape(10, 10, 10)
    assert choose_window(mr, nodule) == pytest.approx((10, 990))
    assert choose_window(np.zeros((2, 2, 2)), nodule) == (0, 1)
    assert choose_window(np.full((2, 2, 2), np.nan), nodule) == (0, 1)


def volume_with_lesion(shape=(40, 50, 60)):
    generator = np.random.default_rng(0)
    image = generator.normal(40, 20, shape).astype(np.int16)
    image[:, :4] = -1000
    labels = np.zeros(shape, np.uint8)
    labels[5:30, 10:40, 10:30] = 4
    labels[12:18, 20:28, 12:20] = 1
    labels[18:20, 20:28, 12:20] = 2
    labels[35:] = 5
    return image, labels


def test_picture_is_the_same_each_time(tmp_path):
    image, labels = volume_with_lesion()
    grid = grid_of(image.shape, "RAS")
    for name in ("a.png", "b.png"):
        draw_montage(
            image, labels, grid, tmp_path / name, names=NAMES, target_count=2, title="pt_1"
        )
    data = (tmp_path / "a.png").read_bytes()
    assert data == (tmp_path / "b.png").read_bytes()
    assert b"matplotlib" not in data
    assert len(data) < 400_000
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width == 1200
        found = {colour for _, colour in picture.convert("RGB").getcolors(2**24)}
    colours = label_colours(NAMES, 2)
    assert {colours[1], colours[2], colours[4]} <= found
    assert colours[3] not in found  # the case has no kidney


@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 3, 2), (3, 200, 2), (60, 2, 2)])
@pytest.mark.parametrize("fill", [0, 1, 3, 5])
def test_small_and_odd_volumes_are_drawn(tmp_path, shape, fill):
    labels = np.zeros(shape, np.uint8)
    labels[0, 0, 0] = fill
    image = np.zeros(shape, np.float32)
    image[-1, -1, -1] = np.nan
    path = tmp_path / "a.png"
    title = "$a_{b" * 40
    draw_montage(
        image, labels, grid_of(shape, "PSR"), path, names=NAMES, target_count=2, title=title
    )
    with Image.open(path) as picture:
        assert picture.size[0] == 1200


def test_many_structures_and_no_ignore(tmp_path):
    labels = np.arange(8 * 8 * 8, dtype=np.uint16).reshape(8, 8, 8)
    names = ["background", *(f"a_structure_with_a_rather_long_name_{i}" for i in range(1, 512))]
    path = tmp_path / "a.png"
    draw_montage(labels, labels, grid_of(labels.shape), path, names=names, target_count=0)
    assert path.stat().st_size > 0
