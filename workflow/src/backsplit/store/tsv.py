"""Tables as text: those that users write, and ours."""

from __future__ import annotations

import codecs
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

SEPARATORS = {".tsv": "\t", ".csv": ",", ".txt": "\t"}
"""Endings of tables, with what usually separates their cells."""


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Read a table that a user wrote as `read_numbered` does, without the rows' lines."""
    header, rows, _ = read_numbered(path)
    return header, rows


def read_numbered(path: Path) -> tuple[list[str], list[list[str]], Sequence[int]]:
    """Read a table that a user wrote (.tsv, .csv, .txt) as text; no cell is taken for a number.

    The separator is the one of tab, comma and semicolon that splits the header into most columns
    (spreadsheets write `;` in many countries, whatever the name of the file). Empty rows, and
    empty columns that have no name, are dropped.

    Returns
    -------
    header, rows, lines
        Each row with as many cells as the header; its line of the file (the first is 1).

    Raises
    ------
    RunError
        TABLE_INVALID when it cannot be read, is empty, has a column twice or cells outside any
        column.
    """
    if path.suffix.lower() not in SEPARATORS:
        kinds = ", ".join(SEPARATORS)
        raise RunError(
            Code.TABLE_INVALID, f"{shown(path)} does not end in one of {kinds}", "convert it"
        )
    if not (is_there(path) and path.is_file()):
        raise RunError(Code.TABLE_INVALID, f"{shown(path)} does not exist", "check dataset.cases")
    try:
        text = _decoded(path)
        separator, table = _separator(text, SEPARATORS[path.suffix.lower()])
        table_lines, numbers = _split(table, separator, text.count("\n") - table.count("\n"))
        header = [cell.strip() for cell in table_lines[0]]
        while header and not header[-1]:
            header.pop()
        rows = [
            _fitted(row, header, number)
            for number, row in zip(numbers[1:], table_lines[1:], strict=True)
        ]
    except (OSError, ValueError) as error:
        raise RunError(
            Code.TABLE_INVALID,
            f"{path} cannot be read as a table ({str(error).strip()})",
            "save it as UTF-8 text (in Excel: `CSV UTF-8`), each row with as many cells as the "
            "header",
        ) from None
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise RunError(Code.TABLE_INVALID, f"{path} has the column {twice!r} twice", "keep one")
    if '"' in text:
        _require_single_lines(path, header, zip(numbers[1:], rows, strict=True))
    if all(map(any, rows)):
        return header, rows, numbers[1:]
    kept = [(row, number) for row, number in zip(rows, numbers[1:], strict=True) if any(row)]
    return header, [row for row, _ in kept], [number for _, number in kept]


def _decoded(path: Path) -> str:
    """Text of a file in UTF-8.

    Raises
    ------
    ValueError
        It is in another encoding.
    """
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("it is in UTF-16: save it as UTF-8")
    if b"\0" in content:
        raise ValueError("it contains NUL characters: not UTF-8 text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"row {row} holds the byte 0x{content[error.start]:02x}, which is not UTF-8 (Windows "
            "code page 1252?): save it as UTF-8"
        ) from None


def _separator(text: str, usual: str) -> tuple[str, str]:
    """What separates cells, and the text without Excel's line `sep=;`.

    Parameters
    ----------
    text : of the table
    usual : what the name of the file says, where as many columns come of it
    """
    first, line_break, rest = text.partition("\n")
    if (said := re.fullmatch(r"sep=([\t,;])\r?", first)) and line_break:
        return said[1], rest
    header = next((line for line in text.splitlines() if line.strip()), "")
    found = dict.fromkeys((usual, *SEPARATORS.values(), ";"))

    def columns(separator: str) -> int:
        return len(next(csv.reader([header], delimiter=separator), ()))

    return max(found, key=columns), text


def _fitted(row: Sequence[str], header: Sequence[str], number: int) -> list[str]:
    """Cells of a row, as many as the header has.

    Raises
    ------
    ValueError
        A cell is outside any column.
    """
    cells = [cell.strip() for cell in row]
    if len(cells) == len(header) and "" not in header:
        return cells  # as nearly all are, and a table may have 100,000 rows
    while len(cells) > len(header) and not cells[-1]:
        cells.pop()
    if len(cells) > len(header):
        raise ValueError(f"row {number} has {len(cells)} cells, the header {len(header)}")
    cells += [""] * (len(header) - len(cells))
    for at, (name, cell) in enumerate(zip(header, cells, strict=True), start=1):
        if cell and not name:
            raise ValueError(f"row {number} holds {shown(cell)!r} in column {at}, without a name")
    return cells


def _split(text: str, separator: str, before: int) -> tuple[list[list[str]], Sequence[int]]:
    """Lines of a table as cells, with their numbers; empty ones are passed over.

    Parameters
    ----------
    text : of the table
    separator : of its cells
    before : lines of the file that come before it

    Raises
    ------
    ValueError
        When there are none, or a quotation mark is out of place.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    lines: list[list[str]] = []
    ends: list[int] = []
    try:
        for line in reader:
            lines.append(line)
            ends.append(before + reader.line_num)
    except csv.Error as error:
        row = ends[-1] + 1 if ends else before + 1
        raise ValueError(f"row {row}: {error}; is a quotation mark not closed?") from None
    begins = [before + 1, *(end + 1 for end in ends[:-1])]
    if not all(lines):
        begins = [begin for begin, line in zip(begins, lines, strict=True) if line]
        lines = [line for line in lines if line]
    if not lines:
        raise ValueError("it is empty")
    return lines, begins


def _require_single_lines(
    path: Path, header: Sequence[str], rows: Iterable[tuple[int, Sequence[str]]]
) -> None:
    """Refuse a quotation mark that swallows rows."""
    for row, cells in rows:
        for column, cell in zip(header, cells, strict=True):
            if "\n" in cell or "\r" in cell:
                raise RunError(
                    Code.TABLE_INVALID,
                    f"{path} has a line break within `{column}` of row {row}: a quotation mark is "
                    "not closed, and rows may be lost",
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
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.split())
