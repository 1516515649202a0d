"""Folds of cross-validation: cases of one patient stay together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from backsplit.cases.table import Case
from backsplit.errors import Code, RunError

FOLDS = 5


SPLIT_SEED = 12345
"""nnU-Net's own number of folds and seed (`generate_crossval_split`)."""

FOLD_COLUMN = "fold"
"""Optional column of the case table: the fold that validates a case, 0, 1, …; a case with an empty
cell is trained on in every fold."""

Split = dict[str, list[str]]


def splits(cases: Sequence[Case]) -> list[Split]:
    """The folds that the case table gives, else five of our own.

    Raises
    ------
    RunError
        FOLD_INVALID.
    """
    if (given := given_folds(cases)) is not None:
        found = [
            {
                "train": sorted(case for case in given if given[case] != fold),
                "val": sorted(case for case in given if given[case] == fold),
            }
            for fold in sorted({fold for fold in given.values() if fold is not None})
        ]
        return [split for split in found if split["train"]]
    return cross_validation([case.id for case in cases], {c.id: c.patient for c in cases})


def given_folds(cases: Sequence[Case]) -> dict[str, int | None] | None:
    """Case to the fold that validates it, as the table says; None where it gives no folds.

    Raises
    ------
    RunError
        FOLD_INVALID: a cell that is no fold, or a patient whose cases would be both trained on
        and validated.
    """
    cells = {case.id: case.columns.get(FOLD_COLUMN, "") for case in cases}
    if not any(cells.values()):
        return None
    folds: dict[str, int | None] = {}
    first: dict[str, Case] = {}
    for case in cases:
        cell = cells[case.id]
        if cell and not (cell.isascii() and cell.isdigit() and len(cell) < 4):
            raise RunError(
                Code.FOLD_INVALID,
                f"row {case.row} of the case table has {cell[:80]!r} in `{FOLD_COLUMN}`, which is "
                "not a fold",
                "give the number of the fold that validates the case (0, 1, …), or nothing if "
                "every fold trains on it",
            )
        folds[case.id] = int(cell) if cell else None
        other = first.setdefault(case.patient, case)
        if folds[other.id] != folds[case.id]:
            raise RunError(
                Code.FOLD_INVALID,
                f"the patient {case.patient} has the cases {other.id} (row {other.row}, fold "
                f"{cells[other.id] or 'none'}) and {case.id} (row {case.row}, fold "
                f"{cell or 'none'}): a fold would train and validate on the same patient",
                f"give all cases of a patient the same `{FOLD_COLUMN}`, or remove the column",
            )
    return folds


def cross_validation(cases: Sequence[str], groups: Mapping[str, str]) -> list[Split]:
    """Five folds of training and validation cases; a group (patient) is never on both sides.

    Returns fewer folds when there are fewer groups, and none for a single one.
    """
    members: dict[str, list[str]] = {}
    for case in sorted(cases):
        members.setdefault(groups[case], []).append(case)
    names = sorted(members)
    if len(names) < 2:
        return []
    shuffled = [names[i] for i in np.random.default_rng(SPLIT_SEED).permutation(len(names))]
    parts = [sorted(shuffled[i :: min(FOLDS, len(names))]) for i in range(min(FOLDS, len(names)))]
    return [
        {
            "train": sorted(c for n in names if n not in part for c in members[n]),
            "val": sorted(c for n in part for c in members[n]),
        }
        for part in parts
    ]
