"""DICOM images, held against dcm2niix and pydicom; folders as they come from archives."""

from __future__ import annotations

import re
import shutil
import subprocess

import dcm2niix
import gdcm
import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread, dcmwrite
from pydicom.pixels import apply_modality_lut
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from backsplit.errors import CaseError, Code
from backsplit.volume import read_geometry, read_label_map, read_labels, read_volume
from support.dicom import (
    AXIAL,
    GRID,
    TILTED,
    make_slices,
    new_file,
    ring,
    write_rtstruct,
    write_series,
)
from support.examples import examples

SLOPES = {
    "the first is 1": [1.0] + [0.00125] * 5,
    "all fractions": [0.002, 0.00125, 0.5, 0.1, 0.3, 1e-5],
    "halves": [1.0, 1.0, 1.0, 0.5, 0.5, 0.5],
    "the first is large": [3.0] + [0.0101] * 5,
    "whole numbers": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    "large whole numbers": [1000.0] * 6,
}


def stored(shape=(6, 9, 8), seed=0):
    return np.random.default_rng(seed).integers(0, 2000, shape).astype(np.int16)


def converted(folder, into):
    """What dcm2niix makes of a folder: values (z, y, x) and affine, as it lies in the patient."""
    into.mkdir()
    command = [dcm2niix.bin, "-z", "n", "-f", "out", "-o", str(into), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = into.glob("*.nii")
    image = nib.as_closest_canonical(nib.load(path))
    return image.get_fdata(), image.affine


def canonical(volume):
    image = nib.Nifti1Image(volume.array.transpose(2, 1, 0), volume.grid.affine_ras)
    image = nib.as_closest_canonical(image)
    return image.get_fdata(), image.affine


@pytest.mark.parametrize("name", SLOPES)
@pytest.mark.parametrize("cosines", [AXIAL, TILTED])
def test_each_slice_has_its_own_slope(tmp_path, name, cosines):
    raw, slopes = stored(), SLOPES[name]
    folder = write_series(tmp_path / "pet", raw, cosines, slopes=slopes)
    volume = read_volume(folder)
    expected = raw * np.array(slopes)[:, None, None]
    np.testing.assert_allclose(volume.array, expected, rtol=1e-6)
    whole = all(slope.is_integer() for slope in slopes)
    assert volume.array.dtype == (
        (np.int16 if expected.max() < 2**15 else np.int32) if whole else np.float32
    )
    values, affine = canonical(volume)
    theirs, their_affine = converted(folder, tmp_path / "out")
    np.testing.assert_allclose(affine, their_affine, atol=1e-3)
    np.testing.assert_allclose(values, theirs, rtol=1e-5, atol=1e-6)
    for path in folder.iterdir():
        data = dcmread(path)
        z = int(data.InstanceNumber) - 1
        luted = apply_modality_lut(data.pixel_array, data)
        np.testing.assert_allclose(volume.array[z], luted, rtol=1e-6)


@given(seed=st.integers(0, 2**32 - 1), density=st.sampled_from([0.01, 0.3, 0.9]))
@examples(300)
def test_a_mask_that_is_a_series_with_slopes_comes_back(tmp_path_factory, seed, density):
    """A label of 1 is stored as some number, whose slice's slope is one over it."""
    rng = np.random.default_rng(seed)
    mask = rng.random((2, 5, 4)) < density
    numbers = rng.integers(1, 32768, 2)
    folder = tmp_path_factory.mktemp("mask")
    write_series(folder, mask * numbers[:, None, None].astype(np.int16), TILTED, slopes=1 / numbers)
    labels = read_label_map(folder, GRID)
    np.testing.assert_array_equal(labels.array, mask)
    assert {v: d.voxels for v, d in labels.drawn.items()} == ({1: mask.sum()} if mask.any() else {})
    shutil.rmtree(folder)


def test_a_mask_with_other_slopes_is_refused(tmp_path):
    folder = write_series(tmp_path / "mask", np.ones((3, 5, 4), np.int16), slopes=[1, 0.7, 1])
    assert code_of(folder, read_labels) is Code.LABEL_NOT_INTEGER


@pytest.mark.parametrize("slope", ["0", "nan", ["1", "2"]])
def test_a_slope_that_is_no_number_is_refused(tmp_path, slope):
    def edit(z, data):
        data.RescaleSlope = slope

    assert code_of(write_series(tmp_path / "series", stored(), edit=edit)) is Code.FILE_UNREADABLE


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLosslessSV1, JPEG2000Lossless, JPEGLSLossless])
def test_compressed_slices_are_read(tmp_path, syntax):
    array = stored() - np.int16(1000)
    folder = write_series(tmp_path / "series", array)
    names = {
        JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
        JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
        JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
        RLELossless: gdcm.TransferSyntax.RLELossless,
    }
    for path in folder.iterdir():
        reader, change, writer = (
            gdcm.ImageReader(),
            gdcm.ImageChangeTransferSyntax(),
            gdcm.ImageWriter(),
        )
        reader.SetFileName(str(path))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(names[syntax]))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        assert dcmread(path).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_volume(folder).array, array)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_encodings_are_read(tmp_path, syntax):
    array = stored() - np.int16(1000)
    folder = write_series(tmp_path / "series", array)
    for path in folder.iterdir():
        data = dcmread(path)
        data.decode()
        if not syntax.is_little_endian:
            data.PixelData = data.pixel_array.byteswap().tobytes()
        data.file_meta.TransferSyntaxUID = syntax
        encoding = {"implicit_vr": syntax.is_implicit_VR, "little_endian": syntax.is_little_endian}
        dcmwrite(path, data, **encoding)
    np.testing.assert_array_equal(read_volume(folder).array, array)


