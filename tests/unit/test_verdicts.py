"""Flags of failures and absences, and a person's decisions, word for word."""

from __future__ import annotations

import pandas as pd
import pytest

from backsplit.errors import Code, RunError
from backsplit.judge.verdicts import (
    flag_absences,
    flag_failures,
    flag_missing_targets,
    read_decisions,
)
from backsplit.store.status import Outcome, Status


def test_a_failure_is_flagged_once_where_it_happened_first():
    bad = Outcome("a", Status.REFUSED, "GRID_MISMATCH", "off")
    worse = Outcome("b", Status.FAILED, "OUT_OF_MEMORY", "too big")
    stages = {
        "check": [bad, Outcome("b", Status.OK), Outcome("c", Status.OK)],
        "segment organs": [bad, worse, Outcome("c", Status.DONE)],
        "segment tissue": [bad, worse, Outcome("c", Status.DONE)],
        "compose": [bad, worse, Outcome("c", Status.FAILED, "INTERNAL", "bug")],
        "measure": [bad, worse, Outcome("c", Status.FAILED, "INTERNAL", "bug")],
    }
    flags = flag_failures(stages)
    columns = ["case", "subject", "rule", "severity", "value", "expected", "message"]
    assert flags[columns].to_numpy().tolist() == [
        ["a", "check", "GRID_MISMATCH", "reject", "refused", "ok", "off"],
        ["b", "segment organs", "OUT_OF_MEMORY", "review", "failed", "done", "too big"],
        ["b", "segment tissue", "OUT_OF_MEMORY", "review", "failed", "done", "too big"],
        ["b", "compose", "OUT_OF_MEMORY", "reject", "failed", "done", "too big"],
        ["c", "compose", "INTERNAL", "reject", "failed", "done", "bug"],
    ]
    assert flag_failures({}).empty


def test_an_absence_is_of_a_case_or_of_the_mapping():
    rows = [("a", "fat", 0), ("b", "fat", 0), ("a", "liver", 1), ("b", "liver", 0), ("a", "x", 0)]
    flags = flag_absences(
        pd.DataFrame(rows, columns=["case", "structure", "voxels"]), ["liver", "fat"]
    )
    columns = ["case", "subject", "rule", "severity", "value", "expected", "message"]
    same = ["0 voxels", "> 0 voxels"]
    assert flags[columns].to_numpy().tolist() == [
        ["", "fat", "absent", "review", *same,
         "fat has no voxel in any of 2 cases: its mapping in `structures` may be wrong"],
        ["b", "liver", "absent", "info", *same, "liver has no voxel in this case"],
    ]  # fmt: skip


def test_a_target_that_no_case_has_is_a_flag_of_the_data_set_alone():
    rows = [("a", "tumor", 0), ("b", "tumor", 9), ("a", "cyst", 0), ("b", "cyst", 0)]
    measures = pd.DataFrame(rows, columns=["case", "structure", "voxels"])
    flags = flag_missing_targets(measures, ["tumor", "cyst"])
    assert flags[["case", "subject", "rule", "message"]].to_numpy().tolist() == [
        ["", "cyst", "absent",
         "cyst has no voxel in any of 2 cases: its value in `targets` may be wrong"],
    ]  # fmt: skip
    assert flag_missing_targets(measures[:0], ["tumor"]).empty


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("name\nx\n", "lacks the column case"),
        ("case\nb\n", "lacks the column decision"),
        ("case\tdecision\na\taccept\nb\tmaybe\nc\tnever\n", ": b has the decision 'maybe'"),
        ("case\tdecision\nx\taccept\na\taccept\ny\treject\n", ": 'x' is not in the case table"),
        ("case\tdecision\na\taccept\na\treject\nb\treject\nb\treject\n", ": a twice"),
    ],
)  # fmt: skip
def test_the_first_thing_wrong_with_decisions_is_named(tmp_path, text, what):
    path = tmp_path / "decisions.tsv"
    path.write_text(text)
    with pytest.raises(RunError) as caught:
        read_decisions(path, ["a", "b", "c"])
    assert caught.value.code is Code.TABLE_INVALID and what in caught.value.what


def test_decisions_need_no_note_and_no_file(tmp_path):
    path = tmp_path / "decisions.tsv"
    assert read_decisions(path, ["a"]).empty
    path.write_text("who\tdecision\tcase\nme\taccept\ta\n")
    table = read_decisions(path, ["a"])
    assert table.to_dict("records") == [{"case": "a", "decision": "accept", "note": ""}]
