"""The report: pictures as a radiologist expects them, a page that is safe and complete."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from backsplit.config import Config
from backsplit.report.colours import STRUCTURE_COUNT, TARGETS, label_colours, structure_colours
from backsplit.report.montage import draw_montage
from backsplit.report.page import write_report
from backsplit.report.panels import CT_WINDOW, LUNG_WINDOW, choose_window
from backsplit.report.planes import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    Focus,
    find_focus,
    oriented_box,
    oriented_slice,
    pixel_spacing,
)
from backsplit.scheme import Scheme
from backsplit.volume import Grid

NAMES = ["background", "tumor", "cyst", "kidney", "liver", "ignore"]
EVIL = '<img src="https://evil.example/x.png" onerror="alert(1)">'

# columns are the image's x, y, z axes in LPS
DIRECTIONS = {
    "LPS": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "RAS": (-1, 0, 0, 0, -1, 0, 0, 0, 1),
    "PSR": (0, 0, -1, 1, 0, 0, 0, 1, 0),
    "AIL": (0, 0, 1, -1, 0, 0, 0, -1, 0),
    "SLP": (0, 1, 0, 0, 0, 1, 1, 0, 0),
    "oblique": (0.966, -0.259, 0, 0.259, 0.966, 0, 0, 0, 1),
}


def grid_of(shape, direction="LPS", spacing=(1.0, 1.0, 1.0)) -> Grid:
    z, y, x = shape
    return Grid((x, y, z), spacing, (0.0, 0.0, 0.0), tuple(map(float, DIRECTIONS[direction])))


def blob_at(grid: Grid, side: tuple[int, int, int]) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Volume with one bright voxel on a side of the patient (LPS signs), found by position."""
    index = np.argwhere(np.ones(grid.shape, bool))
    axes = np.reshape(grid.direction, (3, 3)) * np.asarray(grid.spacing)
    position = index[:, ::-1] @ axes.T
    centred = position - (position.max(0) + position.min(0)) / 2
    best = index[np.argmax(centred @ np.asarray(side, float))]
    volume = np.zeros(grid.shape)
    volume[tuple(best)] = 1
    return volume, tuple(int(i) for i in best)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("left", [1, -1])
def test_patient_left_is_on_the_right_of_the_picture(direction, left):
    grid = grid_of((9, 11, 13), direction)
    for plane in (AXIAL, CORONAL):
        volume, index = blob_at(grid, (10 * left, 3, 3))
        row_column = np.argwhere(oriented_slice(volume, grid, plane, index))
        columns = oriented_slice(volume, grid, plane, index).shape[1]
        assert len(row_column) == 1
        assert (row_column[0][1] > columns / 2) == (left == 1)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_anterior_and_superior_are_on_top(direction):
    grid = grid_of((9, 11, 13), direction)
    volume, index = blob_at(grid, (1, -10, 3))
    axial = oriented_slice(volume, grid, AXIAL, index)
    assert np.argwhere(axial)[0][0] < axial.shape[0] / 2
    volume, index = blob_at(grid, (1, 3, 10))
    for plane in (CORONAL, SAGITTAL):
        cut = oriented_slice(volume, grid, plane, index)
        assert np.argwhere(cut)[0][0] < cut.shape[0] / 2
    volume, index = blob_at(grid, (1, -10, 3))
    sagittal = oriented_slice(volume, grid, SAGITTAL, index)
    assert np.argwhere(sagittal)[0][1] < sagittal.shape[1] / 2


def test_slices_keep_the_aspect_of_the_spacing():
    grid = grid_of((4, 5, 6), "PSR", spacing=(1.0, 2.0, 3.0))  # x to P, y to S, z to R
    cut = oriented_slice(np.zeros(grid.shape), grid, AXIAL, (0, 0, 0))
    assert cut.shape == (6, 4)
    assert pixel_spacing(grid, AXIAL) == (1.0, 3.0)
    assert pixel_spacing(grid, CORONAL) == (2.0, 3.0)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_box_of_the_lesion_lies_on_the_lesion(direction):
    grid = grid_of((9, 11, 13), direction)
    labels = np.zeros(grid.shape, np.uint8)
    labels[2:5, 1:4, 7:12] = 1
    focus = find_focus(labels, 1, None)
    rows, columns = oriented_box(grid, AXIAL, focus.low, focus.high)
    cut = oriented_slice(labels, grid, AXIAL, focus.index)
    assert cut[rows, columns].all()
    assert cut.sum() == cut[rows, columns].size


