"""What an evaluation says, in a table that people read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import pandas as pd

from backsplit.train.evaluation import Evaluation

SIZES_MM = (10.0, 20.0)
"""Limits between small, medium and large lesions. RECIST 1.1 (Eisenhauer 2009) calls lesions from
10 mm on measurable; 20 mm is its limit on thick slices."""


def summary(evaluation: Evaluation, tolerance_mm: float) -> str:
    """Markdown: a table of cases with lesions, one of lesions by size, one of cases without.

    Parameters
    ----------
    evaluation : the scores
    tolerance_mm : of NSD, for the heading
    """
    parts = [
        ("Cases with the target", _with(evaluation.cases, tolerance_mm)),
        ("Lesions by diameter", _by_size(evaluation.lesions)),
        ("Cases without the target", _without(evaluation.cases)),
    ]
    blocks = [f"## {title}\n\n{markdown(table)}" for title, table in parts if len(table)]
    return "\n\n".join(blocks) + "\n"


def _with(cases: pd.DataFrame, tolerance_mm: float) -> pd.DataFrame:
    rows = []
    for target, mine in cases[cases["reference_ml"] > 0].groupby("target", sort=False):
        found, lesions = mine["found"].sum(), mine["lesions"].sum()
        rows.append(
            {
                "target": target,
                "cases": str(len(mine)),
                "Dice": f"{mine['dice'].mean():.3f}",
                "median": f"{mine['dice'].median():.3f}",
                f"NSD at {tolerance_mm:g} mm": f"{mine['nsd'].mean():.3f}",
                "median HD95": _mm(mine["hd95_mm"].median()),
                "nothing predicted": str(int((mine["predicted_ml"] == 0).sum())),
                "false positive": f"{mine['false_positive_ml'].mean():.3g} ml",
                "false negative": f"{mine['false_negative_ml'].mean():.3g} ml",
                "lesions found": f"{found} of {lesions}",
                "invented a case": f"{mine['invented'].mean():.2f}",
                "lesion-wise Dice": f"{mine['lesion_dice'].mean():.3f}",
            }
        )
    return pd.DataFrame(rows)


def _by_size(lesions: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for target, of_target in lesions.groupby("target", sort=False):
        for name, low, high in size_classes(SIZES_MM):
            mine = of_target[of_target["diameter_mm"].between(low, high, inclusive="left")]
            drawn = mine[(mine["kind"] == "reference") & mine["counts"].astype(bool)]
            if not len(mine):
                continue
            rows.append(
                {
                    "target": target,
                    "diameter": name,
                    "lesions": str(len(drawn)),
                    "found": str(int(drawn["found"].astype(bool).sum())),
                    "mean Dice": f"{drawn['dice'].mean():.3f}" if len(drawn) else "",
                    "invented": str(int((mine["kind"] == "invented").sum())),
                }
            )
    return pd.DataFrame(rows)


def _without(cases: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for target, mine in cases[cases["reference_ml"] == 0].groupby("target", sort=False):
        wrong = mine[mine["predicted_ml"] > 0]
        rows.append(
            {
                "target": target,
                "cases": str(len(mine)),
                "with a false alarm": str(len(wrong)),
                "false positive a case": f"{mine['false_positive_ml'].mean():.3g} ml",
            }
        )
    return pd.DataFrame(rows)


def size_classes(limits: Sequence[float]) -> Iterator[tuple[str, float, float]]:
    """Name, and from where to where, of each class of size."""
    yield f"below {limits[0]:g} mm", 0.0, limits[0]
    for low, high in pairwise(limits):
        yield f"{low:g} to {high:g} mm", low, high
    yield f"from {limits[-1]:g} mm", limits[-1], float("inf")


def _mm(value: float) -> str:
    return f"{value:.1f} mm"


def markdown(table: pd.DataFrame) -> str:
    """A table of text as Markdown, columns padded so that a terminal shows them too."""
    cells = [list(table.columns), *table.to_numpy().tolist()]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.columns))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])
