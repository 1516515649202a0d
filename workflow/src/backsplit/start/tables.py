"""The case table of what was found."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from os.path import relpath
from pathlib import Path

from backsplit.start.found import Found, FoundCase
from backsplit.store.disk import atomic_path


def write_table(path: Path, found: Found, ids: Sequence[str]) -> None:
    """Write the case table; paths are in it to the letter, double spaces and all."""
    columns = list(columns_of(found))
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, delimiter="\t", lineterminator="\n")
        writer.writerow(["case", *columns])
        for name, case in zip(ids, found.cases, strict=True):
            writer.writerow([name, *(cell(case, column, path.parent) for column in columns)])


def columns_of(found: Found) -> Iterator[str]:
    """Columns of the table after `case`."""
    yield from (f"image_{channel}" for channel in found.channels)
    if not found.own_files or any(case.lesion is not None for case in found.cases):
        yield "lesion"
    yield from (f"lesion_{target}" for target in found.own_files)
    yield from dict.fromkeys(column for case in found.cases for column in case.columns)
    if any(case.patient for case in found.cases):
        yield "patient"
    if any(case.fold is not None for case in found.cases):
        yield "fold"


def cell(case: FoundCase, column: str, into: Path) -> str:
    """What the table has for a case in a column; `into` is the table's folder."""
    if column == "patient":
        return case.patient
    if column == "fold":
        return "" if case.fold is None else str(case.fold)
    if column == "lesion":
        return _shown(case.lesion, into)
    kind, _, name = column.partition("_")
    files = {"image": case.images, "lesion": case.lesions}.get(kind, {})
    return _shown(files.get(name, case.columns.get(column)), into)


def _shown(path: Path | None, into: Path) -> str:
    """A path as the table has it: from the table's folder, unless an absolute one was given."""
    if path is None:
        return ""
    whole, start = path.absolute(), into.resolve()
    inside = whole.is_relative_to(start)
    return (relpath(whole, start) if inside or not path.is_absolute() else str(whole)).replace(
        os.sep, "/"
    )
