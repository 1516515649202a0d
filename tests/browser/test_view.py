"""`backsplit view` in a real browser: NiiVue, and decisions that are written at once."""

from __future__ import annotations

import contextlib
import io
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import Page

from backsplit.flow.project import open_project
from backsplit.flow.view import Desk, serve
from support.browsing import accessible, fits

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def desk(demo, tmp_path_factory) -> Iterator[Desk]:
    """The demo's cases, in a copy that may be decided on."""
    folder = tmp_path_factory.mktemp("viewed")
    for name in ("config", "demo", "results"):
        shutil.copytree(demo / name, folder / name)
    with contextlib.chdir(folder):
        yield Desk(open_project(Path("config/config.yaml")))


@pytest.fixture(params=[1400, 800, 390])
def viewed(request, desk, chromium) -> Iterator[Page]:
    """The viewer at a case with lesions; nothing is asked of any other server."""
    server = serve(desk, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f"http://localhost:{server.server_address[1]}/{desk.token}/"
    context = chromium.new_context(viewport={"width": request.param, "height": 900})
    complaints: list[str] = []
    context.on("console", lambda message: complaints.append(message.text))
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    known = (here, "data:", f"blob:{here.rsplit('/', 2)[0]}")
    context.on(
        "request",
        lambda asked: None if asked.url.startswith(known) else complaints.append(asked.url),
    )
    page = context.new_page()
    page.goto(f"{here}case/phantom_04")
    page.locator("body[data-ready]").wait_for(timeout=120_000)
    yield page
    context.close()
    server.shutdown()
    server.server_close()
    assert complaints == []


def test_volumes_are_shown_and_decisions_are_written(viewed, desk):
    lesions = pd.read_parquet(desk.project.results.quality("lesions"))
    for row in lesions[lesions["case"] == "phantom_04"].to_dict("records"):
        viewed.get_by_role("button", name=f"Lesion {row['instance']}:").click()
        viewed.get_by_text(f"· {row['target']} ·").wait_for()
    shown = np.asarray(Image.open(io.BytesIO(viewed.locator("#gl").screenshot())).convert("RGB"))
    assert (shown.max(axis=2) > 60).mean() > 0.1  # not a black canvas
    assert (np.ptp(shown.astype(int), axis=2) > 40).mean() > 0.005  # nor one without labels
    path = desk.project.config.decisions_path
    viewed.get_by_role("button", name="reject").click()
    viewed.get_by_text("in decisions.tsv").wait_for()
    table = pd.read_csv(path, sep="\t", dtype=str)
    assert table[["case", "decision"]].to_numpy().tolist() == [["phantom_04", "reject"]]
    viewed.keyboard.press("x")  # taken back
    viewed.wait_for_function("document.querySelectorAll('[aria-pressed=true]').length === 0")
    viewed.wait_for_timeout(300)
    assert pd.read_csv(path, sep="\t").empty
    assert fits(viewed) and accessible(viewed) == []
