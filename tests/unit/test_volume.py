"""Reading, writing and comparing volumes, held against SimpleITK and nibabel."""

from __future__ import annotations

import gzip
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from backsplit.errors import CaseError, Code
from backsplit.store.disk import atomic_path
from backsplit.volume import (
    Grid,
    read_grid,
    read_labels,
    read_volume,
    require_same_grid,
    save_nifti,
    write_labels,
)
from support.project import load, save

DIRECTIONS = [
    tuple(float(s * (c == p)) for p, s in zip(order, signs, strict=True) for c in range(3))
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]
TILTED = tuple(
    np.asarray(sitk.Euler3DTransform((0, 0, 0), 0.2, -0.1, 0.3).GetMatrix(), float).tolist()
)


@pytest.mark.parametrize("direction", [*DIRECTIONS, TILTED])
@pytest.mark.parametrize("like_image", [True, False])
def test_label_map_lies_exactly_on_its_image_for_both_readers(tmp_path, direction, like_image):
    image = save(
        tmp_path / "image.nii.gz",
        np.zeros((4, 5, 6), np.int16),
        spacing=(0.7123, 1.9, 3.3),
        origin=(-123.4, 51.1, -900.7),
        direction=direction,
    )
    array = np.arange(120, dtype=np.uint8).reshape(4, 5, 6)
    out = tmp_path / "labels.nii.gz"
    write_labels(out, array, read_grid(image), like=image if like_image else None)
    np.testing.assert_array_equal(load(out), array)
    a, b = sitk.ReadImage(str(image)), sitk.ReadImage(str(out))
    assert a.GetSize() == b.GetSize()
    np.testing.assert_allclose(a.GetSpacing(), b.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(a.GetOrigin(), b.GetOrigin(), rtol=1e-5)
    np.testing.assert_allclose(a.GetDirection(), b.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(nib.load(image).affine, nib.load(out).affine, atol=1e-3)
    if like_image:
        np.testing.assert_array_equal(nib.load(image).affine, nib.load(out).affine)
        assert a.GetOrigin() == b.GetOrigin() and a.GetDirection() == b.GetDirection()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_same_input_gives_same_bytes_without_time_stamp(tmp_path, dtype):
    grid = Grid((6, 5, 4), (1, 1, 2), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    array = np.random.default_rng(0).integers(0, 200, (4, 5, 6)).astype(dtype)
    path = tmp_path / "a.nii.gz"
    save_nifti(path, array, grid)
    data = path.read_bytes()
    save_nifti(path, array.copy(), grid)
    assert data == path.read_bytes()
    assert data[4:8] == b"\0\0\0\0"  # MTIME of RFC 1952
    assert nib.Nifti1Image.from_bytes(gzip.decompress(data)).get_data_dtype() == dtype


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_formats_read_alike(tmp_path, ending):
    array = np.random.default_rng(1).integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
    path = save(tmp_path / f"image{ending}", array)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.grid == read_grid(path)
    assert volume.grid.size == (6, 5, 4)


def _refused(path: Path, reader=read_volume) -> CaseError:
    with pytest.raises(CaseError) as caught:
        reader(path)
    assert str(path) in str(caught.value)
    return caught.value


def test_what_is_no_volume_is_refused_with_a_code(tmp_path):
    text = tmp_path / "text.nii.gz"
    text.write_text("hello, I am no image\n" * 50)
    assert _refused(text).code is Code.FILE_UNREADABLE
    empty = tmp_path / "empty.nii.gz"
    empty.touch()
    assert _refused(empty).code is Code.FILE_UNREADABLE
    assert _refused(tmp_path / "absent.nii.gz").code is Code.FILE_MISSING
    four = nib.Nifti1Image(np.zeros((4, 4, 4, 3), np.float32), np.eye(4))
    nib.save(four, tmp_path / "four.nii.gz")
    assert _refused(tmp_path / "four.nii.gz").code is Code.NOT_3D
    flat = nib.Nifti1Image(np.zeros((4, 4), np.float32), np.eye(4))
    nib.save(flat, tmp_path / "flat.nii.gz")
    assert _refused(tmp_path / "flat.nii.gz").code is Code.NOT_3D


def test_truncated_file_is_refused(tmp_path):
    whole = save(tmp_path / "whole.nii.gz", np.random.default_rng(0).random((20, 30, 30)))
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert _refused(cut).code is Code.FILE_UNREADABLE


def test_multi_member_gzip_is_read_and_damaged_gzip_refused(tmp_path):
    array = np.random.default_rng(0).integers(-99, 99, (30, 60, 70)).astype(np.int32)
    plain = save(tmp_path / "plain.nii", array).read_bytes()
    path = tmp_path / "a.nii.gz"
    packed = [gzip.compress(plain[i : i + 100_000]) for i in range(0, len(plain), 100_000)]
    path.write_bytes(b"".join(packed))
    np.testing.assert_array_equal(read_volume(path).array, array)
    path.write_bytes(b"".join(packed) + b"\0" * 512)  # padded, as on tape
    np.testing.assert_array_equal(read_volume(path).array, array)
    broken = bytearray(b"".join(packed))
    broken[-5] ^= 1  # the checksum's last bytes
    for content in (broken, b"".join(packed[:-1]), gzip.compress(plain + bytes(5_000_000))):
        path.write_bytes(content)
        assert _refused(path).code is Code.FILE_UNREADABLE


def test_float_labels_must_be_near_integers(tmp_path):
    near = np.zeros((3, 4, 5), np.float32)
    near[1] = 2.0005
    labels = read_labels(save(tmp_path / "near.nii.gz", near))
    assert labels.array.dtype == np.uint8 and set(np.unique(labels.array)) == {0, 2}
    for bad in (0.5, -1.0, np.nan):
        near[1, 1, 1] = bad
        error = _refused(save(tmp_path / "bad.nii.gz", near), read_labels)
        assert error.code is Code.LABEL_NOT_INTEGER


def test_grids_are_compared_by_where_their_corners_lie():
    identity = (1.0, 0, 0, 0, 1, 0, 0, 0, 1)
    grid = Grid((512, 512, 600), (0.8, 0.8, 1.5), (-200, -180, -900), identity)
    rounding = Grid((512, 512, 600), (0.8 + 1e-7, 0.8, 1.5), (-200 + 1e-5, -180, -900), identity)
    require_same_grid("a", rounding, grid, "b")
    for other in (
        Grid((512, 512, 601), (0.8, 0.8, 1.5), (-200, -180, -900), identity),
        Grid((512, 512, 600), (0.8, 0.8, 1.501), (-200, -180, -900), identity),
        Grid((512, 512, 600), (0.8, 0.8, 1.5), (-199, -180, -900), identity),
        Grid((512, 512, 600), (0.8, 0.8, 1.5), (-200, -180, -900), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
    ):
        with pytest.raises(CaseError) as caught:
            require_same_grid("lesion", other, grid, "image_ct")
        assert caught.value.code is Code.GRID_MISMATCH


@pytest.mark.parametrize("direction", [*DIRECTIONS, TILTED])
def test_indices_and_positions_are_those_of_itk_both_ways(direction):
    grid = Grid((4, 5, 6), (0.7, 2.0, 3.1), (-120.5, 33.0, 900.25), direction)
    image = sitk.Image(4, 5, 6, sitk.sitkUInt8)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(direction)
    index_zyx = np.array([[0, 0, 0], [5, 4, 3], [-1.5, 2.25, 7.0]])
    mm = [image.TransformContinuousIndexToPhysicalPoint(i[::-1].tolist()) for i in index_zyx]
    np.testing.assert_allclose(grid.to_mm(index_zyx), mm, atol=1e-9)
    np.testing.assert_allclose(grid.to_index(np.array(mm)), index_zyx, atol=1e-9)
    np.testing.assert_allclose(grid.to_index(np.array(mm[2])), index_zyx[2], atol=1e-9)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_array_axis_follows_the_patient(direction):
    grid = Grid((4, 5, 6), (1, 2, 3), (0, 0, 0), direction)
    image = sitk.Image(4, 5, 6, sitk.sitkUInt8)
    image.SetSpacing(grid.spacing)
    image.SetDirection(direction)
    for patient_axis in range(3):
        axis, sign = grid.array_axis(patient_axis)
        index = [0, 0, 0]
        index[2 - axis] = 1
        moved = image.TransformIndexToPhysicalPoint(index)[patient_axis]
        assert np.sign(moved) == sign


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "labels.nii.gz"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("scaling", [None, (2.25, -10.0)])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nifti_voxels_equal_itk_s_and_nibabel_s(tmp_path, dtype, scaling, ending):
    array = np.random.default_rng(2).integers(0, 100, (6, 5, 4)).astype(dtype)
    image = nib.Nifti1Image(array, np.diag([-1.0, -1.5, 2, 1]))
    if scaling:
        image.header.set_slope_inter(*scaling)
    path = tmp_path / f"image{ending}"
    nib.save(image, path)
    ours = read_volume(path).array
    np.testing.assert_allclose(ours, load(path), rtol=1e-6)
    np.testing.assert_allclose(ours, nib.load(path).get_fdata().transpose(2, 1, 0), rtol=1e-6)


def test_nan_is_seen_where_itk_reads_zero(tmp_path):
    array = np.zeros((3, 4, 5), np.float32)
    array[1, 1, 1] = np.nan
    path = save(tmp_path / "nan.nii.gz", array)
    assert load(path)[1, 1, 1] == 0
    assert np.isnan(read_volume(path).array[1, 1, 1])
