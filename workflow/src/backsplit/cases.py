"""The case table: read it, check every case, say all that is wrong at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from backsplit.config import Config, Files
from backsplit.errors import CaseError, Code, Problem
from backsplit.volume import Grid, atomic_path, read_grid, read_labels, require_same_grid

CASE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
RESERVED_IDS = frozenset({"labels"})
"""`results/labels/labels.json` is the label table; a case of that name would overwrite it."""
NO_LESION = "none"
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
        raise CaseError(Code.TABLE_INVALID, f"{path} is neither .tsv nor .csv; convert it")
    try:
        raw = pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, header=None, encoding="utf-8-sig"
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
    return table.fillna("").map(str.strip)


def read_cases(config: Config) -> list[Case]:
    """Read the cases of a configuration without opening any image.

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
            f"{path} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)} "
            f"(it has {', '.join(table.columns)}); add them or change dataset.channels",
        )
    folder = path.resolve().parent
    return [
        _case(dict(zip(table.columns, map(str, row), strict=True)), number, config, folder)
        for number, row in enumerate(table.itertuples(index=False, name=None), start=2)
    ]


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


def batches(count: int, batch_size: int) -> dict[str, range]:
    """Cut a table into batches of rows: name to row positions.

    Rows that are appended later leave every full batch as it is.
    """
    starts = range(0, count, batch_size)
    return {
        f"{number:05d}": range(start, min(start + batch_size, count))
        for number, start in enumerate(starts, start=1)
    }


def check_cases(
    members: Sequence[Case], cases: Sequence[Case], config: Config, threads: int = 4
) -> list[Problem]:
    """Check cases: ids, files, grids, lesion values. Lesion files are read whole.

    Parameters
    ----------
    members : the cases to check
    cases : all cases of the table, for ids that stand twice
    config : the configuration
    threads : files read at the same time

    Returns
    -------
    problems
        One for each thing that is wrong, in the table's order, with row, column, value, remedy.
    """
    table = str(config.dataset.cases)
    seen: dict[str, list[int]] = {}
    for case in cases:
        seen.setdefault(case.id, []).append(case.row)
    declared = declared_lesion_values(config)

    def check(case: Case) -> list[Problem]:
        return [
            *_check_id(case, seen[case.id], table),
            *_check_files(case, config, declared, table),
        ]

    with ThreadPoolExecutor(max_workers=threads) as pool:
        return [problem for found in pool.map(check, members) for problem in found]


def declared_lesion_values(config: Config) -> dict[int, str]:
    """Values that a lesion file may hold, with who declares them.

    A `files` segmenter that reads the lesion file itself (KiTS: the kidney beside the tumour)
    declares its values too.
    """
    declared = {0: "background"}
    for segmenter in config.segmenters.values():
        if (
            isinstance(segmenter, Files)
            and segmenter.path == "{lesion}"
            and isinstance(segmenter.labels, dict)
        ):
            declared |= {value: name for name, value in segmenter.labels.items()}
    return declared | {value: name for name, value in config.targets.items()}


def judge_cases(cases: Sequence[Case], problems: Sequence[Problem]) -> list[Checked]:
    """Give each row of the table its status."""
    found: dict[int, list[Problem]] = {}
    for problem in problems:
        if problem.row is not None:
            found.setdefault(problem.row, []).append(problem)
    checked = []
    for case in cases:
        mine = found.get(case.row, [])
        codes = list(dict.fromkeys(str(p.code) for p in mine))
        message = "; ".join(f"{p.column}: {p.message}; {p.remedy}" for p in mine)
        status = "refused" if mine else "ok"
        checked.append(Checked(case, status, ",".join(codes), one_line(message)))
    return checked


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


