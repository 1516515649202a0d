"""Flags and verdicts."""

from __future__ import annotations

import pandas as pd
import pytest

from backsplit.errors import RunError
from backsplit.judge.flags import flag_disagreement, odd_one_out
from backsplit.judge.verdicts import (
    DECISION_COLUMNS,
    FLAG_COLUMNS,
    flag_absences,
    flag_failures,
    read_decisions,
    verdicts,
)
from backsplit.store.status import Outcome, Status

NOBODY = pd.DataFrame(columns=list(DECISION_COLUMNS), dtype=str)


def _status(rows):
    return [Outcome(case, Status(status), code, message) for case, status, code, message in rows]


def test_the_first_failure_decides_the_verdict():
    check = _status(
        [("a", "ok", "", ""), ("b", "refused", "GRID_MISMATCH", "off"), ("c", "ok", "", "")]
    )
    organs = _status(
        [
            ("a", "failed", "OUT_OF_MEMORY", "too big"),
            ("b", "refused", "GRID_MISMATCH", "off"),
            ("c", "done", "", ""),
        ]
    )
    compose = _status(
        [
            ("a", "done", "", ""),
            ("b", "refused", "GRID_MISMATCH", "off"),
            ("c", "failed", "PROMISE_BROKEN", "x"),
        ]
    )
    flags = flag_failures({"check": check, "segment organs": organs, "compose": compose})
    result = verdicts(["a", "b", "c"], flags, NOBODY).set_index("case")
    assert result["verdict"].to_dict() == {"a": "review", "b": "reject", "c": "reject"}
    assert result["rules"].to_dict() == {
        "a": "OUT_OF_MEMORY",
        "b": "GRID_MISMATCH",
        "c": "PROMISE_BROKEN",
    }


def test_a_structure_absent_everywhere_is_one_fault():
    measures = pd.DataFrame(
        [
            {"case": c, "structure": s, "voxels": v}
            for c, liver in (("a", 10), ("b", 0))
            for s, v in (("liver", liver), ("spleen", 0))
        ]
    )
    flags = flag_absences(measures, ["liver", "spleen"])
    mapping = flags[flags["case"] == ""]
    assert list(mapping["subject"]) == ["spleen"] and list(mapping["severity"]) == ["review"]
    single = flags[flags["case"] != ""]
    assert list(single["case"]) == ["b"] and list(single["severity"]) == ["info"]
    assert set(verdicts(["a", "b"], flags, NOBODY)["verdict"]) == {"accept"}


def _flags(rows):
    """Flags of (case, rule, severity)."""
    full = [(case, "liver", rule, severity, "", "", "") for case, rule, severity in rows]
    return pd.DataFrame(full, columns=FLAG_COLUMNS)


def test_severities_make_verdicts_and_a_person_wins(tmp_path):
    cases = ["none", "info", "warn", "warns", "review", "reject", "kept", "thrown"]
    flags = _flags(
        [
            ("info", "absent", "info"),
            ("warn", "cohort_intensity", "warn"),
            ("warns", "cohort_intensity", "warn"),
            ("warns", "agreement", "warn"),
            ("review", "side", "review"),
            ("review", "agreement", "warn"),
            ("reject", "side", "review"),
            ("reject", "GRID_MISMATCH", "reject"),
            ("kept", "side", "review"),
        ]
    )
    path = tmp_path / "decisions.tsv"
    path.write_text("case\tdecision\tnote\nkept\taccept\tsitus inversus\nthrown\treject\t\n")
    table = verdicts(cases, flags, read_decisions(path, cases)).set_index("case")
    assert table["verdict"].to_dict() == {
        "none": "accept", "info": "accept", "warn": "accept", "warns": "accept",
        "review": "review", "reject": "reject", "kept": "accept", "thrown": "reject",
    }  # fmt: skip
    assert table.loc["review", "rules"] == "side"
    assert table["by"].to_dict() == {
        **dict.fromkeys(cases, "rules"), "kept": "person", "thrown": "person"
    }  # fmt: skip
    assert table.loc["kept", "rules"] == "side" and table.loc["kept", "note"] == "situs inversus"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("case\tverdict\na\taccept\n", "lacks the column decision"),
        ("case\tdecision\na\tmaybe\n", "'maybe'"),
        ("case\tdecision\nb\taccept\n", "'b' is not in the case table"),
        ("case\tdecision\na\taccept\na\treject\n", "a twice"),
    ],
)
def test_decisions_that_make_no_sense_are_refused(tmp_path, text, word):
    path = tmp_path / "decisions.tsv"
    path.write_text(text)
    with pytest.raises(RunError, match=word) as error:
        read_decisions(path, ["a"])
    assert error.value.code == "TABLE_INVALID"


PAIRS = (("organs", "other"), ("organs", "third"), ("other", "third"))


@pytest.mark.parametrize(
    ("dice", "odd"),
    [
        ((0.9, 0.3, 0.4), "third"),
        ((0.3, 0.9, 0.4), "other"),
        ((0.3, 0.4, 0.9), "organs"),
        ((0.3, 0.4, 0.5), None),
        ((0.9, 0.3, 0.9), None),
        ((float("nan"), 0.0, 0.0), "third"),
    ],
)
def test_of_three_segmenters_the_odd_one_out_is_named(dice, odd):
    table = pd.DataFrame(PAIRS, columns=["first", "second"])
    table = table.assign(dice=dice, case="a", structure="liver")
    assert odd_one_out(table, 0.7) == odd
    flag = flag_disagreement(table, 0.7).iloc[0]
    assert (flag["case"], flag["subject"], flag["severity"]) == ("a", "liver", "warn")
    if odd:
        its = [d for d, pair in zip(dice, PAIRS, strict=True) if odd in pair]
        assert f"{odd} is the outlier" in flag["message"]
        assert flag["value"] == f"{odd}: Dice up to {max(its):.2f} with the rest"
    else:
        assert "organs and" in flag["message"] and "is the outlier" not in flag["message"]


def test_of_two_segmenters_neither_is_the_odd_one():
    rows = [("organs", "other", 0.2, "a", "liver"), ("organs", "other", 0.9, "b", "liver")]
    table = pd.DataFrame(rows, columns=["first", "second", "dice", "case", "structure"])
    assert odd_one_out(table.iloc[:1], 0.7) is None
    flags = flag_disagreement(table, 0.7)
    assert flags["case"].tolist() == ["a"] and "organs and other agree" in flags["message"].iloc[0]


def test_decisions_may_all_be_withdrawn(tmp_path):
    path = tmp_path / "decisions.tsv"
    path.write_text("case\tdecision\tnote\n")
    assert read_decisions(path, ["a"]).empty
    flags = flag_failures({"check": _status([("a", "ok", "", "")])})
    assert verdicts(["a"], flags, read_decisions(path, ["a"]))["verdict"].tolist() == ["accept"]
