"""The rows that a case has in the tables of the data set, in one small file.

JSON, because a case has few rows: a parquet file of four rows of forty columns takes ten times as
long to write and to read.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isal import isal_zlib

from backsplit.errors import Code, RunError
from backsplit.store.disk import atomic_path

if TYPE_CHECKING:
    import numpy as np

TEXT = frozenset(
    {"case", "source", "structure", "target", "host", "host_basis", "first", "second"}
    | {"column", "kind"}
)
"""Columns of names."""

FLAGS = frozenset({"touches_border"})
"""Columns that say whether; all others are of numbers."""

Columns = Mapping[str, Sequence[str]]
"""Name of a table to its columns."""

Row = Mapping[str, Any]
"""Column to value."""

Rows = dict[str, dict[str, list[Any]]]
"""Name of a table to column to values; None or NaN where there is nothing."""


def in_columns(rows: Sequence[Row], columns: Sequence[str]) -> dict[str, list[Any]]:
    """Rows as column to values, None where a row has nothing.

    For tables of a few rows: a data frame takes milliseconds to make and to take apart.
    """
    return {column: [row.get(column) for row in rows] for column in columns}


def write_rows(path: Path, case: str, tables: Rows, columns: Columns) -> None:
    """Write a case's rows, atomically; the same rows give the same bytes.

    Parameters
    ----------
    path : as `Results.measures` has it
    case : its id, which becomes the first column
    tables : what was measured; columns that a table lacks have no values
    columns : of each table
    """
    rows: Rows = {}
    for name, given in tables.items():
        number = max(map(len, given.values()), default=0)
        table = {**given, "case": [case] * number}
        rows[name] = {column: table.get(column, [None] * number) for column in columns[name]}
    text = json.dumps(rows, ensure_ascii=False, default=_plain).encode()
    with atomic_path(path) as temporary:
        temporary.write_bytes(isal_zlib.compress(text, 1, 16 + 15))


def _plain(value: np.generic) -> object:
    """Python's own number for one of NumPy's."""
    return value.item()


def join_rows(paths: Iterable[Path], columns: Columns) -> Rows:
    """Read the rows of several cases, one case after the other.

    Raises
    ------
    RunError
        FILE_MISSING when a file cannot be read, or has not these columns.
    """
    joined: Rows = {name: {column: [] for column in columns[name]} for name in columns}
    for path in paths:
        try:
            rows = json.loads(gzip.decompress(path.read_bytes()))
            for name, of_table in joined.items():
                for column, values in of_table.items():
                    values.extend(rows[name][column])
        except (OSError, EOFError, zlib.error, ValueError, KeyError) as error:
            raise RunError(
                Code.FILE_MISSING,
                f"{path} cannot be read as rows of measures ({error})",
                "remove it, and run `backsplit measure` again",
            ) from None
    return joined
