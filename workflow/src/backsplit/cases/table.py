"""The case table: its rows, its batches, and what became of each case."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backsplit.config.model import Config
from backsplit.errors import Code, RunError, shown
from backsplit.store.status import STATUS_COLUMNS, Status
from backsplit.store.tsv import one_line, read_numbered, read_rows, write_rows

LESION = "lesion"
"""Column of the lesion files of all targets that have no column of their own."""
NO_LESION = "none"
DRAWN_COLUMN = "drawn"
"""Column of `check`'s own tables: what the lesion files say of each target."""
EXCLUDE_COLUMN = "exclude"
"""Optional column with structures that the user does not trust in a case: `liver; vertebrae*`."""


@dataclass(frozen=True)
class Case:
    """One row of the case table.

    Attributes
    ----------
    id : the case's name
    row : its line in the table (the header is line 1)
    images : channel to image file
    lesions : column of lesion files to the case's file, None where the table says that there is
        no lesion
    columns : every column as the table has it
    folder : what relative paths of the table start from
    """

    id: str
    row: int
    images: Mapping[str, Path]
    lesions: Mapping[str, Path | None]
    columns: Mapping[str, str]
    folder: Path

    @property
    def lesion_files(self) -> dict[str, Path]:
        """The lesion files that there are, by column."""
        return {column: path for column, path in self.lesions.items() if path is not None}

    @property
    def patient(self) -> str:
        """Whose case it is: the column `patient`, else `sub-X` of an id `sub-X_ses-Y`, else the id.

        Cases of a patient are never split over training and validation.
        """
        session = re.match(r"(sub-[A-Za-z0-9]+)_ses-", self.id)
        return self.columns.get("patient") or (session[1] if session else self.id)

    def column_path(self, column: str) -> str:
        """A cell as a path: relative ones start at the table's folder."""
        return str(self.folder / self.columns[column])


@dataclass(frozen=True)
class Checked:
    """A case with the verdict of `check`: ok, or refused with code and message.

    Attributes
    ----------
    drawn : what its lesion files say of each target, in words
    """

    case: Case
    status: Status
    code: str = ""
    message: str = ""
    drawn: str = ""


