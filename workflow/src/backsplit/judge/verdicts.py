"""Flags and verdicts: every case of the table gets one, with the reasons."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from backsplit.config.quality import REVIEW, Severity
from backsplit.errors import Code, RunError
from backsplit.judge.ranking import (
    NOTABLE,
    Place,
    kind_of,
    learned,
    odd_from,
    places,
    told_from,
    weighed,
)
from backsplit.store.status import Outcome, Status
from backsplit.store.tsv import read_table

FLAG_COLUMNS = ["case", "subject", "rule", "severity", "value", "expected", "message"]
SCORED_COLUMNS = [*FLAG_COLUMNS, "score", "example"]
VERDICT_COLUMNS = ["case", "verdict", "rules", "by", "note", "score", "rank", "reason"]
DECISION_COLUMNS = ("case", "decision", "note")


class Verdict(StrEnum):
    """What becomes of a case; a person's decision is one of these too."""

    ACCEPT = "accept"
    REVIEW = "review"
    REJECT = "reject"


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


def flag_absences(
    measures: pd.DataFrame,
    structures: Sequence[str],
    why: Callable[[str], str | None] = lambda _: None,
) -> pd.DataFrame:
    """Flag structures without a voxel: `info` for a case, `review` where no case has any.

    A structure that is empty in every case is a fault of the mapping, not of a case; it is
    reported once, with an empty `case`.

    Parameters
    ----------
    measures : of the label maps
    structures : of the configuration
    why : says why no case has a structure, where that is known
    """
    rows: list[dict[str, Any]] = []
    wanted = measures[measures["structure"].isin(structures)]
    for structure, group in wanted.groupby("structure", sort=False):
        empty = group[group["voxels"] == 0]
        if len(empty) == len(group):
            reason = why(str(structure)) or "its mapping in `structures` may be wrong"
            message = f"{structure} has no voxel in any of {len(group)} cases: {reason}"
            rows.append(_absent("", str(structure), Severity.REVIEW, message))
            continue
        rows += [
            _absent(
                str(case), str(structure), Severity.INFO, f"{structure} has no voxel in this case"
            )
            for case in empty["case"]
        ]
    return pd.DataFrame(rows, columns=FLAG_COLUMNS)


def flag_missing_targets(measures: pd.DataFrame, targets: Sequence[str]) -> pd.DataFrame:
    """Flag targets that no case has: a network would learn nothing of them.

    A target that a single case lacks is no flag: patients have different lesions.
    """
    totals = measures[measures["structure"].isin(targets)].groupby("structure")["voxels"].sum()
    cases = measures["case"].nunique()
    rows = [
        _absent(
            "",
            target,
            Severity.REVIEW,
            f"{target} has no voxel in any of {cases} cases: its value in `targets` may be wrong",
        )
        for target in targets
        if cases and not totals.get(target, 0)
    ]
    return pd.DataFrame(rows, columns=FLAG_COLUMNS)


def verdicts(
    cases: Sequence[str], flags: pd.DataFrame, decisions: pd.DataFrame, review: float = REVIEW
) -> pd.DataFrame:
    """Give every case a verdict: reject before review before accept.

    Parameters
    ----------
    cases : every case id of the table, in order
    flags : all flags, with scores where cases were compared. One of severity `reject` rejects a
        case, one of severity `review` sends it to review; those of severity `warn` rank the others
    decisions : a person's own (case, decision, note), which win, and move the scores of the rest
    review : share of the cases that a person is ready to look at: what is certain counts, and
        what was decided of what is improbable; the rest goes to those that rank first, if less
        likely than that share among ordinary cases

    Returns
    -------
    table
        `VERDICT_COLUMNS`: case, verdict, rules that led to it, by (`rules` or `person`), note,
        score, rank (1 first), reason (the message that leads)
    """
    everyone = list(dict.fromkeys(cases))
    unmoved = weighed(flags, len(everyone)).reset_index(drop=True)
    scored = learned(unmoved, decisions)
    found = places(everyone, scored)
    before = found if scored is unmoved else places(everyone, unmoved)
    decided = {str(row.case): row for row in decisions.itertuples()}
    sent = _within(review, everyone, found, before, scored, set(decided))
    by_case: dict[str, list[_Flag]] = {}
    columns = (scored[name] for name in ("case", "severity", "rule", "score"))
    for case, *flag in zip(*columns, strict=True):
        by_case.setdefault(case, []).append(_Flag(*flag))
    rows = []
    for case in everyone:
        place, mine = found[case], by_case.get(case, [])
        leading = "" if place.leading is None else str(scored["message"].iloc[place.leading])
        row = {
            "case": case, "verdict": _verdict(mine, case in sent), "by": "rules", "note": "",
            "rules": _rules(mine, place.leading, scored, told_from(review), case in sent),
            "score": round(place.score, 2), "rank": place.rank, "reason": leading,
        }  # fmt: skip
        if case in decided:
            row |= {"verdict": str(decided[case].decision), "by": "person"}
            row["note"] = str(decided[case].note)
        rows.append(row)
    return pd.DataFrame(rows, columns=VERDICT_COLUMNS)


