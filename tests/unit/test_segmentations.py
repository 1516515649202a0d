"""Segmentations that open with names: 3D Slicer's by slicerio, DICOM-SEG by highdicom and dcmqi."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import highdicom as hd
import nrrd
import numpy as np
import pydicom
import pytest
import slicerio
from pydicom.sr.codedict import codes

from backsplit.errors import CaseError, Code
from backsplit.export import dicom_seg
from backsplit.export.meanings import meanings
from backsplit.flow.check import check
from backsplit.flow.engine import forget_incomplete
from backsplit.flow.leftovers import leftovers
from backsplit.flow.plan import Plan
from backsplit.flow.project import open_project
from backsplit.record.verify import verify
from backsplit.scheme.scheme import Scheme
from backsplit.volume import read_grid, read_label_map, read_volume
from support import flow
from support.dicom import TILTED, make_slices, stored, write_series
from support.project import ct_like, load, save

SIZED = {"dicom": (12, 20, 24), "nifti": (12, 20, 24)}


def drawn(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Organs and lesions."""
    organs, lesion = np.zeros((2, 12, 20, 24), np.uint8)
    organs[2:5, 5:15, 5:12], organs[6:8, 5:15, 8:18], organs[8:10, 5:15, 8:18] = 1, 2, 3
    lesion[5:8, 8:12, 9 : 12 + number] = 1
    return organs, lesion


def export() -> str:
    """Export as the configuration says now, in the project's folder; gives what was said."""
    said: list[str] = []
    flow.export(open_project(Path("config.yaml")), said.append)
    return "\n".join(said)


def verified() -> tuple[str, ...]:
    project = open_project(Path("config.yaml"))
    return verify(project.config, project.scheme).wrong


@pytest.fixture(scope="module")
def exported(tmp_path_factory, project_in):
    """A case of a DICOM series in a tilted frame, and one of a NIfTI image, exported as both."""
    folder = tmp_path_factory.mktemp("segmented")
    project = project_in(folder)
    for number, case in enumerate(SIZED):
        organs, lesion = drawn(number)
        project.add(case, lesion=lesion)
        save(folder / "organs" / f"{case}.nii.gz", organs)
    series = write_series(folder / "series", ct_like(), cosines=TILTED)
    grid = read_grid(series)
    for name in ("organs", "lesions"):
        path = folder / name / "dicom.nii.gz"
        save(path, load(path), grid.spacing, grid.origin, grid.direction)
    project.rows[0]["image_ct"] = "series"
    (folder / "images" / "dicom.nii.gz").unlink()
    project.settings["segmenters"]["given"] = {
        "kind": "files", "path": "organs/{case}.nii.gz",
        "labels": {"liver": 1, "kidney_left": 2, "kidney_right": 3},
    }  # fmt: skip
    project.settings["structures"] = {
        "fat": "tissue/fat", "liver": "given/liver", "kidneys": "given/kidney_*",
    }  # fmt: skip
    project.write(export={"segmentations": ["seg_nrrd", "dicom_seg"]})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        flow.check(Path("config.yaml"), None, 1, print)
        opened = open_project(Path("config.yaml"))
        for segmenter in ("tissue", "given"):
            flow.segment(opened, segmenter, None, print)
        flow.compose(opened, None, print)
        flow.measure(opened, None, print)
        flow.cases(opened, print)
        flow.judge(opened, print)
        project.said = export()
        flow.manifest(opened, print)
        yield project


@pytest.fixture
def folder(exported, monkeypatch) -> Path:
    monkeypatch.chdir(exported.folder)
    return exported.results / "datasets" / "segmentations" / "Test"


def labels_of(project) -> dict[str, int]:
    described = project.results / "datasets/nnunet/Dataset007_Test/dataset.json"
    return json.loads(described.read_text())["labels"]


def colours_of(project) -> dict[str, tuple[int, ...]]:
    table = project.results / "datasets/nnunet/Dataset007_Test/labels.ctbl"
    rows = [line.split() for line in table.read_text().splitlines() if line[0] != "#"]
    return {row[1]: tuple(map(int, row[2:5])) for row in rows}


