"""Flags and verdicts: every case of the table gets one, with the reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

FLAG_COLUMNS = ["case", "subject", "rule", "severity", "value", "expected", "message"]
VERDICT_COLUMNS = ["case", "verdict", "rules"]

REJECT = "reject"
REVIEW = "review"
ACCEPT = "accept"


def flag_failures(stages: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Flag each case that a stage refused or failed, once, where it happened first.

    Parameters
    ----------
    stages : stage name to its status table (case, status, code, message), in order of the flow
    """
    rows = []
    seen: set[str] = set()
    for stage, table in stages.items():
        bad = table[table["status"].isin(["refused", "failed"])]
        for row in bad.itertuples():
            case = str(row.case)
            if case in seen:
                continue
            partial = stage.startswith("segment ")
            if not partial:
                seen.add(case)
            rows.append(
                {
                    "case": case,
                    "subject": stage,
                    "rule": str(row.code),
                    "severity": REVIEW if partial else REJECT,
                    "value": str(row.status),
                    "expected": "ok" if stage == "check" else "done",
                    "message": str(row.message),
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
            rows.append(_absent("", str(structure), REVIEW, message))
            continue
        rows += [
            _absent(str(case), str(structure), "info", f"{structure} has no voxel in this case")
            for case in empty["case"]
        ]
    return pd.DataFrame(rows, columns=FLAG_COLUMNS)


def verdicts(cases: Sequence[str], flags: pd.DataFrame) -> pd.DataFrame:
    """Give every case a verdict: reject before review before accept.

    Parameters
    ----------
    cases : every case id of the table, in order
    flags : all flags; those of severity `info` change no verdict
    """
    rows = []
    for case in dict.fromkeys(cases):
        mine = flags[flags["case"] == case]
        severities = set(mine["severity"])
        verdict = REJECT if REJECT in severities else REVIEW if REVIEW in severities else ACCEPT
        rules = mine[mine["severity"].isin([REJECT, REVIEW])]["rule"]
        rows.append({"case": case, "verdict": verdict, "rules": ",".join(dict.fromkeys(rules))})
    return pd.DataFrame(rows, columns=VERDICT_COLUMNS)


def _absent(case: str, structure: str, severity: str, message: str) -> dict[str, Any]:
    return {
        "case": case,
        "subject": structure,
        "rule": "absent",
        "severity": severity,
        "value": "0 voxels",
        "expected": "> 0 voxels",
        "message": message,
    }
