"""The lesion balance: what was drawn is in the label map, or with whom the account says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from backsplit.cases.drawn import DrawnTarget
from backsplit.compose.case import TARGETS
from backsplit.compose.layers import Overruled
from backsplit.errors import CaseError, Code
from backsplit.store.sidecars import DrawnEntry
from backsplit.volume import Array


def hold_balance(
    files: Mapping[str, Path],
    drawn: Iterable[DrawnTarget],
    written: Array,
    overruled: Sequence[Overruled],
    voxel_ml: float,
    ids: Mapping[str, int],
) -> tuple[DrawnEntry, ...]:
    """Hold a written label map against what the lesion files said before any conversion.

    Voxels of a target that another one has, or a structure that the configuration places above it,
    are in the account and count as kept.

    Parameters
    ----------
    files : column to lesion file, for messages
    drawn : what the files say
    written : voxels of each id in the written label map
    overruled : who lost voxels to whom
    voxel_ml : of the image's grid
    ids : name to id

    Raises
    ------
    CaseError
        LESION_LOST where nothing is left of a target, LESION_CHANGED where its volume differs by
        more than its conversion may change it.
    """
    return tuple(
        _held(files[target.column], target, written, overruled, voxel_ml, ids) for target in drawn
    )


def _held(
    path: Path,
    drawn: DrawnTarget,
    written: Array,
    overruled: Sequence[Overruled],
    voxel_ml: float,
    ids: Mapping[str, int],
) -> DrawnEntry:
    label = ids[drawn.target]
    lost = [o for o in overruled if o.loser.layer == TARGETS and o.loser.label == label]
    taken = sum(o.voxels for o in lost)
    kept = int(written[label])
    found = kept + taken
    if not found and not drawn.is_empty:
        raise CaseError(
            Code.LESION_LOST,
            f"{path} has {drawn}, and nothing of it is on the image's grid",
            "set dataset.grid to the channel that it was drawn on, or look at both together",
        )
    if not drawn.agrees(found, voxel_ml):
        raise drawn.changed(path, found, voxel_ml)
    return DrawnEntry(
        target=drawn.target,
        column=drawn.column,
        kind=drawn.kind,
        parts=drawn.parts,
        gaps=drawn.gaps,
        voxels=drawn.voxels,
        value=drawn.value,
        ml=round(drawn.ml, 6),
        tolerance_ml=round(drawn.tolerance_ml, 6),
        written_voxels=kept,
        taken_voxels=taken,
    )
