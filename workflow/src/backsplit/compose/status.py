"""What is known about each structure in a case: unknown is not background."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np

from backsplit.scheme.scheme import Scheme
from backsplit.store.sidecars import Known, StructureEntry
from backsplit.volume import Array, Grid
from backsplit.volume.coverage import Parts
from backsplit.volume.grid import SIDES

EXCLUDED = "excluded in the case table"
SEEN_IN_PART = "looked for in a part of the image only (docs/segmenters.md)"


def unknown_structures(
    scheme: Scheme,
    failed: Mapping[str, str],
    missing: Mapping[str, Mapping[str, str]],
    excluded: Sequence[str],
) -> dict[str, str]:
    """Structures that could not be labelled in a case, and why.

    A structure is known if one segmenter looked for all of its own classes of that structure: with
    a file of the right kidney and none of the left, the kidneys are unknown. A segmenter that
    labels only a structure's lesions has not looked for the structure.

    Parameters
    ----------
    scheme : names and sources
    failed : segmenter that failed in this case, to the reason
    missing : segmenter to its classes that could not be looked for in this case, and why
    excluded : names and wildcards of structures that the user excluded from this case
    """
    reasons: dict[str, list[str]] = {name: [] for name in scheme.structures}
    for segmenter, structure, own in _labelled(scheme):
        gone = missing.get(segmenter, {})
        if segmenter in failed:
            reasons[structure].append(f"{segmenter} failed: {failed[segmenter]}")
        else:
            reasons[structure] += [f"{segmenter}/{c}: {gone[c]}" for c in own if c in gone]
    known = {structure for _, structure, _ in _known(scheme, failed, missing)}
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
    """Structures that every segmenter that knows them looked for in a part of the image only.

    Parameters
    ----------
    scheme, failed, missing : as in `unknown_structures`
    within : segmenter to its classes that were looked for in parts of the image only

    Returns
    -------
    seen
        For each structure and segmenter, the grids on which the segmenter looked for all of its
        classes. The structure is known in voxels that all grids of one segmenter cover.
    """
    seen: dict[str, list[Parts]] = {}
    for segmenter, structure, own in _known(scheme, failed, missing):
        limits = within.get(segmenter, {})
        grids = dict.fromkeys(grid for name in own for grid in limits.get(name, ()))
        seen.setdefault(structure, []).append(tuple(grids))
    return {name: tuple(parts) for name, parts in seen.items() if all(parts)}


def _labelled(scheme: Scheme) -> Iterator[tuple[str, str, list[str]]]:
    """Each segmenter, a structure of its, and its classes of that structure."""
    for segmenter, classes in scheme.sources.items():
        for structure in dict.fromkeys(classes.values()):
            if structure in scheme.structures:
                own = [name for name, label in classes.items() if label == structure]
                yield segmenter, structure, own


def _known(
    scheme: Scheme, failed: Mapping[str, str], missing: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[str, str, list[str]]]:
    """Of these, those where the segmenter looked for all of its classes of the structure."""
    for segmenter, structure, own in _labelled(scheme):
        lent, gone = scheme.lent.get(segmenter, ()), missing.get(segmenter, {})
        asked = [name for name in own if name not in lent]
        if segmenter not in failed and asked and not any(name in gone for name in asked):
            yield segmenter, structure, asked


def excluded_structures(scheme: Scheme, excluded: Sequence[str]) -> list[str]:
    """Structures that the user excluded from a case, by name or wildcard; they are not labelled."""
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
    grid : its grid
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
