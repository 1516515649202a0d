"""DICOM-SEG: masks that highdicom and dcmqi wrote come back, each frame at its own position."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread

from backsplit.errors import CaseError, Code
from backsplit.volume import Grid, read_geometry, read_label_map
from backsplit.volume.planes import is_dicom_file
from support.dicom import AXIAL, TILTED, make_seg, make_slices, write_seg, write_series
from support.examples import examples

SHAPE = (6, 9, 8)


def image(shape=SHAPE):
    return np.random.default_rng(0).integers(-1000, 1500, shape).astype(np.int16)


class Series:
    """Slices, and segmentations of them that are read back."""

    def __init__(self, folder, shape, cosines):
        self.grid = read_geometry(write_series(folder / "series", image(shape), cosines)).grid
        self.slices = list(make_slices(image(shape), cosines))
        self.path = folder / "seg.dcm"

    def through(self, masks, edit=None, wanted=None, **how):
        """Masks by value, and what the file says."""
        seg = make_seg(self.slices, masks, **how)
        if edit is not None:
            edit(seg)
        seg.save_as(self.path)
        labels = read_label_map(self.path, self.grid, wanted)
        return {value: mask_of(labels, value) for value in labels.names.values()}, labels


def mask_of(labels, value):
    present = np.unique(labels.array).tolist()
    return np.isin(labels.array, [v for v in present if value in labels.overlaps.get(v, (v,))])


def without_spacing(seg):
    for measures in seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence:
        measures.pop("SpacingBetweenSlices", None)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    return Series(tmp_path_factory.mktemp("seg"), SHAPE, TILTED)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Frames of 7 x 5 pixels: a binary frame does not end with a byte."""
    return Series(tmp_path_factory.mktemp("odd"), (4, 7, 5), TILTED)


@pytest.mark.parametrize("cosines", [AXIAL, TILTED])
def test_dicom_seg_keeps_overlaps_and_grid(tmp_path, cosines):
    folder = write_series(tmp_path / "series", image(), cosines)
    grid = read_geometry(folder).grid
    rng = np.random.default_rng(0)
    masks = [np.zeros(grid.shape, bool) for _ in range(2)]
    masks[0][2:4, 2:6, 1:5] = rng.random((2, 4, 4)) < 0.7
    masks[1][3:5, 3:8, 2:7] = rng.random((2, 5, 5)) < 0.7  # empty frames are not stored
    path = write_seg(tmp_path / "seg.dcm", folder, masks)
    assert is_dicom_file(path)
    labels = read_label_map(path, grid)
    for value, mask in enumerate(masks, start=1):
        members = [v for v in np.unique(labels.array).tolist()
                   if value in labels.overlaps.get(v, (v,))]  # fmt: skip
        np.testing.assert_array_equal(np.isin(labels.array, members), mask)
    flipped = np.reshape(grid.direction, (3, 3)) * [1, 1, -1]
    far = grid.to_mm(np.array([[grid.shape[0] - 1, 0, 0]]))[0]
    other = Grid(grid.size, grid.spacing, tuple(far), tuple(flipped.ravel()))
    np.testing.assert_array_equal(read_label_map(path, other).array, labels.array[::-1])
    moved = Grid(grid.size, grid.spacing, (grid.origin[0] + 0.4, *grid.origin[1:]), grid.direction)
    with pytest.raises(CaseError) as caught:
        read_label_map(path, moved)
    assert caught.value.code is Code.GRID_MISMATCH


