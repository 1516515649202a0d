"""The image's own voxels described otherwise: taken exactly; against SimpleITK and nibabel."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import assume, given
from hypothesis import strategies as st

from backsplit.cases.labels import put_on_grid, require_placeable
from backsplit.cases.table import Case
from backsplit.config.slices import Placing
from backsplit.errors import CaseError, Code
from backsplit.volume import Grid, LabelMap, Volume, read_grid, read_labels
from backsplit.volume.resample import require_labels_inside, resample_image
from backsplit.volume.same_lattice import find_lattice, header_is_lost
from support.examples import examples

UPRIGHT = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
NAMES = ("drawn.nii.gz", "image.nii.gz")


def grid_of(image):
    return Grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def on_grid(labels, grid, reference, policy="refuse"):
    placing = Placing("ct", policy)
    case = Case("a", 2, {"ct": Path(NAMES[1])}, None, {}, Path())
    return put_on_grid(Path(NAMES[0]), LabelMap(labels, grid), reference, case, placing)


@st.composite
def images(draw):
    """A mask in a random place of the patient, upright in any of 48 ways or oblique."""
    size = draw(st.tuples(*[st.integers(6, 9)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    array = (rng.integers(0, 300, size[::-1]) * rng.integers(0, 2, size[::-1])).astype(np.uint16)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(draw(st.tuples(*[st.floats(0.4, 5)] * 3)))
    image.SetOrigin(draw(st.tuples(*[st.floats(-300, 300)] * 3)))
    angles = draw(st.tuples(*[st.sampled_from((0.0, np.pi / 2, 0.3, -0.8, 1.3))] * 3))
    matrix = np.reshape(sitk.Euler3DTransform((0, 0, 0), *angles).GetMatrix(), (3, 3))
    matrix[:, 2] *= draw(st.sampled_from((1, -1)))
    image.SetDirection(matrix.ravel().tolist())
    return image


@examples(400)
@given(
    image=images(), order=st.permutations(range(3)), flips=st.tuples(*[st.booleans()] * 3),
    low=st.tuples(*[st.integers(-2, 1)] * 3), high=st.tuples(*[st.integers(-2, 1)] * 3),
)  # fmt: skip
def test_masks_reordered_cropped_and_padded_by_itk_come_back(image, order, flips, low, high):
    """`low`, `high`: voxels (x, y, z) that are cut off each side; padded, where below 0."""
    whole, reference = sitk.GetArrayFromImage(image), grid_of(image)
    cut, pad = np.maximum([low, high], 0).tolist(), np.maximum(np.negative([low, high]), 0).tolist()
    size = [n - a - b for n, a, b in zip(image.GetSize(), *cut, strict=True)]
    moved = sitk.ConstantPad(sitk.RegionOfInterest(image, size, cut[0]), *pad, 0)
    moved = sitk.PermuteAxes(sitk.Flip(moved, list(flips)), list(order))
    labels, grid = sitk.GetArrayFromImage(moved), grid_of(moved)
    inside = np.zeros(whole.shape, bool)
    inside[tuple(slice(a, a + n) for a, n in zip(cut[0][::-1], size[::-1], strict=True))] = True
    kept = np.where(inside, whole, 0)
    lattice, back = find_lattice(grid, reference), find_lattice(reference, grid)
    np.testing.assert_array_equal(lattice.take(labels), kept)
    assert lattice.count_outside(labels) == 0 and lattice.drift_mm < 1e-6
    np.testing.assert_array_equal(back.take(whole), labels)
    assert back.count_outside(whole) == np.count_nonzero(whole[~inside])
    # an overlap of less than half, estimated from sample points, is refused
    assume(inside.sum() > 0.6 * min(labels.size, whole.size))
    if lattice.shifts:
        said = "its header is wrong" if grid.size == reference.size else "but its image is"
        with pytest.raises(CaseError, match=said):
            on_grid(labels, grid, reference)
    placed = on_grid(labels, grid, reference, "any" if lattice.shifts else "refuse")
    np.testing.assert_array_equal(placed.array, kept)
    assert placed.grid == reference and placed.array.dtype == labels.dtype
    assert grid.is_same(reference) or "read exactly" in placed.notes[0]
    as_image = resample_image(Volume(labels, grid), reference).array
    np.testing.assert_array_equal(as_image, np.where(inside, whole, labels.min()))
    assert as_image.dtype == labels.dtype
    nearest = sitk.Resample(moved, image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(nearest), kept)


@examples(300)
@given(image=images(), start=st.tuples(*[st.integers(0, 2)] * 3), seed=st.integers(0, 99))
def test_masks_reordered_and_sliced_by_nibabel_come_back(tmp_path_factory, image, start, seed):
    folder = tmp_path_factory.mktemp("nibabel")
    sitk.WriteImage(image, str(folder / "image.nii.gz"))
    whole = nib.load(folder / "image.nii.gz")
    array = np.asarray(whole.dataobj)
    kept = np.zeros_like(array)
    part = tuple(slice(s, s + 2 + seed % 2) for s in start)
    kept[part] = array[part]
    sliced = nib.Nifti1Image(kept, whole.affine).slicer[part]
    nib.save(nib.as_closest_canonical(sliced), folder / "mask.nii.gz")
    labels, reference = read_labels(folder / "mask.nii.gz"), read_grid(folder / "image.nii.gz")
    placed = on_grid(labels.array, labels.grid, reference)
    np.testing.assert_array_equal(placed.array, kept.transpose(2, 1, 0))


def grid(size=(60, 56, 20), spacing=(0.78125, 0.78125, 3.0), origin=(12.3, 45.6, -7.0)):
    return Grid(size, spacing, origin, UPRIGHT)


@pytest.mark.parametrize(
    ("size", "spacing"),
    [
        ((60, 56, 20), (0.78, 0.78, 3.0)),
        ((60, 56, 20), (0.781, 0.781, 3.0)),
        ((512, 512, 400), (0.78, 0.78, 3.0)),  # 0.6 mm at the far corner, four fifths of a voxel
        ((512, 512, 400), (0.7813, 0.7813, 3.0)),
    ],
)
def test_rounded_spacings_are_the_same_voxels(size, spacing):
    reference = grid(size)
    for order in ((0, 1, 2), (2, 0, 1)):
        other = grid(size, spacing)
        columns = np.eye(3)[:, order]
        other = Grid(
            tuple(other.size[i] for i in order), tuple(other.spacing[i] for i in order),
            other.origin, tuple(columns.ravel()),
        )  # fmt: skip
        lattice = find_lattice(other, reference)
        assert lattice.covers and lattice.drift_mm < 1
        assert find_lattice(reference, other).covers
        flipped = -columns[:, 0] * other.spacing[0] * (other.size[0] - 1)
        corner = tuple(np.array(other.origin) - flipped)
        cosines = columns * [-1, 1, 1]
        turned = Grid(other.size, other.spacing, corner, tuple(cosines.ravel()))
        lattice = find_lattice(turned, reference)
        assert lattice.covers and sum(lattice.flipped) == 1


@pytest.mark.parametrize(
    "other",
    [
        grid(spacing=(0.8, 0.8, 3.0)),  # one decimal: 1.1 mm at the far corner
        grid(spacing=(0.78, 0.78, 3.0), size=(512, 512, 20)),  # not the image's size
        grid(spacing=(0.78125, 0.78125, 3.05), size=(60, 56, 20)),  # a third of a voxel, but 1.7 %
        grid(origin=(12.3 + 0.3 * 0.78125, 45.6, -7.0)),  # three tenths of a voxel aside
        grid(origin=(12.3 + 0.5 * 0.78125, 45.6, -7.0)),
        grid(spacing=(1.5625, 1.5625, 3.0)),
        grid(spacing=(0.390625, 0.390625, 3.0)),
        Grid((60, 56, 20), (0.78125, 0.78125, 3.0), (12.3, 45.6, -7.0),
             tuple(np.reshape(sitk.Euler3DTransform((0, 0, 0), 0, 0, 0.05).GetMatrix(), 9))),
    ],
)  # fmt: skip
def test_other_lattices_are_none(other):
    assert find_lattice(other, grid()) is None
    with pytest.raises(CaseError) as caught:
        on_grid(np.ones(other.shape, np.uint8), other, grid())
    assert caught.value.code is Code.GRID_MISMATCH


def test_labelled_voxels_beyond_the_image_are_counted_to_the_voxel():
    reference = grid((10, 9, 8))
    wide = grid((14, 9, 8), origin=(12.3 - 2 * 0.78125, 45.6, -7.0))
    labels = np.zeros(wide.shape, np.uint8)
    labels[3, 3, 2:12] = 1
    require_labels_inside("a", labels, wide, reference)
    assert on_grid(labels, wide, reference).array.sum() == 10
    labels[3, 3, 1], labels[4, 4, 13] = 1, 5  # the voxel beside, and a corner
    with pytest.raises(CaseError, match="has 2 labelled voxels outside") as caught:
        require_labels_inside("a", labels, wide, reference)
    assert caught.value.code is Code.GRID_NO_OVERLAP
    placed = on_grid(labels, wide, reference)  # anatomy beyond the image is no loss, and is said
    assert placed.array.sum() == 10 and "2 labelled voxels outside the image" in placed.notes[1]


def test_a_lattice_elsewhere_in_the_body_is_refused():
    reference = grid()
    below = grid((60, 56, 21), origin=(12.3, 45.6, -7.0 - 3 * 15))
    with pytest.raises(CaseError) as caught:
        on_grid(np.zeros(below.shape, np.uint8), below, reference, "any")
    assert caught.value.code is Code.GRID_NO_OVERLAP


@pytest.mark.parametrize("policy", ["refuse", "channels", "any"])
@pytest.mark.parametrize(
    ("spacing", "origin", "direction"),
    [
        ((1.0, 1, 1), (0.0, 0, 0), (-1.0, 0, 0, 0, -1, 0, 0, 0, 1)),  # nibabel, np.eye(4)
        ((1.0, 1, 1), (0.0, 0, 0), UPRIGHT),  # SimpleITK's default
        ((0.78125, 0.78125, 3.0), (0.0, 0, 0), UPRIGHT),  # spacing alone was kept
        ((1.0, 1, 1), (12.3, 45.6, -7.0), UPRIGHT),  # origin alone was kept
    ],
)
def test_a_lost_header_is_said_and_never_resampled(policy, spacing, origin, direction):
    lost = Grid((60, 56, 20), spacing, origin, direction)
    with pytest.raises(CaseError, match="has lost its header") as caught:
        on_grid(np.zeros(lost.shape, np.uint8), lost, grid(), policy)
    assert caught.value.code is Code.GRID_MISMATCH
    assert "copy the image's" in caught.value.remedy and "resample" not in caught.value.message
    swapped = Grid((20, 56, 60), (1.0, 1, 1), (0.0, 0, 0), UPRIGHT)
    with pytest.raises(CaseError, match="lost its header") as caught:
        on_grid(np.zeros(swapped.shape, np.uint8), swapped, grid(), policy)
    assert "axes in the image's order" in caught.value.remedy


def test_a_lost_header_is_told_from_a_shift_by_whole_voxels():
    """MNI's grid has whole millimetres: an identity header is on its lattice, 90 mm away."""
    mni = Grid((182, 218, 182), (1.0, 1, 1), (-90.0, 126, -72), (1, 0, 0, 0, -1, 0, 0, 0, 1))
    lost = Grid(mni.size, mni.spacing, (0.0, 0, 0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    assert find_lattice(lost, mni) is not None and header_is_lost(lost, mni)
    shifted = Grid(mni.size, mni.spacing, (-85.0, 126, -72), mni.direction)
    assert not header_is_lost(shifted, mni) and not header_is_lost(mni, mni)
    flipped = Grid(mni.size, mni.spacing, (0.0, 0, 0), UPRIGHT)
    end = Grid(mni.size, mni.spacing, (181.0, 0, 0), (-1, 0, 0, 0, 1, 0, 0, 0, 1))
    assert find_lattice(flipped, end).covers and not header_is_lost(flipped, end)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_the_command_of_a_message_mends_what_it_speaks_of(tmp_path, ending):
    image = sitk.GetImageFromArray(np.zeros((5, 6, 7), np.int16))
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((1.0, 2, 3))
    sitk.WriteImage(image, str(tmp_path / "the image.nii.gz"))
    mask = np.random.default_rng(0).integers(0, 2, (5, 6, 7)).astype(np.uint8)
    path = tmp_path / f"it's a mask{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(mask), str(path))
    case = Case("a", 2, {"ct": tmp_path / "the image.nii.gz"}, path, {}, tmp_path)
    reference, labels = read_grid(case.images["ct"]), read_labels(path)
    with pytest.raises(CaseError) as caught:
        require_placeable(path, labels.grid, reference, case, Placing("ct", "any"))
    run(caught.value.remedy)
    mended = read_labels(tmp_path / "it's a mask_fixed.nii.gz")
    assert mended.grid.is_same(reference)
    np.testing.assert_array_equal(mended.array, mask)


def run(remedy):
    command = remedy[remedy.index("python -c") :]
    words = [sys.executable if word == "python" else word for word in shlex.split(command)]
    subprocess.run(words, check=True)


def test_the_command_for_form_codes_of_0_gives_them(tmp_path):
    affine = np.diag([-0.7, -0.8, 2.5, 1])
    mask = np.random.default_rng(0).integers(0, 2, (5, 6, 7)).astype(np.uint8)
    nib.save(nib.Nifti1Image(mask * 0, affine), tmp_path / "ORIGINAL.nii.gz")
    nib.save(nib.Nifti1Image(mask, None), tmp_path / "a mask.nii.gz")
    with pytest.raises(CaseError) as caught:
        read_labels(tmp_path / "a mask.nii.gz")
    assert caught.value.code is Code.ORIENTATION_UNKNOWN
    remedy = caught.value.remedy.replace("FIXED", str(tmp_path / "FIXED"))
    run(remedy.replace("ORIGINAL", str(tmp_path / "ORIGINAL")))
    fixed = read_labels(tmp_path / "FIXED.nii.gz")
    assert fixed.grid.is_same(read_grid(tmp_path / "ORIGINAL.nii.gz"))
    np.testing.assert_array_equal(fixed.array, mask.transpose(2, 1, 0))
