"""What is known of each structure before and after training: a description, and no promise.

Structures are ranked by a stated score: the mean of their percentile ranks in the columns `RANKED`
that are known. Whether such a ranking tells which structures help is a question to the study itself
(`study.evidence`); nobody has shown it so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backsplit.store.sidecars import Known
from backsplit.study.theory import IN_QUESTION

RANKED = ("rim_share", "alarm_share", "information")
"""Columns that the score is made of. Each says that a structure and the lesions are hard to tell
apart by one measure: they lie side by side; the binary network took one for the other; a network
with anatomy distinguishes it from the background along the lesion's direction."""

COLUMNS = {
    "volume_ml": "median volume, ml",
    "known": "share of cases where it is known",
    "flags": "cases with a QC flag for it",
    "rim_share": "share of the lesions' rim",
    "alarm_share": "share of the reference arm's false alarms",
    "alarm_mm3": "false alarms in it, mm3",
    "information": "information along the lesion's direction, where the network is in doubt",
}
"""Columns of the advice, and what they are."""

SOURCES = {
    "volume_ml": "run the workflow up to `judge`",
    "known": "run the workflow up to `compose`",
    "flags": "run the workflow up to `judge`",
    "rim_share": "run the workflow up to `compose`",
    "alarm_share": "train an arm without structures",
    "alarm_mm3": "train an arm without structures",
    "information": "train an arm with structures",
}
"""Where a column comes from, for a person who lacks it."""


@dataclass(frozen=True)
class Tables:
    """What the stages and the study left; an empty table where there is nothing yet.

    Attributes
    ----------
    measures : case, source, structure, volume_ml (`qc/measures.parquet`)
    status : case, structure, status (`labels/status.parquet`)
    flags : case, subject (`qc/flags.tsv`)
    surroundings : of `study.surroundings.by_structure`
    splits : of `study.theory.information`
    """

    measures: pd.DataFrame
    status: pd.DataFrame
    flags: pd.DataFrame
    surroundings: pd.DataFrame
    splits: pd.DataFrame


def advise_on(structures: Sequence[str], tables: Tables) -> pd.DataFrame:
    """Put together what is known of each structure.

    Parameters
    ----------
    structures : by their ids
    tables : what there is

    Returns
    -------
    advice
        A row for each structure with `structure`, the `COLUMNS` (NaN where nothing is known) and
        `score` (0 to 1), the highest first.
    """
    advice = pd.DataFrame(index=pd.Index(structures, name="structure"))
    advice["volume_ml"] = _volumes(tables.measures)
    advice["known"] = _known(tables.status)
    flagged = tables.flags[tables.flags["case"] != ""].groupby("subject")["case"].nunique()
    judged = len(tables.measures) > 0
    advice["flags"] = flagged.reindex(advice.index).fillna(0) if judged else np.nan
    around = tables.surroundings.set_index("structure")
    for column in ("rim_share", "alarm_share", "alarm_mm3"):
        advice[column] = around[column]
    doubted = tables.splits[tables.splits["where"] == IN_QUESTION]
    advice["information"] = doubted.groupby("structure")["along_alone"].mean()
    advice["score"] = score(advice)
    return advice.sort_values("score", ascending=False, kind="stable").reset_index()


def score(advice: pd.DataFrame) -> pd.Series:
    """Mean of the percentile ranks (1: the highest) in the columns of `RANKED` that are known.

    A structure of which a column knows nothing is not ranked in it.
    """
    ranks = [advice[column].rank(pct=True) for column in RANKED if advice[column].notna().any()]
    if not ranks:
        return pd.Series(np.nan, index=advice.index)
    return pd.concat(ranks, axis=1).mean(axis=1)


def missing(advice: pd.DataFrame) -> dict[str, str]:
    """Columns of which nothing is known, and what to do for them."""
    return {column: SOURCES[column] for column in COLUMNS if advice[column].isna().all()}


def information_lines(totals: pd.DataFrame) -> list[str]:
    """What a network's split background tells of each target, for a person."""
    doubted = totals[totals["where"] == IN_QUESTION]
    return [
        f"Information on {row['target']} where the network is in doubt, along the lesion's "
        f"direction: {row['along_coarse']:.3g} with one background, {row['along_gain']:.3g} more "
        f"with the structures. Halves at random gain {row['halves_gain']:.1g} in the space of "
        f"features (the last layer's trace claims {row['halves_trace_gain']:.3g})."
        for row in doubted.to_dict("records")
    ]


def advice_text(advice: pd.DataFrame, more: Sequence[str]) -> str:
    """The advice for a person.

    Parameters
    ----------
    advice : of `advise_on`
    more : lines of `information_lines` and `study.evidence.evidence_lines`
    """
    without = missing(advice)
    shown = [column for column in COLUMNS if column not in without]
    lines = [_row(["structure", *shown, "score"])]
    for row in advice.to_dict("records"):
        lines.append(_row([str(row["structure"]), *(_number(row[c]) for c in (*shown, "score"))]))
    lines = _aligned(lines)
    lines += ["", *(f"{column}: {COLUMNS[column]}" for column in shown)]
    used = [column for column in RANKED if column not in without]
    if used:
        lines += [f"score: mean percentile rank of {', '.join(used)}"]
    lines += [f"{column}: not available; {remedy}" for column, remedy in without.items()]
    lines += ["", "A description, not a promise that a structure helps.", *more]
    return "\n".join(lines) + "\n"


def _volumes(measures: pd.DataFrame) -> pd.Series:
    mine = measures[(measures["source"] == "labels") & (measures["volume_ml"] > 0)]
    return mine.groupby("structure")["volume_ml"].median()


def _known(status: pd.DataFrame) -> pd.Series:
    return (status["status"] != Known.UNKNOWN).groupby(status["structure"]).mean()


def _row(cells: Sequence[str]) -> str:
    return "\t".join(cells)


def _number(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.3g}"


def _aligned(lines: Sequence[str]) -> list[str]:
    """Columns under each other; the first one to the left."""
    table = [line.split("\t") for line in lines]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
