"""`backsplit init` as a person calls it: what it writes, what it says, what it refuses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backsplit.cli import app
from backsplit.config.file import load_config
from backsplit.errors import BacksplitError, Code
from backsplit.flow.check import check
from support import downloads, nbia
from support.start import V2, by_patterns, found_in, nnunet_folder, section, started, volume


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for case in ("x", "y"):
        volume(tmp_path / "data" / case / "ct.nii.gz")
        volume(tmp_path / "data" / case / "gtv.nii.gz", 1)
    return tmp_path


IMAGES, LESION = ["--image", "ct={case}/ct.nii.gz"], ["--lesion", "{case}/gtv.nii.gz"]


def command(*arguments: str):
    return CliRunner().invoke(app, ["init", "data", *arguments])


def test_the_command_runs(folder):
    done = command(*IMAGES, *LESION, "--name", "Ours", "--id", "7", "--patient", "^.")
    assert done.exit_code == 0, done.output
    config = load_config(Path("mine/config.yaml"))
    assert (config.dataset.name, config.dataset.id) == ("Ours", 7)
    assert config.run.results == Path("mine/results")  # nobody else's
    report = check(Path("mine/config.yaml"))
    assert [c.status for c in report.checked] == ["ok", "ok"]
    assert [c.case.columns["patient"] for c in report.checked] == ["x", "y"]


def test_it_ends_with_what_was_found_left_out_and_has_to_be_decided(folder):
    lines = command(*IMAGES, *LESION).output.splitlines()
    heads = [line.removeprefix("[backsplit] init: ") for line in lines if not line.startswith(
        "[backsplit] init:   - ")]  # fmt: skip
    assert heads[0].startswith("2 cases (patterns) in mine")
    assert heads[1:4] == ["found:", "left out:", "to decide:"]
    assert heads[4].startswith("next: read mine/config.yaml, then `backsplit weights get total`")
    notes = Path("mine/README.md").read_text()
    order = [notes.index(f"## {heading}") for heading in ("Found", "Left out", "To decide")]
    assert order == sorted(order)
    config = Path("mine/config.yaml").read_text()
    for line in section(lines, "to decide"):
        assert line in notes and line in config


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (LESION, "needs --image"),
        (["--label", "liver=1"], "needs --image"),
        ([*IMAGES, "--layout", "kits"], "cannot be combined"),
        (["--preset", "kits23", "--layout", "kits"], "cannot be combined"),
        (["--image", "x"], "is not NAME=PATTERN"),
        (["--image", "a b={case}.nii.gz"], "is not NAME=PATTERN"),
        ([*IMAGES, *IMAGES], "names ct twice"),
        ([*IMAGES, *LESION, *LESION], "2 times without a target"),
        ([*IMAGES, *LESION, "--label", "liver=one"], "is not a whole number"),
        (
            ["--preset", "kits23", "--labels", "organs={case}/o.nii.gz"],
            "cannot be combined with --preset",
        ),
        ([*IMAGES, "--labels", "a={case}/ct.nii.gz", "--segmenter", "a=x"], "both name a"),
        (["--layout", "kits"], "no case was found"),
    ],
)
def test_what_does_not_go_together_is_refused(folder, arguments, said):
    done = command(*arguments)
    assert done.exit_code == 1 and said in done.output and "(code LAYOUT_UNKNOWN)" in done.output
    assert not Path("mine").exists()


def test_a_preset_of_another_data_set_is_refused(folder):
    nnunet_folder(folder / "data")
    done = command("--preset", "kits23")
    assert (
        done.exit_code == 1 and "is not a KiTS23 folder: it was recognised as nnunet" in done.output
    )


def test_cases_of_other_names_than_the_presets_are_asked_about(folder):
    nbia.nsclc(folder / "tcia")
    (patient,) = (folder / "tcia").glob("*/*/LUNG1-002")
    patient.rename(patient.with_name("R01-002"))
    table = next((folder / "tcia").glob("*/metadata.csv"))
    table.write_text(table.read_text().replace("LUNG1-002", "R01-002"))
    done = CliRunner().invoke(app, ["init", "tcia", "--preset", "nsclc"])
    assert done.exit_code == 0, done.output
    first = section(done.output.splitlines(), "to decide")[0]
    assert first.startswith("names unlike those of NSCLC_Radiomics in 1 case (R01-002)")


def test_a_preset_says_what_was_found_and_takes_a_name(folder):
    downloads.kits23(folder / "kits")
    done = CliRunner().invoke(app, ["init", "kits", "--preset", "kits23", "--id", "77"])
    assert done.exit_code == 0, done.output
    config = load_config(Path("mine/config.yaml"))
    assert (config.dataset.name, config.dataset.id) == ("KiTS23", 77)
    assert "instances" in Path("mine/config.yaml").read_text()
    assert config.compose.hosts == {"tumor": ("kidney",), "cyst": ("kidney",)}


def test_nothing_is_overwritten(tmp_path):
    root = nnunet_folder(tmp_path / "data")
    (tmp_path / "README.md").write_text("mine")
    started(root, tmp_path)
    before = (tmp_path / "config.yaml").read_bytes()
    with pytest.raises(BacksplitError) as caught:
        started(root, tmp_path)
    assert caught.value.code is Code.WOULD_OVERWRITE
    assert (tmp_path / "config.yaml").read_bytes() == before
    assert (tmp_path / "README.md").read_text() == "mine"  # the configuration says the same
    command = caught.value.remedy.split("`")[1]  # it starts over, when pasted
    subprocess.run(command, shell=True, check=True)
    started(root, tmp_path)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(BacksplitError) as caught:
        found_in(tmp_path / "nowhere")
    assert caught.value.code is Code.LAYOUT_UNKNOWN


def test_paths_of_the_table_start_at_the_table_where_they_can(tmp_path):
    root = nnunet_folder(tmp_path, description=V2)
    started(root, root)
    assert "\timagesTr/c_1_0000.nii.gz\t" in (root / "cases.tsv").read_text()
    started(root, root / "mine")
    assert f"\t{root}/imagesTr/c_1_0000.nii.gz\t" in (root / "mine" / "cases.tsv").read_text()


def test_cases_of_unknown_patients_are_asked_about(tmp_path):
    _, _, said = started(nnunet_folder(tmp_path))
    assert any("which patient each case belongs to" in line for line in section(said, "to decide"))


def test_values_that_cannot_be_read_are_a_guess_that_is_said(tmp_path):
    volume(tmp_path / "a" / "ct.nii.gz")
    (tmp_path / "a" / "les.nii.gz").write_bytes(b"no volume")
    config, _, said = by_patterns(tmp_path, {"CT": "{case}/ct.nii.gz"}, "{case}/les.nii.gz")
    assert config.targets == {"lesion": (1,)}
    assert any("no value could be read from the first 1" in x for x in section(said, "to decide"))
