"""Measures of single lesions: one row of `lesions.parquet` each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd

from backsplit.cases.instances import Instance, grown
from backsplit.measure.body import Body
from backsplit.store.sidecars import DrawnEntry, LesionEntry
from backsplit.volume import Array, Grid
from backsplit.volume.distance import distance_mm

SHELL_MM = 10.0
"""The host round a lesion that its contrast is taken against: wide enough to be the organ's own
tissue, near enough to be lit, and enhanced, as the lesion is."""

FEWEST_LAYERS = 6
"""Along an axis with fewer layers a lesion has no end to speak of."""

FEW_POINTS = 50
"""Up to so many points all distances are had in less time than their hull."""

COLUMNS = (
    *("case", "instance", "target", "voxels", "volume_ml", "max_diameter_mm"),
    *("max_axial_diameter_mm", "centroid_x", "centroid_y", "centroid_z", "host", "host_basis"),
    *("inside_fraction", "distance_mm", "mean", "host_mean", "contrast", "contrast_to_noise"),
    *("touches_border", "outside_fraction", "flat_end"),
)

DRAWN = (
    *("case", "target", "column", "kind", "parts", "gaps", "value", "drawn_voxels", "drawn_ml"),
    *("voxels", "volume_ml", "taken_voxels", "body_fraction"),
)
"""Columns of what lesion files say of each target, and of what became of it."""


def drawn_row(entry: DrawnEntry, voxel_ml: float, body_voxels: int) -> dict[str, Any]:
    """What a file says of a target, and what of it is in the label map: `DRAWN` but case.

    Parameters
    ----------
    entry : what composing noted
    voxel_ml : of the image's grid
    body_voxels : of the patient's body, or of the image where none is found
    """
    return {
        "target": entry.target,
        "column": entry.column,
        "kind": entry.kind,
        "parts": entry.parts,
        "gaps": entry.gaps,
        "value": entry.value,
        "drawn_voxels": entry.voxels,
        "drawn_ml": entry.ml,
        "voxels": entry.written_voxels,
        "volume_ml": entry.written_voxels * voxel_ml,
        "taken_voxels": entry.taken_voxels,
        "body_fraction": entry.written_voxels / body_voxels,
    }


def measure_lesion(
    image: Array,
    labels: Array,
    grid: Grid,
    instance: Instance,
    names: Sequence[str],
    found: LesionEntry,
    body: Body | None,
) -> dict[str, Any]:
    """Measure one lesion.

    Parameters
    ----------
    image, labels : intensities and ids, (z, y, x)
    grid : where they lie
    instance : the lesion
    names : name of each id
    found : what composing found out about the lesion
    body : where the patient is, None where nobody knows

    Returns
    -------
    row
        `COLUMNS` but case. Diameters go from voxel centre to voxel centre (Feret's, as ITK's).
        `contrast` is the lesion's mean minus that of its host within `SHELL_MM`, in the image's
        unit, and `contrast_to_noise` that over the host's standard deviation there; NaN without
        a host there. `flat_end` is the area of the widest end over that of the mean layer, of
        ends within the image and along axes of at least `FEWEST_LAYERS` layers; NaN without.
    """
    index = np.stack(np.unravel_index(instance.places, labels.shape), axis=1)
    inside = image.reshape(-1)[instance.places].astype(np.float64)
    around = _host_shell(image, labels, grid, instance, names, found.host)
    host_mean = float(around.mean()) if len(around) else float("nan")
    noise = float(around.std()) if len(around) else float("nan")
    contrast = float(inside.mean()) - host_mean
    at_edge = (index == 0).any() or (index == np.array(labels.shape) - 1).any()
    axis, _ = grid.array_axis(2)
    return {
        "instance": instance.number,
        "target": names[instance.target],
        "voxels": instance.voxels,
        "volume_ml": instance.voxels * grid.voxel_ml,
        "max_diameter_mm": diameter_mm(index, grid),
        "max_axial_diameter_mm": max(
            diameter_mm(index[index[:, axis] == at], grid) for at in np.unique(index[:, axis])
        ),
        **dict(zip(("centroid_x", "centroid_y", "centroid_z"), instance.centroid_mm, strict=True)),
        "host": found.host,
        "host_basis": found.host_basis,
        "inside_fraction": found.inside_fraction,
        "distance_mm": found.distance_mm,
        "mean": float(inside.mean()),
        "host_mean": host_mean,
        "contrast": contrast,
        "contrast_to_noise": contrast / noise if noise > 0 else float("nan"),
        "touches_border": bool(at_edge),
        "outside_fraction": (
            float("nan") if body is None else body.outside(instance.places, labels.shape)
        ),
        "flat_end": flat_end(index, labels.shape),
    }


def flat_end(index: Array, shape: tuple[int, ...]) -> float:
    """How wide a lesion ends, over how wide it is on average; NaN where it has no end to judge.

    Parameters
    ----------
    index : of its voxels, (n, 3), (z, y, x)
    shape : of the volume, on whose faces nothing ends
    """
    widest = float("nan")
    for axis, size in enumerate(shape):
        layers = np.bincount(index[:, axis])[index[:, axis].min() :]
        if len(layers) < FEWEST_LAYERS:
            continue
        for end, face in ((0, index[:, axis].min() == 0), (-1, index[:, axis].max() == size - 1)):
            if not face:
                widest = float(np.fmax(widest, layers[end] / layers.mean()))
    return widest


def diameter_mm(index: Array, grid: Grid) -> float:
    """Longest distance between the centres of two voxels, mm.

    Parameters
    ----------
    index : (n, 3), (z, y, x)
    grid : where they lie
    """
    points = grid.to_mm(index.astype(float))
    points = points - points.mean(axis=0)
    # the furthest two are corners of the hull, which lives in as many dimensions as the points do
    _, strengths, axes = np.linalg.svd(points, full_matrices=False)
    flat = points @ axes[strengths > 1e-6].T
    if flat.shape[1] == 0:
        return 0.0
    if flat.shape[1] == 1:
        return float(np.ptp(flat))
    if len(points) <= FEW_POINTS:
        return float(np.linalg.norm(points[:, None] - points, axis=2).max())
    from scipy.spatial import ConvexHull, QhullError
    from scipy.spatial.distance import pdist

    with suppress(QhullError):  # nearly flat
        points = points[ConvexHull(flat).vertices]
    return float(pdist(points).max())


def _host_shell(
    image: Array,
    labels: Array,
    grid: Grid,
    instance: Instance,
    names: Sequence[str],
    host: str | None,
) -> Array:
    """Intensities of the host near the lesion."""
    if host is None:
        return np.zeros(0)
    box = grown(instance.box, SHELL_MM, grid)
    outside = ~instance.mask(box, labels.shape)
    away = distance_mm(outside, grid.spacing_zyx)
    near = (labels[box] == list(names).index(host)) & (away <= SHELL_MM)
    return np.asarray(image[box][near], np.float64)


def burden(lesions: pd.DataFrame, cases: Sequence[str], targets: Sequence[str]) -> pd.DataFrame:
    """How many lesions each case has of each target, and how large they are.

    Returns
    -------
    table
        case, target, lesions, volume_ml, largest_ml; a row for each case and target, with 0 where
        there is none
    """
    sizes = lesions.assign(volume_ml=lesions["volume_ml"].astype(float))
    grouped = sizes.groupby(["case", "target"])["volume_ml"]
    table = grouped.agg(lesions="count", volume_ml="sum", largest_ml="max")
    every = pd.MultiIndex.from_product([cases, targets], names=["case", "target"])
    return table.reindex(every, fill_value=0).reset_index()