def _within(
    review: float,
    cases: Sequence[str],
    found: Mapping[str, Place],
    before: Mapping[str, Place],
    flags: pd.DataFrame,
    decided: Set[str],
) -> set[str]:
    """Cases that the share of `review` is spent on, besides those that are certain or decided.

    Each is less likely than that share: what is odd at all, of few cases, is not sent for it. Of
    the cases that were decided those count that were as unlikely `before` decisions moved scores:
    a thousand ordinary ones that were accepted take nothing from those that are added later.
    """
    least = odd_from(review)
    refused = set(flags[flags["severity"] == Severity.REJECT]["case"])
    judged = [case for case in cases if case not in refused]

    def odd(place: Place) -> bool:
        return not place.certain and place.leading is not None and place.score >= least

    spent = sum(found[c].certain or (c in decided and odd(before[c])) for c in judged)
    ranked = sorted(judged, key=lambda case: found[case].rank)
    waiting = [case for case in ranked if case not in decided and odd(found[case])]
    left = math.ceil(review * len(judged)) - spent
    return set(waiting[: max(left, 0)])


class _Flag(NamedTuple):
    """What a verdict needs of a flag."""

    severity: str
    rule: str
    score: float


def _verdict(flags: Sequence[_Flag], sent: bool) -> Verdict:
    severities = {flag.severity for flag in flags}
    if Severity.REJECT in severities:
        return Verdict.REJECT
    return Verdict.REVIEW if sent or Severity.REVIEW in severities else Verdict.ACCEPT


def _rules(
    flags: Sequence[_Flag], leading: int | None, scored: pd.DataFrame, least: float, sent: bool
) -> str:
    """The rules that led to a verdict, the leading one first."""
    certain = [f.rule for f in flags if f.severity in (Severity.REJECT, Severity.REVIEW)]
    warned: list[str] = []
    if sent and leading is not None:
        notable = [f.rule for f in flags if f.severity == Severity.WARN and f.score >= least]
        warned = [str(scored["rule"].iloc[leading]), *notable]
    return ",".join(dict.fromkeys([*certain, *warned]))


def settled(
    flags: pd.DataFrame, verdict: pd.DataFrame, decisions: pd.DataFrame, review: float = REVIEW
) -> pd.DataFrame:
    """The flags as they are written: the one that leads a case to review says so.

    Comparisons in which a case is hardly odd are left out, but for what leads: what is below
    `NOTABLE`, or, of a case that is reviewed, what would not have sent it there. The weightiest
    come first.

    Parameters
    ----------
    flags, decisions, review : as `verdicts` was given them
    verdict : what it made of them
    """
    flags = learned(weighed(flags, len(verdict)).reset_index(drop=True), decisions)
    reviewed = verdict[verdict["verdict"] == Verdict.REVIEW]
    sent = reviewed[reviewed["by"] == "rules"]
    leads = set(zip(sent["case"], sent["reason"], strict=True))
    leading = np.array(
        [key in leads for key in zip(flags["case"], flags["message"], strict=True)], bool
    )
    warned = flags["severity"] == Severity.WARN
    severity = flags["severity"].where(~(leading & warned), str(Severity.REVIEW))
    compared = flags["rule"].map(kind_of) == "cohort"
    least = np.where(flags["case"].isin(reviewed["case"]), told_from(review), NOTABLE)
    kept = leading | ~(compared & (flags["score"] < least))
    written = flags.assign(severity=severity, score=flags["score"].round(2))[kept]
    order = written["severity"].map({str(name): -i for i, name in enumerate(Severity)})
    written = written.assign(order=order).sort_values(
        ["order", "score"], ascending=[True, False], kind="stable"
    )
    written = written.reindex(columns=SCORED_COLUMNS).fillna({"example": ""})
    return written.reset_index(drop=True)


def below_the_line(flags: pd.DataFrame, verdict: pd.DataFrame) -> int:
    """How many accepted cases have something against them that others have more of.

    Parameters
    ----------
    flags : as they are written
    verdict : of all cases
    """
    warned = set(flags[flags["severity"] == Severity.WARN]["case"])
    accepted = verdict[(verdict["verdict"] == Verdict.ACCEPT) & (verdict["by"] == "rules")]
    return len(warned & set(accepted["case"]))


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
    known = set(cases)
    strange = [case for case in table["case"] if case not in known]
    twice = table["case"][table["case"].duplicated()].tolist()
    if strange or twice:
        what = f"{strange[0]!r} is not in the case table" if strange else f"{twice[0]} twice"
        raise RunError(Code.TABLE_INVALID, f"{path}: {what}", "correct or remove that row")
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
