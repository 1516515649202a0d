"""Which voxels of an image lie on another grid, against SimpleITK."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from backsplit.volume import Grid
from backsplit.volume.coverage import covered, covers
from support.composing import grid_of
from support.examples import examples

SHAPE = (7, 9, 11)
REFERENCE = Grid((11, 9, 7), (1.5, 2.0, 3.0), (-10.0, 4.0, 60.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
WHOLE = tuple(slice(0, n) for n in SHAPE)


@st.composite
def grids(draw):
    """Grids near the reference: on its lattice, cropped or flipped; or turned, scaled, moved."""
    size = draw(st.tuples(*[st.integers(2, 14)] * 3))
    near = draw(st.tuples(*[st.floats(-6, 3)] * 3))
    if draw(st.booleans()):
        index = np.rint(near)
        origin = REFERENCE.to_mm(index[::-1])
        return Grid(size, REFERENCE.spacing, tuple(origin.tolist()), REFERENCE.direction)
    spacing = tuple(s * draw(st.floats(0.4, 2.5)) for s in REFERENCE.spacing)
    angle = draw(st.sampled_from([0.0, 0.2, np.pi]))
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    origin = REFERENCE.to_mm(np.array(near[::-1]))
    return Grid(size, spacing, tuple(origin.tolist()), (cos, -sin, 0, sin, cos, 0, 0, 0, 1))


def image_of(grid: Grid) -> sitk.Image:
    image = sitk.Image(list(grid.size), sitk.sitkUInt8)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    return image


@given(grids(), st.tuples(*[st.tuples(st.integers(0, 3), st.integers(4, 7))] * 3))
@examples(60)
def test_what_is_covered_is_what_itk_finds_inside(grid, ends):
    box = tuple(slice(low, high) for low, high in ends)
    reference, other = image_of(REFERENCE), image_of(grid)
    expected = np.zeros(SHAPE, bool)
    edge = np.zeros(SHAPE, bool)
    for z, y, x in np.ndindex(SHAPE):
        point = reference.TransformIndexToPhysicalPoint((x, y, z))
        index = np.array(other.TransformPhysicalPointToContinuousIndex(point))
        expected[z, y, x] = ((index >= -0.5) & (index <= np.array(grid.size) - 0.5)).all()
        beyond = np.abs(np.abs(index - (np.array(grid.size) - 1) / 2) - np.array(grid.size) / 2)
        edge[z, y, x] = (beyond < 1e-3).any()  # rounding decides
    found = covered(grid, REFERENCE, WHOLE)
    np.testing.assert_array_equal(found | edge, expected | edge)
    np.testing.assert_array_equal(covered(grid, REFERENCE, box), found[box])
    assert covers(grid, REFERENCE) == found.all()


@pytest.mark.parametrize(("spacing", "size", "whole"), [
    ((1.5, 2.0, 3.0), (11, 9, 7), True),
    ((1.5, 2.0, 3.0), (12, 9, 7), True),
    ((1.5, 2.0, 3.0), (11, 9, 6), False),
    ((0.75, 1.0, 1.5), (22, 18, 14), True),
])  # fmt: skip
def test_a_grid_covers_an_image_or_not(spacing, size, whole):
    origin = tuple(
        o - s / 2 + other / 2
        for o, s, other in zip(REFERENCE.origin, REFERENCE.spacing, spacing, strict=True)
    )
    grid = Grid(size, spacing, origin, REFERENCE.direction)
    assert covers(grid, REFERENCE) is whole and covers(REFERENCE, REFERENCE)


def test_a_grid_beside_the_image_covers_nothing():
    far = Grid((3, 3, 3), (1, 1, 1), (500.0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    grid = grid_of(SHAPE)
    assert not covered(far, grid, WHOLE).any() and not covers(far, grid)
