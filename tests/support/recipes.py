"""The configuration blocks of `docs/segmenters.md`."""

from __future__ import annotations

import re
from typing import Any

import yaml

from support.project import ROOT

PAGE = ROOT / "docs" / "segmenters.md"


def blocks() -> list[dict[str, Any]]:
    """Every YAML block of the page."""
    found = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    return [yaml.safe_load(block) for block in found]


def sections() -> list[tuple[str, dict[str, Any]]]:
    """Name and section of every segmenter on the page."""
    listed = [block.get("segmenters", block) for block in blocks() if "structures" not in block]
    return [pair for segmenters in listed for pair in segmenters.items()]