def test_bits_beside_the_stored_ones_are_no_value(tmp_path):
    """Old scanners kept an overlay in the upper bits of the pixels."""
    raw = stored()

    def edit(z, data):
        data.BitsStored, data.HighBit, data.PixelRepresentation = 12, 11, 0
        data.RescaleIntercept = -1024
        data.PixelData = (raw[z].astype(np.uint16) | 0x1000).tobytes()

    folder = write_series(tmp_path / "series", raw, edit=edit)
    np.testing.assert_array_equal(read_volume(folder).array, raw - 1024)


# multi-frame objects


@pytest.mark.parametrize("cosines", [AXIAL, TILTED])
@pytest.mark.parametrize("slopes", [SLOPES["all fractions"], [0.002] * 6])
def test_an_enhanced_object_is_read_frame_by_frame(tmp_path, cosines, slopes):
    raw = stored()
    slices = list(make_slices(raw, cosines, slopes=slopes))
    order = np.random.default_rng(0).permutation(len(slices))
    enhanced = hd.legacy.LegacyConvertedEnhancedPETImage(
        [slices[z] for z in order], generate_uid(), 9, generate_uid(), 1
    )
    path = tmp_path / "one" / "enhanced.dcm"
    path.parent.mkdir()
    enhanced.save_as(path)
    expected = read_volume(write_series(tmp_path / "pet", raw, cosines, slopes=slopes))
    for given_path in (path, path.parent):
        volume = read_volume(given_path)
        np.testing.assert_array_equal(volume.array, expected.array)
        assert volume.grid.is_same(expected.grid)
    values, affine = canonical(expected)
    theirs, their_affine = converted(path.parent, tmp_path / "out")
    np.testing.assert_allclose(affine, their_affine, atol=1e-3)
    if len(set(slopes)) == 1:  # dcm2niix takes the first frame's slope for all
        np.testing.assert_allclose(values, theirs, rtol=1e-5, atol=1e-6)


def test_two_volumes_in_one_object_are_refused(tmp_path):
    slices = [*make_slices(stored()), *make_slices(stored(seed=1))]
    enhanced = hd.legacy.LegacyConvertedEnhancedCTImage(
        slices, generate_uid(), 9, generate_uid(), 1
    )
    enhanced.save_as(tmp_path / "two.dcm")
    assert code_of(tmp_path / "two.dcm") is Code.SERIES_AMBIGUOUS
    assert "12 frames on 6 positions: 2 volumes" in said(tmp_path / "two.dcm")


