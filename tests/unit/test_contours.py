"""RTSTRUCT, held against rt-utils' own masks, polygons' areas, and what must be refused."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon
from pydicom import dcmread
from rt_utils import RTStructBuilder
from skimage.draw import polygon2mask

from backsplit.errors import CaseError, Code
from backsplit.volume import Grid, even_odd, read_geometry, read_label_map
from support.dicom import GRID, TILTED, ring, write_rtstruct, write_series
from support.examples import examples


def index_ring(z, corners, grid=GRID):
    """Contour in mm through positions (y, x) in voxels of slice z."""
    return grid.to_mm(np.array([[z, y, x] for y, x in corners], float))


def square(z, low, high):
    return index_ring(z, [(low, low), (low, high), (high, high), (high, low)])


def gtv(path, contours, grid=GRID):
    """The region GTV of contours, and what its file says of it."""
    write_rtstruct(path, {"BODY": [square(z, 1, 35) for z in range(5)], "GTV": contours})
    labels = read_label_map(path, grid, ["GTV"])
    return labels.array > 0, labels


def code_of(path, contours):
    with pytest.raises(CaseError) as caught:
        gtv(path, contours)
    assert str(path) in str(caught.value) and "GTV" in str(caught.value)
    return caught.value.code


# rt-utils


class RtUtils:
    """Masks through RTSTRUCT: written by rt-utils and read back by both."""

    def __init__(self, folder, size, cosines, depth=4):
        # rt-utils takes the two sides of a pixel for each other, so they are alike
        array, spacing = np.zeros((depth, size, size), np.int16), (0.8, 0.8, 2.5)
        self.series = write_series(folder / f"{size}", array, cosines, spacing=spacing)
        self.grid = read_geometry(self.series).grid
        self.path = folder / "rt.dcm"
        self.builder = RTStructBuilder.create_new(str(self.series))
        self.blank = deepcopy(self.builder.ds)

    def through(self, mask, **how):
        """Our mask, rt-utils' mask, and what the file says."""
        builder = self.builder
        builder.ds = deepcopy(self.blank)
        builder.add_roi(mask=mask.transpose(1, 2, 0), name="GTV", **how)
        builder.ds.save_as(self.path, enforce_file_format=True)
        labels = read_label_map(self.path, self.grid, ["GTV"])
        theirs = builder.get_roi_mask_by_name("GTV").transpose(2, 0, 1)
        return labels.array > 0, theirs, labels


@pytest.fixture(scope="module")
def rt_utils(tmp_path_factory):
    return RtUtils(tmp_path_factory.mktemp("rt"), 13, TILTED, depth=2)


def shapes():
    y, x = np.indices((64, 64))
    radius = np.hypot(y - 31.5, x - 31.5)
    for width in (1, 2, 4, 8):
        yield f"ring of {width}", (radius < 20) & (radius >= 20 - width)
    yield "disc", radius < 12
    yield "square", (abs(x - 30) < 6) & (abs(y - 30) < 4)
    yield "line", (y == 30) & (x > 20) & (x < 30)
    yield "upright line", (x == 30) & (y > 20) & (y < 30)
    yield "oblique line", (x == y) & (y > 20) & (y < 30)
    yield "voxel", (y == 30) & (x == 30)
    yield "voxels that touch at corners", ((x + y) % 2 == 0) & (radius < 9)
    yield "hole of a voxel", (abs(x - 30) < 3) & (abs(y - 30) < 3) & ~((x == 30) & (y == 30))
    yield "island in a hole", (radius < 20) & (radius >= 14) | (radius < 6)
    yield "at the edges", (x < 3) | (y > 60)
    yield "everything", np.ones((64, 64), bool)


@pytest.mark.parametrize(("name", "mask"), list(shapes()), ids=[name for name, _ in shapes()])
def test_masks_that_rt_utils_wrote_come_back(tmp_path, name, mask):
    volume = np.zeros((4, 64, 64), bool)
    volume[1:3] = mask
    ours, theirs, labels = RtUtils(tmp_path, 64, TILTED).through(volume)
    np.testing.assert_array_equal(ours, volume)
    np.testing.assert_array_equal(ours, theirs)
    assert not labels.notes
    assert_volume_agrees(ours, labels)


@given(seed=st.integers(0, 2**32 - 1), density=st.sampled_from([0.02, 0.3, 0.5, 0.7, 0.97]),
       smooth=st.booleans(), simple=st.booleans())  # fmt: skip
