"""Read the tables that the stages left on the disk; one that is not there yet holds nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from backsplit.config.quality import Severity
from backsplit.errors import Code, RunError
from backsplit.judge.verdicts import FLAG_COLUMNS, SCORED_COLUMNS
from backsplit.report.facts import Flag, LesionFacts
from backsplit.store.results import Results, StageFolder
from backsplit.store.sidecars import Kind, Known, read_sidecar
from backsplit.store.status import Outcome, outcomes_in
from backsplit.store.tsv import read_tsv

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


def read_text_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a TSV of ours as text."""
    try:
        return read_tsv(path)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame(columns=list(columns), dtype=str)


def read_measures(results: Results, ready: Sequence[str]) -> pd.DataFrame:
    """Measures of every source, of the cases that the table still has."""
    return _read_parquet(results.quality("measures"), MEASURES, ready)


def read_agreement(results: Results, ready: Sequence[str]) -> pd.DataFrame:
    """What two segmenters agree on, of the cases that the table still has."""
    return _read_parquet(results.quality("agreement"), AGREEMENT, ready)


def read_lesions(results: Results, ready: Sequence[str]) -> tuple[LesionFacts, ...]:
    """Lesions of the cases that the table still has, the largest first."""
    path = results.quality("lesions")
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


def read_unknown(results: Results, ready: Sequence[str]) -> Mapping[str, int]:
    """Structure to the number of cases, of those that the table still has, where it is unknown."""
    path = results.structure_status
    table = _read_parquet(path, ("case", "structure", "status"), ready)
    return Counter(table[table["status"] == Known.UNKNOWN]["structure"])


def read_flags(results: Results) -> list[Flag]:
    """Every row of `flags.tsv`."""
    table = read_text_table(results.flags, SCORED_COLUMNS)
    examples = table["example"].tolist() if "example" in table else [""] * len(table)
    found = []
    for row, example in zip(table[FLAG_COLUMNS].to_numpy(), examples, strict=True):
        case, subject, rule, severity, value, expected, message = map(str, row)
        found.append(
            Flag(case, subject, rule, Severity(severity), value, expected, message, str(example))
        )
    return found


def read_sidecars(folder: StageFolder, cases: Sequence[str], kind: type[Kind]) -> dict[str, Kind]:
    """Sidecars by case. Only ids that `check` let pass are made into paths."""
    found: dict[str, Kind] = {}
    for case in cases:
        try:
            found[case] = read_sidecar(folder.sidecar(case), kind)
        except (OSError, ValueError):
            continue  # not made yet; the case's flags say why
    return found


def read_pages(results: Results) -> dict[str, Outcome]:
    """Case to what became of its page."""
    if not results.page_status.exists():
        return {}
    return {row.case: row for row in outcomes_in(results.page_status)}


def _read_parquet(path: Path, columns: Sequence[str], ready: Sequence[str]) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame(columns=list(columns))
    try:
        table = pd.read_parquet(path, columns=list(columns))
    except ValueError as error:  # Arrow's errors of a damaged file are values' too
        raise RunError(
            Code.FILE_UNREADABLE,
            f"{path} is damaged ({error})",
            "remove it and run `backsplit judge` again",
        ) from None
    return table[table["case"].isin(ready)]