# folders as they come from archives


def said(path, reader=read_volume):
    with pytest.raises(CaseError) as caught:
        reader(path)
    assert str(path) in caught.value.what
    return str(caught.value)


def code_of(path, reader=read_volume):
    with pytest.raises(CaseError) as caught:
        reader(path)
    assert str(path) in caught.value.what
    return caught.value.code


@pytest.fixture
def folder(tmp_path):
    return write_series(tmp_path / "series", stored())


def second(folder, array=None, edit=None, **how):
    """More files in the same folder."""
    other = write_series(folder.parent / "other", stored(seed=1) if array is None else array,
                         edit=edit, **how)  # fmt: skip
    for path in other.iterdir():
        path.rename(folder / f"b{path.name}")


@pytest.mark.parametrize("tag", ["AcquisitionNumber", "EchoTime", "TemporalPositionIdentifier"])
def test_two_acquisitions_are_two_volumes(tmp_path, tag):
    def edit(number):
        return lambda z, data: setattr(data, tag, number)

    folder = write_series(tmp_path / "series", stored(), edit=edit(3))
    second(folder, edit=edit(7))
    found = said(folder)
    assert "12 files on 6 positions: 2 volumes" in found and re.search(
        rf"{tag} \(3(\.0)?, 7(\.0)?\)", found
    )
    assert code_of(folder) is code_of(folder, read_geometry) is Code.SERIES_AMBIGUOUS


def test_instance_numbers_that_follow_each_other_tell_volumes_apart(folder):
    def edit(z, data):
        data.InstanceNumber = 7 + z

    second(folder, edit=edit)
    assert "InstanceNumber (1 to 6, 7 to 12)" in said(folder)


def test_volumes_that_no_tag_tells_apart_are_refused(folder):
    second(folder)
    assert "no tag tells apart" in said(folder) and code_of(folder) is Code.SERIES_AMBIGUOUS


def test_a_slice_at_the_position_of_another_one_is_refused(folder):
    second(folder, stored(seed=1)[:1])
    assert code_of(folder) is Code.SLICES_UNEVEN and "different slices" in said(folder)


def test_copies_are_used_once_and_noted(folder):
    first, other = sorted(folder.iterdir())[:2]
    shutil.copy(first, folder / "copy.dcm")
    data = dcmread(other)
    data.StudyDescription = "sent again"  # the same object
    data.save_as(folder / "sent.dcm")
    (note,) = read_geometry(folder).notes
    assert "identical copies" in note and "copy.dcm" in note
    np.testing.assert_array_equal(read_volume(folder).array, stored())
    mask = write_series(folder.parent / "mask", stored() % 2, slopes=[1] * 6)
    shutil.copy(next(mask.iterdir()), mask / "again.dcm")
    assert "again.dcm" in read_label_map(mask, GRID).notes[0]
    data.PixelData = bytes(len(data.PixelData))
    data.save_as(folder / "sent.dcm")
    assert code_of(folder) is Code.SLICES_UNEVEN


def test_series_are_told_apart_by_uid(folder, tmp_path):
    def edit(z, data):
        data.SeriesDescription = f"slice {z}"

    np.testing.assert_array_equal(
        read_volume(write_series(tmp_path / "described", stored(), edit=edit)).array, stored()
    )
    second(folder, stored(seed=1)[:2], uid="1.2.3.9")
    found = said(folder)
    assert code_of(folder) is Code.SERIES_AMBIGUOUS
    assert "2 series (series 1.2.3.4, 6 slices: 0" in found and "1.2.3.9, 2 slices: b0" in found


SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


@pytest.mark.parametrize("uid", ["1.2.3.4", "1.2.3.9"])
def test_localizers_that_say_so_are_left_aside(folder, uid):
    def edit(z, data):
        data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    second(folder, stored()[:2], edit, cosines=SAGITTAL, uid=uid)
    (note,) = read_geometry(folder).notes
    assert "left aside" in note and "b000-" in note
    np.testing.assert_array_equal(read_volume(folder).array, stored())


