"""Flags of a data set: anatomy, cohort, agreement, and what is wrong with the mapping itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd

from backsplit.config_quality import AnatomyRules, Cohort, Quality
from backsplit.qc.anatomy import CT_BELOW_HU, Case, Finding, anatomy_rules, findings
from backsplit.qc.cohort import outliers
from backsplit.qc.judge import FLAG_COLUMNS, REVIEW

LABELS = "labels"
"""Source of what was composed; the others are segmenters."""

SYSTEMATIC_SHARE = 0.5
SYSTEMATIC_CASES = 5
"""What is wrong in at least half of the cases that have the structure, and in that many, is a fault
of the mapping or of the segmenter, and is reported once."""

ELSEWHERE_SHARE = 0.2
"""A group has a fault of its own when at most so many of the other cases have it."""


def all_flags(
    measures: pd.DataFrame,
    agreement: pd.DataFrame,
    sources: Mapping[str, Mapping[str, str]],
    groups: Mapping[str, Mapping[str, Sequence[str]]],
    settings: Quality,
) -> pd.DataFrame:
    """Everything that the measures say against cases, and against the mapping.

    Parameters
    ----------
    measures, agreement : the tables of `results/qc`
    sources : segmenter to {class: structure}
    groups : column of the case table to {value: cases}
    settings : the section `qc`
    """
    compared = [flag_outliers(measures, settings.cohort)]
    for values in groups.values():
        for cases in values.values():
            mine = measures[measures["case"].isin(cases)]
            compared.append(flag_outliers(mine, settings.cohort))
    flags = pd.concat(
        [
            flag_anatomy(measures, anatomy_rules().with_first(settings.rules)),
            *compared,
            flag_disagreement(agreement, settings.least_dice),
        ]
    ).drop_duplicates(["case", "subject", "rule"])
    off = [
        any(fnmatchcase(text, pattern) for pattern in settings.off for text in texts)
        for texts in zip(flags["rule"], flags["rule"] + ":" + flags["subject"], strict=True)
    ]
    flags = flags[~np.array(off, bool)]
    return systematic(without_echoes(flags, sources), measures, groups)


def flag_anatomy(measures: pd.DataFrame, rules: AnatomyRules) -> pd.DataFrame:
    """Hold the anatomy rules against every case, for each source of labels.

    Parameters
    ----------
    measures : `measures.parquet`
    rules : the rules
    """
    rows: list[dict[str, str]] = []
    for (case, source), mine in measures.groupby(["case", "source"], sort=False):
        if source == "image":
            continue
        by_name = {str(row["structure"]): row for row in _records(mine)}
        is_ct = bool(mine["minimum"].min() < CT_BELOW_HU)
        by_name.pop("background", None)
        found = findings(Case(by_name, is_ct=is_ct), rules)
        rows += [_row(str(case), str(source), finding) for finding in found]
    return pd.DataFrame(rows, columns=FLAG_COLUMNS)


def flag_outliers(measures: pd.DataFrame, settings: Cohort) -> pd.DataFrame:
    """Compare the cases with each other, for each source of labels."""
    rows = [
        _row(case, str(source), finding)
        for source, mine in measures.groupby("source", sort=False)
        if source != "image"
        for case, finding in outliers(mine, settings)
    ]
    return pd.DataFrame(rows, columns=FLAG_COLUMNS)


def flag_disagreement(agreement: pd.DataFrame, least_dice: float) -> pd.DataFrame:
    """Flag structures on which two segmenters disagree."""
    low = agreement[agreement["dice"] < least_dice]
    rows = [
        {
            "case": row.case,
            "subject": row.structure,
            "rule": "agreement",
            "severity": "warn",
            "value": f"Dice {row.dice:.2f}",
            "expected": f"at least {least_dice:g}",
            "message": f"{row.structure}: {row.first} and {row.second} agree with a Dice of "
            f"{row.dice:.2f} only; expected at least {least_dice:g}",
        }
        for row in low.itertuples()
    ]
    return pd.DataFrame(rows, columns=FLAG_COLUMNS)


def without_echoes(flags: pd.DataFrame, sources: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """Leave out what a segmenter's class says where its structure says the same.

    Parameters
    ----------
    flags : flags
    sources : segmenter to {class: structure}
    """
    said = set(zip(flags["case"], flags["subject"], flags["rule"], strict=True))
    structures = {
        f"{segmenter}/{name}": structure
        for segmenter, classes in sources.items()
        for name, structure in classes.items()
    }
    echoes = [
        (case, structures.get(subject), rule) in said
        for case, subject, rule in zip(flags["case"], flags["subject"], flags["rule"], strict=True)
    ]
    return flags[~np.array(echoes, bool)]


def systematic(
    flags: pd.DataFrame,
    measures: pd.DataFrame,
    groups: Mapping[str, Mapping[str, Sequence[str]]],
) -> pd.DataFrame:
    """Turn what is wrong nearly everywhere into one flag of the mapping.

    Parameters
    ----------
    flags : of single cases
    measures : `measures.parquet`, for how many cases have a structure
    groups : column of the case table to {value: cases}

    Returns
    -------
    flags
        Those of single cases that remain, and for each systematic fault one with an empty `case`.
        A case keeps no flag of a fault that is not its own.
    """
    there = _cases_of(measures)
    kept, faults = [], []
    for (subject, _), mine in flags.groupby(["subject", "rule"], sort=False):
        bad = set(mine["case"])
        everyone = there.get(str(subject), set()) | bad
        explained: set[str] = set()
        for name, members in _populations(everyone, groups):
            hit, others = bad & members, everyone - members
            often = len(hit) >= max(SYSTEMATIC_CASES, SYSTEMATIC_SHARE * len(members))
            if often and len(bad & others) <= ELSEWHERE_SHARE * len(others):
                example = mine[mine["case"].isin(hit)].iloc[0]
                faults.append(_fault(example, name, len(hit), len(members)))
                explained = hit
                break
        kept.append(mine[~mine["case"].isin(explained)])
    single = pd.concat(kept) if kept else flags
    return pd.concat([pd.DataFrame(faults, columns=FLAG_COLUMNS), single], ignore_index=True)


def _populations(
    everyone: set[str], groups: Mapping[str, Mapping[str, Sequence[str]]]
) -> Iterator[tuple[str, set[str]]]:
    """The whole data set, then each group of each column."""
    yield "", everyone
    for column, values in groups.items():
        for value, cases in values.items():
            yield f"{column} {value}", everyone & set(cases)


def _cases_of(measures: pd.DataFrame) -> dict[str, set[str]]:
    """Subject to the cases that have it."""
    found: dict[str, set[str]] = {}
    there = measures[measures["voxels"] > 0]
    for (source, structure), mine in there.groupby(["source", "structure"], sort=False):
        found[_subject(str(source), str(structure))] = set(mine["case"])
    return found


def _fault(example: pd.Series, group: str, hit: int, members: int) -> dict[str, str]:
    where = f"{hit} of {members} cases" + (f" of {group}" if group else "")
    return {
        "case": "",
        "subject": str(example["subject"]),
        "rule": f"systematic_{example['rule']}",
        "severity": REVIEW,
        "value": where,
        "expected": str(example["expected"]),
        "message": f"{example['subject']} is wrong in {where}: its mapping, or its segmenter, "
        f"not the cases; e.g. {example['case']}: {example['message']}",
    }


def _subject(source: str, structure: str) -> str:
    return structure if source == LABELS else f"{source}/{structure}"


def _row(case: str, source: str, finding: Finding) -> dict[str, str]:
    return {
        "case": case,
        **asdict(finding),
        "subject": _subject(source, finding.subject),
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
