"""What a comparison writes: tables, figures, and a page that is safe and shows what it says."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from backsplit.config.slices import lesion_values
from backsplit.errors import CaseError, Code, RunError
from backsplit.flow.project import open_project
from backsplit.study.compare import Comparisons
from backsplit.study.figures import draw_differences
from backsplit.study.measures import LESION_CLASSES
from backsplit.study.page import write_comparison
from backsplit.study.pictures import GAP, SIDE, Artist, side_by_side
from backsplit.study.summary import sentence
from backsplit.volume import Grid
from support.project import Project, ct_like, load, save
from support.report import EVIL, Page
from support.study import curves, tables

ARMS = ["binary", "backsplit", "noisy"]
NOISE = pd.DataFrame(
    [
        ("noisy", f"c{i}", name, dice)
        for i in range(2)
        for name, dice in (("liver", 0.9), ("fat", 0.7))
    ],
    columns=["arm", "case", "structure", "dice"],
)
PAPER = pd.DataFrame(
    [("main", "binary", "dice", 0.18, 0.2), ("main", "backsplit", "dice", 0.46, 0.3)],
    columns=["what", "arm", "score", "paper", "yours"],
)


def write(folder: Path, out: str = "report", **options) -> tuple[Path, list[str]]:
    """Write tables of a study with a hostile target, and compare them."""
    scores, lesions = tables(
        ARMS, patients=12, free=3, gains={"backsplit": 0.2}, targets=[EVIL, "$\\frac{1}{0}$"]
    )
    made = {"scores": scores, "lesions": lesions, "noise": NOISE}
    made["curves"] = curves({"binary": 4, "backsplit": 40, "noisy": 4})
    for name, table in made.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)
    said: list[str] = []
    paths = [folder / f"{name}.parquet" for name in ("scores", "lesions", "curves", "noise")]
    write_comparison(*paths, "binary", folder / out, said.append, **options)
    return folder / out, said


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write(tmp_path_factory.mktemp("study"), name=EVIL, paper=PAPER)


def test_tables_hold_every_arm_and_the_same_numbers(written):
    out, said = written
    exact = pd.read_parquet(out / "arms.parquet")
    text = pd.read_csv(out / "arms.tsv", sep="\t")
    assert set(exact["arm"]) == {"backsplit", "noisy"} and len(text) == len(exact)
    assert text["difference"].to_numpy() == pytest.approx(exact["difference"].to_numpy(), abs=1e-6)
    people = pd.read_parquet(out / "patients.parquet")
    key = ["arm", "target", "decision", "cases", "score"]
    means = people.groupby(key)["difference"].mean()
    expected = exact.set_index(key)["difference"]
    pd.testing.assert_series_equal(means.sort_index(), expected.sort_index())
    seeds = pd.read_parquet(out / "seeds.parquet")
    assert (seeds.groupby(key).size() == 3).all()
    assert len(said) == 2 and any("backsplit against binary: better." in line for line in said)


def test_the_summary_says_what_the_table_says(written):
    out, _ = written
    text = (out / "summary.md").read_text("utf-8")
    for row in pd.read_parquet(out / "arms.parquet").to_dict("records"):
        if (row["cases"], row["score"]) == ("with the target", "dice"):
            assert sentence(row) in text
    assert "backsplit: too short: Dice still rises" in text and "binary: flat at its end" in text
    assert "noisy: 0.800." in text
    assert "called different in" in text


def test_the_page_is_safe_and_whole(written):
    out, _ = written
    html = (out / "index.html").read_text("utf-8")
    page = Page(html)
    assert EVIL in page.text
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert not page.attributes("style")
    sources = page.attributes("src", "href")
    assert sources and all(value.startswith(("data:image/", "#")) for value in sources)
    anchors = {value[1:] for value in sources if value.startswith("#")}
    assert anchors <= set(page.attributes("id"))
    for words in ("c000", "Both empty", "0.460", "too short", "Noise and controls"):
        assert words in page.text
    assert "built-in" not in page.text and "object at" not in page.text


def test_figures_are_drawn_with_names_as_they_are(written):
    out, _ = written
    for name in ("figure", "curves"):
        with Image.open(out / f"{name}.png") as picture:
            assert picture.width > 1000 and len(picture.getcolors(2**24)) > 20
        ElementTree.parse(out / f"{name}.svg")


def test_the_same_tables_give_the_same_bytes(written, tmp_path):
    out, _ = written
    again, _ = write(tmp_path, name=EVIL, paper=PAPER)
    files = sorted(path.name for path in out.iterdir())
    assert files == sorted(path.name for path in again.iterdir())
    for name in files:
        assert (out / name).read_bytes() == (again / name).read_bytes(), name


def test_each_decision_has_its_figure_and_its_cases(tmp_path):
    scores, lesions = tables(["a", "b"], patients=6, gains={"b": 0.1})
    halves = [pd.concat([t, t.assign(decision="0.5")]) for t in (scores, lesions)]
    thirds = [t[t["decision"] != "argmax"].assign(decision="0.3") for t in halves]
    paths = [tmp_path / f"{name}.parquet" for name in ("scores", "lesions", "curves")]
    for path, table in zip(paths, (*halves, curves({"a": 3, "b": 3})), strict=True):
        table.to_parquet(path, index=False)
    out = tmp_path / "out"
    out.mkdir()
    (out / "figure_0.7.png").touch()
    write_comparison(*paths, None, "a", out, lambda line: None)
    figures = {path.name for path in out.glob("figure*")}
    assert figures == {"figure.png", "figure.svg", "figure_0.5.png", "figure_0.5.svg"}
    page = Page((out / "index.html").read_text("utf-8"))
    assert len(page.attributes("src")) == 3
    for path, table in zip(paths[:2], thirds, strict=True):
        table.to_parquet(path, index=False)
    write_comparison(*paths, None, "a", out, lambda line: None)
    assert {path.name for path in out.glob("figure*")} == {"figure.png", "figure.svg"}
    assert "tumor, argmax" in page.text and "tumor, 0.5" in page.text


def test_missing_tables_are_named(tmp_path):
    with pytest.raises(RunError) as caught:
        write_comparison(*[tmp_path / "x.parquet"] * 3, None, "binary", tmp_path, print)
    assert caught.value.code is Code.FILE_MISSING and "x.parquet" in caught.value.what


def test_one_seed_without_noise_or_a_whole_training_is_a_page_too(tmp_path):
    scores, lesions = tables(["a", "b"], patients=3, seeds=1)
    paths = [tmp_path / f"{name}.parquet" for name in ("scores", "lesions", "curves")]
    for path, table in zip(
        paths, (scores, lesions, curves({"a": 3, "b": 3}, epochs=2)), strict=True
    ):
        table.to_parquet(path, index=False)
    write_comparison(*paths, None, "a", tmp_path / "out", lambda line: None)
    text = (tmp_path / "out" / "summary.md").read_text("utf-8")
    assert "however large" in text and "cannot be simulated" in text
    assert "by sign flips, for these networks" in text
    assert (tmp_path / "out" / "index.html").exists()


def grid(shape, spacing=(1.0, 1.0, 3.0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1)):
    z, y, x = shape
    return Grid((x, y, z), spacing, (0.0, 0.0, 0.0), tuple(map(float, direction)))


def panels(shown) -> list[np.ndarray]:
    _, _, data = shown.address.partition("base64,")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)
    assert pixels.shape == (SIDE, 4 * SIDE + 3 * GAP, 3)
    return [pixels[:, k * (SIDE + GAP) : k * (SIDE + GAP) + SIDE] for k in range(4)]


def yellow(panel: np.ndarray) -> np.ndarray:
    """Pixels of the first target's outline: the rest of the picture is grey."""
    return (panel[..., 0] + panel[..., 1]) / 2 - panel[..., 2] > 50


