"""Data sets as they are downloaded: cases, values, patients, and what is not used, with why."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from backsplit.cli import app
from backsplit.cli.start import DrawnAs, Layout, PresetName
from backsplit.errors import BacksplitError, Code
from backsplit.start.layouts import LAYOUTS
from backsplit.start.presets import PRESETS
from backsplit.start.readers.dicom import DRAWN
from support import downloads
from support.examples import examples
from support.project import load, save
from support.start import (
    V1,
    V2,
    by_patterns,
    codes,
    found_in,
    nnunet_folder,
    section,
    started,
    statuses,
    volume,
)

EXPECTED = {
    # maker: layout, channels, targets, anatomy that was drawn, patients, what is left out
    downloads.kits23: ("kits", ["ct"], {"tumor": (2,), "cyst": (3,)}, ["kidney"], 3, "instances"),
    downloads.kits21: ("kits", ["ct"], {"tumor": (2,), "cyst": (3,)}, ["kidney"], 2, "aggregate"),
    downloads.kits19: ("kits", ["ct"], {"tumor": (2,)}, ["kidney"], 2, "without labels"),
    downloads.panther: ("panther", ["mr"], {"tumor": (1,)}, ["pancreas"], 3, "without labels"),
    downloads.nsclc: ("nbia", ["ct"], {"GTV-1": ("GTV-1",), "gtv-2": ("gtv-2",),
                                       "gtv-pre-op": ("gtv-pre-op",)}, [], 3, None),
    downloads.autopet: ("autopet", ["ct", "pet"], {"lesion": (1,)}, [], 2, "SUV is what"),
    downloads.autopet3: ("autopet3", ["ct", "pet"], {"tumor": (1,)}, [], 3, None),
    downloads.longitudinal: ("longitudinal", ["ct"], {"lesion": ("*",)}, [], 2, None),
    downloads.mswal: ("mswal", ["ct"], {n: (v,) for n, v in downloads.MSWAL.items()}, [], 3, None),
    downloads.lits: ("lits", ["ct"], {"tumor": (2,)}, ["liver"], 3, "test set"),
    downloads.isles: ("bids", ["adc", "dwi", "flair"], {"lesion": (1,)}, [], 2, None),
}  # fmt: skip


@pytest.mark.parametrize("make", EXPECTED)
def test_a_data_set_is_found_as_it_is_downloaded(tmp_path, make):
    layout, channels, targets, anatomy, patients, left = EXPECTED[make]
    scans = make(tmp_path / "data")
    config, report, said = started(tmp_path / "data", tmp_path / "mine")
    assert f"{len(scans)} cases ({layout})" in said[0]
    assert list(config.dataset.channels) == channels and config.targets == targets
    given = config.segmenters.get("given")
    assert (list(given.labels) if given else []) == anatomy
    assert statuses(report) == ["ok"] * len(scans), report.problems
    assert codes(report) == {"WEIGHTS_MISSING"}  # nothing is downloaded unasked
    assert len({checked.case.patient for checked in report.checked}) == patients
    told = section(said, "left out")
    assert told == ["nothing"] if left is None else any(left in line for line in told)


def test_the_command_knows_every_layout_and_preset():
    assert {layout.value for layout in Layout} == set(LAYOUTS)
    assert {preset.value for preset in PresetName} == set(PRESETS)
    assert {drawn.value for drawn in DrawnAs} == set(DRAWN)


def test_a_known_set_without_a_description_has_the_same_values_as_with_one(tmp_path):
    downloads.mswal(tmp_path / "a")
    downloads.mswal(tmp_path / "b", described=True)
    first, second = (started(tmp_path / name)[0] for name in "ab")
    assert first.targets == second.targets and first.structures == second.structures


def test_folds_of_the_data_set_are_kept_unless_they_leak(tmp_path):
    downloads.autopet3(tmp_path)
    _, report, said = started(tmp_path)
    assert [c.case.columns["fold"] for c in report.checked] == ["0", "1", "1", "2", "2"]
    assert "splits_final.json: its folds are kept" in section(said, "found")
    splits = json.loads((tmp_path / "splits_final.json").read_text())
    moved = splits[1]["val"].pop()
    splits[1]["train"].append(moved)
    splits[2]["val"].append(moved)
    splits[2]["train"].remove(moved)
    (tmp_path / "splits_final.json").write_text(json.dumps(splits))
    _, report, said = started(tmp_path, tmp_path / "other")
    assert "fold" not in report.checked[0].case.columns
    assert any("same patient (fdg_0410759456" in line for line in section(said, "to decide"))


@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG"])
@pytest.mark.parametrize("listed", [True, False])
def test_a_collection_is_read_by_its_list_or_by_headers(tmp_path, kind, listed):
    downloads.nsclc(tmp_path, listed=listed)
    config, report, said = started(tmp_path, drawn=kind)
    cases = {c.case.id: c.case for c in report.checked}
    assert list(cases) == ["LUNG1-001", "LUNG1-002", "LUNG1-128"]
    assert Path(cases["LUNG1-001"].columns["lesion"]).parent.name.startswith(
        "3.000000" if kind == "RTSTRUCT" else "300.000000"
    )
    wanted = ["GTV-1", "gtv-2", "gtv-pre-op"] if kind == "RTSTRUCT" else ["Neoplasm_Primary"]
    assert list(config.targets) == wanted
    told = section(said, "found")
    assert "names in 3 RTSTRUCT files, and how often: GTV-1 (2), Heart (1)" in " ".join(told)
    assert "names in 2 SEG files, and how often: Lung (2), Neoplasm, Primary" in " ".join(told)
    assert any("`--from" in line for line in section(said, "to decide"))
    assert statuses(report) == ["ok", "ok", "ok" if kind == "RTSTRUCT" else "refused"]


def test_an_object_whose_image_is_not_there_is_said(tmp_path):
    import shutil

    downloads.nsclc(tmp_path)
    (series,) = tmp_path.glob("*/*/LUNG1-002/*/0.000000*")
    shutil.rmtree(series)
    _, report, said = started(tmp_path)
    assert [c.case.id for c in report.checked] == ["LUNG1-001", "LUNG1-128"]
    assert "2 of 8 series" not in " ".join(said) and "1 of 8 series in metadata.csv" in " ".join(
        said
    )
    left = section(said, "left out")
    assert len(left) == 2 and all("drawn on is not there" in line for line in left)


def test_a_list_that_leads_out_of_its_folder_is_not_followed(tmp_path):
    downloads.nsclc(tmp_path / "data")
    outside = tmp_path / "outside"
    outside.mkdir()
    table = next((tmp_path / "data").glob("*/metadata.csv"))
    text = table.read_text()
    table.write_text(text + f"9.9,x,EVIL,9.8,CT,../../{outside.name}\n")
    assert "EVIL" not in {case.id for case in found_in(tmp_path / "data").cases}


def test_isles_masks_lie_on_the_grid_of_the_diffusion_images(tmp_path):
    downloads.isles(tmp_path)
    config, report, said = started(tmp_path)
    assert config.dataset.grid_channel in ("adc", "dwi")
    assert any("another grid than the lesions: flair" in line for line in said)
    assert {Path(c.case.columns["lesion"]).name[-11:] for c in report.checked} == {"_msk.nii.gz"}
    assert list(config.structures) == ["brain"] and config.segmenters["organs"].task == "total_mr"


@pytest.mark.parametrize("lesions", [True, False])
def test_structures_in_files_of_their_own_are_anatomy(tmp_path, lesions):
    downloads.atlas(tmp_path, lesions=lesions)
    config, report, said = started(tmp_path)
    assert config.segmenters["given"].labels == ("kidney_left", "kidney_right", "liver", "spleen")
    assert config.structures["kidney_left"] == ("given/kidney_left",)
    assert not {"organs/liver", "organs/kidney_left"} & {
        source for sources in config.structures.values() for source in sources
    }
    assert any("combined_labels" in line for line in section(said, "left out"))
    if lesions:
        assert list(config.targets) == ["pancreatic_lesion"]
        assert statuses(report) == ["ok", "ok"]
    else:
        assert any("no lesion was drawn" in line for line in section(said, "to decide"))
        assert statuses(report) == ["refused", "refused"]


# nnU-Net's folders, as people have them


def test_version_1_is_read(tmp_path):
    config, report, _ = started(nnunet_folder(tmp_path, description=V1))
    assert statuses(report) == ["ok", "ok"]
    assert config.targets == {"tumor": (1,), "edema": (2,), "necrosis": (3,)}


@pytest.mark.parametrize(
    "names",
    [["c_1.nii.gz", "c_2.nii.gz"], ["c_1_0000.nii.gz", "c_2_0000.nii"], ["c_0001.nii.gz"]],
)
def test_names_without_a_channel_and_several_endings(tmp_path, names):
    labels = [name.replace("_0000", "") for name in names]
    _, report, said = started(nnunet_folder(tmp_path, names, labels))
    assert statuses(report) == ["ok"] * len(names)
    assert section(said, "left out") == ["nothing"]


def test_a_number_that_is_a_channel_is_one_though_a_label_has_it_too(tmp_path):
    names = ["c_0000.nii.gz", "c_0001.nii.gz"]
    described = V2 | {"channel_names": {"0": "T1", "1": "T2"}}
    found = found_in(nnunet_folder(tmp_path, names, ["c.nii.gz"], described))
    assert [sorted(case.images) for case in found.cases] == [["t1", "t2"]]


def test_images_and_labels_that_a_description_lists(tmp_path):
    nnunet_folder(tmp_path / "a")
    listed = {
        f"c_{i}": {
            "images": [f"../a/imagesTr/c_{i}_0000.nii.gz"],
            "label": f"labelsTr/c_{i}.nii.gz",
        }
        for i in (1, 2)
    }
    root = nnunet_folder(tmp_path / "b", [], description=V2 | {"dataset": listed})
    _, report, _ = started(root, tmp_path / "mine")
    assert statuses(report) == ["ok", "ok"]


@pytest.mark.parametrize(
    ("images", "labels", "why"),
    [
        (["c_1_0000.nii.gz"], ["c_1.nii.gz", "c_2.nii.gz"], "labels of cases that have no image"),
        (["c_1_0000.nii.gz", "c_1_0001.nii.gz"], ["c_1.nii.gz"], "dataset.json has no channel 1"),
        (["c_1_0000.nii.gz", "c_1_0000.nii"], ["c_1.nii.gz"], "is there too"),
        (["c_1_0000.nii.gz"], ["c_1.nii.gz", "c_1.nii"], "is there too"),
    ],
)
def test_what_is_no_case_is_said(tmp_path, images, labels, why):
    _, report, said = started(nnunet_folder(tmp_path, images, labels))
    assert statuses(report) == ["ok"]
    (line,) = section(said, "left out")
    assert line.startswith("1 file ") and why in line
    written = (tmp_path / "mine" / "config.yaml").read_text()
    assert why in written and why in (tmp_path / "mine" / "README.md").read_text()


def test_an_image_without_a_label_stays_in_the_table(tmp_path):
    _, report, said = started(nnunet_folder(tmp_path, labels=["c_1.nii.gz"]))
    assert statuses(report) == ["ok", "refused"]
    assert any("1 of 2 cases have no lesion file (c_2)" in x for x in section(said, "to decide"))


@pytest.mark.parametrize(
    ("labels", "order", "values"),
    [
        ({"whole": [1, 2, 3], "core": [1, 3], "necrosis": 3}, [2, 1, 3],
         {"whole": 2, "core": 1, "necrosis": 3}),
        ({"kidney": [1, 2, 3], "masses": [2, 3], "tumor": 2}, [1, 3, 2],
         {"kidney": 1, "masses": 3, "tumor": 2}),
    ],
)  # fmt: skip
def test_regions_give_each_value_a_name(tmp_path, labels, order, values):
    described = V2 | {"labels": {"background": 0, **labels}, "regions_class_order": order}
    config, report, said = started(nnunet_folder(tmp_path, description=described))
    given = config.segmenters["given"].labels if "given" in config.segmenters else {}
    assert {n: v for n, (v,) in config.targets.items()} | given == values
    assert set(given) == {"kidney"} & set(labels)
    assert statuses(report) == ["ok", "ok"]
    assert any("labels are regions" in line for line in section(said, "found"))
    text = (tmp_path / "mine" / "config.yaml").read_text()
    wanted = text.replace("#  emit:", "  emit:").replace("#  regions:", "  regions:")
    wanted = wanted.replace("#    ", "    ")
    (tmp_path / "mine" / "config.yaml").write_text(wanted)
    from backsplit.flow.check import check

    regions = check(tmp_path / "mine" / "config.yaml")
    assert codes(regions) == {"WEIGHTS_MISSING"}
    assert regions.project is not None and regions.project.config.compose.emit == "regions"


def test_an_ignore_value_is_ignored(tmp_path):
    described = V2 | {"labels": {"background": 0, "tumor": 1, "edema": 2, "ignore": 3}}
    config, report, said = started(nnunet_folder(tmp_path, description=described))
    assert any(line.startswith("value 3 of the lesion files") for line in section(said, "found"))
    assert config.ignore == (3,) and list(config.targets) == ["tumor", "edema"]
    assert statuses(report) == ["ok", "ok"]


def test_patients_of_brats_are_told_by_the_names(tmp_path):
    names = [f"BraTS-GLI-0000{patient}-00{scan}" for patient in (1, 2) for scan in (0, 1)]
    images = [f"{name}_0000.nii.gz" for name in names]
    root = nnunet_folder(tmp_path, images, [f"{name}.nii.gz" for name in names])
    _, report, _ = started(root)
    patients = [checked.case.patient for checked in report.checked]
    assert patients == ["BraTS-GLI-00001"] * 2 + ["BraTS-GLI-00002"] * 2


def test_two_channels_of_one_name_keep_what_the_name_means(tmp_path):
    names = [f"c_{case}_{channel:04d}.nii.gz" for case in (1, 2) for channel in (0, 1)]
    described = V2 | {"channel_names": {"0": "CT", "1": "CT"}}
    config, report, _ = started(nnunet_folder(tmp_path, names, description=described))
    assert config.dataset.channels == ("ct_0", "ct_1")
    assert [config.export.nnunet.channel_name(c) for c in config.dataset.channels] == ["CT", "CT"]
    assert "tissue" in config.segmenters and statuses(report) == ["ok", "ok"]


def test_files_of_macos_are_no_cases(tmp_path):
    nnunet_folder(tmp_path)
    for path in list(tmp_path.rglob("*.nii.gz")):
        (path.parent / f"._{path.name}").write_bytes(b"resource fork")
    _, report, said = started(tmp_path)
    assert len(report.checked) == 2 and section(said, "left out") == ["nothing"]


@pytest.mark.parametrize(
    "wrong", [{"labels": ["a"]}, {"channel_names": {"CT": 0}}, {"dataset": {"a": {"label": 1}}}]
)
def test_a_description_of_another_shape_has_a_code(tmp_path, wrong):
    nnunet_folder(tmp_path, description=V2 | wrong)
    with pytest.raises(BacksplitError) as caught:
        found_in(tmp_path)
    assert caught.value.code is Code.LAYOUT_UNKNOWN


# the Decathlon


def test_channels_of_one_file_are_split_when_that_is_asked_for(tmp_path):
    images = downloads.decathlon4d(tmp_path / "data")
    with pytest.raises(BacksplitError) as caught:
        started(tmp_path / "data", tmp_path / "mine")
    assert caught.value.code is Code.LAYOUT_UNKNOWN and "--split" in caught.value.remedy
    assert not (tmp_path / "mine").exists()
    config, report, _ = started(tmp_path / "data", tmp_path / "mine", split=True)
    assert config.dataset.channels == ("t2", "adc") and statuses(report) == ["ok", "ok"]
    for checked in report.checked:
        source = sitk.ReadImage(str(tmp_path / "data/imagesTr" / f"{checked.case.id}.nii.gz"))
        for number, path in enumerate(checked.case.images.values()):
            written = sitk.ReadImage(str(path))
            np.testing.assert_array_equal(load(path), images[checked.case.id][number])
            assert written.GetSize() == source.GetSize()[:3]
            np.testing.assert_allclose(written.GetSpacing(), source.GetSpacing()[:3])
            np.testing.assert_allclose(written.GetOrigin(), source.GetOrigin()[:3])


def test_a_file_with_another_number_of_volumes_is_refused(tmp_path):
    downloads.decathlon4d(tmp_path)
    volume(tmp_path / "imagesTr" / "PROSTATE_004.nii.gz")
    with pytest.raises(BacksplitError) as caught:
        started(tmp_path, split=True)
    assert "PROSTATE_004.nii.gz cannot be split" in caught.value.what


def test_a_single_channel_needs_no_splitting(tmp_path):
    pairs = [{k: f"./{k}sTr/p_{i}.nii.gz" for k in ("image", "label")} for i in (1, 2)]
    described = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "pancreas",
                 "2": "cancer"}, "training": pairs}  # fmt: skip
    nnunet_folder(tmp_path, ["p_1.nii.gz", "p_2.nii.gz"], ["p_1.nii.gz", "p_2.nii.gz"], described,
                  (1, 2))  # fmt: skip
    config, report, said = started(tmp_path)
    assert "(msd)" in said[0] and config.targets == {"cancer": (2,)}
    assert config.structures["pancreas"] == ("given/pancreas",) and statuses(report) == ["ok"] * 2


# BIDS


MASKS = {
    "fmriprep": "sub-{s}/anat/sub-{s}_T1w_label-lesion_roi.nii.gz",
    "manual": "derivatives/labels/sub-{s}/anat/sub-{s}_T1w_lesion-manual.nii.gz",
    "labelmask": "derivatives/m/sub-{s}/anat/sub-{s}_label-L_desc-T1lesion_mask.nii.gz",
    "labelseg": "derivatives/labels/sub-{s}/anat/sub-{s}_T1w_label-lesion_seg.nii.gz",
    "dseg": "derivatives/x/sub-{s}/anat/sub-{s}_desc-stroke_dseg.nii.gz",
    "tumour subjects": "derivatives/x/sub-{s}/anat/sub-{s}_label-lesion_mask.nii.gz",
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_of_bids_is_the_lesion_and_no_image(tmp_path, kind):
    for subject in ("tumor01", "tumor02") if kind == "tumour subjects" else ("01", "02"):
        volume(tmp_path / f"sub-{subject}/anat/sub-{subject}_T1w.nii.gz")
        volume(tmp_path / MASKS[kind].format(s=subject), 1)
        other = f"derivatives/f/sub-{subject}/anat/sub-{subject}_desc-brain_mask.nii.gz"
        volume(tmp_path / other, 1)
    config, report, said = started(tmp_path)
    assert config.dataset.channels == ("t1w",) and statuses(report) == ["ok", "ok"]
    (left,) = section(said, "left out")
    assert "desc-brain_mask" in left
    assert config.export.bids is not None and config.export.bids.suffix("t1w") == "T1w"


def test_what_belongs_together_in_bids_is_not_guessed(tmp_path):
    for subject in ("01", "02"):
        name = f"sub-{subject}_ses-1"
        folder = tmp_path / f"sub-{subject}" / "ses-1"
        for run in ("run-1", "run-2") if subject == "01" else ("run-1",):
            volume(folder / "anat" / f"{name}_{run}_T1w.nii.gz")
        volume(
            tmp_path
            / "derivatives/m"
            / f"sub-{subject}/ses-1/anat/{name}_label-lesion_mask.nii.gz",
            1,
        )
    volume(tmp_path / "sub-01/ses-1/anat/sub-01_ses-1_FLAIR.nii.gz")
    volume(tmp_path / "sub-02/ses-1/func/sub-02_ses-1_bold.nii.gz")
    config, report, said = started(tmp_path)
    assert config.dataset.channels == ("t1w",) and statuses(report) == ["refused", "ok"]
    assert any("sub-01_ses-1 has 2 files for t1w" in line for line in section(said, "to decide"))
    assert any("flair is not there for every case" in x for x in section(said, "left out"))


def test_a_file_that_holds_a_mask_is_no_image_whatever_it_is_called(tmp_path):
    for subject in ("01", "02"):
        volume(tmp_path / f"sub-{subject}/anat/sub-{subject}_T1w.nii.gz")
        volume(tmp_path / f"sub-{subject}/anat/sub-{subject}_vents.nii.gz", 1, 2)
        mask = f"derivatives/m/sub-{subject}/anat/sub-{subject}_label-lesion_mask.nii.gz"
        volume(tmp_path / mask, 1)
    config, _, said = started(tmp_path)
    assert config.dataset.channels == ("t1w",)
    (left,) = section(said, "left out")
    assert left.startswith("2 files */anat/sub-#_vents.nii.gz: a mask: it holds few values")


def test_images_of_one_suffix_are_channels_by_their_entities(tmp_path):
    for subject in ("01", "02"):
        start = f"sub-{subject}/anat/sub-{subject}"
        for name in ("T1w", "ce-gd_T1w", "FLAIR"):
            volume(tmp_path / f"{start}_{name}.nii.gz")
        volume(tmp_path / f"derivatives/m/{start}_label-lesion_mask.nii.gz", 1)
    config, report, _ = started(tmp_path)
    assert config.dataset.channels == ("flair", "gd_t1w", "t1w") and statuses(report) == ["ok"] * 2
    assert config.export.bids is not None
    assert [config.export.bids.suffix(c) for c in config.dataset.channels] == [
        "FLAIR", "ce-gd_T1w", "T1w",
    ]  # fmt: skip
    names = [path.name for path in report.checked[0].case.images.values()]
    assert names == [f"sub-01_{name}.nii.gz" for name in ("FLAIR", "ce-gd_T1w", "T1w")]


# whatever the layout


def test_a_folder_within_the_folder_is_found_and_two_are_asked_about(tmp_path):
    nnunet_folder(tmp_path / "one" / "Dataset001_X")
    _, report, said = started(tmp_path / "one", tmp_path / "mine")
    assert len(report.checked) == 2 and "in Dataset001_X" in " ".join(section(said, "found"))
    nnunet_folder(tmp_path / "one" / "Dataset002_Y")
    with pytest.raises(BacksplitError) as caught:
        found_in(tmp_path / "one")
    assert caught.value.code is Code.LAYOUT_UNKNOWN and "Dataset002_Y" in caught.value.what


def test_a_folder_of_no_layout_gets_patterns_proposed(tmp_path):
    for case in ("a", "b"):
        volume(tmp_path / case / "scan.nii.gz")
        volume(tmp_path / case / "gtv.nii.gz", 1)
    with pytest.raises(BacksplitError) as caught:
        found_in(tmp_path)
    assert "--image scan='{case}/scan.nii.gz' --lesion '{case}/gtv.nii.gz'" in caught.value.remedy
    _, report, _ = by_patterns(tmp_path, {"scan": "{case}/scan.nii.gz"}, "{case}/gtv.nii.gz")
    assert statuses(report) == ["ok", "ok"]


@pytest.mark.parametrize(
    ("files", "options"),
    [
        ("imagesTr/{c}__CT imagesTr/{c}__PT labelsTr/{c}",
         "--image ct='imagesTr/{case}__CT.nii.gz' --image pt='imagesTr/{case}__PT.nii.gz' "
         "--lesion 'labelsTr/{case}.nii.gz'"),
        ("{c}_t1 {c}_t2 {c}_seg", "--image t1='{case}_t1.nii.gz' --image t2='{case}_t2.nii.gz' "
         "--lesion '{case}_seg.nii.gz'"),
        ("{c}/{c}-t1n {c}/{c}-seg",
         "--image t1n='{case}/{case}-t1n.nii.gz' --lesion '{case}/{case}-seg.nii.gz'"),
        ("{c}/ct {c}/ptv_gtv {c}/organs", "--image ct='{case}/ct.nii.gz' "
         "--lesion '{case}/ptv_gtv.nii.gz' --labels given='{case}/organs.nii.gz'"),
        ("{c}/CT/scan {c}/PT/scan {c}/CT/seg", "--image ct='{case}/CT/scan.nii.gz' "
         "--image pt='{case}/PT/scan.nii.gz' --lesion '{case}/CT/seg.nii.gz'"),
        ("R001/{c}/ses-1/{c}_T1w R001/{c}/ses-1/{c}_lesion_mask",
         "--image t1w='*/{case}/*/{case}_T1w.nii.gz' "
         "--lesion '*/{case}/*/{case}_lesion_mask.nii.gz'"),
        ("{c}/scan/ct {c}/masks/gtv",
         "--image ct='{case}/scan/ct.nii.gz' --lesion '{case}/masks/gtv.nii.gz'"),
    ],
)  # fmt: skip
def test_patterns_are_proposed_for_other_folders(tmp_path, files, options):
    for case in ("CHUM-001", "CHUM-007", "CHUS_3"):
        for name in files.split():
            drawn = ("label", "seg", "gtv", "organs", "mask")
            values = [1] if any(word in name for word in drawn) else []
            volume(tmp_path / f"{name.replace('{c}', case)}.nii.gz", *values)
    with pytest.raises(BacksplitError) as caught:
        found_in(tmp_path)
    assert caught.value.remedy.endswith(options)
    into = ["--into", str(tmp_path / "mine")]
    done = CliRunner().invoke(app, ["init", str(tmp_path), *shlex.split(options), *into])
    assert done.exit_code == 0 and "init: 3 cases (patterns)" in done.output
    assert not [line for line in done.output.splitlines() if "match no image" in line]


def test_a_case_that_lacks_a_file_stays_in_the_table(tmp_path):
    downloads.kits23(tmp_path)
    (tmp_path / "dataset" / "case_00001" / "imaging.nii.gz").unlink()
    (tmp_path / "dataset" / "case_00400" / "segmentation.nii.gz").unlink()
    _, report, _ = started(tmp_path)
    assert statuses(report) == ["ok", "refused", "refused"]
    assert codes(report) == {"WEIGHTS_MISSING", "FILE_MISSING"}


def test_volumes_that_no_reader_asked_for_are_counted(tmp_path):
    downloads.kits23(tmp_path)
    save(tmp_path / "mine_too" / "scan_17.nrrd", np.zeros((3, 3, 3), np.uint8))
    _, _, said = started(tmp_path)
    assert "1 file mine_too/scan_#.nrrd: not part of this layout" in section(said, "left out")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.text("0aCT/.", max_size=4),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["0", "1", "labels", "channel_names", "modality", "training", "dataset",
                         "image", "images", "label", "val", "train", "ignore", "c_1"]),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@examples(300)
@given(data=PLAIN, splits=PLAIN)
def test_whatever_a_description_holds_is_read_or_refused(tmp_path_factory, data, splits):
    root = tmp_path_factory.mktemp("data")
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir()
        (root / folder / "c_1.nii.gz").touch()
    (root / "dataset.json").write_text(json.dumps(data))
    (root / "splits_final.json").write_text(json.dumps(splits))
    try:
        found_in(root)
    except BacksplitError as error:
        assert error.code is Code.LAYOUT_UNKNOWN


@pytest.mark.parametrize("content", [b"", b"\0\xff\xfe", b"a,b\n1\n", b"Modality,File Location\n"])
def test_a_list_that_is_none_leaves_it_to_the_headers(tmp_path, content):
    downloads.nsclc(tmp_path)
    next(tmp_path.glob("*/metadata.csv")).write_bytes(content)
    assert len(found_in(tmp_path).cases) == 3


def test_links_that_go_round_in_circles_end(tmp_path):
    nnunet_folder(tmp_path)
    (tmp_path / "imagesTr" / "again").symlink_to(tmp_path, target_is_directory=True)
    _, report, said = started(tmp_path)
    assert statuses(report) == ["ok", "ok"] and section(said, "left out") == ["nothing"]