@pytest.mark.parametrize("how", [{"cosines": SAGITTAL}, {"spacing": (0.4, 0.4, 2.5)}])
def test_slices_of_another_geometry_are_named(folder, how):
    second(folder, stored()[:2], origin=(0.0, 0.0, 50.0), **how)
    found = said(folder)
    assert code_of(folder) is Code.SLICES_UNEVEN
    assert "2 of 8 slices have another" in found and "b000-4.dcm, b001-4.dcm" in found


def test_frames_of_reference_are_kept_apart(folder):
    assert read_geometry(folder).grid.frame == "1.2.3.5"

    def edit(z, data):
        data.FrameOfReferenceUID = "1.2.3.6"

    second(folder, stored()[:1], edit, origin=(-10.0, 20.0, -15.0))
    assert code_of(folder) is Code.SLICES_UNEVEN and "b000-4.dcm" in said(folder)


def capture(path, series="1.2.3.77"):
    """A screenshot: pixels without a place."""
    data = new_file(path, SecondaryCaptureImageStorage)
    data.Modality, data.SeriesInstanceUID = "OT", series
    data.Rows, data.Columns, data.SamplesPerPixel = 9, 8, 1
    data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelData = 7, bytes(range(72))
    data.save_as(path, enforce_file_format=True)
    return path


def test_what_is_no_slice_is_left_aside_and_noted(folder):
    capture(folder / "shot.dcm")
    write_rtstruct(folder / "rs.dcm", {"GTV": [ring(GRID, 2, (20, 20), 5)]})
    (folder / "._000-4.dcm").write_bytes(b"\0\5\x16\7")
    (folder / "Thumbs.db").write_text("x")
    (note,) = read_geometry(folder).notes
    assert all(name in note for name in ("shot.dcm", "rs.dcm")) and "Thumbs" not in note
    np.testing.assert_array_equal(read_volume(folder).array, stored())


def test_a_slice_of_the_series_without_a_position_is_not_left_out(folder):
    path = sorted(folder.iterdir())[-1]
    data = dcmread(path)
    del data.ImagePositionPatient
    data.save_as(path)
    assert code_of(folder) is Code.SLICES_UNEVEN and path.name in said(folder)


@pytest.mark.parametrize("content", [b"", b"\0" * 500, b"\0" * 128 + b"DICM" + b"\7" * 50])
def test_a_damaged_slice_is_not_left_out(folder, content):
    path = sorted(folder.iterdir())[0]
    path.write_bytes(content)
    with pytest.raises(CaseError) as caught:
        read_volume(folder)
    assert caught.value.code is Code.FILE_UNREADABLE and path.name in caught.value.what


def test_an_object_without_geometry_is_no_image_and_no_lesion(tmp_path):
    path = capture(tmp_path / "shot.dcm")
    for reader in (read_volume, read_geometry, read_labels, lambda p: read_label_map(p, GRID)):
        assert code_of(path, reader) is Code.ORIENTATION_UNKNOWN
    (tmp_path / "shots").mkdir()
    capture(tmp_path / "shots" / "a.dcm")
    assert code_of(tmp_path / "shots") is Code.ORIENTATION_UNKNOWN
    one = next(iter(write_series(tmp_path / "series", stored()).iterdir()))
    assert code_of(one) is Code.NOT_3D and "give the folder" in said(one)


def test_frames_without_positions_are_refused(tmp_path):
    (data,) = make_slices(stored()[:1])
    data.NumberOfFrames, data.PixelData = 6, stored().tobytes()
    data.save_as(tmp_path / "frames.dcm", enforce_file_format=True)
    assert code_of(tmp_path / "frames.dcm") is Code.ORIENTATION_UNKNOWN


def test_a_folder_above_the_series_names_the_one_below(tmp_path):
    inner = write_series(tmp_path / "a" / "ST0" / "SE0", stored())
    assert f"such as {inner}" in said(tmp_path / "a")
