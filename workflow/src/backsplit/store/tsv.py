"""Tables as text: of a person, and ours."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backsplit.errors import Code, RunError, shown
from backsplit.store.disk import atomic_path, is_there

if TYPE_CHECKING:  # pandas takes a third of the time that a job needs to start
    import pandas as pd


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Read a table that a person wrote (.tsv, .csv) as text; no cell is guessed to be a number.

    Returns
    -------
    header, rows
        Each row with as many cells as the header; empty lines are passed over.

    Raises
    ------
    RunError
        TABLE_INVALID when it can not be read, is empty, or has a column twice.
    """
    separator = {".tsv": "\t", ".csv": ","}.get(path.suffix.lower())
    if separator is None:
        raise RunError(Code.TABLE_INVALID, f"{shown(path)} is neither .tsv nor .csv", "convert it")
    if not (is_there(path) and path.is_file()):
        raise RunError(Code.TABLE_INVALID, f"{shown(path)} is no file", "correct dataset.cases")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if "\0" in text:
            raise ValueError("it holds NUL characters: no UTF-8 text")
        lines = _split(text, separator)
        longest = max(lines, key=len)
        if len(longest) > len(lines[0]):
            raise ValueError(
                f"row {lines.index(longest) + 1} has {len(longest)} cells, "
                f"the header {len(lines[0])}"
            )
    except (OSError, ValueError) as error:
        raise RunError(
            Code.TABLE_INVALID,
            f"{path} can not be read as a table ({str(error).strip()})",
            "each line needs as many cells as the header",
        ) from None
    header = [cell.strip() for cell in lines[0]]
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise RunError(Code.TABLE_INVALID, f"{path} has the column {twice!r} twice", "keep one")
    width = len(header)
    rows = [[*(cell.strip() for cell in line), *[""] * (width - len(line))] for line in lines[1:]]
    if '"' in text:
        _require_single_lines(path, header, rows)
    return header, rows


def _split(text: str, separator: str) -> list[list[str]]:
    """Lines of a table as cells; empty ones are passed over.

    Raises
    ------
    ValueError
        When there are none, or a quotation mark stands where none belongs.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    lines: list[list[str]] = []
    try:
        lines.extend(line for line in reader if line)
    except csv.Error as error:
        row = len(lines) + 1
        raise ValueError(f"row {row}: {error}; is a quotation mark not closed?") from None
    if not lines:
        raise ValueError("it is empty")
    return lines


def _require_single_lines(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Refuse a quotation mark that swallows rows."""
    for row, cells in enumerate(rows, start=2):
        for column, cell in zip(header, cells, strict=True):
            if "\n" in cell or "\r" in cell:
                raise RunError(
                    Code.TABLE_INVALID,
                    f"{path} has a line break within `{column}` of row {row}: a quotation mark is "
                    "not closed, and rows may be swallowed",
                    "remove it",
                )


def write_rows(columns: Sequence[str], rows: Iterable[Sequence[str]], path: Path) -> None:
    """Write rows of text as TSV, atomically, with no cell over several lines."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
        out.write(rows_as_text(columns, rows))


def rows_as_text(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows as the text of a TSV, with no cell over several lines."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter="\t", lineterminator="\n")
    writer.writerow(map(one_line, columns))
    writer.writerows([one_line(cell) for cell in row] for row in rows)
    return out.getvalue()


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """Read the rows of a table of ours as text."""
    with path.open(encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream, delimiter="\t")


def write_tsv(table: pd.DataFrame, path: Path) -> None:
    """Write a table of any cells as `write_rows` does."""
    clean = table.map(lambda cell: one_line(cell) if isinstance(cell, str) else cell)
    with atomic_path(path) as temporary:
        clean.to_csv(temporary, sep="\t", index=False, lineterminator="\n")


def read_tsv(path: Path) -> pd.DataFrame:
    """Read a table of ours as text."""
    import pandas as pd

    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def one_line(text: str) -> str:
    """Text without tabs, line breaks or other control characters."""
    return re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in text)).strip()
