"""`backsplit init`: every layout gives a table and a configuration that `check` takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from backsplit.cli import app
from backsplit.config.file import load_config
from backsplit.errors import BacksplitError, Code
from backsplit.flow.check import check
from backsplit.start.found import Found, channel_of, lesions_and_anatomy, name_of, stem
from backsplit.start.init import find, init
from backsplit.start.proposal import config_text
from support.examples import examples
from support.project import ct_like, save


def volume(path: Path, *values: int) -> None:
    """An image, or a label file with some values."""
    array = ct_like()
    if values:
        array = np.zeros(array.shape, np.uint8)
        for number, value in enumerate(values):
            array[3, 4 + 3 * number, 5:8] = value
    save(path, array)


def nnunet(root: Path) -> None:
    for case in ("a", "b_c"):
        for channel in (0, 1):
            volume(root / "imagesTr" / f"{case}_{channel:04d}.nii.gz")
        volume(root / "labelsTr" / f"{case}.nii.gz", 1, 2)
    labels = {"background": 0, "liver": 1, "Liver tumour (HCC)": 2, "ignore": 3}
    names = {"1": "PET suv", "0": "CT"}
    data = {"channel_names": names, "labels": labels, "file_ending": ".nii.gz", "numTraining": 2}
    (root / "dataset.json").write_text(json.dumps(data))


def msd(root: Path) -> None:
    for case in ("pancreas_001", "pancreas_004"):
        volume(root / "imagesTr" / f"{case}.nii.gz")
        volume(root / "labelsTr" / f"{case}.nii.gz", 1, 2)
    names = ("pancreas_001", "pancreas_004")
    pairs = [{k: f"./{k}sTr/{n}.nii.gz" for k in ("image", "label")} for n in names]
    labels = {"0": "background", "1": "pancreas", "2": "cancer"}
    data = {"modality": {"0": "CT"}, "labels": labels, "training": pairs, "test": []}
    (root / "dataset.json").write_text(json.dumps(data))


def kits(root: Path) -> None:
    for case in ("case_00000", "case_00007"):
        volume(root / case / "imaging.nii.gz")
        volume(root / case / "segmentation.nii.gz", 1, 2, 3)


def autopet(root: Path) -> None:
    for study in (
        "PETCT_1/03-23-2003-NA-PET-CT Ganzkoerper  primaer mit KM-10445",
        "PETCT_1/12-05-2004-NA-PET-CT  Ganzkoerper-88121",
    ):
        for name in ("CTres", "SUV"):
            volume(root / study / f"{name}.nii.gz")
        volume(root / study / "SEG.nii.gz", 1)


def bids(root: Path) -> None:
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    for number in ("01", "02"):
        name = f"sub-{number}_ses-1"
        folder = root / f"sub-{number}" / "ses-1" / "anat"
        volume(folder / f"{name}_T1w.nii.gz")
        (folder / f"{name}_T1w.json").write_text("{}")
        mask = root / "derivatives" / "manual" / f"sub-{number}" / "ses-1" / "anat"
        volume(mask / f"{name}_space-orig_label-lesion_mask.nii.gz", 1)
    volume(root / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_FLAIR.nii.gz")


EXPECTED = {
    "nnunet": (nnunet, ["a", "b_c"], ("ct", "pet_suv"), {"Liver_tumour_HCC": (2,)}, "liver"),
    "msd": (msd, ["pancreas_001", "pancreas_004"], ("ct",), {"cancer": (2,)}, "pancreas"),
    "kits": (kits, ["case_00000", "case_00007"], ("ct",), {"tumor": (2,), "cyst": (3,)}, "kidney"),
    "autopet": (
        autopet,
        [
            "PETCT_1_03-23-2003-NA-PET-CT-Ganzkoerper-primaer-mit-KM-10445",
            "PETCT_1_12-05-2004-NA-PET-CT-Ganzkoerper-88121",
        ],
        ("ct", "pet"),
        {"lesion": (1,)},
        None,
    ),
    "bids": (bids, ["sub-01_ses-1", "sub-02_ses-1"], ("t1w",), {"lesion": (1,)}, None),
}


def codes(report) -> set[str]:
    return {str(problem.code) for problem in (*report.fatal, *report.problems)}


@pytest.mark.parametrize("layout", EXPECTED)
def test_a_layout_is_recognised_and_its_proposal_passes_check(tmp_path, layout):
    make, ids, channels, targets, anatomy = EXPECTED[layout]
    root = tmp_path / "data"
    root.mkdir()
    make(root)
    said: list[str] = []
    path = init(root, tmp_path / "mine", "", 501, find(root, None, {}, None), said.append)
    assert f"2 cases ({layout})" in "\n".join(said)
    config = load_config(path)
    assert config.run.results == tmp_path / "mine" / "results"  # nobody else's
    assert ("whose the cases are is not known" in path.read_text()) == (
        layout not in ("bids", "autopet")
    )
    assert f"backsplit weights get total{'_mr' * (layout == 'bids')}` and" in said[-1]
    assert config.dataset.channels == channels and config.targets == targets
    assert config.dataset.name == "data"
    report = check(path)
    assert [c.case.id for c in report.checked] == ids
    assert all(c.status == "ok" for c in report.checked), report.problems
    assert codes(report) == {"WEIGHTS_MISSING"}  # nothing is downloaded unasked
    assert report.project is not None and list(report.project.scheme.targets) == list(targets)
    if anatomy is not None:
        sources = report.project.scheme.sources
        assert sources["given"] == {anatomy: anatomy}
        assert anatomy in sources["organs"].values()  # and the segmenter's of the same name
    task = config.segmenters["organs"].task
    assert task == ("total_mr" if layout == "bids" else "total")
    if layout == "autopet":
        assert {c.case.columns["patient"] for c in report.checked} == {"PETCT_1"}
    if layout == "bids":
        assert "flair is not there for every case" in path.read_text() + "\n".join(said)
    asked = load_config(path).export.bids  # what came as BIDS goes out as BIDS
    assert (asked is not None) == (layout == "bids")
    assert asked is None or asked.suffix("t1w") == "T1w"


def test_any_other_layout_goes_by_patterns_and_values_are_read(tmp_path):
    root = tmp_path / "data"
    for case in ("p 1", "p2"):
        volume(root / case / "scan" / "ct.nii.gz")
    volume(root / "p2" / "gtv_final.nii.gz", 1, 4)
    images, lesion = {"ct": "{case}/scan/ct.nii.gz"}, "{case}/gtv_*.nii.gz"
    said: list[str] = []
    path = init(root, root, "Mine", 7, find(root, None, images, lesion), said.append)
    assert load_config(path).targets == {"lesion_1": (1,), "lesion_4": (4,)}
    table = (root / "cases.tsv").read_text().splitlines()
    assert table[1:] == ["p-1\tp 1/scan/ct.nii.gz\t", "p2\tp2/scan/ct.nii.gz\tp2/gtv_final.nii.gz"]
    assert any("1 of 2 cases have no lesion file" in line for line in said)
    first, second = check(path).checked  # what is not known is not taken for `none`
    assert first.status == "refused" and second.status == "ok"


def proposed(root: Path, images=(), lesion=None):
    """The configuration and the checked table that init makes of a folder."""
    path = init(root, root, "D", 1, find(root, None, dict(images), lesion), lambda _: None)
    return load_config(path), check(path)


def test_files_of_macos_are_no_cases(tmp_path):
    nnunet(tmp_path)
    for path in list(tmp_path.rglob("*.nii.gz")):
        (path.parent / f"._{path.name}").write_bytes(b"resource fork")
    assert [case.id for case in find(tmp_path, None, {}, None).cases] == EXPECTED["nnunet"][1]


def test_what_is_guessed_of_lesion_files_is_said(tmp_path):
    for number, values in enumerate([(1, 2), (1, 2, 3)]):
        volume(tmp_path / f"p{number}" / "ct.nii.gz")
        volume(tmp_path / f"p{number}" / "les.nii.gz", *values)
    images = {"CT": "{case}/ct.nii.gz"}
    said: list[str] = []
    into = tmp_path / "mine"
    found = find(tmp_path, None, images, "{case}/les.nii.gz")
    path = init(tmp_path, into, "M", 7, found, said.append)
    note = "values 1, 2, 3 stand in the first 2 lesion files; nothing says what they mean; if they"
    assert any(note in line for line in said) and note in path.read_text()
    config = load_config(path)
    assert config.segmenters["organs"].task == "total" and "fat" in config.structures  # CT is CT
    for number in (0, 1):
        (tmp_path / f"p{number}" / "les.nii.gz").write_bytes(b"no volume")
    path = init(tmp_path, tmp_path / "other", "M", 7, found, said.append)
    assert "no value could be read from the first 2 lesion files" in path.read_text()
    assert load_config(path).targets == {"lesion": (1,)}


def test_what_belongs_together_in_bids_is_not_guessed(tmp_path):
    bids(tmp_path)
    (tmp_path / "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz").unlink()
    for run in ("run-1", "run-2"):
        volume(tmp_path / f"sub-01/ses-1/anat/sub-01_ses-1_{run}_T1w.nii.gz")
    volume(tmp_path / "sub-02/ses-1/func/sub-02_ses-1_bold.nii.gz")
    found = find(tmp_path, None, {}, None)
    assert found.channels == ["t1w"]
    assert any("sub-01_ses-1 has 2 files for t1w" in note for note in found.notes)
    _, report = proposed(tmp_path)
    assert [c.status for c in report.checked] == ["refused", "ok"]


def test_two_channels_of_one_name_stay_two(tmp_path):
    nnunet(tmp_path)
    data = json.loads((tmp_path / "dataset.json").read_text())
    data["channel_names"] = {"0": "zscore", "1": "zscore"}
    (tmp_path / "dataset.json").write_text(json.dumps(data))
    config, report = proposed(tmp_path)
    assert config.dataset.channels == ("zscore_0", "zscore_1")
    images = report.checked[0].case.images
    assert [path.name for path in images.values()] == ["a_0000.nii.gz", "a_0001.nii.gz"]
    assert "tissue" not in config.segmenters  # no Hounsfield units


def test_labels_that_are_all_organs_become_targets_and_no_structures(tmp_path):
    msd(tmp_path)
    data = json.loads((tmp_path / "dataset.json").read_text())
    data["labels"] = {"0": "background", "1": "Spleen", "2": "kidney"}
    del data["modality"]
    (tmp_path / "dataset.json").write_text(json.dumps(data))
    config, report = proposed(tmp_path)
    assert list(config.targets) == ["Spleen", "kidney"]
    assert not {"spleen", "kidneys"} & set(config.structures) and "liver" in config.structures
    assert codes(report) == {"WEIGHTS_MISSING"}


def test_colliding_names_are_numbered(tmp_path):
    msd(tmp_path)
    data = json.loads((tmp_path / "dataset.json").read_text())
    data["labels"] = {"0": "background", "1": "肝", "2": "肿瘤", "3": "lesion", "4": "fat"}
    (tmp_path / "dataset.json").write_text(json.dumps(data))
    config, report = proposed(tmp_path)
    assert config.targets == {"lesion": (3,)}
    assert config.segmenters["given"].labels == {"label": 1, "label_2": 2, "fat": 4}
    assert config.structures["fat"] == ("given/fat",)
    assert codes(report) == {"WEIGHTS_MISSING"}


def test_a_side_from_files_does_not_count_for_the_segmenter(tmp_path):
    msd(tmp_path)
    data = json.loads((tmp_path / "dataset.json").read_text())
    data["labels"] = {"0": "background", "1": "kidney_right", "2": "lesion"}
    (tmp_path / "dataset.json").write_text(json.dumps(data))
    config, report = proposed(tmp_path)
    assert config.structures["kidney_right"] == ("given/kidney_right", "organs/kidney_right")
    assert config.structures["kidneys"] == ("organs/kidney_left",)
    cysts = {
        f"organs/kidney_cyst_{s}": n for s, n in (("right", "kidney_right"), ("left", "kidneys"))
    }
    assert config.compose.segmenter_lesions == cysts
    assert codes(report) == {"WEIGHTS_MISSING"}


@pytest.mark.parametrize(
    "wrong", [{"labels": ["a"]}, {"channel_names": {"CT": 0}}, {"training": [{}], "modality": {}}]
)
def test_a_description_of_another_shape_has_a_code(tmp_path, wrong):
    nnunet(tmp_path)
    data = json.loads((tmp_path / "dataset.json").read_text())
    if "training" in wrong:
        del data["channel_names"]
    (tmp_path / "dataset.json").write_text(json.dumps(data | wrong))
    with pytest.raises(BacksplitError) as caught:
        find(tmp_path, None, {}, None)
    assert caught.value.code is Code.LAYOUT_UNKNOWN


def test_kits21_and_the_folder_that_it_is_cloned_into(tmp_path):
    for case in ("case_00000", "case_00001"):
        volume(tmp_path / "dataset" / case / "imaging.nii.gz")
        volume(tmp_path / "dataset" / case / "aggregated_MAJ_seg.nii.gz", 1, 2)
    _, report = proposed(tmp_path)
    assert [c.status for c in report.checked] == ["ok", "ok"]


def test_a_patient_is_known_from_whichever_pattern_names_it(tmp_path):
    for patient, case in (("p1", "a"), ("p1", "b"), ("p2", "c")):
        volume(tmp_path / "images" / f"{case}.nii.gz")
        volume(tmp_path / patient / f"{case}_seg.nii.gz", 1)
    images = {"ct": "images/{case}.nii.gz"}
    _, report = proposed(tmp_path, images, "{patient}/{case}_seg.nii.gz")
    assert [c.case.columns["patient"] for c in report.checked] == ["p1", "p1", "p2"]
    with pytest.raises(BacksplitError) as caught:
        find(tmp_path, None, {"ct": "{patient}/{case}.nii.gz"}, "{patient}/{case}_seg.nii.gz")
    assert "patients images and p1" in str(caught.value)


def test_the_command_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    volume(tmp_path / "data" / "x" / "ct.nii.gz")
    volume(tmp_path / "data" / "x" / "gtv.nii.gz", 1)
    images, lesion = ["--image", "ct={case}/ct.nii.gz"], ["--lesion", "{case}/gtv.nii.gz"]

    def command(*arguments: str):
        return CliRunner().invoke(app, ["init", "data", *arguments])

    assert command(*images, *lesion, "--name", "Ours", "--id", "7").exit_code == 0
    config = load_config(Path("mine/config.yaml"))
    assert (config.dataset.name, config.dataset.id) == ("Ours", 7)
    assert check(Path("mine/config.yaml")).checked[0].status == "ok"
    for arguments in ([*images, *lesion], lesion, [*images, "--layout", "kits"], ["--image", "x"]):
        failed = command(*arguments)
        assert failed.exit_code == 1 and "(code " in failed.output


def test_nothing_is_overwritten_and_nothing_is_guessed(tmp_path):
    kits(tmp_path / "data")
    found = find(tmp_path / "data", "kits", {}, None)
    init(tmp_path / "data", tmp_path, "", 1, found, lambda _: None)
    before = (tmp_path / "config.yaml").read_bytes()
    with pytest.raises(BacksplitError) as caught:
        init(tmp_path / "data", tmp_path, "Other", 2, found, lambda _: None)
    assert caught.value.code is Code.WOULD_OVERWRITE
    assert (tmp_path / "config.yaml").read_bytes() == before
    volume(tmp_path / "data" / "case_00000" / "imaging2.nii.gz")
    for arguments in (
        (tmp_path / "data", "bids", {}, None),
        (tmp_path / "nowhere", None, {}, None),
        (tmp_path / "data", None, {"ct": "ct.nii.gz"}, None),
        (tmp_path / "data", None, {"ct": "{case}/imaging*.nii.gz"}, None),
    ):
        with pytest.raises(BacksplitError) as caught:
            find(*arguments)
        assert caught.value.code is Code.LAYOUT_UNKNOWN


def test_every_volume_that_can_be_read_is_found():
    names = ["a.nii.gz", "a.NII", "a.nrrd", "a.nhdr", "a.mha", "a.mhd"]
    assert {stem(name) for name in names} == {"a"}
    assert stem("a.nii.gz.txt") is None and stem("a.raw") is None


def test_a_case_that_lacks_a_file_stays_in_the_table(tmp_path):
    kits(tmp_path)
    (tmp_path / "case_00007" / "imaging.nii.gz").unlink()
    path = init(tmp_path, tmp_path, "K", 1, find(tmp_path, None, {}, None), lambda _: None)
    assert [c.status for c in check(path).checked] == ["ok", "refused"]


@pytest.mark.parametrize(
    ("names", "lesions"),
    [
        ("kidney tumor cyst", "tumor cyst"),
        ("liver cancer", "cancer"),
        ("GTVp lung", "GTVp"),
        ("left right", "left right"),
        ("brain_mets brain", "brain_mets"),
        ("meniscus metatarsal Lesion", "Lesion"),
        ("masseter mass adrenal_masses2", "mass adrenal_masses2"),
        ("lung pleural_effusion aneurysm", "pleural_effusion aneurysm"),
        ("brain edema enhancing_tumor TumorCore", "edema enhancing_tumor TumorCore"),
    ],
)
def test_lesions_are_told_from_anatomy_by_name(names, lesions):
    found, _ = lesions_and_anatomy({name: i + 1 for i, name in enumerate(names.split())})
    assert list(found) == lesions.split()


@examples()
@given(st.text(max_size=30), st.lists(st.text(max_size=12), min_size=1, max_size=4, unique=True))
def test_proposals_are_valid_yaml_for_any_names(name, labels):
    wanted = {name_of(label): i + 1 for i, label in enumerate(labels)}
    channels = list(dict.fromkeys(channel_of(label) for label in labels))
    found = Found("x", [], channels, wanted, [f"a note: {label}" for label in labels])
    text = config_text(found, name, 9, "mine/cases.tsv", "mine/results")
    data = yaml.safe_load(text)
    assert data["dataset"] == data["dataset"] | {"name": name, "channels": channels}
    given_ = data["segmenters"].get("given", {}).get("labels", {})
    assert data["targets"] | given_ == wanted