def test_focus_is_in_the_largest_lesion():
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[2:8, 2:8, 2:8] = 3  # a structure, larger than any lesion
    labels[1, 1, 1] = 1
    labels[12:15, 13:16, 14:17] = 2
    focus = find_focus(labels, 2, 5)
    assert labels[focus.index] == 2
    assert focus.lesions == 2
    assert (focus.low, focus.high) == ((12, 13, 14), (14, 15, 16))


def test_without_lesion_the_focus_is_where_most_structures_are():
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[2:16, 2, 2] = 3
    labels[9, 5, 6] = 4
    labels[15:] = 5  # ignore is no structure
    assert find_focus(labels, 2, 5).index[0] == 9
    assert find_focus(np.zeros((4, 4, 4), np.uint8), 2, 5) == Focus((2, 2, 2))


def test_window_is_chosen_by_the_data():
    ct = np.full((10, 10, 10), 40.0)
    ct[0] = -1000
    nodule = Focus((5, 5, 5), 1, (5, 5, 5), (5, 5, 5))
    assert choose_window(ct, Focus((0, 0, 0))) == CT_WINDOW
    assert choose_window(ct, nodule) == CT_WINDOW
    lung = np.full((10, 10, 10), -800.0)
    lung[5, 5, 5] = 30
    assert choose_window(lung, nodule) == LUNG_WINDOW
    mr = np.linspace(0, 1000, 1000).reshape(10, 10, 10)
    assert choose_window(mr, nodule) == pytest.approx((10, 990))
    assert choose_window(np.zeros((2, 2, 2)), nodule) == (0, 1)
    assert choose_window(np.full((2, 2, 2), np.nan), nodule) == (0, 1)


def test_colours_are_apart_and_stable():
    colours = structure_colours()
    assert len(set(colours)) == STRUCTURE_COUNT
    assert not set(colours) & set(TARGETS)
    few = label_colours(5, 2, has_ignore=True)
    many = label_colours(105, 2, has_ignore=True)
    assert few[:4] == many[:4]
    assert few[-1] == many[-1]
    assert len(label_colours(1000, 9, has_ignore=False)) == 1000


def volume_with_lesion(shape=(40, 50, 60)):
    generator = np.random.default_rng(0)
    image = generator.normal(40, 20, shape).astype(np.int16)
    image[:, :4] = -1000
    labels = np.zeros(shape, np.uint8)
    labels[5:30, 10:40, 10:30] = 4
    labels[12:18, 20:28, 12:20] = 1
    labels[18:20, 20:28, 12:20] = 2
    labels[35:] = 5
    return image, labels


def test_picture_is_the_same_each_time(tmp_path):
    image, labels = volume_with_lesion()
    grid = grid_of(image.shape, "RAS")
    for name in ("a.png", "b.png"):
        draw_montage(
            image, labels, grid, tmp_path / name, names=NAMES, target_count=2, title="pt_1"
        )
    data = (tmp_path / "a.png").read_bytes()
    assert data == (tmp_path / "b.png").read_bytes()
    assert b"matplotlib" not in data
    assert len(data) < 400_000
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width == 1200
        found = {colour for _, colour in picture.convert("RGB").getcolors(2**24)}
    colours = label_colours(len(NAMES), 2, has_ignore=True)
    assert {colours[1], colours[2], colours[4]} <= found
    assert colours[3] not in found  # the case has no kidney


@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 3, 2), (3, 200, 2), (60, 2, 2)])
@pytest.mark.parametrize("fill", [0, 1, 3, 5])
def test_small_and_odd_volumes_are_drawn(tmp_path, shape, fill):
    labels = np.zeros(shape, np.uint8)
    labels[0, 0, 0] = fill
    image = np.zeros(shape, np.float32)
    image[-1, -1, -1] = np.nan
    path = tmp_path / "a.png"
    title = "$a_{b" * 40
    draw_montage(
        image, labels, grid_of(shape, "PSR"), path, names=NAMES, target_count=2, title=title
    )
    with Image.open(path) as picture:
        assert picture.size[0] == 1200


def test_many_structures_and_no_ignore(tmp_path):
    labels = np.arange(8 * 8 * 8, dtype=np.uint16).reshape(8, 8, 8)
    names = ["background", *(f"a_structure_with_a_rather_long_name_{i}" for i in range(1, 512))]
    path = tmp_path / "a.png"
    draw_montage(labels, labels, grid_of(labels.shape), path, names=names, target_count=0)
    assert path.stat().st_size > 0


# ---------------------------------------------------------------- the page


