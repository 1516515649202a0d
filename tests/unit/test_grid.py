"""Where voxels lie: against SimpleITK, and at the borders of what counts as the same grid."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from backsplit.errors import CaseError, Code
from backsplit.volume.grid import Grid, Volume, require_same_grid

UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
OBLIQUE = tuple(Rotation.from_euler("zyx", [70, -35, 20], degrees=True).as_matrix().ravel())


@pytest.fixture
def grid():
    return Grid((4, 5, 6), (0.5, 1.5, 3.0), (-10.0, 20.0, 7.0), OBLIQUE)


def image_of(grid):
    image = sitk.Image(*grid.size, sitk.sitkUInt8)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    return image


def test_positions_are_simpleitk_s(grid):
    image = image_of(grid)
    index = np.array([[0, 0, 0], [5, 0, 0], [0, 4, 0], [0, 0, 3], [1.5, 2.25, 0.125]])
    expected = [image.TransformContinuousIndexToPhysicalPoint(at[::-1].tolist()) for at in index]
    np.testing.assert_allclose(grid.to_mm(index), expected, atol=1e-9)
    np.testing.assert_allclose(grid.to_mm(index[1]), expected[1], atol=1e-9)
    corners = {tuple(np.round(at, 6)) for at in grid.corners_mm()}
    assert corners == {
        tuple(np.round(image.TransformIndexToPhysicalPoint((x, y, z)), 6))
        for x in (0, 3) for y in (0, 4) for z in (0, 5)
    }  # fmt: skip


def test_matrices_go_from_voxels_to_the_patient(grid):
    voxel = np.array([3, 1, 2, 1])
    lps = image_of(grid).TransformIndexToPhysicalPoint((3, 1, 2))
    np.testing.assert_allclose(grid.affine_lps @ voxel, (*lps, 1))
    np.testing.assert_allclose(grid.affine_ras @ voxel, (-lps[0], -lps[1], lps[2], 1))


def test_positions_lead_back_to_indices(grid):
    index = np.array([[0, 0, 0], [5, 4, 3], [1.5, 2.25, 0.125]])
    np.testing.assert_allclose(grid.to_index(grid.to_mm(index)), index, atol=1e-9)
    np.testing.assert_allclose(grid.to_index(np.array(grid.origin)), [0, 0, 0], atol=1e-9)


def test_sizes_and_volumes(grid):
    assert grid.shape == (6, 5, 4) and grid.spacing_zyx == (3.0, 1.5, 0.5)
    assert grid.voxel_ml == pytest.approx(0.5 * 1.5 * 3 / 1000)
    assert grid.describe() == "4x5x6 voxels of 0.5x1.5x3 mm"
    odd = Grid((1, 2, 3), (0.123456, 10.0, 1000.04), (0, 0, 0), UPRIGHT)
    assert odd.describe() == "1x2x3 voxels of 0.1235x10x1000 mm"


def moved(grid, mm):
    return Grid(grid.size, grid.spacing, (grid.origin[0] + mm, *grid.origin[1:]), grid.direction)


def test_the_distance_is_that_of_the_furthest_corners(grid):
    assert grid.distance_mm(grid) == 0
    assert grid.distance_mm(moved(grid, -2.5)) == pytest.approx(2.5)
    wider = Grid(grid.size, (0.5, 1.5, 3.2), grid.origin, grid.direction)
    assert grid.distance_mm(wider) == pytest.approx(5 * 0.2)
    assert grid.distance_mm(Grid((4, 5, 7), grid.spacing, grid.origin, OBLIQUE)) == float("inf")


@pytest.mark.parametrize(
    ("spacing", "other", "tolerance"),
    [
        ((1, 2, 3), None, 0.05),  # a twentieth of the smallest side …
        ((1, 2, 3), (1, 2, 3.001), 0.05),
        ((2, 2, 2), (2, 2, 1.999), 0.09995),
        ((0.1, 2, 3), None, 0.01),  # … or what headers round away
    ],
)
def test_grids_are_the_same_but_for_rounding(spacing, other, tolerance):
    grid = Grid((2, 2, 2), spacing, (5, 5, 5), UPRIGHT)
    for share, same in ((0.97, True), (1.03, False)):
        near = Grid(grid.size, other or spacing, (5 + share * tolerance, 5, 5), UPRIGHT)
        assert grid.is_same(near) == near.is_same(grid) == same
    assert grid.is_same(grid)


@pytest.mark.parametrize("seed", range(40))
def test_each_axis_of_the_array_goes_to_one_axis_of_the_patient(seed):
    """The strongest cosine first, so that oblique grids never name an axis twice."""
    cosines = Rotation.random(random_state=seed).as_matrix()
    grid = Grid((4, 5, 6), (1, 1, 1), (0, 0, 0), tuple(cosines.ravel()))
    left, expected = np.abs(cosines), {}
    while len(expected) < 3:
        row, column = np.unravel_index(np.nanargmax(left), (3, 3))
        expected[int(row)] = (2 - int(column), 1 if cosines[row, column] >= 0 else -1)
        left[row], left[:, column] = np.nan, np.nan
    assert {axis: grid.array_axis(axis) for axis in range(3)} == expected
    assert {axis for axis, _ in expected.values()} == {0, 1, 2}


def test_a_volume_has_the_shape_of_its_grid(grid):
    assert Volume(np.zeros((6, 5, 4)), grid).grid is grid
    with pytest.raises(ValueError, match=r"shape \(6, 5, 4\), got \(4, 5, 6\)"):
        Volume(np.zeros((4, 5, 6)), grid)


def test_another_grid_is_refused_with_both_grids_named(grid):
    require_same_grid("lesion.nii", grid, moved(grid, 0.01), "its image")
    with pytest.raises(CaseError) as caught:
        require_same_grid("lesion.nii", grid, moved(grid, 2.5), "its image")
    assert caught.value.code is Code.GRID_MISMATCH
    assert caught.value.what == (
        "lesion.nii has the size of its image but is up to 2.5 mm away from it "
        "(origin (-10, 20, 7) mm, not (-7.5, 20, 7) mm)"
    )
    other = Grid((4, 5, 7), grid.spacing, grid.origin, OBLIQUE)
    with pytest.raises(CaseError) as caught:
        require_same_grid("lesion.nii", grid, other, "its image")
    assert caught.value.what == (
        "lesion.nii is 4x5x6 voxels of 0.5x1.5x3 mm but its image is 4x5x7 voxels of 0.5x1.5x3 mm"
    )


def test_axes_are_those_of_nibabel(grid):
    """In all directions, of which oblique ones are nearest to one."""
    for seed in range(200):
        turned = Rotation.random(random_state=seed).as_matrix()
        if seed % 2:
            turned[:, 0] *= -1
        one = replace(grid, direction=tuple(turned.ravel()))
        assert one.axes == "".join(nib.aff2axcodes(one.affine_ras)), turned


def test_what_two_grids_of_a_size_differ_in_is_named(grid):
    flipped = np.reshape(UPRIGHT, (3, 3)) * [1, -1, 1]
    upright = replace(grid, direction=UPRIGHT)
    for other, said in (
        (replace(grid, spacing=(0.5, 1.5, 2.0)), "spacing (0.5, 1.5, 3) mm, not (0.5, 1.5, 2) mm"),
        (replace(upright, direction=tuple(flipped.ravel())), "axes LPS, not LAS"),
        (replace(upright, origin=(-10, 0, 7)), "origin (-10, 20, 7) mm, not (-10, 0, 7) mm"),
    ):
        one = grid if other.direction == grid.direction else upright
        assert one.differences(other) == said
    small = tuple(Rotation.from_euler("z", 3, degrees=True).as_matrix().ravel())
    assert "directions" in upright.differences(replace(upright, direction=small))


@pytest.mark.parametrize(("changed", "said"), [
    (
        {"origin": (-180.0, -180.0, -1233.8)},
        "origin (-180, -180, -1234.2) mm, not (-180, -180, -1233.8) mm",
    ),
    ({"spacing": (0.70004, 0.7, 1.0)}, "spacing (0.7, 0.7, 1) mm, not (0.70004, 0.7, 1) mm"),
    (
        {"spacing": (0.70006, 0.7, 1.0), "origin": (-180.0, -180.0, -1134.2)},
        "origin (-180, -180, -1234) mm, not (-180, -180, -1134) mm",
    ),
])  # fmt: skip
def test_differences_are_told_by_what_they_move_not_by_their_digits(changed, said):
    """A table far from the origin hides half a millimetre; a rounded spacing moves nothing."""
    grid = Grid((512, 512, 200), (0.7, 0.7, 1.0), (-180.0, -180.0, -1234.2), UPRIGHT)
    other = replace(grid, **changed)
    assert grid.differences(other) == said
