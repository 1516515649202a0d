"""DICOM series, DICOM-SEG and RTSTRUCT, held against SimpleITK, highdicom and plain geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from matplotlib.path import Path as Polygon

from backsplit.errors import CaseError, Code
from backsplit.volume import Grid, read_geometry, read_label_map, read_volume
from support.dicom import AXIAL, GRID, TILTED, ring, write_rtstruct, write_seg, write_series


def image(shape=(6, 9, 8), seed=0):
    return np.random.default_rng(seed).integers(-1000, 1500, shape).astype(np.int16)


@pytest.mark.parametrize("cosines", [AXIAL, TILTED, (-1.0, 0.0, 0.0, 0.0, 0.0, -1.0)])
def test_a_series_lies_where_simpleitk_puts_it(tmp_path, cosines):
    array = image()
    folder = write_series(tmp_path / "series", array, cosines)
    (folder / "README.txt").write_text("no slice")
    (folder / "DICOMDIR").write_bytes(b"\0" * 200)
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype == np.int16
    reader = sitk.ImageSeriesReader()
    (uid,) = reader.GetGDCMSeriesIDs(str(folder))
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), uid))
    oracle = reader.Execute()
    grid = read_geometry(folder).grid
    assert grid.size == oracle.GetSize()
    np.testing.assert_allclose(grid.spacing, oracle.GetSpacing(), atol=1e-4)
    np.testing.assert_allclose(grid.origin, oracle.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(grid.direction, oracle.GetDirection(), atol=1e-4)
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(oracle))


def refused(path: Path, reader=read_volume) -> Code:
    with pytest.raises(CaseError) as caught:
        reader(path)
    assert str(path) in str(caught.value)
    return caught.value.code


def test_what_is_wrong_with_a_series_has_a_code(tmp_path):
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / "empty") is Code.FILE_UNREADABLE
    gap = write_series(tmp_path / "gap", image())
    next(p for p in gap.iterdir() if pydicom.dcmread(p).InstanceNumber == 3).unlink()
    assert refused(gap) is Code.SLICES_UNEVEN
    two = write_series(tmp_path / "two", image())
    write_series(two, image(seed=1), uid="1.2.3.9")
    assert refused(two) is Code.SERIES_AMBIGUOUS
    doubled = write_series(tmp_path / "doubled", image(), shift={1: np.array([0, 0, -2.5])})
    assert refused(doubled) is Code.SLICES_UNEVEN
    tilt = {z: np.array([0.0, 0.5 * z, 0.0]) for z in range(6)}
    assert refused(write_series(tmp_path / "tilt", image(), shift=tilt)) is Code.DIRECTION_SHEARED
    one = write_series(tmp_path / "one", image((1, 9, 8)))
    assert refused(one) is Code.NOT_3D


@pytest.mark.parametrize("oblique", [False, True])
def test_contours_are_filled_where_a_voxel_centre_is_inside(tmp_path, oblique):
    direction = GRID.direction
    if oblique:
        row, column = np.array(TILTED[:3]), np.array(TILTED[3:])
        direction = tuple(np.stack([row, column, np.cross(row, column)], axis=1).ravel())
    grid = Grid(GRID.size, GRID.spacing, GRID.origin, direction)
    outer, inner = ring(grid, 2, (20, 20), 12.3), ring(grid, 2, (20, 20), 5.1)
    other = ring(grid, 3, (18, 25), 6.7)
    path = write_rtstruct(tmp_path / "rs.dcm", {"GTV": [outer, inner], "organ": [other, outer]})
    labels = read_label_map(path, grid)
    assert dict(labels.names) == {"GTV": 3, "organ": 4}
    inverse = np.linalg.inv(grid.affine_lps)

    def oracle(points, z):
        index = points @ inverse[:3, :3].T + inverse[:3, 3]
        y, x = np.mgrid[: grid.shape[1], : grid.shape[2]]
        inside = Polygon(index[:, :2]).contains_points(np.stack([x.ravel(), y.ravel()], axis=1))
        mask = np.zeros(grid.shape, bool)
        mask[z] = inside.reshape(x.shape)
        return mask

    gtv = oracle(outer, 2) ^ oracle(inner, 2)
    organ = oracle(other, 3) | oracle(outer, 2)
    found = {
        value: np.isin(labels.array, [v for v in np.unique(labels.array)
                                      if value in labels.overlaps.get(int(v), (int(v),))])
        for value in (3, 4)
    }  # fmt: skip
    np.testing.assert_array_equal(found[3], gtv)
    np.testing.assert_array_equal(found[4], organ)
    area = gtv.sum() * grid.spacing[0] * grid.spacing[1]
    assert area == pytest.approx(np.pi * (12.3**2 - 5.1**2), rel=0.02)
    only = read_label_map(path, grid, ["G*"])
    assert set(np.unique(only.array)) == {0, 3} and dict(only.names) == dict(labels.names)


def test_contours_of_another_series_are_refused(tmp_path):
    between = ring(GRID, 2.5, (20, 20), 5)
    path = write_rtstruct(tmp_path / "between.dcm", {"GTV": [between]})
    assert refused(path, lambda p: read_label_map(p, GRID)) is Code.GRID_MISMATCH
    outside = ring(GRID, 2, (20, 39), 12)
    path = write_rtstruct(tmp_path / "outside.dcm", {"GTV": [outside]})
    assert refused(path, lambda p: read_label_map(p, GRID)) is Code.GRID_NO_OVERLAP
    above = ring(GRID, 7, (20, 20), 5)
    path = write_rtstruct(tmp_path / "above.dcm", {"GTV": [above]})
    assert refused(path, lambda p: read_label_map(p, GRID)) is Code.GRID_NO_OVERLAP
    empty = write_rtstruct(tmp_path / "empty.dcm", {"GTV": []})
    assert not read_label_map(empty, GRID).array.any()


@pytest.mark.filterwarnings("ignore")
def test_broken_dicom_never_escapes_without_a_code(tmp_path):
    rng = np.random.default_rng(0)
    folder = write_series(tmp_path / "series", image())
    good = write_rtstruct(tmp_path / "rs.dcm", {"GTV": [ring(GRID, 2, (20, 20), 5)]}).read_bytes()
    seg = write_seg(tmp_path / "seg.dcm", folder, [np.ones((6, 9, 8), bool)]).read_bytes()
    bad = tmp_path / "bad.dcm"
    tried = 0
    for content in (good, seg):
        for _ in range(60):
            data = bytearray(content)
            if rng.random() < 0.3:
                data = data[: rng.integers(132, len(data))]
            for _ in range(rng.integers(0, 30)):
                data[rng.integers(132, len(data))] = rng.integers(0, 256)
            bad.write_bytes(data)
            tried += 1
            try:
                read_label_map(bad, GRID)
            except CaseError as error:
                assert error.code in Code
    assert tried == 120
    bad.write_bytes(b"\0" * 128 + b"DICM" + rng.bytes(500))
    assert refused(bad, lambda p: read_label_map(p, GRID)) is Code.FILE_UNREADABLE
    ct = next(folder.iterdir())
    assert refused(ct, lambda p: read_label_map(p, GRID)) is Code.NOT_3D


@pytest.mark.shared
def test_a_real_rtstruct_equals_the_mask_of_the_same_lesion(sts, shared):
    series, structures = sts
    data = shared / "data" / "sts" / "STS_002"
    mask = sitk.ReadImage(str(data / "CT" / "mask.nii.gz"))
    given = sitk.GetArrayFromImage(mask) > 0
    for path in (series, data / "CT" / "image.nii.gz"):
        grid = read_geometry(path).grid
        assert grid.size == mask.GetSize()
        np.testing.assert_allclose(grid.origin, mask.GetOrigin(), atol=0.01)
        found = read_label_map(structures, grid, ["GTV*"]).array > 0
        np.testing.assert_array_equal(found, given)
    np.testing.assert_allclose(
        read_volume(series).array, read_volume(data / "CT" / "image.nii.gz").array, atol=1
    )
