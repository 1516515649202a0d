"""What a page shows of a volume: every lesion, where it lies, as a radiologist expects it."""

from __future__ import annotations

import base64
import gzip
import io
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from test_pictures import DIRECTIONS, grid_of

from backsplit.errors import CaseError
from backsplit.report.pictures import thin
from backsplit.report.pictures.encode import packed, slices_address
from backsplit.report.pictures.levels import CT, choose_levels
from backsplit.report.pictures.thin import frame_of, read_image, thin_image, thin_labels, widened
from backsplit.volume import read_slabs, read_volume, save_nifti


@pytest.fixture
def small(monkeypatch):
    """Pages of few voxels, and slabs of few slices, so that small volumes are thinned."""
    monkeypatch.setattr(thin, "VOXELS_MOST", 4000)
    monkeypatch.setattr(thin, "SLAB_VOXELS", 5000)


def ct_of(shape) -> np.ndarray:
    """A body of water in air."""
    image = np.full(shape, -1000, np.int16)
    image[tuple(slice(n // 8, n - n // 8) for n in shape)] = 40
    return image


def nearest_axes(volume: np.ndarray, grid) -> np.ndarray:
    """A volume in the order head to feet, front to back, right to left, by SimpleITK."""
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing(grid.spacing)
    image.SetDirection(grid.direction)
    return sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS"))[::-1]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_page_shows_head_front_and_right_first(tmp_path, direction):
    grid = grid_of((11, 13, 17), direction, spacing=(1.0, 1.5, 2.0))
    image = ct_of(grid.shape)
    image[3:8, 4:8, 5:7] = np.arange(5 * 4 * 2).reshape(5, 4, 2)  # something without symmetry
    save_nifti(tmp_path / "ct.nii.gz", image, grid)
    levels, read, meaning = read_image(tmp_path / "ct.nii.gz")
    frame = replace(frame_of(levels, read, meaning), low=(0, 0, 0), high=grid.shape)
    assert frame.steps == (1, 1, 1) and meaning is CT
    shown = frame.oriented(levels)
    np.testing.assert_array_equal(shown, CT.of(nearest_axes(image, grid)))
    assert frame.shape == shown.shape
    # a voxel's place on the page is where its value is
    index = (3, 5, 6)
    place = tuple(int(at) for at in frame.place(index))
    assert shown[place] == levels[index]
    first = [(number if step > 0 else total + 1 - number) for number, step, total in frame.numbers]
    assert first == [1, 1, 1]


@pytest.mark.parametrize("direction", ["LPS", "PSR"])
def test_no_lesion_voxel_is_lost(tmp_path, small, direction):
    grid = grid_of((30, 41, 53), direction, spacing=(0.7, 0.9, 1.3))
    labels = np.zeros(grid.shape, np.uint8)
    labels[4:26, 5:36, 6:47] = 7
    rng = np.random.default_rng(0)
    places = rng.integers(0, grid.shape, (60, 3))  # outside the body too
    labels[tuple(places.T)] = 1
    labels[10, 20, 20:24] = (2, 1, 2, 1)  # the rarer target is kept where both are in a block
    save_nifti(tmp_path / "ct.nii.gz", ct_of(grid.shape), grid)
    save_nifti(tmp_path / "labels.nii.gz", labels, grid)
    levels, read, meaning = read_image(tmp_path / "ct.nii.gz")
    frame = frame_of(levels, read, meaning)
    assert max(frame.steps) > 1 and np.prod(frame.shape) <= 4000
    small_labels = thin_labels(tmp_path / "labels.nii.gz", read, frame.steps, {1: 1, 2: 2})
    frame = widened(frame, small_labels)
    page = frame.oriented(small_labels)
    for z, y, x in np.argwhere((labels == 1) | (labels == 2)):
        at = tuple(int(place) for place in frame.place((z, y, x)))
        assert page[at] in (1, 2)
        if labels[z, y, x] == 2:
            assert page[at] == 2
    # and nothing else is a lesion
    blocks = {tuple(int(i) for i in frame.place(tuple(index))) for index in np.argwhere(labels % 7)}
    assert {tuple(index) for index in np.argwhere(page % 7).tolist()} == blocks


def test_other_labels_are_those_in_the_middle_of_their_block(tmp_path, small):
    grid = grid_of((24, 36, 48))
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 400, grid.shape).astype(np.uint16)
    save_nifti(tmp_path / "labels.nii.gz", labels, grid)
    for steps in ((1, 2, 2), (2, 3, 4), (5, 7, 1)):
        found = thin_labels(tmp_path / "labels.nii.gz", grid, steps, {})
        middles = [
            np.minimum(np.arange(0, n, s) + s // 2, n - 1)
            for n, s in zip(grid.shape, steps, strict=True)
        ]
        # slabs that a block cuts off have their own middle
        np.testing.assert_array_equal(found[:-1], labels[np.ix_(*middles)][:-1])
        assert found.dtype == np.uint16


@pytest.mark.parametrize("steps", [(1, 1, 1), (2, 2, 2), (1, 3, 2), (7, 7, 7)])
def test_the_image_is_averaged(steps):
    levels = np.random.default_rng(0).integers(0, 256, (14, 42, 84)).astype(np.uint8)
    found = thin_image(levels, steps)
    z, y, x = (n // s for n, s in zip(levels.shape, steps, strict=True))
    blocks = levels.reshape(z, steps[0], y, steps[1], x, steps[2])
    np.testing.assert_allclose(found, np.floor(blocks.mean(axis=(1, 3, 5))), atol=1e-9)
    odd = thin_image(levels[:13, :41, :83], (2, 2, 2))
    assert odd.shape == (7, 21, 42)


def test_the_body_fills_the_frame(tmp_path):
    image = np.full((60, 200, 240), -1000, np.int16)
    image[:, 60:140, 80:200] = 30
    image[:, 180:184, 20:220] = 100  # a couch
    grid = grid_of(image.shape)
    save_nifti(tmp_path / "ct.nii.gz", image, grid)
    levels, read, meaning = read_image(tmp_path / "ct.nii.gz")
    frame = frame_of(levels, read, meaning)
    for low, high, body in zip(frame.low[1:], frame.high[1:], ((60, 140), (80, 200)), strict=True):
        assert body[0] - 10 < low <= body[0] and body[1] <= high < body[1] + 10
    assert frame.low[0] == 0 and frame.high[0] == 60


def test_levels_of_ct_keep_soft_tissue_and_are_known_for_every_type():
    hu = np.arange(-3000, 4000).astype(np.int16)
    levels = CT.of(hu)
    assert levels.min() == 0 and levels.max() == 255 and (np.diff(levels.astype(int)) >= 0).all()
    np.testing.assert_array_equal(CT.of(hu.astype(np.float32)), levels)
    np.testing.assert_array_equal(CT.of((hu[hu >= 0]).astype(np.uint16)), levels[hu >= 0])
    stops = np.array(CT.stops)
    back = np.interp(levels, stops[:, 0], stops[:, 1])
    soft = (hu >= -160) & (hu <= 240)
    assert np.abs(back - hu)[soft].max() < 2.0
    assert CT.of(np.array([np.nan, np.inf, -np.inf])).tolist() == [0, 255, 0]


def test_levels_of_other_images_are_their_percentiles():
    mr = np.linspace(0, 1000, 10001)
    levels = choose_levels(mr)
    assert levels.unit == "" and levels.windows[0][1:] == pytest.approx((10, 990))
    assert levels.of(np.array([0.0, 999.0])).tolist() == [0, 255]
    for odd in (np.zeros(9), np.full(9, np.nan), np.full(9, 3e9)):
        assert choose_levels(odd).of(odd).dtype == np.uint8


@pytest.mark.parametrize("ending", ["nii", "nii.gz", "nrrd", "mha"])
@pytest.mark.parametrize("depth", [1, 3, 100])
def test_slabs_are_the_volume(tmp_path, ending, depth):
    array = np.random.default_rng(0).integers(-1000, 1000, (7, 5, 6)).astype(np.int16)
    path = tmp_path / f"a.{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    slabs = list(read_slabs(path, depth))
    assert [len(slab) for slab in slabs[:-1]] == [depth] * (len(slabs) - 1)
    np.testing.assert_array_equal(np.concatenate(slabs), read_volume(path).array)


def test_slabs_of_a_file_that_is_cut_off_are_refused(tmp_path):
    path = tmp_path / "a.nii.gz"
    image = np.random.default_rng(0).integers(0, 99, (40, 50, 60)).astype(np.int16)
    save_nifti(path, image, grid_of(image.shape))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(CaseError, match="cannot be read"):
        list(read_slabs(path, 4))


def test_what_is_packed_is_what_a_browser_unpacks():
    for values in (np.arange(24, dtype=np.uint8), np.arange(24, dtype=">u2") + 300):
        raw = gzip.decompress(base64.b64decode(packed(values.reshape(2, 3, 4))))
        np.testing.assert_array_equal(np.frombuffer(raw, values.dtype.newbyteorder("<")), values)
    assert packed(np.zeros(9, np.uint8)) == packed(np.zeros(9, np.uint8))


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 20, 30), (50, 16, 16)])
def test_slices_lie_side_by_side_in_one_picture(shape):
    levels = np.broadcast_to(np.linspace(20, 230, shape[0]).astype(np.uint8)[:, None, None], shape)
    address, columns = slices_address(levels)
    picture = Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])))
    pixels = np.asarray(picture.convert("L")).astype(int)
    for number in range(shape[0]):
        row, column = divmod(number, columns)
        tile = pixels[row * shape[1] :, column * shape[2] :][: shape[1], : shape[2]]
        assert np.abs(tile - levels[number].astype(int)).max() <= 24
        assert abs(tile.mean() - levels[number].mean()) < 4
