"""What is asked of every page in a browser."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pandas as pd
from axe_core_python.sync_playwright import Axe
from playwright.sync_api import Page

FLAGGED = "phantom_05"
"""The demo's case that a rule of the browser tests sends to review."""

PATIENCE_S = 15.0
Read = TypeVar("Read")


def eventually(read: Callable[[], Read], holds: Callable[[Read], object]) -> Read:
    """What a page says once it says what it should: it answers in its own time, not at once."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds(found := read()):
        assert time.monotonic() < deadline, f"after {PATIENCE_S:.0f} s: {found!r}"
        time.sleep(0.05)
    return found


def fits(page: Page) -> bool:
    """Whether nothing runs over the page's edge."""
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def accessible(page: Page) -> list[str]:
    """What axe-core finds wrong with a page."""
    found = Axe().run(page)["violations"]
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"][:3]]


def download(page: Page, path: Path) -> list[list[str]]:
    """Rows of decisions.tsv as the page downloads it."""
    with page.expect_download() as waiting:
        page.locator("#download").click()
    assert waiting.value.suggested_filename == "decisions.tsv"
    waiting.value.save_as(path)
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    assert table.columns.tolist() == ["case", "decision", "note"]
    return table.to_numpy().tolist()
