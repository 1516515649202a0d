"""The page of a study in a real browser, opened from the disk: `make test-browser`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from backsplit.study.page import write_comparison
from support.browsing import accessible, eventually, fits
from support.study import curves, tables

pytestmark = pytest.mark.browser


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Path:
    """A study of three arms and two targets."""
    folder = tmp_path_factory.mktemp("study")
    arms = ["binary", "backsplit", "noisy"]
    scores, lesions = tables(arms, free=5, gains={"backsplit": 0.1}, targets=["tumor", "cyst"])
    noise = [("noisy", "c000", name, 0.9) for name in ("liver", "kidney")]
    made = {
        "scores": scores,
        "lesions": lesions,
        "curves": curves({"binary": 5, "backsplit": 40, "noisy": 5}),
        "noise": pd.DataFrame(noise, columns=["arm", "case", "structure", "dice"]),
    }
    paths = [folder / f"{name}.parquet" for name in made]
    for path, table in zip(paths, made.values(), strict=True):
        table.to_parquet(path, index=False)
    write_comparison(*paths, "binary", folder / "report", lambda line: None)
    return folder / "report"


def test_the_page_of_a_study_is_whole(browser, study):
    page = browser.new_page()
    page.goto((study / "index.html").as_uri())
    for picture in page.locator("img").all():
        picture.scroll_into_view_if_needed()
        page.wait_for_function("image => image.naturalWidth > 300", arg=picture.element_handle())
    assert fits(page)
    assert accessible(page) == []


def test_comparisons_are_sorted_by_any_column(browser, study):
    page = browser.new_page()
    page.goto((study / "index.html").as_uri())
    table = page.locator("#all table")
    table.scroll_into_view_if_needed()
    expected = pd.read_parquet(study / "arms.parquet")["difference"].sort_values()
    heading = table.locator("th", has_text="Difference")
    heading.click()
    cells = table.locator("tbody tr")
    place = page.evaluate("h => h.cellIndex", heading.element_handle())

    def shown() -> list[float]:
        column = [row.locator("td, th").nth(place) for row in cells.all()]
        return [float(cell.get_attribute("data-value") or "nan") for cell in column]

    eventually(shown, lambda values: values == pytest.approx(expected.tolist()[::-1]))
