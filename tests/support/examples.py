"""How many examples a property is tried on: the same ones each time, or many more new ones."""

from __future__ import annotations

import os

from hypothesis import settings

TIMES = int(os.environ.get("SEARCH_TIMES", "1"))
"""`make test` tries the same examples each time, so that what it says is of the code alone;
`make test-search` multiplies them and draws others at each run."""


def examples(number: int = 100) -> settings:
    """Decorator of a property: try it on so many examples."""
    return settings(max_examples=number * TIMES, derandomize=TIMES == 1, deadline=None)