@pytest.mark.parametrize("case", SIZED)
def test_slicerio_reads_names_colours_terms_and_voxels(exported, folder, case):
    path = folder / f"{case}.seg.nrrd"
    found = slicerio.read_segmentation(str(path))
    label_map = exported.results / "labels" / f"{case}.nii.gz"
    array, grid = load(label_map), read_grid(label_map)
    ids, colours = labels_of(exported), colours_of(exported)
    wanted = {name: number for name, number in ids.items() if name != "background"}
    assert {s["name"]: s["labelValue"] for s in found["segments"]} == wanted
    for segment in found["segments"]:
        rgb = tuple(round(255 * share) for share in segment["color"])
        assert rgb == colours[segment["name"]] and segment["layer"] == 0
    np.testing.assert_array_equal(found["voxels"].transpose(2, 1, 0), array)
    np.testing.assert_allclose(found["ijkToLPS"], grid.affine_lps, atol=1e-4)
    terms = {s["name"]: s["terminology"] for s in found["segments"]}
    assert terms["liver"]["type"] == ["SCT", "10200004", "Liver"]
    assert terms["kidneys"]["type"] == ["SCT", "64033007", "Kidney"]
    assert "typeModifier" not in terms["kidneys"]
    assert terms["tumor"]["type"] == ["SCT", "52988006", "Lesion"]
    assert terms["fat"]["type"] == ["99BACKSPLIT", "fat", "fat"]
    # our own reader, and pynrrd
    ours = read_label_map(path, grid)
    assert ours.names.keys() == wanted.keys()
    for name, number in wanted.items():
        np.testing.assert_array_equal(ours.array == ours.names[name], array == number)
    voxels, header = nrrd.read(str(path))
    np.testing.assert_array_equal(voxels.transpose(2, 1, 0), array)
    assert header["space"] == "left-posterior-superior"


def test_highdicom_reads_names_codes_colours_and_voxels(exported, folder):
    path = folder / "dicom.dcm"
    seg = hd.seg.segread(path)
    ids, colours = labels_of(exported), colours_of(exported)
    array = load(exported.results / "labels" / "dicom.nii.gz")
    described = {s.segment_label: s for s in seg.SegmentSequence}
    wanted = {name: number for name, number in ids.items() if name != "background"}
    assert {name: s.segment_number for name, s in described.items()} == wanted
    slices = [pydicom.dcmread(p) for p in (exported.folder / "series").iterdir()]
    slices.sort(key=lambda one: one.InstanceNumber)
    for number in wanted.values():
        found = seg.get_pixels_by_source_instance(
            [one.SOPInstanceUID for one in slices], segment_numbers=[number],
            assert_missing_frames_are_empty=True,
        )  # fmt: skip
        np.testing.assert_array_equal(found[..., 0], array == number)
    series = slices[0]
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
        assert seg[keyword].value == series[keyword].value
    assert {s["SeriesInstanceUID"].value for s in seg.ReferencedSeriesSequence} == {"1.2.3.4"}
    assert described["liver"].segmented_property_type == codes.SCT.Liver
    assert described["kidneys"].segmented_property_type == codes.SCT.Kidney
    assert described["tumor"].segmented_property_type == codes.SCT.Lesion
    assert described["tumor"].segmented_property_category.value == "49755003"
    assert described["fat"].segmented_property_type.scheme_designator == "99BACKSPLIT"
    kinds = {name: s.algorithm_type.value for name, s in described.items()}
    assert kinds.pop("fat") == "AUTOMATIC" and set(kinds.values()) == {"MANUAL"}
    for name, one in described.items():
        lab = hd.color.CIELabColor.from_dicom_value(one.RecommendedDisplayCIELabValue)
        assert np.abs(np.subtract(lab.to_rgb(), colours[name])).max() <= 1
    # our own reader, by name, on the series' grid
    ours = read_label_map(path, read_grid(exported.folder / "series"))
    for name in wanted:
        if (array == ids[name]).any():
            np.testing.assert_array_equal(ours.array == ours.names[name], array == ids[name])


