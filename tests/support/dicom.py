"""DICOM objects for tests: series, RTSTRUCT and DICOM-SEG, with made-up contents."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    PositronEmissionTomographyImageStorage,
    RTStructureSetStorage,
    generate_uid,
)

from backsplit.errors import CaseError
from backsplit.volume import Grid, read_volume

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
TILTED = tuple(
    np.array(sitk.Euler3DTransform((0, 0, 0), 0.2, -0.1, 0.3).GetMatrix())
    .reshape(3, 3)[:, :2]
    .T.ravel()
)
SPACING = (0.8, 1.1, 2.5)


GRID = Grid((40, 44, 5), (0.9, 0.8, 3.0), (-20.0, -10.0, 5.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def new_file(path: Path, storage: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = storage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = storage, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID = "1.2.3"
    data.PatientID, data.PatientName, data.PatientBirthDate, data.PatientSex = "p", "p^p", "", ""
    data.StudyDate = data.StudyTime = data.AccessionNumber = data.StudyID = ""
    data.ReferringPhysicianName = ""
    data.FrameOfReferenceUID = "1.2.3.5"
    return data


def make_slices(
    array,
    cosines=AXIAL,
    origin=(-10.0, 20.0, -30.0),
    uid="1.2.3.4",
    spacing=SPACING,
    shift=None,
    slopes=None,
):
    """Slices of an array (z, y, x), without files.

    `shift` moves slices, by number. With `slopes`, one a slice, the array holds stored values of
    a PET; without, it holds a CT's HU.
    """
    row, column = np.array(cosines[:3]), np.array(cosines[3:])
    normal = np.cross(row, column)
    for z, plane in enumerate(array):
        data = new_file(
            "slice", CTImageStorage if slopes is None else PositronEmissionTomographyImageStorage
        )
        data.Modality = "CT" if slopes is None else "PT"
        data.SeriesInstanceUID, data.SeriesDescription = uid, f"series {uid}"
        data.SeriesNumber, data.InstanceNumber = 1, z + 1
        position = np.array(origin) + normal * spacing[2] * z + (shift or {}).get(z, 0)
        data.ImagePositionPatient = [f"{v:.8g}"[:16] for v in position]
        data.ImageOrientationPatient = [f"{v:.10g}"[:16] for v in cosines]
        data.PixelSpacing = [spacing[1], spacing[0]]
        data.SliceThickness = spacing[2]
        data.Rows, data.Columns = plane.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation = 15, 1
        intercept = -1024 if slopes is None else 0
        data.RescaleSlope = 1 if slopes is None else f"{slopes[z]:.10g}"
        data.RescaleIntercept = intercept
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.PositionReferenceIndicator = ""
        data.PixelData = (plane - intercept).astype(np.int16).tobytes()
        yield data


def write_series(folder, array, cosines=AXIAL, edit=None, **how):
    """Slices of an array in a shuffled order of names; `edit` changes each before it is saved."""
    assert len(array) % 7, "each slice needs a name of its own"
    folder.mkdir(parents=True, exist_ok=True)
    for z, data in enumerate(make_slices(array, cosines, **how)):
        if edit is not None:
            edit(z, data)
        name = f"{(z * 7) % len(array):03d}-{data.SeriesInstanceUID[-1]}.dcm"
        data.save_as(folder / name, enforce_file_format=True)
    return folder


def ring(grid, z, centre, radius, count=200):
    """A circle in slice z as contour data; centre in voxels (y, x), radius in mm."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    middle = grid.to_mm(np.array([[z, *centre]]))[0]
    axes = np.reshape(grid.direction, (3, 3))
    points = middle + radius * (
        np.outer(np.cos(angles), axes[:, 0]) + np.outer(np.sin(angles), axes[:, 1])
    )
    return points


def write_rtstruct(path, regions):
    """Regions: name to (n, 3) contours in mm, each alone or with its type; None: no contours."""
    data = new_file(path, RTStructureSetStorage)
    data.Modality, data.SeriesInstanceUID = "RTSTRUCT", "1.2.3.7"
    data.StructureSetROISequence, data.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(regions.items(), start=3):
        roi, item = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, "1.2.3.5"
        item.ReferencedROINumber = number
        if contours is not None:
            item.ContourSequence = [_contour(given) for given in contours]
        data.StructureSetROISequence.append(roi)
        data.ROIContourSequence.append(item)
    data.save_as(path, enforce_file_format=True)
    return path


def _contour(given):
    kind, points = given if isinstance(given, tuple) else ("CLOSED_PLANAR", given)
    contour = Dataset()
    if kind is not None:
        contour.ContourGeometricType = kind
    contour.NumberOfContourPoints = len(points)
    contour.ContourData = [f"{v:.6f}" for v in np.ravel(points)]
    return contour


def make_seg(series, masks, kind="BINARY", **how):
    """A segmentation of some slices (datasets) with a segment for each mask (z, y, x)."""
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"part {number}",
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number in range(1, len(masks) + 1)
    ]
    stacked = np.stack(masks, axis=-1)
    return hd.seg.Segmentation(
        source_images=series,
        pixel_array=stacked.astype(float if kind == "FRACTIONAL" else np.uint8),
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
        **how,
    )


def write_seg(path, folder, masks, **how):
    """A segmentation of the series in a folder."""
    series = sorted((pydicom.dcmread(p) for p in folder.iterdir()), key=lambda d: d.InstanceNumber)
    make_seg(series, masks, **how).save_as(path)
    return path


def stored(shape=(6, 9, 8), seed=0):
    return np.random.default_rng(seed).integers(0, 2000, shape).astype(np.int16)


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
