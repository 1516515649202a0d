"""What is known of each structure in a case: unknown is not background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np

from backsplit.scheme.scheme import Scheme
from backsplit.store.sidecars import Known, StructureEntry
from backsplit.volume import Array, Grid
from backsplit.volume.coverage import Parts
from backsplit.volume.grid import SIDES

EXCLUDED = "excluded in the case table"


def unknown_structures(
    scheme: Scheme,
    failed: Mapping[str, str],
    missing: Mapping[str, Mapping[str, str]],
    excluded: Sequence[str],
) -> dict[str, str]:
    """Structures that could not be labelled in a case, and why.

    A structure is known when one segmenter looked for all of its classes of it: who found the
    right kidney and had no file of the left one does not know the kidneys. Who labels its lesions
    has not looked for it.

    Parameters
    ----------
    scheme : names and sources
    failed : segmenter that failed in this case to the reason
    missing : segmenter to its classes that nobody could look for in this case, and why
    excluded : names and wildcards of structures that the user excluded from this case
    """
    reasons: dict[str, list[str]] = {name: [] for name in scheme.structures}
    known: set[str] = set()
    for segmenter, classes in scheme.sources.items():
        gone, lent = missing.get(segmenter, {}), scheme.lent.get(segmenter, ())
        for structure in dict.fromkeys(classes.values()):
            if structure not in reasons:
                continue
            own = [name for name, label in classes.items() if label == structure]
            asked = [name for name in own if name not in lent]
            why = [f"{segmenter}/{name}: {gone[name]}" for name in own if name in gone]
            if segmenter in failed:
                why = [f"{segmenter} failed: {failed[segmenter]}"]
            elif asked and not any(name in gone for name in asked):
                known.add(structure)
            reasons[structure] += why
    unknown = {
        structure: "; ".join(dict.fromkeys(why))
        for structure, why in reasons.items()
        if why and structure not in known
    }
    return unknown | dict.fromkeys(excluded_structures(scheme, excluded), EXCLUDED)


def partly_seen(
    scheme: Scheme,
    failed: Mapping[str, str],
    missing: Mapping[str, Mapping[str, str]],
    within: Mapping[str, Mapping[str, Parts]],
) -> dict[str, tuple[Parts, ...]]:
    """Structures for which every segmenter that knows them looked at a part of the image only.

    Parameters
    ----------
    scheme, failed, missing : as `unknown_structures`
    within : segmenter to its classes that were looked for in parts of the image only

    Returns
    -------
    seen
        Structure to, for each of those segmenters, the grids that it looked at for all of its
        classes of the structure: it is known where a voxel lies on each grid of one of them.
    """
    seen: dict[str, list[Parts]] = {name: [] for name in scheme.structures}
    whole: set[str] = set()
    for segmenter, classes in scheme.sources.items():
        limits, lent = within.get(segmenter, {}), scheme.lent.get(segmenter, ())
        for structure in dict.fromkeys(classes.values()):
            own = [c for c, label in classes.items() if label == structure and c not in lent]
            if structure not in seen or not own or segmenter in failed:
                continue
            if any(name in missing.get(segmenter, {}) for name in own):
                continue
            grids = tuple(dict.fromkeys(grid for name in own for grid in limits.get(name, ())))
            if grids:
                seen[structure].append(grids)
            else:
                whole.add(structure)
    return {name: tuple(parts) for name, parts in seen.items() if parts and name not in whole}


def excluded_structures(scheme: Scheme, excluded: Sequence[str]) -> list[str]:
    """Structures that the user excluded from a case, by name or wildcard: they are hidden."""
    return [
        structure
        for structure in scheme.structures
        if any(fnmatchcase(structure, pattern) for pattern in excluded)
    ]


def statuses(
    labels: Array, grid: Grid, scheme: Scheme, counts: Array, unknown: Mapping[str, str]
) -> list[StructureEntry]:
    """Status of every structure of a case.

    Parameters
    ----------
    labels : the label map, (z, y, x)
    grid : where it lies
    scheme : names and ids
    counts : voxels of each id
    unknown : structure to why it is unknown
    """
    touched = touched_sides(labels, grid, len(counts))
    rows = []
    for structure in scheme.structures:
        label = scheme.ids[structure]
        voxels, sides = int(counts[label]), touched[label]
        if structure in unknown:
            status = Known.UNKNOWN
        elif not voxels:
            status = Known.ABSENT
        else:
            status = Known.TRUNCATED if sides else Known.LABELLED
        why = unknown.get(structure, "")
        rows.append(
            StructureEntry(
                structure=structure, status=status, voxels=voxels, sides=",".join(sides), reason=why
            )
        )
    return rows


def touched_sides(labels: Array, grid: Grid, count: int) -> list[list[str]]:
    """Patient sides of the field of view that each id below `count` touches."""
    touched: list[list[str]] = [[] for _ in range(count)]
    for patient_axis in range(3):
        axis, sign = grid.array_axis(patient_axis)
        for end in (0, 1):
            low = (end == 0) == (sign > 0)
            face = np.take(labels, 0 if low else -1, axis=axis)
            side = SIDES[2 * patient_axis + end]
            for label in np.flatnonzero(np.bincount(face.ravel())).tolist():
                touched[label].append(side)
    return touched
