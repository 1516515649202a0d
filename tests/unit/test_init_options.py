"""`backsplit init` for real life: own models, own anatomy, new cases, paths that stay short."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backsplit.cli import app
from backsplit.config.file import load_config
from support.start import model, nnunet_folder, volume

IMAGES = ["--image", "ct={case}/ct.nii.gz", "--lesion", "{case}/gtv.nii.gz"]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for case in ("x", "y"):
        add(case)
    return tmp_path


def add(case: str) -> None:
    volume(Path("data") / case / "ct.nii.gz")
    volume(Path("data") / case / "gtv.nii.gz", 1)
    volume(Path("data") / case / "organs.nii.gz", 4, 7)


def init(*arguments: str, ok: bool = True) -> str:
    done = CliRunner().invoke(app, ["init", *arguments])
    assert (done.exit_code == 0) is ok, done.output
    return done.output


def rows() -> list[dict[str, str]]:
    with Path("mine/cases.tsv").open() as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def test_paths_are_as_short_as_the_folder_was_given(folder):
    init("data", *IMAGES)
    assert [row["image_ct"] for row in rows()] == ["../data/x/ct.nii.gz", "../data/y/ct.nii.gz"]
    init(str(folder / "data"), *IMAGES, "--into", "other")
    whole = str(folder / "data" / "x" / "ct.nii.gz")
    assert whole in Path("other/cases.tsv").read_text()


def test_a_model_of_ones_own_takes_the_place_of_totalsegmentator(folder):
    own = model(
        Path("models/Dataset901_HN/T__P__3d_fullres"),
        {"background": 0, "cord": 1, "larynx": 2, "tumor": 3, "odd name": 4},
    )
    said = init("data", *IMAGES, "--segmenter", "net=models/Dataset901_HN")
    config = load_config(Path("mine/config.yaml"))
    assert list(config.segmenters) == ["net", "tissue"]
    assert config.segmenters["net"].model == own and config.segmenters["net"].folds == (0, 1)
    assert [n for n in config.structures if n != "fat"] == ["cord", "larynx"]
    assert config.compose.segmenter_lesions == {"net/tumor": "ignore"}
    assert "net labels lesions itself (tumor)" in said and "odd name" in said
    assert "`backsplit weights accept net -c mine/config.yaml`" in said


@pytest.mark.parametrize(
    ("given", "said"),
    [("data", "holds no trained model"), ("models", "holds 2 models"), ("bare", "has no fold_*")],
)
def test_a_folder_that_is_no_one_model_is_refused(folder, given, said):
    for name in ("a", "b"):
        model(Path("models") / name, {"cord": 1})
    model(Path("bare"), {"cord": 1}, folds=())
    told = init("data", *IMAGES, "--segmenter", f"net={given}", ok=False)
    assert said in told and "(code MODEL_INVALID)" in told and not Path("mine").exists()


def test_anatomy_may_be_called_organs_and_goes_with_any_layout(folder):
    init(
        "data",
        *IMAGES,
        "--labels",
        "organs={case}/organs.nii.gz",
        "--label",
        "cord=4",
        "--label",
        "larynx=7",
    )
    config = load_config(Path("mine/config.yaml"))
    assert config.segmenters["organs"].labels == {"cord": 4, "larynx": 7}
    assert config.structures["cord"].of == ("organs/cord",)
    others = [name for name in config.segmenters if name not in ("organs", "tissue")]
    assert [config.segmenters[name].kind for name in others] == ["totalsegmentator"]

    nnunet_folder(Path("raw"))
    volume(Path("raw/organs/c_1.nii.gz"), 4)
    args = ["raw", "--labels", "oars=organs/{case}.nii.gz", "--label", "cord=4", "--into", "b"]
    init(*args)
    table = Path("b/cases.tsv").read_text()
    assert "../raw/organs/c_1.nii.gz" in table
    assert load_config(Path("b/config.yaml")).structures["cord"].of == ("oars/cord",)
    assert "matches no file of any case" in init(
        "raw", "--labels", "oars={case}/o.nii.gz", "--into", "c", ok=False
    )


def test_new_cases_get_rows_and_nothing_else_changes(folder):
    init("data", *IMAGES)
    table = Path("mine/cases.tsv")
    edited = table.read_text().replace("case\t", "case\tsite\t", 1).replace("x\t", "x\tA\t", 1)
    edited = edited.replace("y\t..", "renamed\tB\t..", 1)
    table.write_text(edited)
    config = Path("mine/config.yaml").read_text()
    add("z")
    # the command stands in the configuration, so that nobody has to remember it
    line = next(line for line in config.splitlines() if "backsplit init" in line)
    words = shlex.split(line.lstrip("# "))[2:]
    assert "1 new case" in init(*words, "--update")
    assert table.read_text().startswith(edited)
    assert rows()[2] == {
        "case": "z",
        "site": "",
        "image_ct": "../data/z/ct.nii.gz",
        "lesion": "../data/z/gtv.nii.gz",
    }
    assert Path("mine/config.yaml").read_text() == config
    assert "0 new cases" in init(*words, "--update") and len(rows()) == 3
