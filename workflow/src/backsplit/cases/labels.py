"""Label files that exist: where they lie, and how they come onto their image's grid."""

from __future__ import annotations

import shlex
import string
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from backsplit.cases.table import Case
from backsplit.config.kind import LabelPath
from backsplit.config.slices import Placing
from backsplit.errors import CaseError, Code, RunError
from backsplit.store.disk import is_there
from backsplit.volume import Array, Grid, LabelMap, read_grid
from backsplit.volume.resample import require_overlap, resample_labels
from backsplit.volume.same_lattice import find_lattice, header_is_lost

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
    """Put a label map on the image's grid.

    What lies on the image's own voxels is taken exactly, however its header describes them;
    another grid is resampled where the configuration allows it.

    Raises
    ------
    CaseError
        GRID_MISMATCH or GRID_NO_OVERLAP.
    """
    if labels.grid.is_same(grid):
        array, notes = labels.array, snap_note(path, labels.grid, grid)
    else:
        require_placeable(path, labels.grid, grid, case, placing)
        lattice = find_lattice(labels.grid, grid)
        array = lattice.take(labels.array) if lattice else resample(labels.array, labels.grid, grid)
        notes = (placing_note(path, labels.grid, grid),)
        if lattice and (lost := lattice.count_outside(labels.array)):
            notes += (f"{path.name} has {lost} labelled voxels outside the image: left out",)
    return replace(labels, array=array, grid=grid, notes=(*labels.notes, *notes))


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
    _require_header(path, grid, reference, case.images[placing.grid_channel])
    lattice = find_lattice(grid, reference)
    if lattice is not None and not lattice.shifts:
        require_overlap(str(path), grid, reference)
        return
    policy = placing.other_grids
    others = [i for c, i in case.images.items() if c != placing.grid_channel and is_there(i)]
    allowed = policy == "any" or (
        policy == "channels" and any(find_lattice(grid, read_grid(image)) for image in others)
    )
    if not allowed:
        raise _mismatch(path, grid, reference, case.images[placing.grid_channel])
    require_overlap(str(path), grid, reference)


def placing_note(path: Path, grid: Grid, reference: Grid) -> str:
    """Say how a label file that is not on its image's grid comes onto it."""
    lattice = find_lattice(grid, reference)
    if lattice is None:
        return f"{path.name} is put from {grid.describe()} on the image's grid"
    far = f", up to {lattice.drift_mm:.2g} mm off" if lattice.drift_mm >= NOTED_MM else ""
    return (
        f"{path.name} has the image's voxels ({lattice.describe()}{far}): read exactly, "
        "without interpolation"
    )


def _require_header(path: Path, grid: Grid, reference: Grid, image: Path) -> None:
    """Refuse a label file that was saved without its image's header.

    Raises
    ------
    CaseError
        GRID_MISMATCH, with a command that copies the header.
    """
    if not header_is_lost(grid, reference):
        return
    what = (
        f"{path} has lost its header: it has the image's size, but the default grid of an array "
        f"(spacing {'x'.join(f'{s:g}' for s in grid.spacing)} mm, origin "
        f"{', '.join(f'{o:g}' for o in grid.origin)}) where the image is {reference.describe()}"
    )
    if grid.size == reference.size:
        remedy = f"if its voxels are in the image's order, {_copy_header(path, image)}"
    else:
        remedy = "write it again with its axes in the image's order, and with the image's header"
    raise CaseError(Code.GRID_MISMATCH, what, remedy)


def _mismatch(path: Path, grid: Grid, reference: Grid, image: Path) -> CaseError:
    """Say how a label file's grid differs, and what to do where its header may be wrong."""
    other = "`dataset.other_grids: any` resamples it"
    if grid.size != reference.size:
        return CaseError(
            Code.GRID_MISMATCH,
            f"{path} is {grid.describe()} but its image is {reference.describe()}",
            f"use the image that it was drawn on; {other}",
        )
    return CaseError(
        Code.GRID_MISMATCH,
        f"{path} has the size of its image but is up to {grid.distance_mm(reference):.3g} mm "
        f"away from it ({grid.differences(reference)})",
        "if it was drawn on this image, its header is wrong: "
        f"{_copy_header(path, image)}; if not, {other}",
    )


def _copy_header(path: Path, image: Path) -> str:
    """The command that gives a label file its image's header."""
    files = (image, path, path.with_name(f"{path.name.partition('.')[0]}_fixed.nii.gz"))
    names = " ".join(shlex.quote(str(name)) for name in files)
    return f"copy the image's and look at both together: python -c '{_COPY_HEADER}' {names}"


_COPY_HEADER = (
    "import sys; from pathlib import Path; "
    "from backsplit.volume import read_grid, read_labels, write_labels; "
    "image, mask, fixed = map(Path, sys.argv[1:]); "
    "write_labels(fixed, read_labels(mask).array, read_grid(image))"
)


def snap_note(path: Path, grid: Grid, reference: Grid) -> tuple[str, ...]:
    """Say that a file was taken to be on its image's grid though its header differs a little."""
    distance = grid.distance_mm(reference)
    if distance < NOTED_MM:
        return ()
    return (
        f"{path.name} is {distance:.2g} mm off the image grid (header rounding); treated as the "
        "same grid",
    )


def _fill(path: LabelPath, case: Case) -> Path:
    """Fill {case}, {column} and the path's own; a column's path starts at the table's folder."""
    values = {"case": case.id, **path.fields}
    for field in _fields(path.pattern):
        if field in values:
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


@cache
def _fields(pattern: str) -> list[str]:
    return [field for _, field, _, _ in string.Formatter().parse(pattern) if field is not None]
