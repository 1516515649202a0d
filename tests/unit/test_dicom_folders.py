"""Folders of DICOM as they come from archives: told apart, left aside, or refused."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import (
    SecondaryCaptureImageStorage,
)

from backsplit.errors import CaseError, Code
from backsplit.volume import read_geometry, read_label_map, read_labels, read_volume
from support.dicom import (
    GRID,
    code_of,
    make_slices,
    new_file,
    ring,
    said,
    stored,
    write_rtstruct,
    write_series,
)


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
    assert "no tag distinguishes" in said(folder) and code_of(folder) is Code.SERIES_AMBIGUOUS


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
    assert "ignored, not slices" in note and "b000-" in note
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
    assert code_of(one) is Code.NOT_3D and "use the folder" in said(one)


def test_frames_without_positions_are_refused(tmp_path):
    (data,) = make_slices(stored()[:1])
    data.NumberOfFrames, data.PixelData = 6, stored().tobytes()
    data.save_as(tmp_path / "frames.dcm", enforce_file_format=True)
    assert code_of(tmp_path / "frames.dcm") is Code.ORIENTATION_UNKNOWN


def test_a_folder_above_the_series_names_the_one_below(tmp_path):
    inner = write_series(tmp_path / "a" / "ST0" / "SE0", stored())
    assert f"such as {inner}" in said(tmp_path / "a")
