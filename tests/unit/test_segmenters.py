"""Label files and thresholds as segmenters; body mask against what a person would outline."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from scipy import ndimage

from backsplit.cases.table import Case
from backsplit.config.model import Run
from backsplit.config.segmenters import Files, NnUNet, Threshold, TotalSegmentator
from backsplit.config.slices import Labelling, Placing
from backsplit.errors import BacksplitError, CaseError, Code
from backsplit.segment.device import choose_device
from backsplit.segment.files import FilesSegmenter
from backsplit.segment.nnunet import NnUNetSegmenter
from backsplit.segment.threshold import ThresholdSegmenter
from backsplit.segment.totalsegmentator import TotalSegmentatorSegmenter
from backsplit.volume import LabelMap, read_volume, stack_masks
from backsplit.volume.body import body_mask
from support.project import ct_like, save

RUN = Run(device="cpu")
INPUTS = Labelling(("ct",), Placing("ct"))


def files_segmenter(section):
    return FilesSegmenter(section, INPUTS)


@pytest.fixture
def case(tmp_path):
    image = save(tmp_path / "ct.nii.gz", ct_like())
    lesion = np.zeros(ct_like().shape, np.uint8)
    lesion[4, 8:12, 8:12] = 2
    lesion[5:7, 8:12, 8:12] = 1
    lesion[8, 8, 8] = 9
    path = save(tmp_path / "lesion.nii.gz", lesion)
    columns = {"case": "c1", "image_ct": "ct.nii.gz", "lesion": "lesion.nii.gz"}
    return Case("c1", 2, {"ct": image}, {"lesion": path}, columns, tmp_path)


def label(segmenter, case):
    ((returned, result),) = segmenter.label([case])
    assert returned is case
    return result


def test_multilabel_files_keep_only_declared_values(case):
    files = Files(kind="files", path="{lesion}", labels={"kidney": 1})
    result = label(files_segmenter(files), case)
    assert set(np.unique(result.array)) == {0, 1}
    assert result.array.sum() == 2 * 16
    assert result.notes == {"voxels_of_other_values": {"2": 16, "9": 1}}


def test_binary_files_that_overlap_are_both_kept(case):
    a = np.zeros(ct_like().shape, np.uint8)
    b = a.copy()
    a[:, :, :10] = 1
    b[:, :, 8:12] = 1
    save(case.folder / "extra" / "c1" / "liver.nii.gz", a)
    save(case.folder / "extra" / "c1" / "spleen.nii.gz", b)
    pattern = str(case.folder / "extra" / "{case}" / "{name}.nii.gz")
    files = Files(kind="files", path=pattern, labels=["liver", "spleen"])
    result = label(files_segmenter(files), case)
    expected = np.where(a & b, 3, np.where(a, 1, np.where(b, 2, 0)))
    np.testing.assert_array_equal(result.array, expected)
    assert result.overlaps == {3: (1, 2)} and not result.unknown


def test_binary_files_may_have_any_name(case):
    mask = np.zeros(ct_like().shape, np.uint8)
    mask[:, :, :10] = 255
    save(case.folder / "c1_01 Leber (ganz).nii.gz", mask)
    pattern = str(case.folder / "{case}_{name}.nii.gz")
    names = {"liver": "01 Leber (ganz)", "spleen": "02 Milz"}
    segmenter = files_segmenter(Files(kind="files", path=pattern, labels=names))
    result = label(segmenter, case)
    np.testing.assert_array_equal(result.array, mask // 255)
    assert segmenter.classes() == {"liver": 1, "spleen": 2}
    assert list(result.unknown) == ["spleen"] and "02 Milz.nii.gz" in result.unknown["spleen"]
    assert list(segmenter.inputs(case)) == ["liver"]


@pytest.mark.parametrize(("path", "labels", "told"), [
    ("{case}/{name}.nii.gz", {"liver": 1}, "{name: file name}"),
    ("{case}/{name}.nii.gz", {"liver": "a", "spleen": "a"}, "two names share"),
    ("{case}/*.nii.gz", {"liver": 1}, "cannot have * or ?"),
    ("{case:>3}.nii.gz", {"liver": 1}, "may only contain"),
    ("{case}.nii.gz", ["liver"], "path needs {name}"),
])  # fmt: skip
def test_paths_and_labels_of_files_that_do_not_fit_are_refused(path, labels, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        Files(kind="files", path=path, labels=labels)


def test_masks_that_overlap_in_every_way_lose_nothing():
    rng = np.random.default_rng(0)
    masks = rng.random((5, 4, 6, 7)) < 0.5
    array, overlaps = stack_masks(((v, m) for v, m in enumerate(masks, 1)), masks.shape[1:], 5)
    for value, mask in enumerate(masks, 1):
        members = [v for v in np.unique(array) if value in overlaps.get(int(v), (int(v),))]
        np.testing.assert_array_equal(np.isin(array, members), mask)


def test_a_missing_binary_file_makes_its_structure_unknown(case):
    mask = np.zeros(ct_like().shape, np.uint8)
    mask[2:4] = 1
    save(case.folder / "liver.nii.gz", mask)
    pattern = str(case.folder / "{name}.nii.gz")
    files = Files(kind="files", path=pattern, labels=["liver", "spleen"])
    result = label(files_segmenter(files), case)
    assert list(result.unknown) == ["spleen"] and result.array.sum() == mask.sum()
    absent = files.model_copy(update={"missing": "absent"})
    assert label(files_segmenter(absent), case).unknown == {}


def test_missing_files_and_non_binary_masks_are_refused(case):
    pattern = str(case.folder / "{name}.nii.gz")
    missing = Files(kind="files", path=pattern, labels=["absent", "neither"])
    assert label(files_segmenter(missing), case).code is Code.FILE_MISSING
    mask = Files(kind="files", path=pattern, labels=["lesion"])
    assert label(files_segmenter(mask), case).code is Code.LABEL_UNDECLARED
    column = Files(kind="files", path="{organs}", labels={"a": 1})
    with pytest.raises(BacksplitError, match="organs"):
        next(files_segmenter(column).label([case]))


def test_bands_are_half_open_and_stay_in_the_body(case):
    bands = {"soft": (0.0, 100.0), "bone": (250.0, None)}
    segmenter = ThresholdSegmenter(Threshold(kind="threshold", bands=bands), INPUTS)
    assert segmenter.classes() == {"soft": 1, "bone": 2}
    result = label(segmenter, case)
    image = read_volume(case.images["ct"]).array
    assert (image[result.array == 1] >= 0).all() and (image[result.array == 1] < 100).all()
    assert (result.array[image >= 250] == 2).all()
    everywhere = Threshold(kind="threshold", bands={"air": (None, -500)}, within="image")
    inside = Threshold(kind="threshold", bands={"air": (None, -500)})
    assert label(ThresholdSegmenter(everywhere, INPUTS), case).array.sum() == (image < -500).sum()
    assert label(ThresholdSegmenter(inside, INPUTS), case).array.sum() == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_body_mask_holds_lungs_and_leaves_out_the_couch(tmp_path, axis):
    shape = (20, 60, 60)
    _, y, x = np.indices(shape)
    body = ((y - 26) / 20) ** 2 + ((x - 30) / 26) ** 2 <= 1
    lung = ((y - 26) / 10) ** 2 + ((x - 20) / 8) ** 2 <= 1
    image = np.where(body & ~lung, 40, -1000)
    image[:, 52:54, 5:55] = 200  # couch
    image[:, 24:28, 10:13] = -1000  # the airway that joins lung and nothing
    image = np.moveaxis(image, 0, axis).astype(np.int16)
    # the long axis of the body lies on another array axis: the direction says so
    columns = {0: [0, 1, 2], 1: [0, 2, 1], 2: [2, 1, 0]}[axis]
    direction = np.eye(3)[:, columns].ravel()
    path = save(tmp_path / "i.nii.gz", image, (2, 2, 2), direction=tuple(direction))
    volume = read_volume(path)
    mask = np.moveaxis(body_mask(volume.array, volume.grid), axis, 0)
    assert not mask[:, 52:54].any()
    assert (mask[lung & body]).mean() > 0.99
    assert np.logical_and(mask, body).sum() * 2 / (mask.sum() + body.sum()) > 0.98
    assert ndimage.label(mask)[1] == 1


def test_what_cannot_run_says_so_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TOTALSEG_LICENSE_NUMBER", raising=False)
    weights = str(tmp_path / "weights")

    def refused(**settings):
        config = TotalSegmentator(kind="totalsegmentator", weights=weights, **settings)
        with pytest.raises(BacksplitError) as caught:
            segmenter = TotalSegmentatorSegmenter(config, INPUTS, RUN)
            segmenter.classes()
            segmenter.weights()
        return caught.value

    assert refused(task="totl").code is Code.MODEL_INVALID
    assert refused(task="total").code is Code.WEIGHTS_MISSING
    assert "backsplit weights get total" in str(refused(task="total"))
    assert refused(task="lung_vessels", fast=True).code is Code.MODEL_INVALID
    licensed = refused(task="heartchambers_highres")
    assert licensed.code is Code.LICENCE_MISSING and "licence" in str(licensed)
    model = NnUNet(kind="nnunet", model=tmp_path / "absent")
    with pytest.raises(BacksplitError) as caught:
        NnUNetSegmenter(model, INPUTS, RUN).classes()
    assert caught.value.code is Code.MODEL_INVALID


def test_sections_say_what_can_be_known_without_opening_anything(tmp_path):
    channels = ("ct", "pet")
    total = TotalSegmentator(kind="totalsegmentator", channel="pet")
    model = NnUNet(kind="nnunet", model=tmp_path, channel=["pet", "ct"])
    binary = Files(kind="files", path="{case}/{name}.nii.gz", labels=["liver", "spleen"])
    lesion = Files(kind="files", path="{lesion}", labels={"kidney": 3})
    bands = Threshold(kind="threshold", bands={"fat": (0, 1)})
    assert total.input_channels(channels) == ("pet",)
    assert model.input_channels(channels) == ("pet", "ct")
    assert bands.input_channels(channels) == ("ct",)
    assert binary.input_channels(channels) == ()
    sections = (total, model, binary, lesion, bands)
    assert [s.is_network for s in sections] == [True, True, False, False, False]
    assert [s.is_anatomy for s in sections] == [True, True, True, True, False]
    assert [list(s.label_paths) for s in sections] == [[], [], ["liver", "spleen"], ["labels"], []]
    assert [s.lesion_values for s in sections] == [{}, {}, {}, {3: "kidney"}, {}]
    stated = lesion.model_copy(update={"licence": "CC0-1.0", "commercial": True})
    assert stated.what_labels() == lesion.what_labels()


def test_a_device_that_is_not_there_is_refused_not_replaced():
    assert choose_device("cpu") == "cpu"
    with pytest.raises(BacksplitError) as caught:
        choose_device("cuda:99")
    assert caught.value.code is Code.DEVICE_MISSING


def test_nan_in_an_image_is_refused(tmp_path, case):
    image = ct_like().astype(np.float32)
    image[0, 0, 0] = np.nan
    bad = Case(
        "bad", 3, {"ct": save(tmp_path / "nan.nii.gz", image)}, {}, {"case": "bad"}, tmp_path
    )
    segmenter = ThresholdSegmenter(Threshold(kind="threshold", bands={"a": (0, 1)}), INPUTS)
    outcomes = [result for _, result in segmenter.label([bad, case])]
    assert isinstance(outcomes[0], CaseError) and outcomes[0].code is Code.IMAGE_NOT_FINITE
    assert not isinstance(outcomes[1], CaseError)


@pytest.mark.parametrize(
    ("kind", "values"),
    [("uint8", 255), ("uint8", 137), ("float32", 1.0), ("float32", 1 / 255), ("int64", 1)],
)
def test_a_binary_file_is_whatever_is_not_0(case, kind, values):
    mask = np.zeros(ct_like().shape, kind)
    mask[2:4, 5:8] = values
    save(case.folder / "liver.nii.gz", mask)
    files = Files(kind="files", path=str(case.folder / "{name}.nii.gz"), labels=["liver"])
    np.testing.assert_array_equal(label(files_segmenter(files), case).array, mask > 0)


def test_a_binary_file_that_can_not_be_used_makes_its_own_structure_unknown(case):
    good = np.zeros(ct_like().shape, np.uint8)
    good[2:4] = 1
    several = good.copy()
    several[6:8] = 3
    save(case.folder / "liver.nii.gz", good)
    save(case.folder / "several.nii.gz", several)
    save(case.folder / "elsewhere.nii.gz", good, spacing=(3.0, 3.0, 3.0))
    (case.folder / "cut.nii.gz").write_bytes((case.folder / "liver.nii.gz").read_bytes()[:-9])
    names = ["several", "elsewhere", "liver", "cut", "gone"]
    files = Files(kind="files", path=str(case.folder / "{name}.nii.gz"), labels=names)
    result = label(files_segmenter(files), case)
    np.testing.assert_array_equal(result.array, good * 3)
    assert list(result.unknown) == ["gone", "several", "elsewhere", "cut"]
    for name, code in [("several", Code.LABEL_UNDECLARED), ("elsewhere", Code.GRID_MISMATCH),
                       ("cut", Code.FILE_UNREADABLE)]:  # fmt: skip
        assert result.unknown[name].startswith(f"{code}: ")
    absent = files.model_copy(update={"missing": "absent"})  # of a file that is there nobody knows
    assert list(label(files_segmenter(absent), case).unknown) == ["several", "elsewhere", "cut"]
    files = files.model_copy(update={"labels": ("several", "gone")})
    error = label(files_segmenter(files), case)
    assert isinstance(error, CaseError) and error.code is Code.LABEL_UNDECLARED
    assert "{several: 1}" in error.remedy


def test_anatomy_in_the_lesion_file_is_unknown_where_the_table_says_none(case):
    files = Files(kind="files", path="{lesion}", labels={"kidney": 1, "spleen": 9})
    without = dataclasses.replace(case, lesions={"lesion": None})
    for section in (files, files.model_copy(update={"missing": "absent"})):
        result = label(files_segmenter(section), without)
        assert not result.array.any() and list(result.unknown) == ["kidney", "spleen"]
    assert label(files_segmenter(files), case).unknown == {}


def test_names_that_a_dicom_file_lacks_are_unknown_and_the_others_are_read(case, monkeypatch):
    array = np.zeros(ct_like().shape, np.uint8)
    array[2], array[3] = 1, 2
    grid = read_volume(case.images["ct"]).grid
    named = LabelMap(array, grid, {"Liver": 1, "Spleen": 2})
    monkeypatch.setattr("backsplit.segment.label_files.read_label_map", lambda *_, **__: named)
    wanted = {"liver": "Liver", "heart": "Heart", "spleen": 2, "lung": 7}
    files = Files(kind="files", path="{lesion}", labels=wanted)
    result = label(files_segmenter(files), case)
    classes = files_segmenter(files).classes()
    assert (result.array[2] == classes["liver"]).all() and (result.array[3] == 2).all()
    assert list(result.unknown) == ["heart", "lung"] and "'Heart'" in result.unknown["heart"]
    absent = files.model_copy(update={"missing": "absent"})
    assert label(files_segmenter(absent), case).unknown == {}
    nothing = files.model_copy(update={"labels": {"heart": "Heart", "lung": 7}})
    error = label(files_segmenter(nothing), case)
    assert isinstance(error, CaseError) and "has no segment of Heart, 7" in error.what
