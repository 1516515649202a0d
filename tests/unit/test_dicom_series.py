"""Values of DICOM series and multi-frame objects, held against dcm2niix and pydicom."""

from __future__ import annotations

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
    generate_uid,
)

from backsplit.errors import Code
from backsplit.volume import read_label_map, read_labels, read_volume
from support.dicom import (
    AXIAL,
    GRID,
    TILTED,
    code_of,
    make_slices,
    said,
    stored,
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
