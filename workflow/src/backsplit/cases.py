"""The case table: its rows, its batches, and what became of each case."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from backsplit.config import Config
from backsplit.disk import is_there
from backsplit.errors import CaseError, Code, shown
from backsplit.volume import atomic_path

CASE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""No file name of ours is longer than an id by so much that it does not fit into 255 bytes."""
RESERVED_IDS = re.compile(
    r"labels|.*\.(lesions|agreement)|(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE
)
"""`results/labels/labels.json` is the label table, and `a.lesions.parquet` is case `a`'s: a case
of that name would overwrite it. On Windows no file can be called `con.nii.gz`."""
NO_LESION = "none"
EXCLUDE_COLUMN = "exclude"
"""Optional column with structures that a person does not trust in a case: `liver; vertebrae*`."""
STATUS_COLUMNS = ("case", "status", "code", "message")


@dataclass(frozen=True)
class Case:
    """One row of the case table.

    Attributes
    ----------
    id : the case's name
    row : its line in the table (the header is line 1)
    images : channel to image file
    lesion : lesion file, or None where the table says that there is no lesion
    columns : every column as the table has it
    folder : what relative paths of the table start from
    """

    id: str
    row: int
    images: Mapping[str, Path]
    lesion: Path | None
    columns: Mapping[str, str]
    folder: Path

    def column_path(self, column: str) -> str:
        """A cell as a path: relative ones start at the table's folder."""
        return str(self.folder / self.columns[column])


@dataclass(frozen=True)
class Checked:
    """A case with the verdict of `check`: ok, or refused with code and message."""

    case: Case
    status: str
    code: str = ""
    message: str = ""


def read_table(path: Path) -> pd.DataFrame:
    """Read a case table (.tsv, .csv) as text; no cell is guessed to be a number or missing.

    Raises
    ------
    CaseError
        TABLE_INVALID when it can not be read, is empty, or has a column twice.
    """
    separator = {".tsv": "\t", ".csv": ","}.get(path.suffix.lower())
    if separator is None:
        raise CaseError(Code.TABLE_INVALID, f"{shown(path)} is neither .tsv nor .csv; convert it")
    if not (is_there(path) and path.is_file()):
        raise CaseError(Code.TABLE_INVALID, f"{shown(path)} is no file; correct dataset.cases")
    try:
        data = path.read_bytes()
        if b"\0" in data:
            raise ValueError("it holds NUL characters: no UTF-8 text")
        raw = pd.read_csv(
            io.BytesIO(data),
            sep=separator,
            dtype=str,
            keep_default_na=False,
            header=None,
            encoding="utf-8-sig",
        )
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise CaseError(
            Code.TABLE_INVALID,
            f"{path} can not be read as a table ({str(error).strip()}); "
            f"each line needs as many cells as the header",
        ) from None
    header = [str(cell).strip() for cell in raw.iloc[0]]
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise CaseError(Code.TABLE_INVALID, f"{path} has the column {twice!r} twice; keep one")
    table = raw.iloc[1:].set_axis(header, axis=1).reset_index(drop=True)
    if table.empty:
        raise CaseError(Code.TABLE_INVALID, f"{path} has a header and no case; add rows")
    table = table.fillna("").map(str.strip)
    for column in header if b'"' in data else ():
        broken = table[column].str.contains("[\r\n]")
        if broken.any():
            row = int(broken.to_numpy().argmax()) + 2
            raise CaseError(
                Code.TABLE_INVALID,
                f"{path} has a line break within `{column}` of row {row}: a quotation mark is not "
                "closed, and rows may be swallowed; remove it",
            )
    return table


@dataclass(frozen=True)
class CaseTable:
    """The case table of a configuration; rows become cases when they are asked for.

    A job needs the cases of one batch: making 100,000 of them takes seconds, reading their rows
    a fifth of one.

    Attributes
    ----------
    cells : every row as text
    config : what it is the table of
    """

    cells: pd.DataFrame
    config: Config

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def ids(self) -> list[str]:
        """Id of every row."""
        return list(self.cells["case"])

    @property
    def batches(self) -> dict[str, range]:
        """Batch name to row positions."""
        return batches(len(self), self.config.run.batch_size)

    def batch(self, name: str) -> list[Case]:
        """Cases of a batch.

        Raises
        ------
        CaseError
            TABLE_INVALID when there is no such batch.
        """
        if name not in self.batches:
            raise CaseError(
                Code.TABLE_INVALID,
                f"there is no batch {name!r}: {len(self)} cases in batches of "
                f"{self.config.run.batch_size} make 00001 to {list(self.batches)[-1]}; "
                "name one of these",
            )
        return self.cases(self.batches[name])

    def cases(self, rows: Iterable[int]) -> list[Case]:
        """Cases at these row positions."""
        positions = list(rows)
        folder = self.config.dataset.cases.resolve().parent
        columns = list(self.cells.columns)
        cells = self.cells.iloc[positions].itertuples(index=False, name=None)
        return [
            _case(dict(zip(columns, map(str, row), strict=True)), at + 2, self.config, folder)
            for at, row in zip(positions, cells, strict=True)
        ]

    def with_ids(self, ids: Collection[str]) -> list[Case]:
        """Every row that has one of these ids."""
        return self.cases(np.flatnonzero(self.cells["case"].isin(ids)).tolist())


