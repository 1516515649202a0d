"""The lesion files of a case: what of them is which target, on the image's grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from backsplit.cases.claims import FileValues, file_values, target_claims
from backsplit.cases.drawn import DrawnTarget, drawn_targets, resampled
from backsplit.cases.instances import Given
from backsplit.cases.labels import placing_note, put_on_grid, require_placeable, snap_note
from backsplit.cases.table import Case
from backsplit.config.base import MOST_LABEL
from backsplit.config.slices import LesionValues
from backsplit.errors import CaseError, Code, shown
from backsplit.scheme.scheme import Claims
from backsplit.volume import Array, Grid, LabelMap, read_grid, read_label_map
from backsplit.volume.labels import segment_file
from backsplit.volume.pieces import places_of
from backsplit.volume.resample import require_labels_inside, resample_lesions
from backsplit.volume.same_lattice import find_lattice


@dataclass(frozen=True)
class Lesion:
    """What the lesion files of a case hold, on the image's grid.

    Attributes
    ----------
    map : values; those of the file where there is one
    claims : value to the ids that it claims, targets in their order, `ignore` last
    numbers : [value, id]: number of the lesion that a voxel of that value and id belongs to; None
        where values tell no lesions apart
    drawn : what each file says of each of its targets, before any conversion
    """

    map: LabelMap
    claims: Claims
    numbers: Array | None = None
    drawn: tuple[DrawnTarget, ...] = ()

    @property
    def given(self) -> Given | None:
        """Which voxels are of one lesion, where the files say it."""
        return None if self.numbers is None else Given(self.map.array, self.numbers)


def read_lesion(case: Case, values: LesionValues, grid: Grid) -> Lesion | None:
    """Read a case's lesions onto the image's grid; None where the table says that there are none.

    Raises
    ------
    CaseError
        As `read_label_map`; GRID_MISMATCH, GRID_NO_OVERLAP, LABEL_UNDECLARED, LESION_LOST.
    """
    parts = []
    for column, path in case.lesion_files.items():
        mine = file_values(case, column, values)
        labels = _read(path, grid, mine)
        claims = target_claims(path, labels, mine)
        drawn = _drawn(path, labels, claims, mine)
        moved = put_on_grid(path, labels, grid, case, values.placing, resample_lesions)
        if not labels.grid.is_same(grid):
            require_labels_inside(str(path), labels.array, labels.grid, grid)
            if find_lattice(labels.grid, grid) is None:
                drawn = _resampled(labels, drawn, claims, mine, grid)
                moved = _with_volumes(path, labels, moved, claims, mine)
        parts.append(Lesion(moved, claims, _numbers(moved, claims, mine), tuple(drawn)))
    return _merged(parts, grid) if parts else None


@dataclass(frozen=True)
class CheckedLesion:
    """What a sound lesion file says, and what was snapped or will be done to it."""

    drawn: tuple[DrawnTarget, ...] = ()
    notes: tuple[str, ...] = ()


def check_lesion(case: Case, column: str, values: LesionValues, grid: Grid | None) -> CheckedLesion:
    """Check a lesion file without resampling it; `grid` is the image's, where it is sound.

    Raises as `read_lesion`.
    """
    path = case.lesion_files[column]
    if grid is None and segment_file(path) is not None:
        return CheckedLesion()  # contours say nothing without their image
    mine = file_values(case, column, values)
    labels = _read(path, grid or read_grid(path), mine)
    claims = target_claims(path, labels, mine)
    drawn = _drawn(path, labels, claims, mine)
    notes = [*labels.notes, *_notes(path, labels, claims, drawn, mine)]
    if grid is not None and labels.grid.is_same(grid):
        notes += snap_note(path, labels.grid, grid)
    elif grid is not None:
        require_placeable(path, labels.grid, grid, case, values.placing)
        require_labels_inside(str(path), labels.array, labels.grid, grid)
        notes.append(placing_note(path, labels.grid, grid))
    return CheckedLesion(tuple(drawn), tuple(notes))


def _read(path: Path, grid: Grid, values: FileValues) -> LabelMap:
    """Read a file; of one that is a mask whatever is not 0."""
    is_mask = values.mask_of is not None
    wanted = None if is_mask and values.is_own else values.wanted
    return read_label_map(path, grid, wanted, is_mask=is_mask)


def _drawn(path: Path, labels: LabelMap, claims: Claims, values: FileValues) -> list[DrawnTarget]:
    """What a file says of its targets, held against the map that was read from it.

    Raises
    ------
    CaseError
        LESION_LOST, LESION_CHANGED: segments or regions were put on the image's grid, and do not
        have the volume there that they were drawn with.
    """
    _require_all(path, labels, claims)
    drawn = drawn_targets(labels, claims, values)
    for label, target in zip(values.targets, drawn, strict=True):
        voxels = labels.voxels_of(value for value, ids in claims.items() if label in ids)
        if not target.agrees(voxels, labels.grid.voxel_ml):
            raise target.changed(path, voxels, labels.grid.voxel_ml)
    return drawn


def _require_all(path: Path, labels: LabelMap, claims: Claims) -> None:
    """Refuse a file of which a segment or region has no voxel on the grid that it was put on.

    Raises
    ------
    CaseError
        LESION_LOST.
    """
    there = {member for value in labels.values for member in labels.overlaps.get(value, (value,))}
    for name, value in labels.names.items():
        drawn = labels.drawn.get(value)
        if value in claims and drawn is not None and drawn.parts and value not in there:
            raise CaseError(
                Code.LESION_LOST,
                f"{path}: {shown(name)!r} ({drawn.parts} {drawn.kind}, {drawn.ml:.3g} ml) has no "
                "voxel on the image's grid",
                "set dataset.grid to the channel that it was drawn on, or look at both together",
            )


def _notes(
    path: Path,
    labels: LabelMap,
    claims: Claims,
    drawn: Sequence[DrawnTarget],
    values: FileValues,
) -> list[str]:
    """What the user should know about a valid file."""
    found = {label for ids in claims.values() for label in ids}
    lacking = [values.names[target] for target in values.targets if target not in found]
    if labels.names and lacking:
        return [f"{path.name} has no segment of {', '.join(lacking)}"]
    if all(target.is_empty for target in drawn):
        remedy = "" if values.anatomy else "; write `none` if the patient has no lesion"
        return [f"{path.name} has no lesion voxel{remedy}"]
    lesions = [v for v in labels.values if set(claims.get(v, ())) & set(values.targets)]
    if values.mask_of is not None and lesions != list(values.targets[values.mask_of]):
        name = values.names[values.mask_of]
        return [f"{path.name}: every voxel that is not 0 is {name} (value {lesions[0]})"]
    return []


def _resampled(
    labels: LabelMap,
    drawn: Sequence[DrawnTarget],
    claims: Claims,
    values: FileValues,
    grid: Grid,
) -> list[DrawnTarget]:
    """What was drawn, with the tolerance of a map that is resampled."""
    found = []
    for target, of_target in zip(values.targets, drawn, strict=True):
        table = np.zeros(int(labels.array.max()) + 1, np.uint8)
        table[[v for v, ids in claims.items() if target in ids and v < len(table)]] = 1
        found.append(resampled(of_target, table[labels.array], grid))
    return found


def _numbers(labels: LabelMap, claims: Claims, values: FileValues) -> Array | None:
    """Number of the lesion of each value and target, where values tell lesions apart."""
    if not values.has_instances:
        return None
    numbers = np.zeros((int(labels.array.max()) + 1, max(values.names) + 1), np.int64)
    for value, ids in claims.items():
        if value < len(numbers):
            members = labels.overlaps.get(value, (value,))
            for label in ids:
                numbers[value, label] = next(m for m in members if label in claims.get(m, ()))
    return numbers


def _merged(parts: Sequence[Lesion], grid: Grid) -> Lesion:
    """Put the lesions of several files on one map without losing any where they overlap.

    Voxels with equal values in all files get one value; it claims what each of them does.
    """
    if len(parts) == 1:
        return parts[0]
    flat = [part.map.array.reshape(-1) for part in parts]
    places = np.unique(np.concatenate([places_of(part.map.array) for part in parts]))
    codes = np.zeros(len(places), np.int64)
    members: list[tuple[int, ...]] = [()]
    for values in flat:
        pairs, codes = np.unique(codes * (MOST_LABEL + 1) + values[places], return_inverse=True)
        members = [
            (*members[pair // (MOST_LABEL + 1)], pair % (MOST_LABEL + 1)) for pair in pairs.tolist()
        ]
    if len(members) > MOST_LABEL:
        raise CaseError(
            Code.LABEL_UNDECLARED,
            f"the lesion files overlap in more than {MOST_LABEL} ways",
            "give lesions that overlap less, or in one file",
        )
    array = np.zeros(flat[0].shape, np.min_scalar_type(len(members)))
    array[places] = codes + 1
    claims = {
        value: tuple(sorted({label for p, v in zip(parts, held, strict=True) for label in
                             p.claims.get(v, ())}))
        for value, held in enumerate(members, start=1)
    }  # fmt: skip
    notes = tuple(note for part in parts for note in part.map.notes)
    labels = LabelMap(array.reshape(grid.shape), grid, notes=notes)
    drawn = tuple(target for part in parts for target in part.drawn)
    held = {value: ids for value, ids in claims.items() if ids}
    return Lesion(labels, held, _numbers_of(parts, members), drawn)


def _numbers_of(parts: Sequence[Lesion], members: Sequence[tuple[int, ...]]) -> Array | None:
    """Numbers of lesions over several files: those of a later file begin after the one before."""
    if all(part.numbers is None for part in parts):
        return None
    tables, before = [], 0
    for part in parts:
        table = part.numbers if part.numbers is not None else _whole(part)
        tables.append(np.where(table > 0, table + before, 0))
        before = int(max(before, tables[-1].max(initial=0)))
    width = max(table.shape[1] for table in tables)
    numbers = np.zeros((len(members) + 1, width), np.int64)
    for value, held in enumerate(members, start=1):
        for table, v in zip(tables, held, strict=True):
            row = numbers[value, : table.shape[1]]
            if v < len(table):
                row[row == 0] = table[v][row == 0]
    return numbers


def _whole(part: Lesion) -> Array:
    """Numbers of a file whose values tell no lesions apart, beside one whose values do."""
    highest = max((max(ids) for ids in part.claims.values()), default=0)
    table = np.zeros((int(part.map.array.max()) + 1, highest + 1), np.int64)
    for value, ids in part.claims.items():
        if value < len(table):
            table[value, list(ids)] = value
    return table


def _with_volumes(
    path: Path, before: LabelMap, after: LabelMap, claims: Claims, values: FileValues
) -> LabelMap:
    """Note the volumes before and after resampling.

    Raises
    ------
    CaseError
        LESION_LOST when nothing is left of a target.
    """
    notes = list(after.notes)
    for target in values.targets:
        name = values.names[target]
        held = [value for value, ids in claims.items() if target in ids]
        old_ml = before.voxels_of(held) * before.grid.voxel_ml
        new_ml = after.voxels_of(held) * after.grid.voxel_ml
        if old_ml and not new_ml:
            raise CaseError(
                Code.LESION_LOST,
                f"{path}: nothing of {name} ({old_ml:.3g} ml) would be left on the image's grid, "
                "whose voxels are too large",
                "set dataset.grid to the channel that it was drawn on",
            )
        if old_ml:
            notes.append(f"{name}: {old_ml:.4g} ml before, {new_ml:.4g} ml after")
    return replace(after, notes=tuple(notes))
