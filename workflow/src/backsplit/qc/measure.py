"""Measures of every structure of a case, in one pass over image and label map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from backsplit.volume import Array


@dataclass(frozen=True)
class Measure:
    """One structure of one case.

    Attributes
    ----------
    volume_ml : voxels times the voxel's volume
    mean, sd : intensity inside the structure in the image's unit; NaN when it is empty
        (`sd` is the population's, as SimpleITK's label statistics report sigma for large n)
    """

    structure: str
    voxels: int
    volume_ml: float
    mean: float
    sd: float


def measure(image: Array, labels: Array, names: Sequence[str], voxel_ml: float) -> list[Measure]:
    """Measure every label at once.

    Parameters
    ----------
    image : intensities (z, y, x)
    labels : ids (z, y, x)
    names : name of each id, beginning with background
    voxel_ml : volume of a voxel, ml

    Returns
    -------
    measures
        One for each name, empty structures included.
    """
    flat = labels.ravel()
    count = len(names)
    voxels = np.bincount(flat, minlength=count)
    values = image.ravel().astype(np.float64)
    # intensities relative to the middle of the image: squares of 16-bit values stay exact enough
    shift = float(values.mean())
    values -= shift
    sums = np.bincount(flat, weights=values, minlength=count)
    squares = np.bincount(flat, weights=values * values, minlength=count)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / voxels
        deviations = np.sqrt(np.maximum(squares / voxels - means**2, 0))
    return [
        Measure(
            structure=name,
            voxels=int(voxels[i]),
            volume_ml=float(voxels[i] * voxel_ml),
            mean=float(means[i] + shift),
            sd=float(deviations[i]),
        )
        for i, name in enumerate(names)
    ]


def as_rows(case: str, source: str, measures: Sequence[Measure]) -> list[Mapping[str, object]]:
    """Rows of `measures.parquet`: case, source, structure, voxels, volume_ml, mean, sd."""
    return [
        {
            "case": case,
            "source": source,
            "structure": m.structure,
            "voxels": m.voxels,
            "volume_ml": m.volume_ml,
            "mean": m.mean,
            "sd": m.sd,
        }
        for m in measures
    ]
