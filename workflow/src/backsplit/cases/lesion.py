"""The lesion file of a case: which of its values are which target, on the image's grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from backsplit.cases.labels import placing_note, put_on_grid, require_placeable, snap_note
from backsplit.cases.table import Case
from backsplit.config.base import MOST_LABEL, LabelValue
from backsplit.config.slices import LesionValues
from backsplit.errors import CaseError, Code
from backsplit.scheme.scheme import Claims
from backsplit.volume import Array, Grid, LabelMap, read_grid, read_label_map
from backsplit.volume.labels import segment_file
from backsplit.volume.pieces import count_values
from backsplit.volume.resample import require_labels_inside, resample_lesions
from backsplit.volume.same_lattice import find_lattice

VOLUME_TOLERANCE = 0.1
"""A target whose volume changes by more than this share through resampling is worth a word."""


@dataclass(frozen=True)
class Lesion:
    """What a lesion file holds, on the image's grid.

    Attributes
    ----------
    map : the file's own values
    claims : value to target ids
    instances : whether the file's values tell lesions apart
    """

    map: LabelMap
    claims: Claims
    instances: bool


def read_lesion(case: Case, values: LesionValues, grid: Grid) -> Lesion | None:
    """Read a case's lesion onto the image's grid; None where the table says that there is none.

    Raises
    ------
    CaseError
        As `read_label_map`; GRID_MISMATCH, GRID_NO_OVERLAP, LABEL_UNDECLARED, LESION_LOST.
    """
    if case.lesion is None:
        return None
    labels = read_label_map(case.lesion, grid, _wanted(values))
    claims = target_claims(case.lesion, labels, values)
    moved = put_on_grid(case.lesion, labels, grid, case, values.placing, resample_lesions)
    if not labels.grid.is_same(grid):
        require_labels_inside(str(case.lesion), labels.array, labels.grid, grid)
        if find_lattice(labels.grid, grid) is None:
            moved = _with_volumes(case.lesion, labels, moved, claims, list(values.targets))
    several = any(
        len(given) > 1 or any(isinstance(value, str) and "*" in value for value in given)
        for given in values.targets.values()
    )
    return Lesion(moved, claims, several)


def check_lesion(case: Case, values: LesionValues, grid: Grid | None) -> tuple[str, ...]:
    """Check a case's lesion file without resampling it; `grid` is the image's, where it is sound.

    Returns what was snapped or will be done to it, for a person. Raises as `read_lesion`.
    """
    assert case.lesion is not None
    if grid is None and segment_file(case.lesion) is not None:
        return ()  # contours say nothing without their image
    labels = read_label_map(case.lesion, grid or read_grid(case.lesion), _wanted(values))
    target_claims(case.lesion, labels, values)
    if grid is None:
        return labels.notes
    if not labels.grid.is_same(grid):
        require_placeable(case.lesion, labels.grid, grid, case, values.placing)
        require_labels_inside(str(case.lesion), labels.array, labels.grid, grid)
        return (*labels.notes, placing_note(case.lesion, labels.grid, grid))
    return (*labels.notes, *snap_note(case.lesion, labels.grid, grid))


def _wanted(values: LesionValues) -> list[int | str]:
    return [value for given in values.targets.values() for value in given]


def target_claims(path: Path, labels: LabelMap, values: LesionValues) -> Claims:
    """Which target each value of a lesion file is.

    Values that a `files` segmenter reads from the lesion file are declared, and claim nothing
    here. In DICOM other segments and regions are common and are left aside.

    Raises
    ------
    CaseError
        LABEL_UNDECLARED: a value that nobody declares, or no segment of any target's name.
    """
    declared = values.declared
    present = _values(labels.array)
    numbers = dict(labels.names)
    single: dict[int, int] = {}
    for target, given in enumerate(values.targets.values(), start=1):
        for value in given:
            for hit in _matches(value, numbers, present, declared, labels):
                single.setdefault(hit, target)
    if labels.names and not single:
        wanted = ", ".join(str(value) for given in values.targets.values() for value in given)
        raise CaseError(
            Code.LABEL_UNDECLARED,
            f"{path} has none of the targets {wanted}; "
            f"it has {', '.join(f'{v} {n!r}' for n, v in numbers.items())}",
            "correct targets",
        )
    known = set(single) | {v for v in declared if isinstance(v, int)} | set(labels.overlaps)
    unknown = [value for value in present if value not in known]
    if unknown and not labels.names:
        voxels = int((labels.array == unknown[0]).sum())
        shown = ", ".join(f"{value} {name}" for value, name in declared.items())
        raise CaseError(
            Code.LABEL_UNDECLARED,
            f"{path} holds the value {unknown[0]} ({voxels} voxels), declared are {shown}",
            "add it to targets, or to the labels of a `files` segmenter that reads {lesion}",
        )
    claims: dict[int, tuple[int, ...]] = {value: (target,) for value, target in single.items()}
    for value, members in labels.overlaps.items():
        targets = sorted({single[member] for member in members if member in single})
        if targets:
            claims[value] = tuple(targets)
    return claims


def _matches(
    value: LabelValue,
    numbers: Mapping[str, int],
    present: Sequence[int],
    declared: Mapping[LabelValue, str],
    labels: LabelMap,
) -> list[int]:
    """Values of the file that a target's value, name or wildcard stands for."""
    if isinstance(value, int):
        return [value]
    if numbers:
        return [number for name, number in numbers.items() if fnmatchcase(name, value)]
    if value == "*":
        return [v for v in present if v not in declared and v not in labels.overlaps]
    return []


def _values(array: Array) -> list[int]:
    """Values other than 0 that an array holds."""
    counts = count_values(array, int(array.max()) + 1)
    return [int(value) for value in np.flatnonzero(counts) if value]


def _with_volumes(
    path: Path, before: LabelMap, after: LabelMap, claims: Claims, targets: Sequence[str]
) -> LabelMap:
    """Hold the volumes before and after resampling against each other.

    Raises
    ------
    CaseError
        LESION_LOST when nothing is left of a target.
    """
    notes = list(after.notes)
    old = count_values(before.array, MOST_LABEL + 1) * before.grid.voxel_ml
    new = count_values(after.array, MOST_LABEL + 1) * after.grid.voxel_ml
    for target, name in enumerate(targets, start=1):
        values = [value for value, ids in claims.items() if target in ids]
        old_ml, new_ml = float(old[values].sum()), float(new[values].sum())
        if old_ml and not new_ml:
            raise CaseError(
                Code.LESION_LOST,
                f"{path}: nothing of {name} ({old_ml:.3g} ml) would be left on the image's grid, "
                "whose voxels are too large for it",
                "set dataset.grid to the channel that it was drawn on",
            )
        if old_ml:
            change = new_ml / old_ml - 1
            large = " (CHANGED)" if abs(change) > VOLUME_TOLERANCE else ""
            notes.append(f"{name}: {old_ml:.4g} ml before, {new_ml:.4g} ml after{large}")
    return replace(after, notes=tuple(notes))