@examples(300)
def test_random_masks_come_back_from_rt_utils(rt_utils, seed, density, smooth, simple):
    noise = np.random.default_rng(seed).random(rt_utils.grid.shape)
    if smooth:
        noise = sum(np.roll(noise, (y, x), (1, 2)) for y in range(3) for x in range(3)) / 9
    mask = noise < np.quantile(noise, density)
    ours, theirs, labels = rt_utils.through(mask, approximate_contours=simple)
    np.testing.assert_array_equal(ours, mask)
    np.testing.assert_array_equal(ours, theirs)
    assert_volume_agrees(ours, labels)


def assert_volume_agrees(mask, labels):
    (drawn,) = labels.drawn.values()
    assert drawn.kind == "contours" and drawn.voxels is None
    assert abs(mask.sum() * labels.grid.voxel_ml - drawn.ml) <= drawn.tolerance_ml


def test_pin_holes_are_read_as_rt_utils_reads_them(tmp_path):
    y, x = np.indices((64, 64))
    volume = np.zeros((4, 64, 64), bool)
    volume[1:3] = (np.hypot(y - 31, x - 31) < 20) & (np.hypot(y - 31, x - 31) >= 10)
    ours, theirs, _ = RtUtils(tmp_path, 64, TILTED).through(volume, use_pin_hole=True)
    np.testing.assert_array_equal(ours, theirs)
    assert (ours != volume).sum() < 100  # the cut itself


@pytest.mark.shared
def test_a_real_region_differs_from_rt_utils_by_its_rounding_only(sts):
    """rt-utils rounds vertices to voxels first, so that edges move by up to half a voxel."""
    series, structures = sts
    grid = read_geometry(series).grid
    theirs = RTStructBuilder.create_new(str(series))
    theirs.ds = dcmread(structures)
    for item in theirs.ds.ROIContourSequence[0].ContourSequence:  # UIDs were changed since
        z = round(float(grid.to_index(np.array(item.ContourData[:3], float))[0]))
        (image,) = item.ContourImageSequence
        image.ReferencedSOPInstanceUID = theirs.series_data[z].SOPInstanceUID
    labels = read_label_map(structures, grid, ["GTV*"])
    ours = labels.array > 0
    (name,) = [n for n in theirs.get_roi_names() if n.startswith("GTV")]
    drawn = theirs.get_roi_mask_by_name(name).transpose(2, 0, 1)
    reference = np.zeros(grid.shape, bool)  # theirs takes rows for columns in its shape alone
    rows, columns = min(drawn.shape[1], grid.shape[1]), min(drawn.shape[2], grid.shape[2])
    reference[:, :rows, :columns] = drawn[:, :rows, :columns]
    assert reference.sum() == drawn.sum()
    (items,) = (i.ContourSequence for i in dcmread(structures).ROIContourSequence)
    edges = np.zeros(grid.shape, bool)
    for item in items:  # all voxels within a voxel of a contour
        points = grid.to_index(np.reshape(item.ContourData, (-1, 3)).astype(float))
        for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
            for z, y, x in np.rint(np.linspace(start, end, 20)).astype(int):
                edges[z, y - 1 : y + 2, x - 1 : x + 2] = True
    differs = ours != reference
    print(f"{int(differs.sum())} of {int(reference.sum())} voxels differ, all at the edge")
    assert not (differs & ~edges).any()
    assert_volume_agrees(ours, labels)


# areas


def test_the_area_is_that_of_geometry():
    angles = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    wide, narrow = 9 * circle + 20, 4 * circle + 20
    assert even_odd.area([wide], 0.2) == pytest.approx(81 * np.pi, rel=1e-5)
    assert even_odd.area([wide, narrow], 0.2) == pytest.approx(65 * np.pi, rel=1e-5)
    assert even_odd.area([narrow, narrow + 20, wide], 0.2) == pytest.approx(81 * np.pi, rel=1e-5)
    bow = np.array([[0, 0], [10, 10], [10, 0], [0, 10]])  # crosses itself: two triangles
    assert even_odd.area([bow], 0.1) == pytest.approx(50, abs=0.01)
    keyhole = np.array([[0, 0], [0, 5], [2, 5], [2, 3], [4, 3], [4, 7], [2, 7], [2, 5], [0, 5],
                        [0, 10], [10, 10], [10, 0]])  # fmt: skip
    assert even_odd.area([keyhole], 1.0) == pytest.approx(100 - 8)
    assert even_odd.area([bow[:2], bow[:1]], 0.1) == 0
    assert even_odd.perimeter(np.array([[0, 0], [3, 0], [3, 4]])) == 12


