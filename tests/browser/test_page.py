"""The demo's report in a real browser, opened from the disk: `make test-browser`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Page, expect

from support.browsing import FLAGGED, accessible, download, eventually, fits

pytestmark = pytest.mark.browser


def _shown(page: Page) -> list[str]:
    return [
        case.get_attribute("data-case") or "" for case in page.locator(".case").all()
        if case.is_visible()
    ]  # fmt: skip


def _shows(page: Page, cases: list[str]) -> None:
    eventually(lambda: _shown(page), lambda shown: shown == cases)


def _shows_number(page: Page, cases: int) -> list[str]:
    return eventually(lambda: _shown(page), lambda shown: len(shown) == cases)


def test_cases_are_found_and_pictures_enlarged(page):
    _shows_number(page, 6)
    page.fill("#find", "phantom_04")
    _shows(page, ["phantom_04"])
    expect(page.locator("#found")).to_have_text("1 of 6 cases, 0 of 1 looked at")
    page.fill("#find", "")
    page.select_option("#verdict", "accept")
    _shows_number(page, 5)
    page.select_option("#verdict", "")
    page.locator("button.zoom").first.click()
    enlarged = page.locator("dialog strong")
    expect(enlarged).not_to_be_empty()
    first = enlarged.inner_text()
    page.keyboard.press("ArrowRight")
    expect(enlarged).not_to_have_text(first)
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).not_to_be_visible()
    assert fits(page)


def test_lesions_are_sorted_by_any_column(page, demo):
    lesions = pd.read_parquet(demo / "results" / "qc" / "lesions.parquet")
    table = page.locator("#lesions table")
    table.scroll_into_view_if_needed()  # what is off the screen is not laid out

    def first_column_is(cases: list[str]) -> None:
        cells = table.locator("tbody tr > :nth-child(1)")
        eventually(cells.all_text_contents, lambda shown: shown == cases)

    by_size = lesions.sort_values("volume_ml", ascending=False)["case"].tolist()
    first_column_is(by_size)
    table.locator("th", has_text="Case").first.click()
    first_column_is(sorted(by_size))
    heading = table.locator("th", has_text="Volume, ml")
    heading.click()
    first_column_is(by_size)  # the largest first
    heading.click()
    first_column_is(by_size[::-1])
    table.locator("th", has_text="Case").first.click()
    first_column_is(sorted(by_size))


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
    card = opened.locator(f"#case-{FLAGGED}")
    eventually(card.bounding_box, lambda box: box and -1 < box["y"] < 900)


def test_a_link_to_a_case_undoes_the_filter(page):
    page.fill("#find", "phantom_01")
    page.evaluate("location.hash = '#case-phantom_03'")
    page.locator("#case-phantom_03").wait_for()
    _shows_number(page, 6)
    expect(page.locator("#find")).to_have_value("")


def test_cases_are_filtered_by_what_their_flags_speak_of(page):
    page.select_option("[data-filter=rule]", "volume")
    _shows(page, [FLAGGED])
    page.select_option("[data-filter=rule]", "")
    _shows_number(page, 6)
    page.select_option("[data-filter=structure]", "spleen")
    _shows(page, [FLAGGED])


def test_cases_are_put_in_order(page, demo):
    lesions = pd.read_parquet(demo / "results" / "qc" / "lesions.parquet")
    page.select_option("#order", "case")
    eventually(lambda: _shown(page), lambda cases: cases == sorted(cases))
    for order, expected in (
        ("volume", lesions.groupby("case")["volume_ml"].sum()),
        ("lesions", lesions.groupby("case").size()),
    ):
        page.select_option("#order", order)
        found = eventually(
            lambda known=expected: [known.get(case, 0) for case in _shown(page)],
            lambda found: found == sorted(found, reverse=True),
        )
        assert len(set(found)) > 1
    page.select_option("#order", "case")
    eventually(lambda: _shown(page), lambda cases: cases == sorted(cases))
    page.select_option("#order", "")
    eventually(lambda: _shown(page), lambda cases: cases[0] == FLAGGED)


def test_what_was_looked_at_is_counted_and_survives_a_reload(page):
    page.locator("button.zoom").first.click()
    enlarged = page.locator("dialog strong")
    expect(enlarged).not_to_be_empty()
    first = enlarged.inner_text()
    page.keyboard.press("ArrowRight")
    expect(enlarged).not_to_have_text(first)
    second = enlarged.inner_text()
    page.keyboard.press("x")  # a verdict on the second
    page.keyboard.press("Escape")
    for _ in range(2):
        expect(page.locator("#found")).to_have_text("6 cases, 2 of 6 looked at")
        chosen = page.locator(f".decide[data-case={second}] [aria-pressed=true]")
        expect(chosen).to_have_attribute("data-choice", "reject")
        page.reload()
    page.select_option("#seen", "no")
    assert second not in _shows_number(page, 4)


def test_shown_cases_are_accepted_at_once_and_that_is_undone(page, tmp_path):
    page.locator(".decide[data-case=phantom_02]").get_by_text("reject").click()
    page.fill("#find", "phantom_0")
    expect(page.locator("#bulk")).to_have_text("Accept 5 shown")
    page.locator("#bulk").click()
    rows = download(page, tmp_path / "all.tsv")
    assert sorted(case for case, choice, _ in rows if choice == "accept") == [
        f"phantom_0{n}" for n in (1, 3, 4, 5, 6)
    ]
    expect(page.locator("#bulk")).to_be_disabled()
    page.locator("#undo").click()
    assert download(page, tmp_path / "one.tsv") == [["phantom_02", "reject", ""]]
    page.reload()
    assert download(page, tmp_path / "two.tsv") == [["phantom_02", "reject", ""]]


def test_choices_belong_to_one_report(page, demo, browser, tmp_path):
    page.locator(".decide[data-case=phantom_02]").get_by_text("reject").click()
    shutil.copytree(demo / "results" / "report", tmp_path / "report")
    other = browser.new_page()
    other.goto((tmp_path / "report" / "index.html").as_uri())
    expect(other.locator("[aria-pressed=true]")).to_have_count(0)
    # a later verdict in decisions.tsv wins over what the browser kept
    page.evaluate(
        """() => {
          const all = stored();
          all.phantom_02.base = "accept";
          localStorage.setItem(STORE, JSON.stringify(all));
        }"""
    )
    page.reload()
    expect(page.locator(".decide [aria-pressed=true]")).to_have_count(0)


def test_nothing_is_wrong_with_its_accessibility(page):
    assert accessible(page) == []
    assert fits(page)


def test_a_decision_on_a_case_s_page_is_in_the_report_s_download(page, case_page, tmp_path):
    case_page.locator(".decide").get_by_text("reject").click()
    case_page.locator(".decide input").fill('too "large"')
    case_page.get_by_text("Kept in the report").wait_for()
    chosen = page.locator(f".decide[data-case={FLAGGED}]")
    expect(chosen.locator("[aria-pressed=true]")).to_have_attribute("data-choice", "reject")
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


def test_a_late_answer_of_the_report_undoes_no_later_decision(page, case_page):
    chosen = case_page.locator(".decide [aria-pressed=true]")
    case_page.keyboard.press("a")
    case_page.keyboard.press("x")
    case_page.get_by_text("Kept in the report").wait_for()
    late = {"backsplit": "kept", "case": FLAGGED, "choice": "accept", "note": "", "changed": True}
    for turn in (0, 1):
        page.evaluate(
            "(said) => { for (const shown of opened.keys()) shown.postMessage(said, '*'); }",
            {**late, "turn": turn},
        )
    case_page.wait_for_timeout(200)
    expect(chosen).to_have_text("reject")
    page.locator(f".decide[data-case={FLAGGED}]").get_by_text("review").click()
    expect(chosen).to_have_text("review")  # what the report decides later counts


def test_the_report_listens_to_pages_that_it_opened_only(page, case_page):
    forged = {
        "backsplit": "decide",
        "case": "phantom_01",
        "choice": "reject",
        "note": "",
        "turn": 1,
    }
    page.evaluate("(said) => window.postMessage(said, '*')", forged)  # from nobody
    post = "(said) => window.opener.postMessage(said, '*')"
    case_page.evaluate(post, forged)  # of another case
    case_page.evaluate(post, {**forged, "case": FLAGGED, "choice": "<b>"})
    case_page.evaluate(post, {**forged, "case": FLAGGED, "note": {"length": 1}})
    case_page.evaluate(post, {**forged, "case": FLAGGED, "turn": "1"})
    case_page.evaluate(post, None)
    case_page.evaluate(post, {**forged, "backsplit": "hello", "case": FLAGGED})
    case_page.wait_for_timeout(200)
    assert page.locator(".decide [aria-pressed=true]").count() == 0
    assert page.locator("#download").is_disabled()
    case_page.evaluate(post, {**forged, "case": FLAGGED})  # as the page itself would say it
    expect(page.locator(".decide [aria-pressed=true]")).to_have_count(1)


def test_printed_pages_hold_everything_but_buttons(page, case_page, tmp_path):
    for printed in (page, case_page):
        printed.emulate_media(media="print")
        for selector in ("button[data-choice]", "#download", "nav", ".tools"):
            for found in printed.locator(selector).all():
                expect(found).not_to_be_visible()
        printed.pdf(path=tmp_path / "printed.pdf")
        assert (tmp_path / "printed.pdf").stat().st_size > 50_000
    _shows_number(page, 6)


def test_decisions_are_downloaded_and_win(page, demo, tmp_path):
    expect(page.locator("#download")).to_be_disabled()
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
    expect(decided).to_contain_text("decided by hand")
    pressed = decided.locator("button[aria-pressed=true]")
    expect(pressed).to_have_attribute("data-choice", "reject")
    assert _shown(page)[0] == "phantom_02"
