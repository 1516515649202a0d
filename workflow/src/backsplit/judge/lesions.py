"""Flags of lesions: what was drawn, and where it lies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from backsplit.config.quality import Severity
from backsplit.judge.verdicts import FLAG_COLUMNS

MOST_OF_BODY = 0.5
"""A target that is more of the body than this is no lesion but an inverted mask or the body itself.
No data set is behind it: half of the body is far beyond any lesion, and far below both of these."""

MOST_OUTSIDE = 0.5
"""A lesion is taken to be outside the body where more of it than this is: the mask of the body is
coarse, and lesions of the skin reach out of it."""


def flag_lesions(drawn: pd.DataFrame, lesions: pd.DataFrame) -> pd.DataFrame:
    """Flag what is odd about the lesions of a case.

    Parameters
    ----------
    drawn, lesions : the tables of `results/qc`
    """
    rows = [*_empty(drawn), *_odd_value(drawn), *_gaps(drawn)]
    rows += [*_covering(drawn), *_outside(lesions)]
    return pd.DataFrame(rows, columns=FLAG_COLUMNS)


def _empty(drawn: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Files in which there is no lesion: right for some patients, and a slip for others."""
    for (case, column), mine in drawn.groupby(["case", "column"], sort=False):
        if not mine["parts"].any() and not mine["drawn_ml"].any():
            targets = ", ".join(mine["target"])
            message = (
                f"the file in {column} holds no {targets}: the patient has none, or it is lost"
            )
            yield _flag(case, targets, "lesion_empty", Severity.INFO, "0 ml", "> 0 ml", message)


def _odd_value(drawn: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Masks of another value than most: whatever is not 0 is the target, and may be another."""
    masks = drawn[drawn["value"].notna()]
    for (target, _), mine in masks.groupby(["target", "column"], sort=False):
        counts = mine["value"].value_counts()
        usual = counts.index[0]
        if counts.iloc[0] <= len(mine) / 2:
            continue  # no value is usual
        expected = f"{usual:.0f}, as in {counts.iloc[0]} of {len(mine)} cases"
        for row in mine[mine["value"] != usual].to_dict("records"):
            value = f"{row['value']:.0f}"
            message = (
                f"{target} has the value {value} in its file where {usual:.0f} is usual: as "
                "whatever is not 0 is taken for it, it may be something else"
            )
            yield _flag(
                row["case"], target, "lesion_value", Severity.WARN, value, expected, message
            )


def _gaps(drawn: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Contours that leave out slices between the first and the last of a target."""
    for row in drawn[(drawn["kind"] == "contours") & (drawn["gaps"] > 0)].to_dict("records"):
        message = (
            f"{row['target']}: {row['gaps']:.0f} slices between its first and last contour have "
            "none: several lesions, or one drawn on some slices only, which nothing fills in"
        )
        value = f"{row['gaps']:.0f} slices"
        yield _flag(
            row["case"], row["target"], "lesion_gaps", Severity.WARN, value, "0 slices", message
        )


def _covering(drawn: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for row in drawn[drawn["body_fraction"] > MOST_OF_BODY].to_dict("records"):
        share = f"{row['body_fraction']:.0%}"
        message = (
            f"{row['target']} has {share} of the body's volume: the mask may be inverted, or of "
            "the body"
        )
        expected = f"at most {MOST_OF_BODY:.0%}"
        yield _flag(
            row["case"], row["target"], "lesion_covers", Severity.REVIEW, share, expected, message
        )


def _outside(lesions: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Lesions outside the body, the worst of each target."""
    off = lesions[lesions["outside_fraction"] > MOST_OUTSIDE]
    for (case, target), mine in off.groupby(["case", "target"], sort=False):
        worst = mine.sort_values("volume_ml").iloc[-1]
        more = f" (and {len(mine) - 1} more)" if len(mine) > 1 else ""
        share = f"{worst['outside_fraction']:.0%}"
        message = (
            f"lesion {worst['instance']} ({target}) lies outside the body by {share}{more}: "
            "the file may be of another image"
        )
        expected = f"at most {MOST_OUTSIDE:.0%}"
        yield _flag(case, target, "lesion_outside", Severity.WARN, share, expected, message)


def _flag(
    case: object,
    subject: object,
    rule: str,
    severity: Severity,
    value: str,
    expected: str,
    message: str,
) -> dict[str, Any]:
    row = (case, subject, rule, severity, value, expected, message)
    return dict(zip(FLAG_COLUMNS, row, strict=True))