@given(seed=st.integers(0, 2**32 - 1), parts=st.integers(1, 4))
@examples(100)
def test_pixels_are_inside_as_matplotlib_and_scikit_image_have_it(seed, parts):
    rng = np.random.default_rng(seed)
    polygons = [rng.uniform(2, 28, (rng.integers(3, 12), 2)) for _ in range(parts)]
    found = even_odd.fill(polygons, (30, 31))
    y, x = np.mgrid[:30, :31]
    points = np.stack([y.ravel(), x.ravel()], axis=1)
    inside, clear = np.zeros(930, bool), np.ones(930, bool)
    for polygon in polygons:
        inside ^= polygon2mask((30, 31), polygon).ravel()
        for start, end in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            along = np.clip((points - start) @ (end - start) / np.sum((end - start) ** 2), 0, 1)
            gap = np.linalg.norm(points - start - along[:, None] * (end - start), axis=1)
            clear &= gap > 2 * even_odd.ON_PIXEL
    np.testing.assert_array_equal(found.ravel()[clear], inside[clear])
    exact = even_odd.area(polygons, 0.05)
    reach = np.sqrt(0.5)
    bound = sum(reach * even_odd.perimeter(p) + np.pi / 2 for p in polygons)
    assert abs(found.sum() - exact) <= bound


# kinds of contours


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "INTERPOLATED_PLANAR"])
def test_every_closed_kind_is_filled(tmp_path, kind):
    outer, inner = square(2, 5, 15), square(2, 8, 12)
    mask, labels = gtv(tmp_path / "rt.dcm", [(kind, outer), ("CLOSED_PLANAR", inner)])
    expected = np.zeros(GRID.shape, bool)
    expected[2, 5:16, 5:16] = True
    expected[2, 9:12, 9:12] = False  # the hole's contour belongs to the region
    np.testing.assert_array_equal(mask, expected)
    (drawn,) = labels.drawn.values()
    voxel = GRID.spacing[0] * GRID.spacing[1] * GRID.spacing[2] / 1000
    assert (drawn.parts, drawn.gaps) == (2, 0)
    assert drawn.ml == pytest.approx((10 * 10 - 4 * 4) * voxel)


@pytest.mark.parametrize("kind", ["OPEN_PLANAR", "OPEN_NONPLANAR", "POINT", "CLOSED", "", None])
def test_a_kind_that_encloses_nothing_refuses_a_wanted_region(tmp_path, kind):
    contours = [square(1, 5, 9), (kind, square(2, 5, 9))]
    assert code_of(tmp_path / "rt.dcm", contours) is Code.CONTOUR_UNUSABLE
    path = write_rtstruct(tmp_path / "rt.dcm", {"GTV": [square(2, 5, 9)], "isocentre": contours})
    assert (read_label_map(path, GRID, ["GTV"]).array > 0).sum() == 25


def test_contours_of_few_points(tmp_path):
    line = index_ring(2, [(10, 10), (10, 14)])
    mask, labels = gtv(tmp_path / "rt.dcm", [line, index_ring(3, [(20, 21)])])
    found = [tuple(index) for index in np.argwhere(mask)]
    assert found == [(2, 10, x) for x in range(10, 15)] + [(3, 20, 21)]
    assert_volume_agrees(mask, labels)
    assert code_of(tmp_path / "none.dcm", [line, np.zeros((0, 3))]) is Code.CONTOUR_UNUSABLE


@pytest.mark.parametrize("points", [["1", "2"], ["1", "2", "3", "4"], ["1", "2", "nan"]])
def test_points_that_are_no_positions_are_refused(tmp_path, points):
    path = write_rtstruct(tmp_path / "rt.dcm", {"GTV": [square(2, 5, 9)]})
    data = dcmread(path)
    data.ROIContourSequence[0].ContourSequence[0].ContourData = points
    data.save_as(path)
    with pytest.raises(CaseError) as caught:
        read_label_map(path, GRID, ["GTV"])
    assert caught.value.code in (Code.CONTOUR_UNUSABLE, Code.FILE_UNREADABLE)


@pytest.mark.parametrize("contours", [None, []])
def test_a_region_without_contours_is_noted(tmp_path, contours):
    mask, labels = gtv(tmp_path / "rt.dcm", contours)
    assert not mask.any() and "'GTV' has no contours" in labels.notes[0]
    (drawn,) = labels.drawn.values()
    assert (drawn.parts, drawn.ml) == (0, 0)


def test_slices_left_out_and_copies_are_noted(tmp_path):
    first = square(0, 5, 9)
    mask, labels = gtv(tmp_path / "rt.dcm", [first, square(3, 5, 9), first])
    assert mask.sum() == 50 and [d.gaps for d in labels.drawn.values()] == [2]
    assert "1 contours twice" in labels.notes[0] and "2 of the slices" in labels.notes[1]


