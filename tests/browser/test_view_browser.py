"""`backsplit view` in a real browser: NiiVue, and decisions that are written at once."""

from __future__ import annotations

import contextlib
import io
import shutil
import threading
import time
import webbrowser
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from backsplit.cli.view import opened_by_file
from backsplit.flow.project import open_project
from backsplit.flow.view import Desk, serve
from backsplit.store.decisions import read_choices
from support.browsing import accessible, eventually, fits

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

    def shown() -> np.ndarray:
        shot = viewed.locator("#gl").screenshot()
        return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)

    eventually(shown, lambda rgb: (rgb.max(axis=2) > 60).mean() > 0.1)  # not a black canvas
    eventually(shown, lambda rgb: (np.ptp(rgb, axis=2) > 40).mean() > 0.005)  # nor without labels
    path = desk.project.config.decisions_path
    viewed.get_by_role("button", name="reject").click()
    viewed.get_by_text("saved to decisions.tsv").wait_for()
    table = pd.read_csv(path, sep="\t", dtype=str)
    assert table[["case", "decision"]].to_numpy().tolist() == [["phantom_04", "reject"]]
    viewed.keyboard.press("x")  # taken back
    expect(viewed.locator("[aria-pressed=true]")).to_have_count(0)
    viewed.get_by_text("removed from decisions.tsv").wait_for()
    assert pd.read_csv(path, sep="\t").empty
    assert fits(viewed) and accessible(viewed) == []


def test_what_was_chosen_last_is_what_the_table_has(project, monkeypatch, chromium):
    """However long the disk takes for what was chosen before; a key that is held counts once."""
    monkeypatch.chdir(project.folder)
    project.add("a")
    project.write()
    opened = project.to_verdicts()
    asked: list[object] = []

    class Slow(Desk):
        def decide(self, what: object) -> None:
            asked.append(what)
            if len(asked) == 1:
                time.sleep(0.5)
            super().decide(what)

    desk = Slow(opened)
    assert desk.first(None) == "a"
    server = serve(desk, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = chromium.new_page()
    page.goto(f"http://localhost:{server.server_address[1]}/{desk.token}/case/a")
    page.locator("body[data-ready]").wait_for(timeout=120_000)
    page.keyboard.press("a")
    page.keyboard.down("x")
    page.keyboard.down("x")  # as a keyboard repeats it
    page.keyboard.up("x")
    eventually(lambda: len(asked), lambda answered: answered == 2)
    page.get_by_text("saved to decisions.tsv").wait_for()
    pressed = page.locator("[aria-pressed=true]").all_inner_texts()
    page.close()
    server.shutdown()
    server.server_close()
    assert pressed == ["reject"]
    assert read_choices(opened.config.decisions_path) == {"a": ("reject", "")}


def test_the_file_that_opens_the_viewer_leads_to_it(project, monkeypatch, chromium):
    """What `--open` gives to a browser, which does not show the token on its command line."""
    monkeypatch.chdir(project.folder)
    project.add("a")
    project.write()
    desk = Desk(project.to_verdicts())
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    server = serve(desk, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}/{desk.token}/case/a"
    page = chromium.new_page()
    page.set_default_timeout(120_000)
    with opened_by_file(address, desk.project.results.root):
        while not opened:
            time.sleep(0.05)
        page.goto(opened[0])
        page.wait_for_url(address)
        assert page.title() == "a"
    page.close()
    server.shutdown()
    server.server_close()
