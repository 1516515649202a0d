"""Label files that exist: where they lie, and how they come onto their image's grid."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from backsplit.cases.table import Case
from backsplit.config.segmenters import LabelPath
from backsplit.config.slices import Placing
from backsplit.errors import Code, RunError
from backsplit.store.disk import is_there
from backsplit.volume import Array, Grid, LabelMap, read_grid, require_same_grid
from backsplit.volume.resample import require_overlap, resample_labels

NOTED_MM = 1e-3
"""Differences below come from float32 headers alone."""


def label_files(paths: Mapping[str, LabelPath], case: Case) -> dict[str, Path]:
    """Label files of a case that a segmenter reads, by role.

    Parameters
    ----------
    paths : the `label_paths` of its section
    case : whose files

    Raises
    ------
    RunError
        CONFIG_INVALID where a path names a column that the table does not have.
    """
    return {role: _fill(path, case) for role, path in paths.items()}


def put_on_grid(
    path: Path,
    labels: LabelMap,
    grid: Grid,
    case: Case,
    placing: Placing,
    resample: Callable[[Array, Grid, Grid], Array] = resample_labels,
) -> LabelMap:
    """Put a label map on the image's grid where the configuration allows it.

    Raises
    ------
    CaseError
        GRID_MISMATCH or GRID_NO_OVERLAP.
    """
    if labels.grid.is_same(grid):
        notes = (*labels.notes, *snap_note(path, labels.grid, grid))
        return replace(labels, grid=grid, notes=notes)
    require_placeable(path, labels.grid, grid, case, placing)
    array = resample(labels.array, labels.grid, grid)
    note = f"{path.name} was put from {labels.grid.describe()} on the image's grid"
    return replace(labels, array=array, grid=grid, notes=(*labels.notes, note))


def require_placeable(
    path: Path, grid: Grid, reference: Grid, case: Case, placing: Placing
) -> None:
    """Refuse a label file on a grid from which it may not be put on the image's.

    Parameters
    ----------
    path : the file, for messages
    grid, reference : the file's grid, and the image's
    case : its other images, on whose grids labels may have been drawn
    placing : which other grids are allowed

    Raises
    ------
    CaseError
        GRID_MISMATCH or GRID_NO_OVERLAP.
    """
    if grid.is_same(reference):
        return
    policy = placing.other_grids
    others = [i for c, i in case.images.items() if c != placing.grid_channel and is_there(i)]
    allowed = policy == "any" or (
        policy == "channels" and any(grid.is_same(read_grid(image)) for image in others)
    )
    if not allowed:
        require_same_grid(str(path), grid, reference, "its image")
    require_overlap(str(path), grid, reference)


def snap_note(path: Path, grid: Grid, reference: Grid) -> tuple[str, ...]:
    """Say that a file was taken to be on its image's grid though its header differs a little."""
    distance = grid.distance_mm(reference)
    if distance < NOTED_MM:
        return ()
    return (f"{path.name} lies {distance:.2g} mm off its image, which is rounding: taken as its",)


def _fill(path: LabelPath, case: Case) -> Path:
    """Fill {case}, {column} and the path's own; a column's path starts at the table's folder."""
    values = {"case": case.id, **path.fields}
    for _, field, _, _ in string.Formatter().parse(path.pattern):
        if field is None or field in values:
            continue
        if field not in case.columns:
            raise RunError(
                Code.CONFIG_INVALID,
                f"the path {path.pattern!r} names {{{field}}}, but the table has "
                f"{', '.join(sorted({*case.columns, *values}))}",
                "correct the path or add the column",
            )
        values[field] = case.column_path(field)
    return Path(path.pattern.format_map(values))
