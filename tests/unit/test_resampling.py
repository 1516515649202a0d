"""Compiled resampling against what it stands for: SciPy, skimage, nnU-Net, nibabel."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg
from scipy import ndimage
from totalsegmentator.alignment import as_closest_canonical, undo_canonical
from totalsegmentator.resampling import change_spacing

from backsplit.segment.totalseg.lattice import turn
from backsplit.volume import Grid, threads
from backsplit.volume.spline import resize_cubic, resize_planes
from backsplit.volume.zoom import (
    linear_axis,
    nearest_axis,
    zoom_linear,
    zoom_nearest,
)

SHAPES = [
    ((40, 33, 27), (20, 23, 27)),
    ((9, 20, 30), (21, 20, 11)),
    ((31, 25, 17), (50, 26, 16)),
    ((1, 12, 2), (1, 1, 5)),
    ((200, 5, 6), (431, 5, 6)),
    ((200, 6, 5), (33, 4, 9)),
]


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.int32, np.float32, np.float64])
@pytest.mark.parametrize(("shape", "wanted"), SHAPES)
def test_order_1_equals_scipy_in_every_bit(shape, wanted, dtype):
    """Values up to 1e8, so that cutting off to whole numbers leaves 27 of the 53 bits."""
    random = np.random.default_rng(0)
    most = min(1e8, np.iinfo(dtype).max if np.dtype(dtype).kind in "iu" else 1e8)
    image = (random.random(shape) * most).astype(dtype)
    zoom = [want / size for size, want in zip(shape, wanted, strict=True)]
    # x is SciPy's first axis, as in TotalSegmentator
    expected = ndimage.zoom(image.T.astype(float), zoom[::-1], order=1, mode="nearest").T
    assert expected.shape == wanted
    out = np.empty(wanted, np.float64)
    axes = [linear_axis(size, want) for size, want in zip(shape, wanted, strict=True)]
    zoom_linear(image, (axes[0], axes[1], axes[2]), out)
    np.testing.assert_array_equal(out, expected.astype(np.int32))


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize(("shape", "wanted"), SHAPES)
def test_order_0_equals_scipy(shape, wanted, centred):
    labels = np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8)
    zoom = [want / size for size, want in zip(shape, wanted, strict=True)]
    expected = ndimage.zoom(labels.astype(float), zoom, order=0, mode="nearest", grid_mode=centred)
    index = [nearest_axis(*sizes, centred=centred) for sizes in zip(shape, wanted, strict=True)]
    out = np.empty(wanted, np.uint8)
    table = np.random.default_rng(1).permutation(256).astype(np.uint8)
    zoom_nearest(labels, (index[0], index[1], index[2]), table, out)
    np.testing.assert_array_equal(out, table[expected.astype(np.uint8)])


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize(("size", "wanted"), [(13, 30), (30, 13), (100, 77), (7, 7), (1, 4)])
def test_places_and_weights_are_scipy_s_own(size, wanted, centred):
    """What each input voxel gives to each output voxel: the response to a 1 there."""
    axis = linear_axis(size, wanted, centred=centred)
    weights = np.zeros((wanted, size))
    np.add.at(weights, (np.arange(wanted), axis.low), axis.weight_low)
    np.add.at(weights, (np.arange(wanted), axis.high), axis.weight_high)
    responses = [
        ndimage.zoom(row, wanted / size, order=1, mode="nearest", grid_mode=centred)
        for row in np.eye(size)
    ]
    np.testing.assert_array_equal(weights, np.transpose(responses))


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize(("shape", "wanted"), SHAPES)
def test_cubic_splines_equal_nnunet_s(shape, wanted, separate):
    image = np.random.default_rng(0).normal(0, 300, shape).astype(np.float32)
    expected = resample_data_or_seg(image[None], wanted, False, 0, 3, separate)[0]
    resampled = (resize_planes if separate else resize_cubic)(image, wanted)
    spread = np.ptp(image)
    assert np.abs(resampled - expected).max() <= 1e-7 * spread
    assert (resampled != expected).mean() < 1e-3  # float32 of float64 that differs by rounding


def test_a_spline_goes_through_an_image_that_is_only_longer_in_one_axis():
    image = np.random.default_rng(0).normal(0, 1, (300, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(resize_cubic(image, (300, 4, 5)), image)


def test_any_number_of_cores_gives_the_same(monkeypatch):
    image = np.random.default_rng(0).normal(0, 1, (150, 20, 30)).astype(np.float32)
    many = resize_cubic(image, (210, 15, 40))
    for cores in (1, 5):
        monkeypatch.setattr(threads, "job_cores", lambda cores=cores: cores)
        threads._pool.cache_clear()
        np.testing.assert_array_equal(resize_cubic(image, (210, 15, 40)), many)
    threads._pool.cache_clear()


def test_pieces_cover_everything_once_and_errors_are_raised():
    seen = []
    threads.in_pieces(lambda start, stop: seen.extend(range(start, stop)), 1000, least=7)
    assert sorted(seen) == list(range(1000))

    def fails(start: int, stop: int) -> None:
        raise ValueError(f"{start} {stop}")

    with pytest.raises(ValueError, match="0 "):
        threads.in_pieces(fails, 10)


def test_a_job_uses_no_more_cores_than_it_was_given(monkeypatch):
    for told, expected in (("1", 1), ("1,1", 1), ("0", None), ("many", None), ("", None)):
        monkeypatch.setenv("OMP_NUM_THREADS", told)
        threads.job_cores.cache_clear()
        assert threads.job_cores() == (expected or threads.job_cores())
        assert threads.job_cores() >= 1
    threads.job_cores.cache_clear()


def turned_grids():
    """All 48 orders and directions of axes, tilted by some degrees."""
    tilt = np.array([[np.cos(0.1), -np.sin(0.1), 0], [np.sin(0.1), np.cos(0.1), 0], [0, 0, 1]])
    for places in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            turned = np.zeros((3, 3))
            turned[list(places), range(3)] = signs
            direction = tuple(float(v) for v in (tilt @ turned).ravel())
            yield Grid((13, 9, 7), (1.7, 2.1, 3.0), (5.0, -3.0, 2.0), direction)


@pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), (3.0, 3.0, 4.0), None])
def test_turning_and_resampling_equal_totalsegmentator_s(spacing):
    random = np.random.default_rng(0)
    grids = list(turned_grids())
    assert len(grids) == 48
    for grid in grids:
        image = random.integers(-1000, 1000, grid.shape).astype(np.int16)
        original = nib.Nifti1Image(image.transpose(2, 1, 0).astype(float), grid.affine_ras)
        canonical = as_closest_canonical(original)
        small = canonical
        if spacing is not None:
            small = change_spacing(canonical, list(spacing), order=1, dtype=np.int32, nr_cpus=1)
        turned = turn(grid, spacing)
        expected = np.asarray(small.dataobj).transpose(2, 1, 0)
        np.testing.assert_array_equal(turned.to_task(image), expected)
        np.testing.assert_array_equal(turned.task_affine, small.affine)
        assert turned.spacing_zyx == tuple(float(s) for s in small.header.get_zooms()[::-1])

        labels = random.integers(0, 100, turned.shape).astype(np.uint8)
        back = nib.Nifti1Image(labels.transpose(2, 1, 0), small.affine)
        if spacing is not None:
            back = change_spacing(
                back, list(spacing), canonical.shape, order=0, dtype=np.uint8, nr_cpus=1,
                force_affine=canonical.affine,
            )  # fmt: skip
        expected = np.asarray(undo_canonical(back, original).dataobj).transpose(2, 1, 0)
        np.testing.assert_array_equal(turned.to_image(labels), expected)
