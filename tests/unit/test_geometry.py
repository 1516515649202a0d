"""The geometry gate: one reading that nibabel and ITK share, or a code."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from backsplit.errors import CaseError, Code
from backsplit.judge.flags import cases_of_ct
from backsplit.report.pictures.panels import CT_WINDOW, choose_window
from backsplit.report.pictures.planes import Focus
from backsplit.segment.totalseg.tasks import modality_notes
from backsplit.volume import read_geometry, read_labels, read_volume
from backsplit.volume.body import body_threshold
from backsplit.volume.grid import Grid
from backsplit.volume.intensity import is_ct, padding_note, padding_value
from backsplit.volume.resample import (
    overlap_fraction,
    require_labels_inside,
    resample_image,
    resample_labels,
    resample_lesions,
)
from support.project import save

SIZE = (40, 30, 20)
AFFINE = np.diag([-0.8, -0.8, 2.5, 1.0])
AFFINE[:3, 3] = (30, 20, -100)


def nifti(path, sform=AFFINE, qform=AFFINE, codes=(1, 1), array=None, **header):
    array = np.zeros(SIZE, np.int16) if array is None else array
    image = nib.Nifti1Image(array, None)
    image.header.set_sform(sform, codes[0])
    image.header.set_qform(qform, codes[1], strip_shears=True)
    for key, value in header.items():
        image.header[key] = value
    image.header["sform_code"], image.header["qform_code"] = codes
    nib.save(image, path)
    return path


def code_of(path, reader=read_geometry):
    with pytest.raises(CaseError) as caught:
        reader(path)
    assert str(path) in str(caught.value)
    assert caught.value.remedy
    return caught.value.code


def skewed(cosine):
    affine = AFFINE.copy()
    affine[1, 0] = cosine * 0.8
    return affine


@pytest.mark.parametrize("codes", [(1, 1), (0, 1), (1, 0), (2, 1)])
def test_the_grid_is_that_of_itk_and_nibabel(tmp_path, codes):
    path = nifti(tmp_path / "a.nii.gz", codes=codes)
    geometry = read_geometry(path)
    assert geometry.faithful and not geometry.notes
    oracle = sitk.ReadImage(str(path))
    assert geometry.grid.size == oracle.GetSize()
    np.testing.assert_allclose(geometry.grid.spacing, oracle.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(geometry.grid.origin, oracle.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(geometry.grid.direction, oracle.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(geometry.grid.affine_ras, nib.load(path).affine, atol=1e-4)


def test_headers_that_readers_take_differently_are_refused(tmp_path):
    path = tmp_path / "a.nii.gz"
    flipped = AFFINE @ np.diag([-1, 1, 1, 1])
    assert code_of(nifti(path, qform=flipped)) is Code.ORIENTATION_AMBIGUOUS
    moved = AFFINE.copy()
    moved[2, 3] += 5
    assert code_of(nifti(path, qform=moved)) is Code.ORIENTATION_AMBIGUOUS
    pixdim = [1, 0.9, 0.8, 2.5, 1, 1, 1, 1]
    assert code_of(nifti(path, codes=(1, 0), pixdim=pixdim)) is Code.ORIENTATION_AMBIGUOUS
    assert code_of(nifti(path, codes=(0, 0))) is Code.ORIENTATION_UNKNOWN
    for bad in (0.0, -0.8, np.nan, np.inf):
        pixdim = [1, bad, 0.8, 2.5, 1, 1, 1, 1]
        assert code_of(nifti(path, pixdim=pixdim)) is Code.SPACING_INVALID
    assert code_of(nifti(path, srow_x=[np.nan] * 4)) is Code.ORIENTATION_AMBIGUOUS
    assert code_of(nifti(path, xyzt_units=1)) is Code.SPACING_INVALID  # metres


def test_rounding_is_snapped_and_said(tmp_path):
    moved = AFFINE.copy()
    moved[0, 3] += 0.1  # an eighth of a voxel
    geometry = read_geometry(nifti(tmp_path / "a.nii.gz", qform=moved))
    assert "0.1 mm" in geometry.notes[0] and geometry.faithful


def test_small_shear_is_repaired_and_large_shear_refused(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", sform=skewed(2e-3), codes=(1, 0))
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(path))
    geometry = read_geometry(path)
    direction = np.reshape(geometry.grid.direction, (3, 3))
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-12)
    assert not geometry.faithful and "right angles" in geometry.notes[0]
    assert geometry.like(path) is None
    sheared = nifti(tmp_path / "b.nii.gz", sform=skewed(0.1), codes=(1, 0))
    assert code_of(sheared) is Code.DIRECTION_SHEARED
    assert read_geometry(nifti(path, sform=skewed(3e-5), codes=(1, 0))).faithful


def test_a_repaired_image_goes_through_and_trainers_can_read_it(project):
    project.add("a")
    image = project.folder / "images" / "a.nii.gz"
    array = nib.load(image)
    affine = array.affine.copy()
    affine[1, 0] = 2e-3 * affine[0, 0]
    nib.save(nib.Nifti1Image(np.asarray(array.dataobj), affine), image)
    lesion = project.folder / "lesions" / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(nib.load(lesion).dataobj), affine), lesion)
    for path in (image, lesion):  # sform only
        loaded = nib.load(path)
        loaded.header["qform_code"] = 0
        nib.save(nib.Nifti1Image(np.asarray(loaded.dataobj), None, loaded.header), path)
    project.write()
    project.snakemake()
    folder = project.results / "datasets" / "nnunet" / "Dataset007_Test"
    exported = sitk.ReadImage(str(folder / "imagesTr" / "a_0000.nii.gz"))
    labels = sitk.ReadImage(str(folder / "labelsTr" / "a.nii.gz"))
    assert exported.GetDirection() == labels.GetDirection()
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(exported).transpose(2, 1, 0), np.asarray(array.dataobj)
    )
    assert "right angles" in (project.results / "cases.tsv").read_text()


def test_nrrd_without_a_space_is_refused(tmp_path):
    path = save(tmp_path / "a.nrrd", np.zeros((4, 5, 6), np.int16))
    text = path.read_bytes()
    assert b"space: left-posterior-superior" in text
    assert read_geometry(path).grid.size == (6, 5, 4)
    kept = b"\n".join(
        line for line in text.split(b"\n\n")[0].split(b"\n") if not line.startswith(b"space")
    )
    path.write_bytes(kept + b"\nspacings: 1 1 1\n\n" + text.split(b"\n\n", 1)[1])
    assert code_of(path) is Code.ORIENTATION_UNKNOWN


@pytest.mark.parametrize(("lowest", "ct"), [(-1024.0, True), (-201.0, True), (-200.0, False)])
def test_every_stage_tells_a_ct_alike(lowest, ct):
    image = np.linspace(lowest, 1000, 8**3).reshape(8, 8, 8)
    measures = pd.DataFrame({"case": ["a", "b"], "minimum": [lowest, 0.0]})
    nowhere = Focus((4, 4, 4))
    assert is_ct(lowest) == ct
    assert (body_threshold(image) == -500) == ct
    assert (choose_window(image, nowhere) == CT_WINDOW) == ct
    assert cases_of_ct(measures) == ({"a"} if ct else set())
    assert bool(modality_notes("total", image)) != ct
    assert bool(modality_notes("total_mr", image)) == ct


def test_padding_is_told_from_air():
    image = np.full((6, 20, 20), -1000, np.int16)
    image[2:4, 5:15, 5:15] = 40
    assert padding_value(image) is None
    for value in (-1024, -2000, -3024):
        padded = image.copy()
        padded[:, :3], padded[:, :, :3] = value, value
        assert padding_value(padded) == value
        assert f"({value})" in (padding_note(padded) or "")
    inside = image.copy()
    inside[3, 10, 10] = -1024  # gas, not padding
    assert padding_value(inside) is None


def grid(size, spacing, origin=(0.0, 0.0, 0.0)):
    return Grid(size, spacing, origin, (1, 0, 0, 0, 1, 0, 0, 0, 1))


@pytest.mark.parametrize("to_spacing", [(1.0, 1.0, 1.5), (2.0, 2.0, 2.0), (5.0, 4.0, 6.0)])
def test_lesions_keep_volume_and_place_however_small(to_spacing):
    source = grid((20, 22, 18), (4.0, 4.0, 3.0), (-3.0, 5.0, 7.0))
    size = tuple(int(np.ceil(n * s / t)) for n, s, t in zip(source.size, source.spacing, to_spacing,
                                                            strict=True))  # fmt: skip
    to = grid(size, to_spacing, (-4.0, 4.0, 6.5))
    labels = np.zeros(source.shape, np.uint8)
    labels[3:6, 3:6, 3:6] = 1  # a cube
    labels[10:14, 8:15, 6:13] = 2
    labels[10, 8, 6] = 0
    labels[15, 15, 15] = 3  # a single voxel, alone
    moved = resample_lesions(labels, source, to)
    for value in (1, 2):
        old, new = np.argwhere(labels == value), np.argwhere(moved == value)
        old_ml, new_ml = len(old) * source.voxel_ml, len(new) * to.voxel_ml
        assert abs(new_ml - old_ml) <= max(0.01 * old_ml, 2 * to.voxel_ml)
        gap = np.linalg.norm(source.to_mm(old).mean(axis=0) - to.to_mm(new).mean(axis=0))
        assert gap < 0.35 * max(to_spacing)
    assert (moved == 3).sum() == max(1, round(source.voxel_ml / to.voxel_ml))
    linear = resample_labels(labels, source, to)
    lost = abs((linear == 1).sum() * to.voxel_ml - 27 * source.voxel_ml)
    kept = abs((moved == 1).sum() * to.voxel_ml - 27 * source.voxel_ml)
    assert kept < lost  # what plain interpolation does to small lesions
    np.testing.assert_array_equal(resample_lesions(labels, source, source), labels)


def test_labels_and_images_go_where_simpleitk_puts_them():
    rng = np.random.default_rng(0)
    source, to = grid((12, 11, 10), (2.0, 2.0, 3.0)), grid((20, 20, 12), (1.1, 1.2, 2.4), (1, 1, 2))
    labels = np.repeat(np.repeat(rng.integers(0, 4, (5, 6, 6)), 2, 0), 2, 1)[:, :11].repeat(2, 2)
    labels = labels.astype(np.uint8)

    def itk(array, where):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(where.spacing)
        image.SetOrigin(where.origin)
        return image

    reference = itk(np.zeros(to.shape, np.uint8), to)
    oracle = sitk.Resample(
        itk(labels, source), reference, sitk.Transform(), sitk.sitkLabelLinear, 0
    )
    np.testing.assert_array_equal(
        resample_labels(labels, source, to), sitk.GetArrayFromImage(oracle)
    )
    from backsplit.volume import Volume

    image = rng.random(source.shape).astype(np.float32)
    oracle = sitk.Resample(
        itk(image, source), reference, sitk.Transform(), sitk.sitkLinear, float(image.min())
    )
    np.testing.assert_allclose(
        resample_image(Volume(image, source), to).array, sitk.GetArrayFromImage(oracle)
    )


def test_overlap_and_labels_outside():
    first = grid((20, 20, 20), (1.0, 1.0, 1.0))
    assert overlap_fraction(first, first) == 1
    assert overlap_fraction(first, grid((20, 20, 20), (1.0, 1.0, 1.0), (100, 0, 0))) == 0
    half = overlap_fraction(first, grid((20, 20, 20), (1.0, 1.0, 1.0), (10, 0, 0)))
    assert half == pytest.approx(0.5, abs=0.07)
    small = grid((5, 5, 5), (1.0, 1.0, 1.0), (8, 8, 8))
    assert overlap_fraction(first, small) == 1
    labels = np.zeros(first.shape, np.uint8)
    labels[9:12, 9:12, 9:12] = 1
    require_labels_inside("a", labels, first, small)
    labels[9, 9, 2] = 1
    with pytest.raises(CaseError) as caught:
        require_labels_inside("a", labels, first, small)
    assert caught.value.code is Code.GRID_NO_OVERLAP and "1 labelled" in caught.value.message


EXPECTED = {
    "CT_pitch.nii.gz": None,
    "CT_AVM.nii.gz": None,
    "pcasl.nii.gz": Code.NOT_3D,
    "3DCT_lung_baseline_small.mha": None,
    "3DCT_lung_baseline_mask.mha": None,
    "3DCT_lung_followup_segmentation.mha": None,
}


@pytest.mark.shared
def test_real_files_of_odd_geometry(shared):
    folder = shared / "data" / "geometry"
    assert {p.name for p in folder.iterdir()} == set(EXPECTED)
    for name, code in EXPECTED.items():
        path = folder / name
        if code is not None:
            assert code_of(path) is code
            continue
        volume = read_volume(path)
        oracle = sitk.ReadImage(str(path))
        assert volume.grid.size == oracle.GetSize()
        np.testing.assert_allclose(volume.grid.direction, oracle.GetDirection(), atol=1e-5)
        np.testing.assert_allclose(volume.array, sitk.GetArrayFromImage(oracle), rtol=1e-5)
    labels = read_labels(folder / "3DCT_lung_followup_segmentation.mha")
    assert 137 in np.unique(labels.array) and labels.array.dtype == np.uint8
    oblique = read_geometry(folder / "CT_pitch.nii.gz").grid
    cosine = np.reshape(oblique.direction, (3, 3))[2, 2]
    assert np.degrees(np.arccos(cosine)) == pytest.approx(16.5, abs=0.1)


@pytest.mark.shared
@pytest.mark.slow
def test_masks_of_any_value_and_grid_are_composed(project, shared):
    folder = shared / "data" / "geometry"
    segmentation = sitk.ReadImage(str(folder / "3DCT_lung_followup_segmentation.mha"))
    image = sitk.Cast(segmentation, sitk.sitkInt16) * 3 - 800
    sitk.WriteImage(image, str(project.folder / "followup.mha"))
    project.rows = [
        {
            "case": "value_137",
            "image_ct": "followup.mha",
            "lesion": str(folder / "3DCT_lung_followup_segmentation.mha"),
        },
        {
            "case": "other_grid",
            "image_ct": str(folder / "3DCT_lung_baseline_small.mha"),
            "lesion": str(folder / "3DCT_lung_baseline_mask.mha"),
        },
    ]
    values = np.unique(sitk.GetArrayFromImage(segmentation))
    given = {f"v{v}": int(v) for v in values if v} | {"m1": 1}
    project.write(targets=given)
    assert "GRID_MISMATCH" in project.run("check").stderr
    project.write(dataset=project.settings["dataset"] | {"other_grids": "any"})
    project.snakemake()
    labels = sitk.ReadImage(str(project.results / "labels" / "value_137.nii.gz"))
    number = list(given).index("v137") + 1
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(labels) == number, sitk.GetArrayFromImage(segmentation) == 137
    )
    assert (project.results / "labels" / "other_grid.nii.gz").exists()
