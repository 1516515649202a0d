"""Data sets as they are downloaded: cases, values, patients, and what is not used, with why."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from backsplit.cli import app
from backsplit.cli.start import DrawnAs, Layout, PresetName
from backsplit.errors import BacksplitError, Code
from backsplit.start.layouts import LAYOUTS
from backsplit.start.presets import PRESETS
from backsplit.start.readers.dicom import DRAWN
from support import downloads, nbia
from support.project import save
from support.start import (
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
    nbia.nsclc: ("nbia", ["ct"], {"GTV-1": ("GTV-1",), "gtv-2": ("gtv-2",),
                                       "gtv-pre-op": ("gtv-pre-op",)}, [], 3, None),
    downloads.autopet: ("autopet", ["ct", "pet"], {"lesion": (1,)}, [], 2, "SUV, comparable"),
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
    nbia.nsclc(tmp_path, listed=listed)
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

    nbia.nsclc(tmp_path)
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
    nbia.nsclc(tmp_path / "data")
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
    assert config.structures["kidney_left"].of == ("given/kidney_left",)
    assert not {"organs/liver", "organs/kidney_left"} & {
        source for sources in config.structures.values() for source in sources.of
    }
    assert any("combined_labels" in line for line in section(said, "left out"))
    if lesions:
        assert list(config.targets) == ["pancreatic_lesion"]
        assert statuses(report) == ["ok", "ok"]
    else:
        assert any("has no lesions" in line for line in section(said, "to decide"))
        assert statuses(report) == ["refused", "refused"]


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


@pytest.mark.parametrize("content", [b"", b"\0\xff\xfe", b"a,b\n1\n", b"Modality,File Location\n"])
def test_a_list_that_is_none_leaves_it_to_the_headers(tmp_path, content):
    nbia.nsclc(tmp_path)
    next(tmp_path.glob("*/metadata.csv")).write_bytes(content)
    assert len(found_in(tmp_path).cases) == 3


def test_links_that_go_round_in_circles_end(tmp_path):
    nnunet_folder(tmp_path)
    (tmp_path / "imagesTr" / "again").symlink_to(tmp_path, target_is_directory=True)
    _, report, said = started(tmp_path)
    assert statuses(report) == ["ok", "ok"] and section(said, "left out") == ["nothing"]