def outlined(panel: np.ndarray) -> int:
    return int(yellow(panel).sum())


def test_pictures_show_the_slice_in_which_arms_differ():
    shape = (20, 80, 90)
    drawn = np.zeros(shape, np.uint8)
    drawn[4:7, 30:40, 30:40] = 1
    second = drawn.copy()
    second[15, 50:62, 60:70] = 1
    image = np.full(shape, 40, np.int16)
    shown = side_by_side(image, [drawn, drawn, second], grid(shape), 1)
    counts = [outlined(panel) for panel in panels(shown)]
    assert shown.slice_number == 16
    assert counts[:3] == [0, 0, 0] and counts[3] > 50
    both = side_by_side(image, [drawn, drawn, drawn], grid(shape), 1)
    counts = [outlined(panel) for panel in panels(both)]
    assert both.slice_number in (5, 6, 7) and counts[0] == 0 and min(counts[1:]) > 50
    empty = np.zeros(shape, np.uint8)
    assert side_by_side(image, [empty] * 3, grid(shape), 1).slice_number == 11


def test_pictures_are_turned_for_a_radiologist():
    """The patient's right is on the left, whatever way the file has its axes."""
    shape = (9, 100, 100)
    image = np.full(shape, 40, np.int16)
    empty = np.zeros(shape, np.uint8)
    right = empty.copy()
    right[4, 45:55, 35:45] = 1
    wide = right.copy()
    wide[4, 45:55, 60:61] = 1  # what is shown reaches to the left of the patient
    plain = side_by_side(image, [empty, empty, wide], grid(shape), 1)
    turned = side_by_side(
        image[:, :, ::-1],
        [m[:, :, ::-1] for m in (empty, empty, wide)],
        grid(shape, direction=(-1, 0, 0, 0, 1, 0, 0, 0, 1)),
        1,
    )
    for shown in (plain, turned):
        columns = yellow(panels(shown)[3])
        halves = columns[:, : SIDE // 2].sum(), columns[:, SIDE // 2 :].sum()
        assert halves[0] > halves[1]


@pytest.fixture
def studied(project: Project, tmp_path, monkeypatch):
    """Cases of a table, with predictions of two arms for all but the last."""
    for case in ("c000", "c001", "c002"):
        project.add(
            case, image=ct_like(shape=(12, 40, 44)), lesion=np.zeros((12, 40, 44), np.uint8)
        )
    for row in project.rows:
        lesion = load(project.folder / row["lesion"])
        lesion[5:8, 10:18, 12:20] = 1
        save(project.folder / row["lesion"], lesion)
    monkeypatch.chdir(project.folder)
    path = project.write()
    opened = open_project(path)
    for arm, width in (("a", 3), ("b", 7)):
        for case in ("c000", "c001"):
            made = np.zeros((12, 40, 44), np.uint8)
            made[5:8, 10:18, 12 : 12 + width] = 1
            made[2, 2, 2] = 9  # anatomy
            target = tmp_path / "predicted" / arm / "fold_0_seed_0" / "argmax" / f"{case}.nii.gz"
            save(target, made)
    cases = {case.id: case for case in opened.table.with_ids(["c000", "c001", "c002"])}
    return Artist(cases, lesion_values(opened.config), tmp_path / "predicted")


def test_cases_are_drawn_from_their_files(studied):
    paths = [studied.prediction(arm, 0, 0, "argmax", "c000") for arm in "ab"]
    shown = studied.draw("c000", *paths)
    counts = [outlined(panel) for panel in panels(shown)]
    assert shown.slice_number in (6, 7, 8)
    assert counts[0] == 0 and counts[2] < counts[3] <= counts[1] * 1.1
    with pytest.raises(CaseError):
        studied.draw("c002", *[studied.prediction(arm, 0, 0, "argmax", "c002") for arm in "ab"])


def test_a_case_without_a_picture_says_why(studied, tmp_path):
    scores, lesions = tables(["a", "b"], patients=3, seeds=2, gains={"b": 0.2})
    paths = [tmp_path / f"{name}.parquet" for name in ("scores", "lesions", "curves")]
    for path, table in zip(paths, (scores, lesions, curves({"a": 3, "b": 3})), strict=True):
        table.to_parquet(path, index=False)
    said: list[str] = []
    write_comparison(*paths, None, "a", tmp_path / "out", said.append, artist=studied)
    page = Page((tmp_path / "out" / "index.html").read_text("utf-8"))
    pictures = [s for s in page.attributes("src") if not s.startswith("data:image/svg")]
    assert len(pictures) == 2 and "No picture" in page.text
    assert any("c002 has no picture" in line for line in said)
    swatches = [attrs["class"] for tag, attrs in page.tags if "swatch" in str(attrs.get("class"))]
    assert swatches == ["swatch target c1", "swatch target c2"] and "cyst" in page.text
    assert math.isfinite(float(pd.read_parquet(tmp_path / "out" / "arms.parquet")["difference"][0]))


def test_a_size_that_no_lesion_has_gets_no_axes(written):
    out, _ = written
    arms, patients, seeds = (
        pd.read_parquet(out / f"{name}.parquet") for name in ("arms", "patients", "seeds")
    )
    empty = (arms["target"] == EVIL) & arms["cases"].isin(LESION_CLASSES)
    arms.loc[empty, "patients"] = 0
    found = Comparisons(arms, patients, seeds, left_out=arms.iloc[:0])
    figure = draw_differences(found, arms["decision"].iloc[0])
    titles = [axis.get_title(loc="left") for axis in figure.axes if not axis.axison]
    assert set(titles) == {f"{cases}\nnone" for cases in arms.loc[empty, "cases"]}