def load_checked(config: Config, batch: str | None = None) -> list[Checked]:
    """Read what `check` said of a batch, or of all cases.

    Raises
    ------
    CaseError
        TABLE_INVALID when there is no such batch, `check` has not been there, or the table
        changed since.
    """
    cases = read_cases(config)
    rows = batches(len(cases), config.run.batch_size)
    if batch is not None and batch not in rows:
        raise CaseError(
            Code.TABLE_INVALID,
            f"there is no batch {batch!r}: {len(cases)} cases in batches of "
            f"{config.run.batch_size} make 00001 to {list(rows)[-1]}; name one of these",
        )
    return [
        checked
        for name in ([batch] if batch is not None else rows)
        for checked in _load_batch(check_table(config, name), [cases[row] for row in rows[name]])
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


def _check_id(case: Case, rows: Sequence[int], table: str) -> Iterator[Problem]:
    shown = one_line(case.id)[:80]
    if not CASE_ID.fullmatch(case.id) or ".." in case.id:
        yield Problem(
            Code.CASE_ID_INVALID,
            table,
            "is no case id",
            "use letters, digits, `.`, `_` and `-`, beginning with a letter or digit, without `..`",
            case.row,
            "case",
            shown,
            case.id,
        )
    elif case.id in RESERVED_IDS:
        yield Problem(
            Code.CASE_ID_INVALID,
            table,
            "is reserved",
            "rename it",
            case.row,
            "case",
            shown,
            case.id,
        )
    if len(rows) > 1:
        others = ", ".join(str(row) for row in rows if row != case.row)
        yield Problem(
            Code.CASE_ID_DUPLICATE,
            table,
            f"stands in row {others} as well; neither row is used",
            "give each case its own id",
            case.row,
            "case",
            shown,
            case.id,
        )


def _check_files(
    case: Case, config: Config, declared: Mapping[int, str], table: str
) -> Iterator[Problem]:
    """Check the files of one case; each is opened even when another one is wrong."""

    def problem(column: str, error: CaseError | tuple[Code, str, str]) -> Problem:
        if isinstance(error, CaseError):
            message, _, remedy = error.message.rpartition("; ")
            code = error.code
        else:
            code, message, remedy = error
        value = one_line(case.columns[column])
        return Problem(code, table, message, remedy, case.row, column, value, case.id)

    grids: dict[str, Grid] = {}
    for channel, path in case.images.items():
        column = f"image_{channel}"
        if not case.columns[column]:
            yield problem(column, (Code.FILE_MISSING, "is empty", "give the path of the image"))
            continue
        try:
            grids[channel] = read_grid(path)
        except CaseError as error:
            yield problem(column, error)
    reference = grids.get(config.dataset.grid_channel)
    name = f"image_{config.dataset.grid_channel}"
    for channel, grid in grids.items():
        if reference is not None and channel != config.dataset.grid_channel:
            try:
                require_same_grid(str(case.images[channel]), grid, reference, name)
            except CaseError as error:
                yield problem(f"image_{channel}", error)
    if case.lesion is None:
        if case.columns["lesion"] != NO_LESION:
            yield problem(
                "lesion",
                (
                    Code.FILE_MISSING,
                    "is empty",
                    f"give the lesion file, or `{NO_LESION}` where the patient has no lesion",
                ),
            )
        return
    try:
        lesion = read_labels(case.lesion)
    except CaseError as error:
        yield problem("lesion", error)
        return
    if reference is not None:
        try:
            require_same_grid(str(case.lesion), lesion.grid, reference, name)
        except CaseError as error:
            yield problem("lesion", error)
    try:
        require_declared(case.lesion, lesion.array, declared)
    except CaseError as error:
        yield problem("lesion", error)


def require_declared(
    path: Path,
    lesion: np.ndarray[tuple[int, ...], np.dtype[np.integer]],
    declared: Mapping[int, str],
) -> None:
    """Refuse a lesion file with a value that no target declares.

    Raises
    ------
    CaseError
        LABEL_UNDECLARED.
    """
    values = (
        np.flatnonzero(np.bincount(lesion.ravel())) if lesion.max() < 65536 else np.unique(lesion)
    )
    unknown = [int(value) for value in values if int(value) not in declared]
    if unknown:
        voxels = int((lesion == unknown[0]).sum())
        known = ", ".join(f"{value} {name}" for value, name in sorted(declared.items()))
        raise CaseError(
            Code.LABEL_UNDECLARED,
            f"{path} holds the value {unknown[0]} ({voxels} voxels), "
            f"declared are {known}; add it to targets, or to the labels of a `files` segmenter "
            "that reads {lesion}",
        )
