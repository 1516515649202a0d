"""The demo's report in a real browser, opened from the disk: `make test-browser`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """What `make demo` does, in a folder of its own."""
    folder = tmp_path_factory.mktemp("demo")
    shutil.copytree(ROOT / "config", folder / "config")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in (
        ["backsplit", "demo", "make", "demo"],
        ["snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "2"],
    ):
        environment = {**os.environ, "PATH": path}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(params=[1400, 800])
def page(demo, request):
    """The report, watched: every message of the console and every request is kept."""
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": request.param, "height": 900})
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: complaints.extend(_outside(asked.url)))
        page.goto((demo / "results" / "report" / "index.html").as_uri())
        yield page
        shots = os.environ.get("BACKSPLIT_SCREENSHOTS")
        if shots:
            page.screenshot(path=f"{shots}/report_{request.param}.png", full_page=True)
        browser.close()
        assert complaints == []


def _outside(url: str) -> list[str]:
    """The address of a request that goes anywhere but to the page itself."""
    return [] if url.startswith(("file:", "data:", "blob:")) else [url]


def _shown(page: Page) -> list[str]:
    return [
        case.get_attribute("data-case") or "" for case in page.locator(".case").all()
        if case.is_visible()
    ]  # fmt: skip


def test_cases_are_found_and_pictures_enlarged(page):
    assert len(_shown(page)) == 6
    page.fill("#find", "phantom_04")
    assert _shown(page) == ["phantom_04"] and page.inner_text("#found") == "1 of 6 cases"
    page.fill("#find", "")
    page.select_option("#verdict", "accept")
    assert len(_shown(page)) == 6
    page.locator("button.zoom").first.click()
    first = page.inner_text("dialog strong")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("dialog strong") != first
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    width = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert width <= 0  # nothing runs over the edge


def test_lesions_are_sorted_by_any_column(page, demo):
    lesions = pd.read_parquet(demo / "results" / "qc" / "lesions.parquet")
    table = page.locator("#lesions table")

    def column(number: int) -> list[str]:
        return table.locator(f"tbody tr > :nth-child({number})").all_inner_texts()

    by_size = lesions.sort_values("volume_ml", ascending=False)["case"].tolist()
    assert column(1) == by_size
    heading = table.locator("th", has_text="Volume, ml")
    heading.click()
    assert column(1) == by_size  # the largest first
    heading.click()
    assert column(1) == by_size[::-1]
    table.locator("th", has_text="Case").first.click()
    assert column(1) == sorted(by_size, reverse=True)


def test_decisions_are_downloaded_and_win(page, demo, tmp_path):
    assert page.locator("#download").is_disabled()
    row = page.locator(".decide[data-case=phantom_02]")
    row.get_by_text("reject").click()
    row.locator("input").fill("a\tnote <b>of</b> two\nlines")
    other = page.locator(".decide[data-case=phantom_03]")
    other.get_by_text("review").click()
    other.get_by_text("review").click()  # taken back
    with page.expect_download() as waiting:
        page.locator("#download").click()
    path = tmp_path / "decisions.tsv"
    waiting.value.save_as(path)
    assert waiting.value.suggested_filename == "decisions.tsv"
    note = pd.read_csv(path, sep="\t")["note"].tolist()
    assert path.read_text().splitlines()[0] == "case\tdecision\tnote" and len(note) == 1
    results = tmp_path / "results"
    shutil.copytree(demo / "results", results)
    (results / "qc" / "decisions.tsv").write_bytes(path.read_bytes())
    config = (demo / "config" / "config.yaml").read_text()
    config = config.replace("run: {", f"run: {{results: {results}, ")
    (demo / "config" / "again.yaml").write_text(config)
    for verb in ("judge", "report"):
        done = subprocess.run(
            [Path(sys.executable).parent / "backsplit", verb, "--config", "config/again.yaml"],
            cwd=demo, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    verdicts = pd.read_csv(results / "qc" / "verdicts.tsv", sep="\t").set_index("case")
    assert verdicts.loc["phantom_02", "verdict"] == "reject"
    assert verdicts.loc["phantom_02", "by"] == "person"
    page.goto((results / "report" / "index.html").as_uri())
    decided = page.locator(".case[data-case=phantom_02]")
    assert "decided by a person" in decided.inner_text()
    assert decided.locator("button[aria-pressed=true]").inner_text() == "reject"
    assert _shown(page)[0] == "phantom_02"
