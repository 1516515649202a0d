"""Make the pictures of the documents from the demo and the embedded study: `make pictures`.

Needs a Chromium and the extra `browser`, and for the study's figure what `make study` leaves.
Phantoms are all they show.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
FIGURE = ROOT / "results-study" / "study" / "report" / "figure.png"
CASE = "phantom_02"
WIDTH, HEIGHT = 1280, 800
QUALITY = 80


def make_report(folder: Path) -> Path:
    """Run the demo in a folder."""
    _call(folder, "backsplit", "demo", "make", "demo")
    _call(folder, "backsplit", "run", "--config", "demo/config.yaml")
    return folder / "results" / "report"


def take_pictures(report: Path, browser: Browser) -> None:
    """Take a picture of the report's grid of cases, and one of a case's viewer."""
    window = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    page = window.new_page()
    page.goto((report / "index.html").as_uri())
    page.locator("#cases").evaluate("section => section.scrollIntoView()")
    page.wait_for_function("[...document.images].every(image => !image.loading || image.complete)")
    _keep_photo("report", page.screenshot())
    page.goto((report / "cases" / f"{CASE}.html").as_uri())
    page.locator("#panes[data-ready]").wait_for()
    page.locator(".findings button").first.click()
    _keep_photo("viewer", page.locator("#viewer .stage").screenshot())


def keep_figure(figure: Path) -> None:
    """Keep the figure of the embedded study, without loss: it is lines and text."""
    if not figure.exists():
        sys.exit(f"no {figure.relative_to(ROOT)}: run `make study` (17 minutes), then again")
    Image.open(figure).convert("RGB").save(PICTURES / "study.webp", lossless=True, method=6)


def _keep_photo(name: str, png: bytes) -> None:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.save(PICTURES / f"{name}.webp", quality=QUALITY, method=6)


def _call(folder: Path, *command: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    subprocess.run(command, cwd=folder, env=environment, check=True)  # noqa: S603


def main() -> None:
    """Take the pictures of a report that is there (an argument), or of a new one."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with TemporaryDirectory() as folder, sync_playwright() as play:
        report = Path(sys.argv[1]) if len(sys.argv) > 1 else make_report(Path(folder))
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        take_pictures(report.resolve(), browser)
        browser.close()
    keep_figure(FIGURE)


if __name__ == "__main__":
    main()