@dataclass(frozen=True)
class CaseTable:
    """The case table of a configuration; rows become cases when they are asked for.

    A job needs the cases of one batch: making 100,000 of them takes seconds, reading their rows
    a fifth of one.

    Attributes
    ----------
    columns : the header
    rows : every row as text
    config : what it is the table of
    lines : each row's line of the file, as an editor counts it
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    config: Config
    lines: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> list[str]:
        """Id of every row."""
        column = self.columns.index("case")
        return [row[column] for row in self.rows]

    @property
    def batches(self) -> dict[str, range]:
        """Batch name to row positions."""
        return batches(len(self), self.config.run.batch_size)

    def batch(self, name: str) -> list[Case]:
        """Cases of a batch.

        Raises
        ------
        RunError
            TABLE_INVALID when there is no such batch.
        """
        if name not in self.batches:
            raise RunError(
                Code.TABLE_INVALID,
                f"there is no batch {name!r}: {len(self)} cases in batches of "
                f"{self.config.run.batch_size} make 00001 to {list(self.batches)[-1]}",
                "name one of these",
            )
        return self.cases(self.batches[name])

    def cases(self, positions: Iterable[int]) -> list[Case]:
        """Cases at these row positions."""
        folder = self.config.dataset.cases.resolve().parent
        channels = self.config.dataset.channels
        lesions = lesion_columns(self.columns, list(self.config.targets))
        return [
            _case(
                dict(zip(self.columns, self.rows[at], strict=True)),
                self.lines[at],
                channels,
                lesions,
                folder,
            )
            for at in positions
        ]

    def with_ids(self, ids: Collection[str]) -> list[Case]:
        """Every row that has one of these ids."""
        wanted = frozenset(ids)
        return self.cases(at for at, name in enumerate(self.ids) if name in wanted)


def open_table(config: Config) -> CaseTable:
    """Read the case table without opening any image.

    Raises
    ------
    RunError
        TABLE_INVALID when the table cannot be read or lacks a column.
    """
    path = config.dataset.cases
    columns, rows, lines = read_numbered(path)
    if not rows:
        raise RunError(Code.TABLE_INVALID, f"{path} has a header and no case", "add rows")
    lesions = lesion_columns(columns, list(config.targets))
    needed = ["case", *(f"image_{c}" for c in config.dataset.channels), *lesions]
    missing = [name for name in needed if name not in columns]
    if missing:
        raise RunError(
            Code.TABLE_INVALID,
            f"{path} lacks the column{'s' if len(missing) > 1 else ''} {shown(', '.join(missing))} "
            f"(it has {shown(', '.join(columns))})",
            "add them or change dataset.channels",
        )
    _require_lesions(columns, config)
    return CaseTable(columns, rows, config, lines)


def lesion_column(target: str) -> str:
    """Column of the files of one target."""
    return f"{LESION}_{target}"


def lesion_columns(columns: Collection[str], targets: Sequence[str]) -> list[str]:
    """Columns of lesion files that a table with these columns has, or lacks: one is needed."""
    own = [lesion_column(target) for target in targets if lesion_column(target) in columns]
    return own if len(own) == len(targets) else [LESION, *own]


def _require_lesions(columns: Sequence[str], config: Config) -> None:
    """Refuse columns of lesion files that no target would be read from, and shared values.

    Raises
    ------
    RunError
        TABLE_INVALID, CONFIG_INVALID.
    """
    path, targets = config.dataset.cases, list(config.targets)
    known = lesion_columns(columns, targets)
    stray = [c for c in columns if c.startswith(f"{LESION}_") and c not in known]
    if stray:
        raise RunError(
            Code.TABLE_INVALID,
            f"{path} has the column {shown(stray[0])}, which belongs to no target; the targets are "
            f"{shown(', '.join(targets))}",
            "add the target, or rename the column so that it does not begin with lesion_",
        )
    if LESION in columns and LESION not in known:
        raise RunError(
            Code.TABLE_INVALID,
            f"{path} has the column lesion and one for each target: nothing would be read "
            "from lesion",
            "remove it, or remove the column of a target that it holds",
        )
    seen: dict[int | str, str] = {}
    for name in (t for t in targets if lesion_column(t) not in columns):
        for value in config.targets[name]:
            if seen.setdefault(value, name) != name:
                raise RunError(
                    Code.CONFIG_INVALID,
                    f"the targets {seen[value]} and {name} share the value {value}",
                    "give each its own value, or each its own file: columns "
                    f"{lesion_column(seen[value])} and {lesion_column(name)} in {path}",
                )


def _case(
    columns: dict[str, str], row: int, channels: Iterable[str], lesions: Iterable[str], folder: Path
) -> Case:
    cells = {c: columns[c] for c in lesions}
    return Case(
        id=columns["case"],
        row=row,
        images={c: folder / columns[f"image_{c}"] for c in channels},
        lesions={
            c: None if cell in ("", NO_LESION) else folder / cell for c, cell in cells.items()
        },
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


def write_checked(checked: Sequence[Checked], path: Path) -> None:
    """Write cases: id, status, code, message, what was drawn, and the input columns."""
    columns = list(checked[0].case.columns) if checked else []
    own = (*STATUS_COLUMNS, DRAWN_COLUMN)
    others = [name for name in columns if name not in own]
    rows = (
        (c.case.id, c.status, c.code, c.message, c.drawn, *(c.case.columns[n] for n in others))
        for c in checked
    )
    write_rows((*own, *others), rows, path)


def load_checked(table: CaseTable, batch: str | None = None) -> list[Checked]:
    """Read what `check` said of a batch, or of all cases.

    Raises
    ------
    RunError
        TABLE_INVALID when there is no such batch, `check` has not been there, or the table
        changed since.
    """
    return [
        checked
        for name in ([batch] if batch is not None else table.batches)
        for checked in _load_batch(table.config.results.check.table(name), table.batch(name))
    ]


def _load_batch(path: Path, members: Sequence[Case]) -> list[Checked]:
    if not path.exists():
        raise RunError(Code.TABLE_INVALID, f"{path} does not exist", "run `backsplit check` first")
    rows = list(read_rows(path))
    if [row["case"] for row in rows] != [one_line(case.id) for case in members]:
        raise RunError(
            Code.TABLE_INVALID,
            f"{path} has other cases than the case table",
            "run `backsplit check` again",
        )
    return [
        Checked(case, Status(row["status"]), row["code"], row["message"], row.get(DRAWN_COLUMN, ""))
        for case, row in zip(members, rows, strict=True)
    ]