class Page(HTMLParser):
    """Collects what a browser would fetch or run, and the text that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.text += " " if tag in {"td", "th", "br", "p", "dd"} else ""

    def handle_data(self, data):
        self.text += data

    def attributes(self, *names):
        return [value for _, attrs in self.tags for n, value in attrs.items() if n in names]


def make_config(tmp_path: Path) -> Config:
    return Config.model_validate(
        {
            "dataset": {"name": "Kidney", "id": 7, "cases": str(tmp_path / "cases.tsv")},
            "targets": {"tumor": 2, "cyst": 3},
            "segmenters": {
                "organs": {"kind": "totalsegmentator"},
                "given": {"kind": "files", "path": "{lesion}", "labels": {"kidney": 1}},
            },
            "structures": {"kidney": ["given/kidney"], "liver": "organs/liver"},
            "run": {"results": str(tmp_path / "results")},
        }
    )


def make_scheme() -> Scheme:
    return Scheme(
        {"tumor": 2, "cyst": 3},
        ("background", "tumor", "cyst", "kidney", "liver"),
        {"given": {"kidney": "kidney"}, "organs": {"liver": "liver"}},
    )


def write_table(path: Path, columns: list[str], rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=columns).to_csv(path, sep="\t", index=False)


def write_text(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), "utf-8")


FLAGS = ["case", "subject", "rule", "severity", "value", "expected", "message"]
MEASURES = ["case", "source", "structure", "voxels", "volume_ml", "mean", "sd"]


def make_results(results: Path) -> None:
    """Write a results folder: a small lesion, a large one, one that failed, three refused."""
    rows = [
        ["small", "ok", "", "", "a.nii.gz", "note"],
        ["large", "ok", "", "", "b.nii.gz", EVIL],
        ["broken", "ok", "", "", "c.nii.gz", ""],
        ["worry", "ok", "", "", "d.nii.gz", ""],
        ["</script><script>alert(2)</script>", "refused", "CASE_ID_INVALID", EVIL, EVIL, EVIL],
        ["../../secret", "refused", "CASE_ID_INVALID", "is no case id", "e.nii.gz", ""],
        ["small", "refused", "CASE_ID_DUPLICATE", "stands twice", "e.nii.gz", ""],
    ]
    columns = ["case", "status", "code", "message", "image_ct", "note"]
    write_table(results / "cases.tsv", columns, rows)
    flags = [
        ["broken", "compose", "GRID_MISMATCH", "reject", "failed", "done", f"wrong grid {EVIL}"],
        ["worry", "segment organs", "OUT_OF_MEMORY", "review", "failed", "done", "too large"],
        ["small", "kidney", "absent", "info", "0 voxels", "> 0 voxels", "kidney has no voxel"],
        ["", "liver", "absent", "review", "0 voxels", "> 0 voxels", "liver has no voxel in any"],
    ]
    write_table(results / "qc" / "flags.tsv", FLAGS, flags)
    verdicts = [
        ["small", "accept", ""],
        ["large", "accept", ""],
        ["broken", "reject", "GRID_MISMATCH"],
        ["worry", "review", "OUT_OF_MEMORY"],
    ]
    write_table(results / "qc" / "verdicts.tsv", ["case", "verdict", "rules"], verdicts)
    measures = [
        ["small", "labels", "tumor", 10, 1.5, 30.0, 5.0],
        ["small", "labels", "kidney", 0, 0.0, np.nan, np.nan],
        ["large", "labels", "tumor", 1000, 150.0, 40.0, 6.0],
        ["large", "labels", "kidney", 2000, 300.5, 35.0, 7.0],
        ["worry", "labels", "tumor", 0, 0.0, np.nan, np.nan],
        ["worry", "labels", "kidney", 1000, 100.5, 45.0, 9.0],
    ]
    pd.DataFrame(measures, columns=MEASURES).to_parquet(results / "qc" / "measures.parquet")
    for case, voxels in {"small": 7, "large": 70}.items():
        entry = {"loser": "liver", "loser_layer": "organs", "winner": "tumor"}
        entry |= {"winner_layer": "targets", "voxels": voxels}
        account = {"layer": "organs", "claimed": 100, "kept": 100 - voxels, "agreed": 0}
        write_text(
            results / "labels" / f"{case}.json",
            {
                "voxel_ml": 0.5,
                "overruled": [entry],
                "layers": [{**account, "overruled": voxels}],
                "ignored_voxels": 0,
                "classes_without_structure": {"organs": {"spleen": 12}},
                "failed_segmenters": {},
            },
        )
        made_from = {"versions": {"TotalSegmentator": "9.8.7"}, "weights": {"net.pth": "ab" * 32}}
        write_text(results / "segment" / "organs" / f"{case}.json", {"made_from": made_from})
        picture = results / "qc" / "cases" / f"{case}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20), (voxels, 0, 0)).save(picture)


@pytest.fixture
def page(tmp_path) -> str:
    config = make_config(tmp_path)
    make_results(config.run.results)
    output = tmp_path / "report" / "index.html"
    write_report(config, make_scheme(), output)
    return output.read_text("utf-8")


def test_each_case_of_the_table_appears(page):
    text = Page(page).text
    for case in ("small", "large", "broken", "worry", "../../secret", "<script>alert(2)</script>"):
        assert case in text
    assert len(re.findall(r"<article", page)) == 7
    order = re.findall(r'data-verdict="([a-z ]+)"', page)
    assert order == ["reject"] * 4 + ["review", "accept", "accept"]
    cases = re.findall(r'<article[^>]*data-case="([^"]*)"', page)
    assert cases[-2:] == ["large", "small"]  # by lesion volume


def test_html_of_the_table_does_no_harm(page):
    parsed = Page(page)
    assert EVIL in parsed.text  # it is shown as it stands, not run
    assert sum(tag == "script" for tag, _ in parsed.tags) == 1
    assert not [name for _, attrs in parsed.tags for name in attrs if name.startswith("on")]
    assert not parsed.attributes("style")  # the policy would not let them through


def test_nothing_is_fetched(page):
    parsed = Page(page)
    targets = [value or "" for value in parsed.attributes("src", "href", "action", "data")]
    assert targets
    assert all(value.startswith(("data:image/", "#")) for value in targets)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {t for t, _ in parsed.tags}
    assert "url(" not in page
    assert "@import" not in page
    policy = next(a["content"] for t, a in parsed.tags if t == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_policy_lets_our_own_style_and_script_through(page):
    import base64
    import hashlib

    policy = next(a["content"] for t, a in Page(page).tags if t == "meta" and "http-equiv" in a)
    for tag in ("style", "script"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL).group(1)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_numbers_come_from_the_results(page):
    text = re.sub(r"\s+", " ", Page(page).text)
    for words in (
        "7 cases in the table",
        "3 refused by check",
        "1 failed in a stage",
        "1 to review",
        "2 accepted",
        "not exported yet",
        "151.5 ml lesion volume in 2 of 3 measured cases",
        "77 voxels overruled",
        "organs / liver targets / tumor 77 38.5 2",
        "given/kidney 2 of 3 200.5 100.5 to 300.5",
        "Without a voxel: kidney.",
        "liver has no voxel in any",
        "organs/spleen (2)",
        "organs TotalSegmentator 9.8.7 2",
        "ab" * 32,
    ):
        assert words in text, words


def test_refused_rows_get_no_facts_of_another_case(page):
    refused = page[page.index("CASE_ID_DUPLICATE") :].split("</article>")[0]
    assert "Overruled" not in refused
    assert "<img" not in refused
    assert page.count("<img src") == 2


def test_page_is_the_same_each_time(tmp_path):
    config = make_config(tmp_path)
    make_results(config.run.results)
    for name in ("a.html", "b.html"):
        write_report(config, make_scheme(), tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_exported_cases_are_counted(tmp_path):
    config = make_config(tmp_path)
    make_results(config.run.results)
    folder = config.run.results / "datasets" / "nnunet" / "Dataset007_Kidney"
    write_text(folder / "dataset.json", {})
    (folder / "labelsTr").mkdir()
    (folder / "labelsTr" / "large.nii.gz").touch()
    write_report(config, make_scheme(), tmp_path / "a.html")
    text = re.sub(r"\s+", " ", Page((tmp_path / "a.html").read_text("utf-8")).text)
    assert "1 exported" in text


def test_nothing_done_yet_is_said_in_words(tmp_path):
    write_report(make_config(tmp_path), make_scheme(), tmp_path / "a.html")
    text = Page((tmp_path / "a.html").read_text("utf-8")).text
    assert "There is no case yet" in text
    assert "No case has been measured" in text


def test_all_refused_is_said_in_words(tmp_path):
    config = make_config(tmp_path)
    rows = [["x", "refused", "FILE_MISSING", "not there", "a.nii.gz"]]
    columns = ["case", "status", "code", "message", "image_ct"]
    write_table(config.run.results / "cases.tsv", columns, rows)
    write_report(config, make_scheme(), tmp_path / "a.html")
    text = Page((tmp_path / "a.html").read_text("utf-8")).text
    assert "every row of the table was refused" in text
    assert "FILE_MISSING" in text


def test_a_broken_picture_is_left_out(tmp_path):
    config = make_config(tmp_path)
    make_results(config.run.results)
    (config.run.results / "qc" / "cases" / "large.png").write_bytes(b"half a pic")
    write_report(config, make_scheme(), tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text("utf-8").count("<img src") == 1
