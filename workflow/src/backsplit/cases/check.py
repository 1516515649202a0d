"""Check every case of a table: ids, files, geometry, intensities; all that is wrong at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from backsplit.cases.drawn import DrawnTarget, told
from backsplit.cases.labels import label_files, require_placeable
from backsplit.cases.lesion import check_lesion
from backsplit.cases.table import (
    EXCLUDE_COLUMN,
    NO_LESION,
    Case,
    Checked,
    excluded,
)
from backsplit.config.base import CASE_ID, RESERVED_IDS
from backsplit.config.slices import Checking
from backsplit.errors import LONGEST_SHOWN, CaseError, Code, Problem, RunError, shown
from backsplit.store.disk import is_there
from backsplit.store.status import Status
from backsplit.store.tsv import one_line
from backsplit.volume import Grid, read_geometry, read_label_grid, read_label_map, read_volume
from backsplit.volume.intensity import padding_note, require_contrast, require_finite
from backsplit.volume.labels import segment_file
from backsplit.volume.resample import require_overlap

log = logging.getLogger(__name__)

MOST_NAMED = 5
"""Files of a segmenter that a note names."""

MOST_ROWS_SHOWN = 10
"""Rows with the same id that a message names."""


@dataclass(frozen=True)
class Found:
    """What the check of one case found: what is wrong, and what was noted though it is right.

    Attributes
    ----------
    problems : for which the case is refused
    doubts : for which structures of the case are unknown
    drawn : what the sound lesion files say of each target
    """

    problems: tuple[Problem, ...]
    doubts: tuple[Problem, ...]
    notes: tuple[str, ...]
    drawn: tuple[DrawnTarget, ...]


def check_cases(
    members: Sequence[Case],
    cases: Sequence[Case],
    inputs: Checking,
    table: Path,
    threads: int = 4,
) -> tuple[list[Problem], list[Checked]]:
    """Check cases: ids, files, geometry, intensities, lesion values. Every file is read whole.

    Parameters
    ----------
    members : the cases to check
    cases : all cases of the table, to find duplicate ids
    inputs : what the configuration says of them
    table : the case table's path, for messages
    threads : files read at the same time

    Returns
    -------
    problems, checked
        One problem for each thing that is wrong, in the table's order, with row, column, value,
        remedy; and each member with its status. Notes of a sound case are its message, and so is
        what is wrong with a segmenter's label file, for which no case is refused.
    """
    seen: dict[str, list[int]] = {}
    for case in cases:
        seen.setdefault(case.id.lower(), []).append(case.row)

    def check(case: Case) -> Found:
        wrong = [*_check_id(case, seen[case.id.lower()], str(table))]
        files = _FileCheck(case, inputs, str(table))
        files.run()
        problems = (*wrong, *files.problems)
        return Found(problems, tuple(files.doubts), tuple(files.notes), tuple(files.drawn))

    with ThreadPoolExecutor(max_workers=threads) as pool:
        found = list(pool.map(check, members))
    checked = [_judge(case, f) for case, f in zip(members, found, strict=True)]
    return [problem for f in found for problem in (*f.problems, *f.doubts)], checked


def _judge(case: Case, found: Found) -> Checked:
    """Give a row of the table its status."""
    if not found.problems:
        return Checked(case, Status.OK, "", one_line("; ".join(found.notes)), told(found.drawn))
    codes = list(dict.fromkeys(str(p.code) for p in found.problems))
    message = "; ".join(f"{p.column}: {p.what}; {p.remedy}" for p in found.problems)
    return Checked(case, Status.REFUSED, ",".join(codes), one_line(message), told(found.drawn))


class _FileCheck:
    """Opens every file of a case, also when another one is wrong, and gathers what it finds."""

    def __init__(self, case: Case, inputs: Checking, table: str) -> None:
        self.case = case
        self.inputs = inputs
        self.table = table
        self.problems: list[Problem] = []
        self.doubts: list[Problem] = []
        self.notes: list[str] = []
        self.drawn: list[DrawnTarget] = []

    def run(self) -> None:
        grids = {channel: self._image(channel) for channel in self.case.images}
        reference = grids[self.inputs.lesions.placing.grid_channel]
        for channel, grid in grids.items():
            if reference is not None and grid is not None and not grid.is_same(reference):
                with self._noting(f"image_{channel}"):
                    require_overlap(str(self.case.images[channel]), grid, reference)
                    self.notes.append(f"{channel} has its own grid ({grid.describe()})")
        self._lesion(reference)
        self._excluded()
        if reference is not None:
            self._given_labels(reference)

    def _image(self, channel: str) -> Grid | None:
        """Grid of a channel's image, None where it cannot be used."""
        column, path = f"image_{channel}", self.case.images[channel]
        if not self.case.columns[column]:
            self._add(column, Code.FILE_MISSING, "is empty", "give the path of the image")
            return None
        with self._noting(column):
            geometry = read_geometry(path)
            self.notes += [f"{channel}: {note}" for note in geometry.notes]
            array = read_volume(path).array
            require_finite(path, array)
            require_contrast(path, array)
            if note := padding_note(array):
                self.notes.append(f"{channel}: {note}")
            return geometry.grid
        return None

    def _lesion(self, reference: Grid | None) -> None:
        for column, path in self.case.lesions.items():
            if path is not None:
                with self._noting(column):
                    found = check_lesion(self.case, column, self.inputs.lesions, reference)
                    self.notes += found.notes
                    self.drawn += found.drawn
            elif self.case.columns[column] != NO_LESION:
                remedy = f"give the lesion file, or `{NO_LESION}` if the patient has no lesion"
                self._add(column, Code.FILE_MISSING, "is empty", remedy)

    def _excluded(self) -> None:
        """Names in the column `exclude` must be structures, or a doubt would be lost."""
        for name in excluded(self.case):
            long = len(name) > LONGEST_SHOWN  # no pattern, and slow to match
            if long or not any(fnmatchcase(s, name) for s in self.inputs.structures):
                names = ", ".join(self.inputs.structures)
                self._add(
                    EXCLUDE_COLUMN,
                    Code.PATTERN_UNMATCHED,
                    f"{shown(name)!r} is not a structure",
                    f"name some of {shown(names)}, separated by `;`",
                )

    def _given_labels(self, reference: Grid) -> None:
        """Hold the label files of segmenters against the image's grid, by their headers.

        What is wrong with one makes its structures unknown, and refuses no case.
        """
        for name, files in self.inputs.labels.items():
            # a column that the table lacks is said once, not for each case
            with self._noting(f"segmenters.{name}"), suppress(RunError):
                paths = label_files(files, self.case)
                gone = [role for role, path in paths.items() if not is_there(path)]
                if gone:
                    more = f" and {len(gone) - MOST_NAMED} more" if len(gone) > MOST_NAMED else ""
                    listed = ", ".join(gone[:MOST_NAMED]) + more
                    self.notes.append(f"{name} has no file {paths[gone[0]]} ({listed})")
                for role in (role for role in paths if role not in gone):
                    try:
                        self._given(name, paths[role], reference)
                    except CaseError as error:
                        self._doubt(name, role, error)

    def _doubt(self, segmenter: str, role: str, error: CaseError) -> None:
        """Note what makes structures unknown in this case."""
        said = self._problem(f"segmenters.{segmenter}", error.code, error.what, error.remedy)
        self.doubts.append(said)
        self.notes.append(f"{segmenter}, {role}: {error.what} ({error.code})")

    def _given(self, segmenter: str, path: Path, reference: Grid) -> None:
        """Look at one label file; note the names that it lacks."""
        grid = read_label_grid(path, reference)
        require_placeable(path, grid, reference, self.case, self.inputs.lesions.placing)
        wanted = self.inputs.named[segmenter]
        if wanted and segment_file(path) is not None:
            labels = read_label_map(path, reference, ())
            lacking = [name for name, value in wanted.items() if not labels.values_of(value)]
            if lacking:
                self.notes.append(f"{segmenter}: {path.name} has no {', '.join(lacking)}")

    @contextmanager
    def _noting(self, column: str) -> Iterator[None]:
        """Turn a CaseError into a problem of that column."""
        try:
            yield
        except CaseError as error:
            self._add(column, error.code, error.what, error.remedy)
        except Exception as error:  # whatever one file does, the others are looked at
            log.exception("%s", self.case.id)
            what = f"could not be checked ({type(error).__name__}: {error})"
            self._add(column, Code.INTERNAL, what, "see the log, and report this as a bug")

    def _add(self, column: str, code: Code, message: str, remedy: str) -> None:
        self.problems.append(self._problem(column, code, message, remedy))

    def _problem(self, column: str, code: Code, message: str, remedy: str) -> Problem:
        value = self.case.columns.get(column)
        shown_value = None if value is None else one_line(value)[:200]
        row = self.case.row
        return Problem(code, self.table, message, remedy, row, column, shown_value, self.case.id)


def _check_id(case: Case, rows: Sequence[int], table: str) -> Iterator[Problem]:
    value = one_line(case.id)[:80]
    if not CASE_ID.fullmatch(case.id) or ".." in case.id:
        yield Problem(
            Code.CASE_ID_INVALID,
            table,
            "is not a valid case id",
            "use up to 128 letters, digits, `.`, `_` and `-`, beginning with a letter or digit, "
            "without `..`",
            case.row,
            "case",
            value,
            case.id,
        )
    elif RESERVED_IDS.fullmatch(case.id):
        yield Problem(
            Code.CASE_ID_INVALID,
            table,
            "is a reserved name (backsplit or Windows)",
            "rename it",
            case.row,
            "case",
            value,
            case.id,
        )
    if len(rows) > 1:
        others = ", ".join(str(row) for row in rows[:MOST_ROWS_SHOWN] if row != case.row)
        yield Problem(
            Code.CASE_ID_DUPLICATE,
            table,
            f"duplicates row {others} (ids must differ by more than upper and lower case, which "
            "many disks do not distinguish); none of these rows is used",
            "give each case its own id",
            case.row,
            "case",
            value,
            case.id,
        )
