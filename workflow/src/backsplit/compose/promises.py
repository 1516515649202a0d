"""The promises, held against the file as it was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from backsplit.cases.lesion import Lesion
from backsplit.compose.layers import Precedence
from backsplit.errors import CaseError, Code
from backsplit.scheme.scheme import Scheme
from backsplit.volume import Array, Grid, read_labels
from backsplit.volume.pieces import apply_table, pieces


def assert_promises(
    path: Path, grid: Grid, lesion: Lesion | None, scheme: Scheme, precedence: Precedence
) -> Array:
    """Hold a written label map against the promises; called before it gets its name.

    Parameters
    ----------
    path : label map as written
    grid : the image's grid
    lesion : the lesion files, on that grid; None for no lesion
    scheme : names and ids
    precedence : pairs of labels for which the configuration lets a lesion yield

    Returns
    -------
    counts
        voxels of each target in the written file, by id, and 0 for what is none

    Raises
    ------
    CaseError
        PROMISE_BROKEN: a lesion voxel lost, added or moved; another grid; an id of no name.
    """
    written = read_labels(path)
    if not written.grid.is_same(grid):
        distance = written.grid.distance_mm(grid)
        raise _broken(path, f"was written {distance:.3g} mm off its image's grid")
    highest = int(written.array.max())
    if highest > scheme.ignore_id:
        raise _broken(path, f"holds the id {highest}, which has no name")
    count = len(scheme.targets)
    keep = np.zeros(scheme.ignore_id + 1, scheme.dtype)
    keep[: count + 1] = np.arange(count + 1)
    flat = written.array.reshape(-1)
    counts = np.zeros(count + 1, np.int64)
    targets = None if lesion is None else _target_table(lesion, precedence)
    given = None if lesion is None else lesion.map.array.reshape(-1)
    for at in pieces(len(flat)):
        piece = flat[at]
        said = np.zeros(0, np.uint8) if given is None else given[at]
        if not said.any() and not (piece - 1 < count).any():  # 0 - 1 is the highest value
            continue
        found = apply_table(keep, piece)
        counts += np.bincount(found, minlength=count + 1)
        wanted = np.zeros(len(piece), keep.dtype) if targets is None else apply_table(targets, said)
        still_ignored = (wanted == scheme.ignore_id) & (piece == scheme.ignore_id)
        off = np.flatnonzero((found != wanted) & ~still_ignored)
        given_away = zip(piece[off].tolist(), wanted[off].tolist(), strict=True)
        if len(off) and not all(precedence.takes(new, old) for new, old in set(given_away)):
            raise _broken(path, "does not hold the lesion voxels of the lesion files")
    counts[0] = 0
    return counts


def _target_table(lesion: Lesion, precedence: Precedence) -> Array:
    """Id of the target, or of `ignore`, of each value of the lesion files."""
    highest = max((max(targets) for targets in lesion.claims.values()), default=0)
    table = np.zeros(np.iinfo(lesion.map.array.dtype).max + 1, np.min_scalar_type(highest))
    for value, targets in lesion.claims.items():
        if value < len(table):
            table[value] = precedence.winner(targets)
    return table


def _broken(path: Path, what: str) -> CaseError:
    return CaseError(Code.PROMISE_BROKEN, f"{path} {what}", "report this as a bug")
