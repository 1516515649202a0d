"""Read the tables that the stages left on the disk; one that is not there yet holds nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from backsplit.judge.verdicts import FLAG_COLUMNS
from backsplit.report.facts import Flag, LesionFacts
from backsplit.scheme.scheme import Known
from backsplit.store.provenance import read_json
from backsplit.store.tsv import read_tsv

Sidecars = Mapping[str, Mapping[str, Any]]
"""Case id to its sidecar."""

MEASURES = (
    *("case", "source", "structure", "voxels", "volume_ml", "mean", "sd", "p50"),
    *("components_large", "largest_fraction", "holes_ml", "touches_border"),
)
"""Columns of `measures.parquet` that the report shows, a third of them."""
LESIONS = (
    *("case", "instance", "target", "volume_ml", "max_diameter_mm", "host", "inside_fraction"),
    *("contrast", "touches_border", "centroid_x", "centroid_y", "centroid_z"),
)
"""Columns of `lesions.parquet` that the report shows."""
AGREEMENT = ("case", "structure", "first", "second", "dice", "surface_mm")
"""Columns of `agreement.parquet` that the report shows."""

PAGES = Path("report") / "cases"
"""Pages of single cases, in the results folder."""
PAGES_STATUS = PAGES / "status.tsv"


def read_text_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a TSV of ours as text."""
    try:
        return read_tsv(path)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame(columns=list(columns), dtype=str)


def read_measures(results: Path, ready: Sequence[str]) -> pd.DataFrame:
    """Measures of every source, of the cases that the table still has."""
    return _read_parquet(results / "qc" / "measures.parquet", MEASURES, ready)


def read_agreement(results: Path, ready: Sequence[str]) -> pd.DataFrame:
    """What two segmenters agree on, of the cases that the table still has."""
    return _read_parquet(results / "qc" / "agreement.parquet", AGREEMENT, ready)


def read_lesions(results: Path, ready: Sequence[str]) -> tuple[LesionFacts, ...]:
    """Lesions of the cases that the table still has, the largest first."""
    path = results / "qc" / "lesions.parquet"
    table = _read_parquet(path, LESIONS, ready)
    return tuple(
        LesionFacts(
            case=str(row["case"]),
            instance=int(row["instance"]),
            target=str(row["target"]),
            centroid_mm=(row["centroid_x"], row["centroid_y"], row["centroid_z"]),
            volume_ml=float(row["volume_ml"]),
            max_diameter_mm=float(row["max_diameter_mm"]),
            host=row["host"] if isinstance(row["host"], str) else "",
            inside_fraction=float(row["inside_fraction"]),
            contrast=float(row["contrast"]),
            touches_border=bool(row["touches_border"]),
        )
        for row in table.sort_values("volume_ml", ascending=False).to_dict("records")
    )


def read_unknown(results: Path, ready: Sequence[str]) -> Mapping[str, int]:
    """Structure to the number of cases, of those that the table still has, where it is unknown."""
    path = results / "labels" / "status.parquet"
    table = _read_parquet(path, ("case", "structure", "status"), ready)
    return Counter(table[table["status"] == Known.UNKNOWN]["structure"])


def read_flags(results: Path) -> list[Flag]:
    """Every row of `flags.tsv`."""
    table = read_text_table(results / "qc" / "flags.tsv", FLAG_COLUMNS)
    return [Flag(*(str(cell) for cell in row)) for row in table[FLAG_COLUMNS].to_numpy()]


def read_sidecars(folder: Path, cases: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Sidecars by case. Only ids that `check` let pass are made into paths."""
    found: dict[str, Mapping[str, Any]] = {}
    for case in cases:
        try:
            found[case] = read_json(folder / f"{case}.json")
        except (OSError, ValueError):
            continue  # not made yet; the case's flags say why
    return found


def read_pages(results: Path) -> dict[str, tuple[str, str]]:
    """Case to status and message of its page."""
    table = read_text_table(results / PAGES_STATUS, ["case", "status", "code", "message"])
    return {
        str(row["case"]): (str(row["status"]), str(row["message"]))
        for row in table.to_dict("records")
    }


def _read_parquet(path: Path, columns: Sequence[str], ready: Sequence[str]) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame(columns=list(columns))
    table = pd.read_parquet(path, columns=list(columns))
    return table[table["case"].isin(ready)]
