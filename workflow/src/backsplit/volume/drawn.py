"""What a label file says of a lesion or structure before anything is converted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from backsplit.volume.grid import Array, Grid


@dataclass(frozen=True)
class Drawn:
    """One value of a label file, counted from the source and not from the label map made of it.

    Attributes
    ----------
    kind : what the source consists of
    parts : contours, or frames that hold a voxel of it; 0 for voxel files
    voxels : on the source's own lattice; None for contours, which have none
    ml : contours: even-odd area times slice distance; otherwise voxels times voxel volume
    gaps : image slices between the first and the last without a contour or frame
    tolerance_ml : by how much the volume of a correct conversion may differ, ml. 0 where the
        source has voxels and the conversion moves none. For contours see `contour_tolerance`:
        it exceeds `ml` where a contour is thin or small, so it cannot tell whether such a one
        was lost; `parts` without a voxel on the map can.
    """

    kind: Literal["voxels", "contours", "frames"]
    parts: int
    voxels: int | None
    ml: float
    gaps: int = 0
    tolerance_ml: float = 0.0


def drawn_voxels(counts: Array, grid: Grid) -> dict[int, Drawn]:
    """What a voxel file says of each value other than 0.

    Parameters
    ----------
    counts : how many voxels have each value, from 0 on
    grid : the file's own
    """
    return {
        value: Drawn("voxels", 0, int(counts[value]), float(counts[value] * grid.voxel_ml))
        for value in np.flatnonzero(counts).tolist()
        if value
    }


def gaps_between(planes: set[int]) -> int:
    """How many slices between the first and the last are not among `planes`."""
    return int(max(planes) - min(planes) + 1 - len(planes)) if planes else 0
