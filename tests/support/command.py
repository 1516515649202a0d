"""Segmenters of the kind `command` whose program is `labeller.py`, and what it should give."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from backsplit.cases.table import Case
from backsplit.config.command import Command
from backsplit.config.model import Run
from backsplit.config.slices import Labelling, Placing
from backsplit.segment.command import CommandSegmenter
from support.cases import MARK
from support.project import ct_like

LABELLER = Path(__file__).parent / "labeller.py"
IN_ONE = [sys.executable, str(LABELLER), "{image}", "{output}"]
IN_FOLDERS = [sys.executable, str(LABELLER), "{images}", "{outputs}"]
LABELS = {"body": 1, "bone": 2}
RUN = Run(device="cpu")


def segmenter_of(**keys: object) -> CommandSegmenter:
    section = Command.model_validate({"kind": "command", "labels": LABELS} | keys)
    return CommandSegmenter(section, Labelling(("ct",), Placing("ct")), RUN)


def labelled(cases: list[Case], **keys: object) -> dict[str, object]:
    found = list(segmenter_of(**keys).label(cases))
    assert sorted(case.id for case, _ in found) == sorted(case.id for case in cases)
    return {case.id: result for case, result in found}


def expected(name: str) -> np.ndarray:
    image = ct_like()
    image[0, 0, 0] = MARK if name == "bad" else -1000
    return (image > -500).astype(int) + (image > 250)
