"""What a stage says while it works, and when its batch is done."""

from __future__ import annotations

from backsplit.store.status import Outcome, Status
from backsplit.work.progress import StageProgress


def test_a_stage_ends_with_the_number_of_failures():
    lines: list[str] = []
    progress = StageProgress("segment ours", 3, lambda: 1, lines.append)
    progress(Outcome("a", Status.DONE), computed=True)
    progress(Outcome("b", Status.FAILED, "PROGRAM_FAILED", "it stopped"), computed=True)
    progress.end()
    assert "[backsplit] segment ours: b failed: it stopped (code PROGRAM_FAILED)" in lines
    assert lines[-1] == "[backsplit] segment ours: 3/3 cases done, 1 failed"
    without: list[str] = []
    StageProgress("compose", 3, lambda: 3, without.append).end()
    assert without == ["[backsplit] compose: 3/3 cases done"]
