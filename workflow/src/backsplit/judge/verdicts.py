"""Flags and verdicts: every case of the table gets one, with the reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import pandas as pd

from backsplit.config.quality import Severity
from backsplit.errors import Code, RunError
from backsplit.store.status import Outcome, Status
from backsplit.store.tsv import read_table

FLAG_COLUMNS = ["case", "subject", "rule", "severity", "value", "expected", "message"]
VERDICT_COLUMNS = ["case", "verdict", "rules", "by", "note"]
DECISION_COLUMNS = ("case", "decision", "note")


class Verdict(StrEnum):
    """What becomes of a case; a person's decision is one of these too."""

    ACCEPT = "accept"
    REVIEW = "review"
    REJECT = "reject"


WARNINGS = 2
"""So many flags of severity `warn` make a case one to review."""


def flag_failures(stages: Mapping[str, Sequence[Outcome]]) -> pd.DataFrame:
    """Flag each case that a stage refused or failed, once, where it happened first.

    Parameters
    ----------
    stages : stage to what became of its cases, in order of the flow
    """
    rows = []
    seen: set[str] = set()
    for stage, outcomes in stages.items():
        for row in outcomes:
            if row.status not in (Status.REFUSED, Status.FAILED) or row.case in seen:
                continue
            partial = stage.startswith("segment ")
            if not partial:
                seen.add(row.case)
            rows.append(
                {
                    "case": row.case,
                    "subject": stage,
                    "rule": row.code,
                    "severity": Severity.REVIEW if partial else Severity.REJECT,
                    "value": str(row.status),
                    "expected": str(Status.OK if stage == "check" else Status.DONE),
                    "message": row.message,
                }
            )
    return pd.DataFrame(rows, columns=FLAG_COLUMNS)


def flag_absences(measures: pd.DataFrame, structures: Sequence[str]) -> pd.DataFrame:
    """Flag structures without a voxel: `info` for a case, `review` where no case has any.

    A structure that is empty in every case is a fault of the mapping, not of a case; it is
    reported once, with an empty `case`.
    """
    rows: list[dict[str, Any]] = []
    wanted = measures[measures["structure"].isin(structures)]
    for structure, group in wanted.groupby("structure", sort=False):
        empty = group[group["voxels"] == 0]
        if len(empty) == len(group):
            message = (
                f"{structure} has no voxel in any of {len(group)} cases: "
                "its mapping in `structures` may be wrong"
            )
            rows.append(_absent("", str(structure), Severity.REVIEW, message))
            continue
        rows += [
            _absent(
                str(case), str(structure), Severity.INFO, f"{structure} has no voxel in this case"
            )
            for case in empty["case"]
        ]
    return pd.DataFrame(rows, columns=FLAG_COLUMNS)


def verdicts(cases: Sequence[str], flags: pd.DataFrame, decisions: pd.DataFrame) -> pd.DataFrame:
    """Give every case a verdict: reject before review before accept.

    Parameters
    ----------
    cases : every case id of the table, in order
    flags : all flags. One of severity `reject` rejects a case, one of severity `review` sends it
        to review, as do `WARNINGS` of severity `warn`; `info` changes no verdict
    decisions : a person's own (case, decision, note), which win

    Returns
    -------
    table
        case, verdict, rules, by (`rules` or `person`), note
    """
    of_case: dict[str, list[tuple[str, str]]] = {}
    for case, *said in zip(flags["case"], flags["severity"], flags["rule"], strict=True):
        of_case.setdefault(case, []).append((said[0], said[1]))
    decided = {str(row.case): row for row in decisions.itertuples()}
    rows = []
    for case in dict.fromkeys(cases):
        verdict, rules = _judged(of_case.get(case, []))
        row = {"case": case, "verdict": verdict, "rules": rules, "by": "rules", "note": ""}
        if case in decided:
            row |= {"verdict": str(decided[case].decision), "by": "person"}
            row["note"] = str(decided[case].note)
        rows.append(row)
    return pd.DataFrame(rows, columns=VERDICT_COLUMNS)


def _judged(flags: Sequence[tuple[str, str]]) -> tuple[Verdict, str]:
    """Verdict by the rules, of (severity, rule), and the rules that led to it."""
    severities = [severity for severity, _ in flags]
    weighty = {Severity.REJECT, Severity.REVIEW}
    if severities.count(Severity.WARN) >= WARNINGS:
        weighty.add(Severity.WARN)
    verdict = Verdict.ACCEPT
    if Severity.REJECT in severities:
        verdict = Verdict.REJECT
    elif weighty & set(severities):
        verdict = Verdict.REVIEW
    return verdict, ",".join(dict.fromkeys(rule for severity, rule in flags if severity in weighty))


def read_decisions(path: Path, cases: Sequence[str]) -> pd.DataFrame:
    """Read a person's decisions: case, decision (accept, review or reject), note.

    Raises
    ------
    RunError
        TABLE_INVALID: a missing column, another decision, a case twice or that is not there.
    """
    if not path.exists():
        return pd.DataFrame(columns=DECISION_COLUMNS, dtype=str)
    header, rows = read_table(path)
    table = pd.DataFrame(rows, columns=header, dtype=str)
    missing = [name for name in ("case", "decision") if name not in table.columns]
    if missing:
        raise RunError(
            Code.TABLE_INVALID,
            f"{path} lacks the column {missing[0]}",
            f"it needs {', '.join(DECISION_COLUMNS)}",
        )
    if "note" not in table.columns:
        table["note"] = ""
    wrong = table[~table["decision"].isin(list(Verdict))]
    if len(wrong):
        raise RunError(
            Code.TABLE_INVALID,
            f"{path}: {wrong['case'].iloc[0]} has the decision {wrong['decision'].iloc[0]!r}",
            "write accept, review or reject",
        )
    strange = [case for case in table["case"] if case not in set(cases)]
    twice = table["case"][table["case"].duplicated()].tolist()
    if strange or twice:
        what = f"{strange[0]!r} is in no row of the case table" if strange else f"{twice[0]} twice"
        raise RunError(Code.TABLE_INVALID, f"{path}: {what}", "mend or remove that line")
    return table[list(DECISION_COLUMNS)]


def _absent(case: str, structure: str, severity: Severity, message: str) -> dict[str, Any]:
    return {
        "case": case,
        "subject": structure,
        "rule": "absent",
        "severity": severity,
        "value": "0 voxels",
        "expected": "> 0 voxels",
        "message": message,
    }
