"""The demo's report in a real browser, opened from the disk: `make test-browser`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Page

from support.browsing import FLAGGED, accessible, download, fits

pytestmark = pytest.mark.browser


def _shown(page: Page) -> list[str]:
    return [
        case.get_attribute("data-case") or "" for case in page.locator(".case").all()
        if case.is_visible()
    ]  # fmt: skip


def test_cases_are_found_and_pictures_enlarged(page):
    assert len(_shown(page)) == 6
    page.fill("#find", "phantom_04")
    assert (
        _shown(page) == ["phantom_04"]
        and page.inner_text("#found") == "1 of 6 cases, 0 of 1 looked at"
    )
    page.fill("#find", "")
    page.select_option("#verdict", "accept")
    assert len(_shown(page)) == 5
    page.select_option("#verdict", "")
    page.locator("button.zoom").first.click()
    first = page.inner_text("dialog strong")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("dialog strong") != first
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    assert fits(page)


def test_lesions_are_sorted_by_any_column(page, demo):
    lesions = pd.read_parquet(demo / "results" / "qc" / "lesions.parquet")
    table = page.locator("#lesions table")
    table.scroll_into_view_if_needed()  # what is off the screen is not laid out

    def column(number: int) -> list[str]:
        return table.locator(f"tbody tr > :nth-child({number})").all_text_contents()

    by_size = lesions.sort_values("volume_ml", ascending=False)["case"].tolist()
    assert column(1) == by_size
    heading = table.locator("th", has_text="Volume, ml")
    heading.click()
    assert column(1) == by_size  # the largest first
    heading.click()
    assert column(1) == by_size[::-1]
    table.locator("th", has_text="Case").first.click()
    assert column(1) == sorted(by_size, reverse=True)


def test_dots_of_the_figure_lead_to_the_case(page):
    dot = page.locator("#distributions a circle").first
    assert FLAGGED in (dot.locator("title").text_content() or "")
    link = page.locator("#distributions a").first.get_attribute("href")
    assert link == f"cases/{FLAGGED}.html"
    with page.expect_popup() as opening:
        page.locator("#distributions a").first.click()
    opened = opening.value
    opened.wait_for_url(f"**/{FLAGGED}.html")
    opened.locator(".back a").first.click()
    opened.wait_for_url(f"**/index.html#case-{FLAGGED}")
    assert -1 < opened.locator(f"#case-{FLAGGED}").bounding_box()["y"] < 900


def test_a_link_to_a_case_undoes_the_filter(page):
    page.fill("#find", "phantom_01")
    page.evaluate("location.hash = '#case-phantom_03'")
    page.locator("#case-phantom_03").wait_for()
    assert len(_shown(page)) == 6 and page.input_value("#find") == ""


def test_cases_are_filtered_by_what_their_flags_speak_of(page):
    page.select_option("[data-filter=rule]", "volume")
    assert _shown(page) == [FLAGGED]
    page.select_option("[data-filter=rule]", "")
    page.select_option("[data-filter=structure]", "spleen")
    assert _shown(page) == [FLAGGED]


def test_cases_are_put_in_order(page, demo):
    lesions = pd.read_parquet(demo / "results" / "qc" / "lesions.parquet")
    for order, expected in (
        ("volume", lesions.groupby("case")["volume_ml"].sum()),
        ("lesions", lesions.groupby("case").size()),
    ):
        page.select_option("#order", order)
        found = [expected.get(case, 0) for case in _shown(page)]
        assert found == sorted(found, reverse=True) and len(set(found)) > 1
    page.select_option("#order", "case")
    assert _shown(page) == sorted(_shown(page))
    page.select_option("#order", "")
    assert _shown(page)[0] == FLAGGED


def test_what_was_looked_at_is_counted_and_survives_a_reload(page):
    page.locator("button.zoom").first.click()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")  # a verdict on the second
    second = page.inner_text("dialog strong")
    page.keyboard.press("Escape")
    for _ in range(2):
        assert page.inner_text("#found") == "6 cases, 2 of 6 looked at"
        chosen = page.locator(f".decide[data-case={second}] [aria-pressed=true]")
        assert chosen.get_attribute("data-choice") == "reject"
        page.reload()
    page.select_option("#seen", "no")
    assert len(_shown(page)) == 4 and second not in _shown(page)


def test_shown_cases_are_accepted_at_once_and_that_is_undone(page, tmp_path):
    page.locator(".decide[data-case=phantom_02]").get_by_text("reject").click()
    page.fill("#find", "phantom_0")
    page.locator("#bulk").click()
    rows = download(page, tmp_path / "all.tsv")
    assert sorted(case for case, choice, _ in rows if choice == "accept") == [
        f"phantom_0{n}" for n in (1, 3, 4, 5, 6)
    ]
    assert page.locator("#bulk").is_disabled()
    page.locator("#undo").click()
    assert download(page, tmp_path / "one.tsv") == [["phantom_02", "reject", ""]]
    page.reload()
    assert download(page, tmp_path / "two.tsv") == [["phantom_02", "reject", ""]]


def test_choices_belong_to_one_report(page, demo, browser, tmp_path):
    page.locator(".decide[data-case=phantom_02]").get_by_text("reject").click()
    shutil.copytree(demo / "results" / "report", tmp_path / "report")
    other = browser.new_page()
    other.goto((tmp_path / "report" / "index.html").as_uri())
    assert other.locator("[aria-pressed=true]").count() == 0
    # a later verdict in decisions.tsv wins over what the browser kept
    page.evaluate(
        """() => {
          const all = stored();
          all.phantom_02.base = "accept";
          localStorage.setItem(STORE, JSON.stringify(all));
        }"""
    )
    page.reload()
    assert page.locator(".decide [aria-pressed=true]").count() == 0


def test_nothing_is_wrong_with_its_accessibility(page):
    assert accessible(page) == []
    assert fits(page)


def test_a_decision_on_a_case_s_page_is_in_the_report_s_download(page, case_page, tmp_path):
    case_page.locator(".decide").get_by_text("reject").click()
    case_page.locator(".decide input").fill('too "large"')
    case_page.get_by_text("Kept in the report").wait_for()
    chosen = page.locator(f".decide[data-case={FLAGGED}]")
    assert chosen.locator("[aria-pressed=true]").get_attribute("data-choice") == "reject"
    page.locator(".decide[data-case=phantom_03]").get_by_text("accept").click()
    rows = download(page, tmp_path / "all.tsv")
    assert rows == [[FLAGGED, "reject", 'too "large"'], ["phantom_03", "accept", ""]]
    assert download(case_page, tmp_path / "one.tsv") == rows[:1]
    chosen.get_by_text("accept").click()  # and the other way round
    case_page.locator("[data-choice=accept][aria-pressed=true]").wait_for()
    case_page.reload()
    case_page.locator("[data-choice=accept][aria-pressed=true]").wait_for()


def test_a_page_that_stands_alone_says_so(demo, browser, tmp_path):
    page = browser.new_page()
    page.goto((demo / "results" / "report" / "cases" / f"{FLAGGED}.html").as_uri())
    page.locator(".decide").get_by_text("accept").click()
    page.get_by_text("The report does not respond").wait_for()
    assert download(page, tmp_path / "one.tsv") == [[FLAGGED, "accept", ""]]


def test_the_report_listens_to_pages_that_it_opened_only(page, case_page):
    forged = {"backsplit": "decide", "case": "phantom_01", "choice": "reject", "note": ""}
    page.evaluate("(said) => window.postMessage(said, '*')", forged)  # from nobody
    post = "(said) => window.opener.postMessage(said, '*')"
    case_page.evaluate(post, forged)  # of another case
    case_page.evaluate(post, {**forged, "case": FLAGGED, "choice": "<b>"})
    case_page.evaluate(post, {**forged, "case": FLAGGED, "note": {"length": 1}})
    case_page.evaluate(post, None)
    case_page.evaluate(post, {**forged, "backsplit": "hello", "case": FLAGGED})
    case_page.wait_for_timeout(200)
    assert page.locator(".decide [aria-pressed=true]").count() == 0
    assert page.locator("#download").is_disabled()


def test_printed_pages_hold_everything_but_buttons(page, case_page, tmp_path):
    for printed in (page, case_page):
        printed.emulate_media(media="print")
        for selector in ("button[data-choice]", "#download", "nav", ".tools"):
            assert not any(found.is_visible() for found in printed.locator(selector).all())
        printed.pdf(path=tmp_path / "printed.pdf")
        assert (tmp_path / "printed.pdf").stat().st_size > 50_000
    assert len(_shown(page)) == 6


def test_decisions_are_downloaded_and_win(page, demo, tmp_path):
    assert page.locator("#download").is_disabled()
    row = page.locator(".decide[data-case=phantom_02]")
    row.get_by_text("reject").click()
    row.locator("input").fill("a\tnote <b>of</b> two\nlines")
    other = page.locator(".decide[data-case=phantom_03]")
    other.get_by_text("review").click()
    other.get_by_text("review").click()  # taken back
    path = tmp_path / "decisions.tsv"
    assert download(page, path) == [["phantom_02", "reject", "a note <b>of</b> two lines"]]
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
    assert "decided by hand" in (decided.text_content() or "")
    assert decided.locator("button[aria-pressed=true]").get_attribute("data-choice") == "reject"
    assert _shown(page)[0] == "phantom_02"
