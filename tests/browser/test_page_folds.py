"""One reason leads, the others fold; faults of the data set have pictures: `make test-browser`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Locator, expect

from support.browsing import FLAGGED, accessible, fits

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(demo, tmp_path_factory) -> Path:
    """The demo's report with two more warnings about its flagged case, and a fault of all cases."""
    results = tmp_path_factory.mktemp("folds") / "results"
    shutil.copytree(demo / "results", results)
    path = results / "qc" / "flags.tsv"
    flags = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    more = [
        {"case": FLAGGED, "subject": "liver", "rule": "holes", "severity": "warn",
         "message": "liver: holes of 3 %"},
        {"case": FLAGGED, "subject": "aorta", "rule": "components", "severity": "warn",
         "message": "aorta: 2 large parts"},
        {"case": "", "subject": "liver", "rule": "systematic_volume", "severity": "review",
         "message": "liver is wrong in 6 of 6 cases", "example": "phantom_02"},
    ]  # fmt: skip
    table = pd.concat([flags, pd.DataFrame(more)]).reindex(columns=flags.columns).fillna("")
    table.to_csv(path, sep="\t", index=False)
    text = (demo / "config" / "config.yaml").read_text()
    config = demo / "config" / "folds.yaml"
    config.write_text(text.replace("run: {", f"run: {{results: {results}, "))
    for verb in ("pages", "report"):
        done = subprocess.run(
            [Path(sys.executable).parent / "backsplit", verb, "--config", config],
            cwd=demo, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    return results / "report"


def _only_the_first(flags: Locator) -> None:
    expect(flags.first).to_be_visible()
    assert flags.count() > 1
    assert [flag.is_visible() for flag in flags.all()] == [True] + [False] * (flags.count() - 1)


def _all(flags: Locator) -> None:
    for flag in flags.all():
        expect(flag).to_be_visible()


def test_a_card_shows_one_reason_until_it_is_unfolded(report, browser):
    page = browser.new_page()
    page.goto((report / "index.html").as_uri())
    card = page.locator(f".case[data-case={FLAGGED}]")
    card.scroll_into_view_if_needed()
    shown = card.locator("ul.flags li")
    _only_the_first(shown)
    assert "spleen" in shown.first.inner_text() and shown.count() >= 3
    card.locator("details.folded summary").click()
    _all(shown)
    assert accessible(page) == [] and fits(page)


def test_a_case_s_page_shows_one_reason_until_it_is_unfolded(report, browser):
    page = browser.new_page()
    page.goto((report / "cases" / f"{FLAGGED}.html").as_uri())
    page.locator("#panes[data-ready]").wait_for()
    shown = page.locator("#why ul.flags li")
    _only_the_first(shown)
    page.locator("#why details.folded summary").click()
    _all(shown)


def test_a_fault_of_the_data_set_is_said_once_with_a_picture_of_a_typical_case(report, browser):
    page = browser.new_page()
    page.goto((report / "index.html").as_uri())
    fault = page.locator("#flags li", has_text="liver is wrong in 6 of 6 cases")
    assert fault.count() == 1
    picture = fault.locator("figure img")
    picture.scroll_into_view_if_needed()
    page.wait_for_function(
        "(i) => i.complete && i.naturalWidth > 100", arg=picture.element_handle()
    )
    assert "liver in phantom_02" in fault.locator("figcaption").inner_text()
    assert fault.locator("figcaption a").get_attribute("href") == "cases/phantom_02.html"
    assert fits(page)
