"""Slices to move through and close-ups: nothing is lost, everything is where it should be."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from test_pictures import DIRECTIONS, NAMES, grid_of

from backsplit.report.pictures.closeup import SIDE, close_up, lesion_focus, structure_focus
from backsplit.report.pictures.colours import label_colours
from backsplit.report.pictures.panels import Key
from backsplit.report.pictures.planes import Focus
from backsplit.report.pictures.stack import (
    COLUMNS,
    SLICES_MOST,
    composed_paint,
    frame_of,
    image_tiles,
    label_tiles,
    largest_in,
    layer_paint,
)
from backsplit.volume import Grid
from support.sidecars import lesion

KEY = Key(NAMES, 2, label_colours(len(NAMES), 2, has_ignore=True), 5)
WINDOW = (0.0, 250.0)


def tile(picture: Image.Image, frame, place: int) -> np.ndarray:
    height, width = frame.size
    row, column = divmod(place, COLUMNS)
    pixels = np.asarray(picture)
    return pixels[row * height : (row + 1) * height, column * width : (column + 1) * width]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("count", [1, 7, 64, 150])
def test_slices_run_from_head_to_feet(direction, count):
    axis, _ = grid_of((9, 9, 9), direction).array_axis(2)
    shape = [12, 12, 12]
    shape[axis] = count
    grid = grid_of(tuple(shape), direction)
    height = np.arange(count).reshape([-1 if i == axis else 1 for i in range(3)])
    image = np.broadcast_to(height + 50.0, shape)  # as bright as the slice's number
    wanted = [count // 2, count - 1]
    frame = frame_of(image, grid, WINDOW, wanted)
    assert len(frame.chosen) == min(count, SLICES_MOST) and {0, *wanted} <= set(frame.chosen)
    heights = [mm for _, mm in frame.slices()]
    assert heights == sorted(heights, reverse=True)
    assert [number - 1 for number, _ in frame.slices()] == list(frame.chosen)
    picture = image_tiles(image, frame, WINDOW)
    shown = [tile(picture, frame, place).mean() for place in range(len(frame.chosen))]
    expected = [(k + 50) / WINDOW[1] * 255 for k in frame.chosen]
    np.testing.assert_allclose(shown, expected, atol=0.6)
    assert frame.place_of(frame.chosen[-1]) == len(frame.chosen) - 1


def test_slices_are_shown_in_radiological_convention():
    grid = grid_of((5, 40, 40), "RAS")
    labels = np.zeros(grid.shape, np.uint8)
    labels[2, 30:35, 2:8] = 4  # RAS: high y is anterior, low x is left
    frame = frame_of(np.full(grid.shape, 200.0), grid, WINDOW, [2])
    shown = tile(label_tiles(labels, frame, composed_paint(KEY)), frame, frame.place_of(2))
    rows, columns = np.nonzero(shown[..., 3])
    assert rows.max() < shown.shape[0] / 2 and columns.min() > shown.shape[1] / 2


def test_no_lesion_is_lost_in_small_slices():
    grid = grid_of((3, 900, 700))
    labels = np.zeros(grid.shape, np.uint8)
    for number in range(40):
        labels[1, 20 * number + 7, 15 * number + 11] = 1  # single voxels
    frame = frame_of(np.full(grid.shape, 200.0), grid, WINDOW, [1])
    assert max(frame.size) == 256
    shown = tile(label_tiles(labels, frame, composed_paint(KEY)), frame, frame.place_of(1))
    assert (shown[..., 3] == 255).sum() == 40
    assert {tuple(p[:3]) for p in shown[shown[..., 3] > 0]} == {KEY.colours[1]}


def test_layers_have_the_colours_of_their_structures():
    grid = grid_of((1, 30, 30))
    layer = np.zeros(grid.shape, np.uint16)
    layer[0, 5:15, 5:15], layer[0, 5:15, 15:25] = 7, 9
    layer[0, 20:25, 5:25] = 300  # 7 and 9 overlap there
    layer[0, :3, :3] = 999  # nobody knows what that is
    paint = layer_paint({"a": 7, "b": 9}, {"a": "kidney"}, KEY, {300: (7, 9)})
    frame = frame_of(np.full(grid.shape, 200.0), grid, WINDOW, [])
    shown = tile(label_tiles(layer, frame, paint), frame, 0)
    colours = {tuple(pixel[:3]) for pixel in shown[shown[..., 3] > 0]}
    assert colours == {KEY.colours[3], KEY.colours[5]}  # of the kidney, and grey
    at = round(22 / 30 * shown.shape[0]), round(10 / 30 * shown.shape[1])
    assert tuple(shown[at][:3]) == KEY.colours[3]


def test_every_value_of_a_byte_can_be_a_label():
    names = ["background", *(f"s{i}" for i in range(1, 255)), "ignore"]
    key = Key(names, 0, label_colours(256, 0, has_ignore=True), 255)
    grid = grid_of((1, 16, 16))
    labels = np.arange(256, dtype=np.uint8).reshape(grid.shape)
    frame = frame_of(np.full(grid.shape, 200.0), grid, WINDOW, [])
    shown = tile(label_tiles(labels, frame, composed_paint(key)), frame, 0)
    assert (shown[..., 3] > 0).mean() > 0.95


def test_names_lead_to_the_slice_with_most_of_them():
    grid = grid_of((200, 20, 20))
    labels = np.zeros(grid.shape, np.uint8)
    labels[50:60, 5:10, 5:10] = 4
    labels[55, 2:15, 2:15] = 4
    frame = frame_of(np.full(grid.shape, 200.0), grid, WINDOW, [55])
    found = largest_in(labels, frame, len(NAMES))
    assert list(found) == [4] and frame.chosen[found[4]] == 55


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_lesion_is_found_by_its_box_and_centroid(direction):
    z, y, x = 30, 40, 50
    grid = Grid(
        (x, y, z), (0.9, 1.1, 3.0), (5.0, -7.0, 11.0), tuple(map(float, DIRECTIONS[direction]))
    )
    labels = np.zeros(grid.shape, np.uint8)
    labels[5:8, 5:9, 5:20] = 1
    labels[20:23, 30:33, 40:43] = 1
    centroid = grid.to_mm(np.argwhere((labels == 1) & (np.arange(y)[:, None] >= 20))).mean(axis=0)
    entry = lesion(centroid_mm=tuple(centroid), box_zyx=((20, 23), (30, 33), (40, 43)))
    focus = lesion_focus(labels, grid, 1, entry, 9.0)
    assert focus.index == (21, 31, 41)
    assert lesion_focus(labels, grid, 2, entry, 9.0) is None


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 90), (60, 2, 2)])
def test_close_ups_of_small_and_odd_volumes(shape):
    grid = grid_of(shape, "PSR", spacing=(0.5, 2.0, 5.0))
    labels = np.zeros(shape, np.uint8)
    labels[-1, -1, -1] = 4
    focus, extent = structure_focus(labels == 4, grid)
    assert focus.index == tuple(n - 1 for n in shape)
    image = np.zeros(shape, np.float32)
    pixels = close_up(image, labels, grid, focus, extent, WINDOW, KEY, labels == 4)
    assert pixels.shape[0] > 2 * SIDE and pixels.any()
    assert structure_focus(labels == 3, grid) is None


def test_the_outline_shows_a_part_that_the_planes_miss():
    grid = grid_of((60, 60, 60))
    labels = np.zeros(grid.shape, np.uint8)
    labels[20:40, 20:40, 20:40] = 4
    focus, extent = structure_focus(labels == 4, grid)
    alone = close_up(np.zeros(grid.shape), labels, grid, focus, extent, WINDOW, KEY, labels == 4)
    labels[2:5, 2:5, 2:5] = 4
    assert structure_focus(labels == 4, grid)[0].index == focus.index
    both = close_up(np.zeros(grid.shape), labels, grid, focus, extent, WINDOW, KEY, labels == 4)
    white = [(pixels[SIDE:] == 255).all(axis=2).sum() for pixels in (alone, both)]
    assert white[1] > white[0]
    assert not (alone[:SIDE] == 255).all(axis=2).any()  # nothing is drawn on the image itself


def test_a_focus_needs_no_lesion_for_a_close_up():
    grid = grid_of((5, 5, 5))
    pixels = close_up(
        np.full(grid.shape, 250.0), np.zeros(grid.shape, np.uint8), grid, Focus((2, 2, 2)), 1.0,
        WINDOW, KEY,
    )  # fmt: skip
    assert pixels.max() > 200
