"""The promises, held against the file as it was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from backsplit.compose.layers import Precedence, apply_table, pieces
from backsplit.errors import CaseError, Code
from backsplit.lesion import Lesion
from backsplit.scheme import Scheme
from backsplit.volume import Array, Grid, read_labels


def assert_promises(
    path: Path, grid: Grid, lesion: Lesion | None, scheme: Scheme, precedence: Precedence
) -> None:
    """Hold a written label map against the promises; called before it gets its name.

    Parameters
    ----------
    path : label map as written
    grid : the image's grid
    lesion : the lesion file, on that grid; None for no lesion
    scheme : names and ids
    precedence : pairs of labels for which the configuration lets a lesion yield

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
    expected = None if lesion is None else lesion_targets(lesion, precedence)
    for at in pieces(len(flat)):
        found = apply_table(keep, flat[at])
        wanted = np.zeros(len(found), keep.dtype) if expected is None else expected[at]
        off = np.flatnonzero(found != wanted)
        given_away = zip(flat[at][off].tolist(), wanted[off].tolist(), strict=True)
        if len(off) and not all(precedence.takes(new, old) for new, old in set(given_away)):
            raise _broken(path, "does not hold the lesion voxels of the lesion file")


def lesion_targets(lesion: Lesion, precedence: Precedence) -> Array:
    """Target id of each voxel of the lesion file, flat."""
    values = lesion.map.array.reshape(-1)
    highest = max((max(targets) for targets in lesion.claims.values()), default=0)
    table = np.zeros(65536, np.uint8 if highest <= 255 else np.uint16)
    for value, targets in lesion.claims.items():
        table[value] = precedence.winner(targets)
    table = table[:256] if values.dtype == np.uint8 else table
    result = np.empty(len(values), table.dtype)
    for at in pieces(len(values)):
        result[at] = apply_table(table, values[at])
    return result


def _broken(path: Path, what: str) -> CaseError:
    return CaseError(Code.PROMISE_BROKEN, f"{path} {what}; report this as a bug")