def test_dcmqi_converts_it(exported, folder, tmp_path):
    """A second reader of DICOM-SEG, which nothing of highdicom is in."""
    done = subprocess.run(
        ["segimage2itkimage", "--inputDICOM", str(folder / "dicom.dcm"),
         "--outputDirectory", str(tmp_path), "--mergeSegments", "-t", "nii"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = tmp_path.glob("*.nii.gz")
    array = load(exported.results / "labels" / "dicom.nii.gz")
    held = np.flatnonzero(array.any(axis=(1, 2)))  # it crops to slices that hold something
    found = load(made)
    start = held[0]
    assert found.shape[0] in (len(array), held[-1] - start + 1)
    expected = array if found.shape == array.shape else array[start : held[-1] + 1]
    np.testing.assert_array_equal(found, expected)
    said = json.loads(next(tmp_path.glob("*meta.json")).read_text())
    names = {s["SegmentLabel"]: s["labelID"] for group in said["segmentAttributes"] for s in group}
    assert names["liver"] == labels_of(exported)["liver"]


def test_a_case_without_dicom_is_named_and_everything_else_of_it_is_there(exported, folder):
    assert sorted(p.name for p in folder.iterdir()) == [
        "dicom.dcm", "dicom.seg.nrrd", "files.json", "left_out.tsv", "nifti.seg.nrrd",
    ]  # fmt: skip
    rows = [line.split("\t") for line in (folder / "left_out.tsv").read_text().splitlines()]
    assert [row[:3] for row in rows[1:]] == [["nifti", "dicom_seg", "DICOM_MISSING"]]
    assert "2 .seg.nrrd, 1 .dcm in " in exported.said
    assert "1 case has no DICOM-SEG" in exported.said
    found = check(Path("config.yaml")).lacking
    (told,) = (problem for problem in found if problem.code == "DICOM_MISSING")
    assert "1 of 2 sound cases (nifti)" in told.what


def test_the_manifest_names_them_and_verify_finds_what_is_not_ours(exported, folder):
    written = json.loads((exported.results / "manifest.json").read_text())
    counts = {d["format"]: d["cases"] for d in written["datasets"]}
    assert counts["3D Slicer"] == 2 and counts["DICOM-SEG"] == 1
    assert verified() == ()
    stranger = folder / "mine.seg.nrrd"
    shutil.copy(folder / "dicom.seg.nrrd", stranger)
    assert verified() == (f"{stranger.relative_to(exported.folder)} is not in the manifest",)
    export()
    assert stranger.exists()  # what others lay there stays
    stranger.unlink()


def sums(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def test_the_same_inputs_give_the_same_bytes_and_what_is_unchanged_stays(exported, folder):
    before = sums(folder)
    times = {p.name: p.stat().st_mtime_ns for p in folder.iterdir() if p.suffix != ".json"}
    times.pop("left_out.tsv")
    export()
    assert times == {name: (folder / name).stat().st_mtime_ns for name in times}
    shutil.rmtree(folder)
    export()
    assert sums(folder) == before
    (folder / "dicom.dcm").write_bytes(b"damaged")
    export()
    assert sums(folder) == before
    plan = Plan(open_project(Path("config.yaml")))
    assert forget_incomplete(plan) == []
    (folder / "dicom.dcm").unlink()  # then the data set is not whole
    assert [path.name for path in forget_incomplete(plan)] == ["dataset.json"]
    export()
    assert sums(folder) == before


def test_without_the_key_they_are_left_over_and_the_next_export_removes_them(exported, folder):
    settings = exported.settings["export"]
    try:
        exported.write(export={})
        left = {left.path.name for left in leftovers(open_project(Path("config.yaml")))}
        assert left == {p.name for p in folder.iterdir()}
        export()
        assert not folder.exists()
    finally:
        exported.write(export=settings)
        export()


def test_without_highdicom_nothing_starts_and_the_command_that_helps_is_said(
    exported, folder, monkeypatch
):
    monkeypatch.setattr(dicom_seg, "PACKAGE", "no_such_package")
    monkeypatch.setattr(dicom_seg, "INSTALL", "pip install 'no_such_package>=0.26'")
    (told,) = check(Path("config.yaml")).fatal
    assert told.code == "PACKAGE_MISSING" and told.column == "export.segmentations"
    assert "pip install 'no_such_package>=0.26'" in str(told)


def test_a_series_without_what_the_standard_asks_for_costs_its_dicom_seg_alone(exported, folder):
    series = exported.folder / "series"
    kept = exported.folder / "kept"
    shutil.copytree(series, kept)
    try:
        for path in series.iterdir():
            data = pydicom.dcmread(path)
            del data.StudyInstanceUID
            data.save_as(path)
        export()
        rows = [line.split("\t") for line in (folder / "left_out.tsv").read_text().splitlines()]
        assert {row[0]: row[2] for row in rows[1:]} == dict.fromkeys(SIZED, "DICOM_MISSING")
        assert "StudyInstanceUID" in next(row[3] for row in rows if row[0] == "dicom")
        assert not (folder / "dicom.dcm").exists() and (folder / "dicom.seg.nrrd").exists()
    finally:
        shutil.rmtree(series)
        kept.rename(series)
        export()


def test_frames_of_a_multi_frame_object_are_those_of_its_own_order(tmp_path):
    raw = stored()
    slices = list(make_slices(raw, TILTED))
    order = np.random.default_rng(0).permutation(len(slices))
    enhanced = hd.legacy.LegacyConvertedEnhancedCTImage(
        [slices[z] for z in order], hd.UID(), 9, hd.UID(), 1
    )
    enhanced.save_as(tmp_path / "image.dcm")
    grid = read_grid(tmp_path / "image.dcm")
    array = np.random.default_rng(1).integers(0, 3, grid.shape).astype(np.uint8)
    scheme = Scheme({"tumor": (1,)}, ("background", "tumor", "liver"), {"net": {"liver": "liver"}})
    made_by = {"tumor": None, "liver": dicom_seg.NETWORK}
    names = {1: ("tumor", (255, 230, 0)), 2: ("liver", (9, 99, 9))}
    dicom_seg.save_dicom_seg(
        tmp_path / "seg.dcm", tmp_path / "image.dcm", array, names, meanings(scheme), made_by, "x"
    )
    ours = read_label_map(tmp_path / "seg.dcm", grid)
    for label, (name, _) in names.items():
        np.testing.assert_array_equal(ours.array == ours.names[name], array == label)
    seg = hd.seg.segread(tmp_path / "seg.dcm")
    frames = [int(frame) + 1 for frame in range(len(order))]
    found = seg.get_pixels_by_source_frame(enhanced.SOPInstanceUID, frames, segment_numbers=[2])
    where = read_volume(tmp_path / "image.dcm").array
    pixels = enhanced.pixel_array.astype(int) - 1024  # each frame is the slice that it shows
    for frame, stored_frame in zip(found[..., 0], pixels, strict=True):
        (z,) = (z for z in range(len(where)) if np.array_equal(where[z], stored_frame))
        np.testing.assert_array_equal(frame, array[z] == 2)


def test_several_multi_frame_objects_of_a_series_are_refused(tmp_path):
    """Each numbers its own frames: labels would get onto the slices of another one."""
    slices = list(make_slices(stored(), TILTED))
    (tmp_path / "series").mkdir()
    of_series = hd.UID()
    for number, half in enumerate((slices[: len(slices) // 2], slices[len(slices) // 2 :]), 1):
        made = hd.legacy.LegacyConvertedEnhancedCTImage(half, of_series, 9, hd.UID(), number)
        made.save_as(tmp_path / "series" / f"{number}.dcm")
    grid = read_grid(tmp_path / "series")
    assert grid.shape[0] == len(slices)
    array = np.ones(grid.shape, np.uint8)
    scheme = Scheme({"tumor": (1,)}, ("background", "tumor"), {})
    names = {1: ("tumor", (255, 230, 0))}
    arguments = (tmp_path / "series", array, names, meanings(scheme), {"tumor": None}, "x")
    with pytest.raises(CaseError, match="several multi-frame objects") as refused:
        dicom_seg.save_dicom_seg(tmp_path / "seg.dcm", *arguments)
    assert refused.value.code is Code.DICOM_MISSING


def test_sides_and_places_have_their_codes():
    """Of TotalSegmentator's table, for classes of whichever segmenter."""
    scheme = Scheme(
        targets={"tumor": (1,)},
        names=("background", "tumor", "left", "kidney", "cyst", "mixed", "heart_atrium_left"),
        sources={
            "net": {"kidney_left": "left", "kidney_right": "kidney", "kidney_cyst_left": "cyst",
                    "liver": "mixed", "spleen": "mixed", "LA": "heart_atrium_left"},
        },
        lent={"net": ()},
    )  # fmt: skip
    found = meanings(scheme)
    assert found["left"].kind.meaning == "Kidney" and found["left"].modifier.meaning == "Left"
    assert found["kidney"].modifier.value == "24028007"
    assert found["cyst"].region.meaning == "Kidney"
    assert found["cyst"].region_modifier.meaning == "Left"
    assert found["mixed"].kind.scheme == "99BACKSPLIT"
    assert found["heart_atrium_left"].kind.meaning == "Left atrium"
