"""What the ignored voxels of a case can be: `unknown` of dataset.json and of the data list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backsplit.config.base import IGNORE
from backsplit.config.slices import Merging
from backsplit.scheme.scheme import Scheme
from backsplit.store.sidecars import ComposeSidecar, Known

Unknown = Mapping[str, Sequence[str] | None]
"""Case to structures; None where an ignored voxel can be anything."""


def hidden_structures(
    scheme: Scheme, merging: Merging, sidecar: ComposeSidecar
) -> Sequence[str] | None:
    """Structures that the ignored voxels of a case can be, beside background; never a target.

    They are those that nobody labelled, and what weaker bands of intensity labelled where one of
    those could have been (`compose` hides it).

    Parameters
    ----------
    scheme : names and sources
    merging : the order of the layers, and which of them are bands
    sidecar : of the case's label map

    Returns
    -------
    structures
        In the order of their ids. None where a person mapped classes to `ignore`, or sources
        disagree: of such a voxel nothing is known, and the map does not tell it from the others.
    """
    unknown = {row.structure for row in sidecar.structures if row.status is Known.UNKNOWN}
    rank = {name: position for position, name in enumerate(merging.layers)}
    strongest = min(
        (
            rank[segmenter]
            for segmenter, classes in scheme.sources.items()
            if unknown & set(classes.values())
        ),
        default=len(rank),
    )
    weaker = {
        label
        for segmenter in merging.bands
        if rank[segmenter] > strongest
        for label in scheme.sources.get(segmenter, {}).values()
    }
    if sidecar.voxels[IGNORE] > sidecar.ignored_voxels:
        return None
    return [name for name in scheme.structures if name in unknown | weaker]


def of_names(unknown: Unknown, names: Sequence[str]) -> dict[str, list[str] | None]:
    """The table of a label set that has only some of the structures."""
    return {
        case: None if listed is None else [name for name in listed if name in names]
        for case, listed in unknown.items()
    }