@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["BINARY", "LABELMAP", "FRACTIONAL"]),
    density=st.sampled_from([0.01, 0.2, 0.6]),
    omit=st.booleans(),
    spacing=st.booleans(),
)
@examples(300)
def test_random_masks_come_back(odd, seed, kind, density, omit, spacing):
    rng = np.random.default_rng(seed)
    masks = [rng.random(odd.grid.shape) < density for _ in range(3)]
    masks[0][rng.integers(0, 4), 0, 0] = True
    for mask in masks:
        mask[rng.random(4) < 0.4] &= False
    if kind == "LABELMAP":
        masks[1] &= ~masks[0]
        masks[2] &= ~(masks[0] | masks[1])
    how = {"max_fractional_value": int(rng.integers(1, 256))} if kind == "FRACTIONAL" else {}
    found, labels = odd.through(
        masks, None if spacing else without_spacing, kind=kind, omit_empty_frames=omit, **how
    )
    for value, mask in enumerate(masks, start=1):
        np.testing.assert_array_equal(found[value], mask)
        drawn, planes = labels.drawn[value], np.flatnonzero(mask.any(axis=(1, 2)))
        assert (drawn.kind, drawn.parts, drawn.voxels) == ("frames", len(planes), mask.sum())
        assert drawn.ml == pytest.approx(mask.sum() * odd.grid.voxel_ml) and not drawn.tolerance_ml
        assert drawn.gaps == (np.ptp(planes) + 1 - len(planes) if len(planes) else 0)


@pytest.mark.parametrize("planes", [[2], [0, 5], [1, 3, 5], [0, 1, 2, 3, 4, 5], [0, 4, 5]])
@pytest.mark.parametrize("edit", [None, without_spacing])
def test_frames_with_gaps_lie_where_they_were_drawn(series, planes, edit):
    mask = np.zeros(SHAPE, bool)
    mask[planes, 2:6, 3:7] = True
    found, labels = series.through([mask], edit)
    np.testing.assert_array_equal(found[1], mask)
    assert labels.drawn[1].gaps == planes[-1] - planes[0] + 1 - len(planes)


def test_an_empty_segment_is_noted(series):
    found, labels = series.through([np.zeros(SHAPE, bool)], omit_empty_frames=False)
    assert not found[1].any() and "'part 1' has no voxels" in labels.notes[0]


def code_of(series, edit, masks=None, **how):
    mask = np.zeros(SHAPE, bool)
    mask[1:4, 2:6, 3:7] = True
    with pytest.raises(CaseError) as caught:
        series.through([mask] if masks is None else masks, edit, **how)
    assert str(series.path) in caught.value.what
    return caught.value.code


def test_real_fractions_are_refused(series):
    half = np.full(SHAPE, 0.5)
    assert code_of(series, None, [half], kind="FRACTIONAL") is Code.LABEL_NOT_INTEGER


def moved(seg):
    frames = seg.PerFrameFunctionalGroupsSequence
    frames[0].PlanePositionSequence[0].ImagePositionPatient = list(
        frames[1].PlanePositionSequence[0].ImagePositionPatient
    )


def off(by):
    def edit(seg):
        for frame in seg.PerFrameFunctionalGroupsSequence:
            position = frame.PlanePositionSequence[0]
            position.ImagePositionPatient = [v + by for v in position.ImagePositionPatient]

    return edit


def nowhere(seg):
    for frame in seg.PerFrameFunctionalGroupsSequence:
        del frame.PlanePositionSequence


def unknown_segment(seg):
    frame = seg.PerFrameFunctionalGroupsSequence[0]
    frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 9


def other_frame(seg):
    seg.FrameOfReferenceUID = "1.2.3.6"


def larger_pixels(seg):
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = [v * 1.1 for v in measures.PixelSpacing]


def turned(seg):
    shared = seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    shared.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (moved, Code.SERIES_AMBIGUOUS),
        (off(0.3), Code.GRID_MISMATCH),
        (off(100.0), None),  # on the lattice or not, by chance
        (other_frame, Code.GRID_MISMATCH),
        (nowhere, Code.ORIENTATION_UNKNOWN),
        (unknown_segment, Code.FILE_UNREADABLE),
        (larger_pixels, Code.GRID_MISMATCH),
        (turned, Code.GRID_MISMATCH),
    ],
)
def test_frames_that_can_not_be_placed_are_refused(series, edit, code):
    mask = np.zeros(SHAPE, bool)
    mask[1:4, 2:6, 3:7] = True
    found = code_of(series, edit, [mask, mask])
    assert found in ((code,) if code else (Code.GRID_MISMATCH, Code.GRID_NO_OVERLAP))


