"""The viewer on a case's page in a real browser, held against the files that it shows."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from PIL import Image
from playwright.sync_api import Page, expect

from support.browsing import FLAGGED, accessible, eventually, fits

pytestmark = pytest.mark.browser

PLANES = ("axial", "coronal", "sagittal")


def canvas(page: Page, plane: str):
    return page.locator(f"[data-plane={plane}] canvas")


def pixels(page: Page, plane: str) -> np.ndarray:
    """What a pane shows, RGB."""
    settle(page)
    shot = canvas(page, plane).screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)


def settle(page: Page) -> None:
    """Wait until everything is drawn."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def numbers(page: Page) -> list[int]:
    """Slice numbers that the panes say."""
    settle(page)
    return [int(page.inner_text(f"[data-plane={p}] output").split("/")[0]) for p in PLANES]


def coloured(shown: np.ndarray, colour: str) -> np.ndarray:
    """Places (n, 2) of pixels of a colour."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.argwhere(np.abs(shown - wanted).max(axis=2) < 12)


def test_the_patient_s_sides_are_where_the_letters_say(case_page, demo):
    """The liver lies where its position in the file says, painted without the image under it."""
    labels = sitk.ReadImage(str(demo / "results" / "labels" / f"{FLAGGED}.nii.gz"))
    ids = json.loads((demo / "results" / "labels" / "labels.json").read_text())
    liver = ids["liver"]
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(labels)
    centre = labels.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in labels.GetSize()])
    right, front, _ = np.array(shape.GetCentroid(liver)) - centre
    assert right < -20  # to the patient's right: LPS
    case_page.locator(".legend button", has_text="liver").click()
    case_page.locator("#opacity").fill("100")
    colour = case_page.evaluate("view.layers[0].values.find(([, name]) => name === 'liver')[2]")
    for plane, across in (("axial", right), ("coronal", right), ("sagittal", front)):
        shown = pixels(case_page, plane)
        middle = coloured(shown, colour).mean(axis=0) - np.array(shown.shape[:2]) / 2
        assert len(coloured(shown, colour)) > 500
        if abs(across) > 15:
            assert np.sign(middle[1]) == np.sign(across)
    assert case_page.inner_text("[data-plane=axial] .left") == "R"
    assert case_page.inner_text("[data-plane=coronal] .top") == "S"
    assert case_page.inner_text("[data-plane=sagittal] .left") == "A"


def test_the_voxels_are_those_of_the_files(case_page, demo):
    for number, path in enumerate(("labels", "segment/organs", "segment/tissue")):
        image = sitk.ReadImage(str(demo / "results" / path / f"{FLAGGED}.nii.gz"))
        found = case_page.evaluate(
            f"""() => {{
              const counts = {{}};
              const voxels = view.layers[{number}].voxels;
              for (const value of voxels) counts[value] = (counts[value] ?? 0) + 1;
              return counts;
            }}"""
        )
        counted = np.unique(sitk.GetArrayViewFromImage(image), return_counts=True)
        expected = {str(v): int(n) for v, n in zip(*counted, strict=True) if v}
        assert {v: n for v, n in found.items() if v != "0"} == expected
    # soft tissue is shown within what lossy compression and 256 levels take
    ct = sitk.ReadImage(str(demo / "demo" / FLAGGED / "ct.nii.gz"))
    liver = case_page.evaluate(
        """() => {
          let [sum, count] = [0, 0];
          const liver = view.layers[0].values.find(([, name]) => name === "liver")[0];
          view.layers[0].voxels.forEach((value, i) => {
            if (value === liver) { sum += intensity(image[i]); count += 1; }
          });
          return sum / count;
        }"""
    )
    labels = sitk.ReadImage(str(demo / "results" / "labels" / f"{FLAGGED}.nii.gz"))
    ids = json.loads((demo / "results" / "labels" / "labels.json").read_text())
    mask = sitk.GetArrayViewFromImage(labels) == ids["liver"]
    assert abs(liver - sitk.GetArrayViewFromImage(ct)[mask].mean()) < 5


def test_wheel_keys_and_drag_move_through_the_planes(case_page):
    def moved_to(holds):
        return eventually(lambda: numbers(case_page), holds)

    start = numbers(case_page)
    before = pixels(case_page, "axial")
    canvas(case_page, "axial").hover()
    case_page.mouse.wheel(0, 100)
    moved_to(lambda now: now[0] != start[0] and now[1:] == start[1:])
    assert (pixels(case_page, "axial") != before).any()
    case_page.mouse.wheel(0, -100)
    moved_to(lambda now: now == start)
    case_page.keyboard.press("ArrowRight")
    moved_to(lambda now: abs(now[0] - start[0]) == 1 and now[1:] == start[1:])
    case_page.keyboard.press("ArrowLeft")
    moved_to(lambda now: now == start)
    box = canvas(case_page, "axial").bounding_box()
    case_page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.4 * box["height"])
    case_page.mouse.down()
    case_page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.6 * box["height"])
    case_page.mouse.up()
    moved_to(lambda now: now[0] == start[0] and now[1] != start[1] and now[2] != start[2])
    assert fits(case_page)


def test_the_label_under_the_cursor_is_named(case_page):
    under = case_page.locator("#under")
    case_page.locator(".legend button", has_text="liver").click()
    for said in ("label map: liver", "organs: liver", "HU"):
        expect(under).to_contain_text(said)
    canvas(case_page, "axial").hover(position={"x": 2, "y": 2})
    expect(under).to_contain_text("label map: –")


def test_layers_opacity_outlines_window_and_zoom_change_what_is_seen(case_page):
    seen = [pixels(case_page, "coronal")]

    def changed() -> None:
        seen.append(
            eventually(lambda: pixels(case_page, "coronal"), lambda now: (now != seen[-1]).any())
        )

    case_page.locator("#layer").select_option("organs")
    changed()
    case_page.locator("#layer").select_option("none")
    changed()
    case_page.locator("#window").select_option(index=2)
    changed()
    case_page.keyboard.press("1")
    changed()
    expect(case_page.locator("#layer")).to_have_value("0")
    case_page.locator("#opacity").fill("80")
    changed()
    case_page.locator("#outlines").check()
    changed()
    case_page.locator("#outlines").uncheck()
    changed()
    case_page.locator("[data-zoom='1.4']").click()
    changed()
    bar = case_page.evaluate(
        "PLANES.map((plane) => transform(plane).step[1] / view.mm[plane.columns])"
    )
    assert max(bar) - min(bar) < 1e-9  # one scale in all planes
    case_page.locator("[data-zoom='0']").click()
    case_page.wait_for_function("zoom === 1")


def test_the_panes_have_the_aspect_of_the_patient(case_page):
    sizes = case_page.evaluate("PLANES.map((p) => [size_mm[p.rows], size_mm[p.columns]])")
    for plane, (down, across) in zip(PLANES, sizes, strict=True):
        box = canvas(case_page, plane).bounding_box()
        assert box["height"] / box["width"] == pytest.approx(down / across, rel=0.02)


def test_findings_are_jumped_to(case_page, demo):
    lesions = pd.read_parquet(demo / "results" / "qc" / "lesions.parquet")
    names = case_page.locator(".findings b").all_text_contents()
    mine = lesions[lesions["case"] == FLAGGED]
    assert len(names) == len(mine) + 1 and names[-1] == "spleen"  # the flagged structure
    under = case_page.locator("#under")
    expect(under).to_contain_text("label map: spleen")  # where the page begins
    case_page.locator(".legend button", has_text="liver").click()
    expect(under).to_contain_text("label map: liver")
    case_page.keyboard.press("j")
    first = mine["target"].iloc[0] if len(mine) else "spleen"
    expect(under).to_contain_text(f"label map: {first}")


def test_each_lesion_is_found(demo, browser):
    lesions = pd.read_parquet(demo / "results" / "qc" / "lesions.parquet")
    case = lesions["case"].value_counts().index[0]
    page = browser.new_page()
    page.goto((demo / "results" / "report" / "cases" / f"{case}.html").as_uri())
    page.locator("#panes[data-ready]").wait_for()
    for row in lesions[lesions["case"] == case].to_dict("records"):
        page.locator(f"[data-lesion='{row['instance']}']").click()
        expect(page.locator("#under")).to_contain_text(f"label map: {row['target']}")
        assert page.evaluate("view.lesions")[str(row["instance"])]


def test_cases_follow_each_other_by_key(case_page):
    case_page.keyboard.press("n")
    case_page.wait_for_url("**/phantom_06.html")
    case_page.locator("#panes[data-ready]").wait_for()
    case_page.keyboard.press("p")
    case_page.wait_for_url(f"**/{FLAGGED}.html")


def test_keys_give_verdicts_but_not_in_the_note(case_page):
    chosen = case_page.locator(".decide [aria-pressed=true]")
    for key, verdict in (("a", "accept"), ("r", "review"), ("x", "reject")):
        case_page.keyboard.press(key)
        expect(chosen).to_have_text(verdict)
    case_page.keyboard.down("a")
    case_page.keyboard.down("a")  # as a keyboard repeats it
    case_page.keyboard.up("a")
    expect(chosen).to_have_text("accept")
    case_page.locator(".decide input").focus()
    case_page.keyboard.type("x")
    expect(case_page.locator(".decide input")).to_have_value("x")
    expect(chosen).to_have_text("accept")


def test_a_redraw_does_not_stall(case_page):
    times = case_page.evaluate(
        """() => [...Array(20)].map(() => {
          const start = performance.now();
          for (const plane of PLANES) draw(plane);
          return performance.now() - start;
        })"""
    )
    assert np.median(times) < 200  # 10 ms on a machine that does nothing else


def test_nothing_is_wrong_with_its_accessibility(case_page):
    assert accessible(case_page) == []