def open_table(config: Config) -> CaseTable:
    """Read the case table without opening any image.

    Raises
    ------
    CaseError
        TABLE_INVALID when the table can not be read or lacks a column.
    """
    path = config.dataset.cases
    table = read_table(path)
    needed = ["case", *(f"image_{c}" for c in config.dataset.channels), "lesion"]
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise CaseError(
            Code.TABLE_INVALID,
            f"{path} lacks the column{'s' if len(missing) > 1 else ''} {shown(', '.join(missing))} "
            f"(it has {shown(', '.join(table.columns))}); add them or change dataset.channels",
        )
    return CaseTable(table, config)


def read_cases(config: Config) -> list[Case]:
    """Read every case of a configuration; raises as `open_table`."""
    table = open_table(config)
    return table.cases(range(len(table)))


def _case(columns: dict[str, str], row: int, config: Config, folder: Path) -> Case:
    lesion = columns["lesion"]
    return Case(
        id=columns["case"],
        row=row,
        images={c: folder / columns[f"image_{c}"] for c in config.dataset.channels},
        lesion=None if lesion in ("", NO_LESION) else folder / lesion,
        columns=columns,
        folder=folder,
    )


def excluded(case: Case) -> list[str]:
    """Structures that the case table takes out of a case; names or wildcards."""
    names = case.columns.get(EXCLUDE_COLUMN, "").split(";")
    return [name.strip() for name in names if name.strip()]


def batches(count: int, batch_size: int) -> dict[str, range]:
    """Cut a table into batches of rows: name to row positions.

    Rows that are appended later leave every full batch as it is.
    """
    starts = range(0, count, batch_size)
    return {
        f"{number:05d}": range(start, min(start + batch_size, count))
        for number, start in enumerate(starts, start=1)
    }


def check_table(config: Config, batch: str) -> Path:
    """Where the status of a batch's cases lies after `check`."""
    return config.run.results / "check" / f"{batch}.tsv"


def write_checked(checked: Sequence[Checked], path: Path) -> None:
    """Write cases with their status: case, status, code, message, and the input columns."""
    rows = [
        {
            "case": c.case.id,
            "status": c.status,
            "code": c.code,
            "message": c.message,
            **{k: v for k, v in c.case.columns.items() if k not in STATUS_COLUMNS},
        }
        for c in checked
    ]
    write_tsv(pd.DataFrame(rows), path)


def load_checked(table: CaseTable, batch: str | None = None) -> list[Checked]:
    """Read what `check` said of a batch, or of all cases.

    Raises
    ------
    CaseError
        TABLE_INVALID when there is no such batch, `check` has not been there, or the table
        changed since.
    """
    return [
        checked
        for name in ([batch] if batch is not None else table.batches)
        for checked in _load_batch(check_table(table.config, name), table.batch(name))
    ]


def _load_batch(path: Path, members: Sequence[Case]) -> list[Checked]:
    if not path.exists():
        raise CaseError(Code.TABLE_INVALID, f"{path} does not exist; run `backsplit check` first")
    table = read_tsv(path)
    if list(table["case"]) != [one_line(case.id) for case in members]:
        raise CaseError(
            Code.TABLE_INVALID,
            f"{path} has other cases than the case table; run `backsplit check` again",
        )
    return [
        Checked(case, str(row.status), str(row.code), str(row.message))
        for case, row in zip(members, table.itertuples(), strict=True)
    ]


def write_tsv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as TSV, atomically, with no cell over several lines."""
    clean = table.map(lambda cell: one_line(cell) if isinstance(cell, str) else cell)
    with atomic_path(path) as temporary:
        clean.to_csv(temporary, sep="\t", index=False, lineterminator="\n")


def read_tsv(path: Path) -> pd.DataFrame:
    """Read a table of ours as text."""
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def one_line(text: str) -> str:
    """Text without tabs, line breaks or other control characters."""
    return re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in text)).strip()
