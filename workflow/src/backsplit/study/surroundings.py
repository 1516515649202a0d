"""What lies round the lesions, and where a network's false alarms lie, structure by structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import ceil

import cc3d
import numpy as np
import pandas as pd

from backsplit.train.scores import AUTOPET_CONNECTIVITY, bounds
from backsplit.volume import Array, Grid
from backsplit.volume.distance import distance_mm

RIM_MM = 5.0
"""How far from a lesion its rim reaches; a voxel at least."""


@dataclass(frozen=True)
class Surroundings:
    """One structure in one case; volumes in mm3. Background and `ignore` have rows as well.

    Attributes
    ----------
    volume_mm3 : of the structure
    rim_mm3 : of it in the rim of a lesion
    alarm_mm3 : of it in false alarms: parts of the prediction (18-connected, as autoPET counts
        them) that reach into no lesion. Targets are taken together. NaN without a prediction
    spill_mm3 : of it in predicted parts that do reach into one
    """

    case: str
    structure: str
    volume_mm3: float
    rim_mm3: float
    alarm_mm3: float
    spill_mm3: float


def surroundings(
    case: str,
    labels: Array,
    predicted: Array | None,
    grid: Grid,
    names: Sequence[str],
    targets: int,
    rim_mm: float = RIM_MM,
) -> list[Surroundings]:
    """Volumes of each structure of a case.

    Parameters
    ----------
    case : its id
    labels : composed label map, (z, y, x)
    predicted : targets 1 … T on the same grid, or None; higher values are anatomy
    grid : of both
    names : of the labels by id: background, targets, structures, ignore
    targets : T
    rim_mm : width of the rim; the largest side of a voxel where that is larger
    """
    lesion = (labels > 0) & (labels <= targets)
    mm3 = 1000 * grid.voxel_ml
    whole = _count(labels, None, names)
    rim = _count(labels, _rim(lesion, grid, max(rim_mm, *grid.spacing)), names)
    alarm = spill = np.full(len(names), np.nan)
    if predicted is not None:
        false, touching = _parts((predicted > 0) & (predicted <= targets), lesion)
        alarm, spill = _count(labels, false, names), _count(labels, touching & ~lesion, names)
    return [
        Surroundings(case, names[i], *(mm3 * float(n[i]) for n in (whole, rim, alarm, spill)))
        for i in (0, *range(1 + targets, len(names)))
    ]


def by_structure(rows: Sequence[Surroundings]) -> pd.DataFrame:
    """Sum over cases.

    Returns
    -------
    table
        A row for each structure: `volume_ml`, `rim_share` (of the rim of all lesions),
        `alarm_mm3`, `alarm_share` (of all false alarms), `alarm_cases`, `alarm_density` (mm3 in a
        ml of the structure), `spill_mm3`, `spill_share`. What no case has a prediction for, or a
        lesion, is NaN.
    """
    table = pd.DataFrame(
        [[getattr(row, f.name) for f in fields(Surroundings)] for row in rows],
        columns=[f.name for f in fields(Surroundings)],
    )
    groups = table.groupby("structure", sort=False)
    volumes = ["volume_mm3", "rim_mm3", "alarm_mm3", "spill_mm3"]
    sums = groups[volumes].sum(min_count=1)
    seen = table[table["alarm_mm3"].notna()].groupby("structure", sort=False)["volume_mm3"].sum()
    alarmed = groups["alarm_mm3"].agg(lambda mm3: int((mm3 > 0).sum()))
    return pd.DataFrame(
        {
            "volume_ml": sums["volume_mm3"] / 1000,
            "rim_share": _share(sums["rim_mm3"]),
            "alarm_mm3": sums["alarm_mm3"],
            "alarm_share": _share(sums["alarm_mm3"]),
            "alarm_cases": alarmed.where(sums["alarm_mm3"].notna()),
            "alarm_density": 1000 * sums["alarm_mm3"] / seen.where(seen > 0),
            "spill_mm3": sums["spill_mm3"],
            "spill_share": _share(sums["spill_mm3"]),
        }
    ).reset_index()


def _share(values: pd.Series) -> pd.Series:
    total = values.sum()
    return values / total if total > 0 else values * np.nan


def _count(labels: Array, mask: Array | None, names: Sequence[str]) -> Array:
    return np.bincount((labels if mask is None else labels[mask]).ravel(), minlength=len(names))


def _rim(lesion: Array, grid: Grid, rim_mm: float) -> Array:
    rim = np.zeros(lesion.shape, bool)
    box = bounds(lesion)
    if box is None:
        return rim
    wider = tuple(
        slice(max(0, side.start - ceil(rim_mm / mm)), side.stop + ceil(rim_mm / mm))
        for side, mm in zip(box, grid.spacing_zyx, strict=True)
    )
    inside = lesion[wider]
    rim[wider] = ~inside & (distance_mm(~inside, grid.spacing_zyx) <= rim_mm)
    return rim


def _parts(predicted: Array, lesion: Array) -> tuple[Array, Array]:
    """Parts that reach into no lesion, and those that do."""
    parts = cc3d.connected_components(predicted, connectivity=AUTOPET_CONNECTIVITY)
    touching = np.zeros(int(parts.max()) + 1, bool)
    touching[parts[lesion]] = True
    touching[0] = False
    reaches = touching[parts]
    return predicted & ~reaches, reaches
