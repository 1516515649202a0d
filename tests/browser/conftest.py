"""The demo's report, and a real browser that is watched: `make test-browser`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from support.browsing import FLAGGED

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

FLAGGING = """
qc:
  rules:
    volume:
      - {of: [spleen], low: 20, high: 140, source: made up so that a phantom is flagged}
"""


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    """What `make demo` does, in a folder of its own, with a rule that one phantom breaks.

    `BACKSPLIT_DEMO` names a folder where that was done before.
    """
    if known := os.environ.get("BACKSPLIT_DEMO"):
        return Path(known)
    folder = tmp_path_factory.mktemp("demo")
    shutil.copytree(ROOT / "config", folder / "config")
    config = folder / "config" / "config.yaml"
    config.write_text(config.read_text() + FLAGGING)
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


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser itself."""
    with sync_playwright() as play:
        # WebGL without a graphics card, for `backsplit view`
        drawing = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        yield play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *drawing])


@pytest.fixture(params=[1400, 800, 390])
def browser(request, chromium) -> Iterator[BrowserContext]:
    """A window without a past, watched: every message of a console and every request is kept."""
    context = chromium.new_context(viewport={"width": request.param, "height": 900})
    complaints: list[str] = []
    context.on("console", lambda message: complaints.append(message.text))
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("request", lambda asked: complaints.extend(_outside(asked.url)))
    yield context
    shots = os.environ.get("BACKSPLIT_SCREENSHOTS")
    for number, page in enumerate(context.pages if shots else ()):
        name = f"{request.node.name}_{number}".replace("/", "_")
        page.screenshot(path=f"{shots}/{name}.png", full_page=True)
    context.close()
    assert complaints == []


@pytest.fixture
def page(demo, browser) -> Page:
    """The report."""
    page = browser.new_page()
    page.goto((demo / "results" / "report" / "index.html").as_uri())
    return page


@pytest.fixture
def case_page(page) -> Page:
    """The page of the flagged case, opened from the report."""
    with page.expect_popup() as opening:
        page.locator(f".case[data-case={FLAGGED}] a[data-case]").first.click()
    opened = opening.value
    opened.locator("#panes[data-ready]").wait_for()
    return opened


def _outside(url: str) -> list[str]:
    """The address of a request that goes anywhere but to the page itself."""
    return [] if url.startswith(("file:", "data:", "blob:")) else [url]