def test_voxels_outside_the_image_are_refused(tmp_path, series):
    mask = np.zeros(SHAPE, bool)
    mask[1:4, 2:6, 3:7] = True
    series.through([mask])
    start = series.grid.to_mm(np.array([[0, 0, 4]]))[0]
    small = Grid((4, 9, 6), series.grid.spacing, tuple(start), series.grid.direction)
    with pytest.raises(CaseError) as caught:
        read_label_map(series.path, small)
    assert caught.value.code is Code.GRID_NO_OVERLAP and "4 labelled voxels" in caught.value.what


def test_a_folder_that_holds_one_segmentation_is_that_segmentation(tmp_path, series):
    mask = np.zeros(SHAPE, bool)
    mask[1:4, 2:6, 3:7] = True
    series.through([mask])
    (tmp_path / "seg").mkdir()
    (tmp_path / "seg" / "one.dcm").write_bytes(series.path.read_bytes())
    found = read_label_map(tmp_path / "seg", series.grid)
    np.testing.assert_array_equal(found.array > 0, mask)
    write_series(tmp_path / "seg", image())
    with pytest.raises(CaseError) as caught:  # the image's values are no labels
        read_label_map(tmp_path / "seg", series.grid)
    assert caught.value.code is Code.SERIES_AMBIGUOUS and "one.dcm" in caught.value.what


def test_a_labelmap_with_values_that_it_does_not_describe_is_refused(series):
    mask = np.zeros(SHAPE, bool)
    mask[1:4, 2:6, 3:7] = True

    def edit(seg):
        data = bytearray(seg.PixelData)
        data[data.index(1)] = 7
        seg.PixelData = bytes(data)

    assert code_of(series, edit, kind="LABELMAP") is Code.FILE_UNREADABLE
    assert dcmread(series.path).SegmentationType == "LABELMAP"


def code(value, meaning):
    return {"CodeValue": value, "CodingSchemeDesignator": "SCT", "CodeMeaning": meaning}


@given(seed=st.integers(0, 2**32 - 1), skip=st.booleans())
@examples(10)
def test_masks_that_dcmqi_wrote_come_back(tmp_path_factory, seed, skip):
    """dcmqi's converter, which 3D Slicer and the IDC use; `skip` leaves out empty frames."""
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("dcmqi")
    series = write_series(folder / "series", image(), TILTED)
    grid = read_geometry(series).grid
    masks = rng.random((2, *SHAPE)) < 0.3
    masks[:, rng.random(SHAPE[0]) < 0.4] = False
    masks[:, 3, 5, 5] = True
    files = [folder / f"{n}.nrrd" for n in range(2)]
    for path, mask in zip(files, masks, strict=True):
        given_image = sitk.GetImageFromArray(mask.astype(np.uint8))
        given_image.SetSpacing(grid.spacing)
        given_image.SetOrigin(grid.origin)
        given_image.SetDirection(grid.direction)
        sitk.WriteImage(given_image, str(path))
    attributes = {
        "labelID": 1,
        "SegmentAlgorithmType": "MANUAL",
        "SegmentedPropertyCategoryCodeSequence": code("123037004", "Anatomical Structure"),
        "SegmentedPropertyTypeCodeSequence": code("10200004", "Liver"),
    }
    meta = {
        **{"ContentCreatorName": "x", "SeriesDescription": "x", "ContentLabel": "SEG"},
        **{"SeriesNumber": "3", "InstanceNumber": "1", "ContentDescription": "x"},
        **{"ClinicalTrialSeriesID": "1", "ClinicalTrialTimePointID": "1"},
        "segmentAttributes": [[attributes | {"SegmentLabel": f"part {n}"}] for n in (1, 2)],
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    command = [
        *(str(Path(sys.executable).with_name("itkimage2segimage")), "--inputImageList"),
        *(",".join(map(str, files)), "--inputDICOMDirectory", str(series), "--outputDICOM"),
        *(str(folder / "seg.dcm"), "--inputMetadata", str(folder / "meta.json")),
        *(["--skip"] if skip else []),
    ]
    subprocess.run(command, check=True, capture_output=True)
    labels = read_label_map(folder / "seg.dcm", grid)
    for number, mask in enumerate(masks, start=1):
        np.testing.assert_array_equal(mask_of(labels, labels.names[f"part {number}"]), mask)
    shutil.rmtree(folder)