def renamed(path, **changes):
    """A structure set with two regions, of which the second is changed."""
    write_rtstruct(path, {"GTV": [square(1, 5, 9)], "organ": [square(3, 5, 10)]})
    data = dcmread(path)
    for name, value in changes.items():
        setattr(data.StructureSetROISequence[1], name, value)
    data.save_as(path)
    return path


def test_all_regions_of_a_name_are_that_name(tmp_path):
    labels = read_label_map(renamed(tmp_path / "rt.dcm", ROIName="GTV"), GRID, ["GTV"])
    assert list(labels.names) == ["GTV", "GTV (2)"]
    assert labels.values_of("GTV") == list(labels.names.values())
    assert labels.values_of("GTV (2)") == [labels.names["GTV (2)"]]
    assert (labels.array[1] > 0).sum() == 25 and (labels.array[3] > 0).sum() == 36


def test_regions_of_one_number_are_refused(tmp_path):
    path = renamed(tmp_path / "rt.dcm", ROINumber=3)
    with pytest.raises(CaseError) as caught:
        read_label_map(path, GRID, ["GTV"])
    assert caught.value.code is Code.FILE_UNREADABLE and "the number 3" in caught.value.what


def test_contours_a_little_off_their_planes_are_noted(tmp_path):
    mask, labels = gtv(tmp_path / "rt.dcm", [square(2.1, 5, 9)])
    assert mask[2].sum() == 25 and "0.3 mm off the planes" in labels.notes[0]
    assert code_of(tmp_path / "rt.dcm", [square(2.4, 5, 9)]) is Code.GRID_MISMATCH
    tilted = square(2, 5, 9)
    tilted[0, 2] += 2.0
    assert code_of(tmp_path / "rt.dcm", [tilted]) is Code.GRID_MISMATCH
    assert code_of(tmp_path / "rt.dcm", [square(6, 5, 9)]) is Code.GRID_NO_OVERLAP
    assert code_of(tmp_path / "rt.dcm", [square(2, 5, 90)]) is Code.GRID_NO_OVERLAP


def test_another_frame_of_reference_is_refused(tmp_path):
    path = write_rtstruct(tmp_path / "rt.dcm", {"GTV": [square(2, 5, 9)]})
    frames = {"": None, "1.2.3.5": None, "1.2.3.6": Code.GRID_MISMATCH}
    for frame, code in frames.items():  # where the image names none, nothing can be held against it
        grid = replace(GRID, frame=frame)
        if code is None:
            assert (read_label_map(path, grid).array > 0).sum() == 25
            continue
        with pytest.raises(CaseError) as caught:
            read_label_map(path, grid)
        assert caught.value.code is code and "'GTV'" in caught.value.what


def test_contours_that_hold_no_voxel_centre_are_noted(tmp_path):
    mask, labels = gtv(tmp_path / "rt.dcm", [square(2, 5.2, 5.8)])
    assert not mask.any() and "no voxel centre" in labels.notes[0]
    assert [d.parts for d in labels.drawn.values()] == [1]


def test_an_image_whose_axes_were_reordered_gets_the_same_voxels(tmp_path):
    contours = [ring(GRID, 1, (20, 20), 7.3), ring(GRID, 2, (22, 18), 5.1)]
    mask, _ = gtv(tmp_path / "rt.dcm", contours)
    order = [2, 0, 1]  # x, y, z of the new grid are z, x, y of the old one
    axes = np.reshape(GRID.direction, (3, 3))[:, order]
    turned = Grid(
        tuple(GRID.size[a] for a in order), tuple(GRID.spacing[a] for a in order),
        GRID.origin, tuple(axes.ravel()),
    )  # fmt: skip
    again, labels = gtv(tmp_path / "rt.dcm", contours, turned)
    np.testing.assert_array_equal(again, mask.transpose(1, 2, 0))
    assert_volume_agrees(again, labels)


def test_voxels_inside_are_those_of_polygons(tmp_path):
    contours = [ring(GRID, 2, (20, 20), 12.3), ring(GRID, 2, (20, 20), 5.1)]
    mask, labels = gtv(tmp_path / "rt.dcm", contours)
    y, x = np.mgrid[: GRID.shape[1], : GRID.shape[2]]
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    inside = np.zeros(len(points), bool)
    for contour in contours:
        inside ^= Polygon(GRID.to_index(contour)[:, :0:-1]).contains_points(points)
    np.testing.assert_array_equal(mask[2].ravel(), inside)
    (drawn,) = labels.drawn.values()
    assert drawn.ml == pytest.approx(np.pi * (12.3**2 - 5.1**2) * 3 / 1000, rel=1e-3)
    assert_volume_agrees(mask, labels)
