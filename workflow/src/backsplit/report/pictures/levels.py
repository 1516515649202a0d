"""Intensities as 8 bits from which any window can be shown: finest where tissue is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backsplit.volume import Array
from backsplit.volume.intensity import is_ct


@dataclass(frozen=True)
class Levels:
    """Which intensity each of 256 levels stands for, and the windows that a reader is offered.

    Attributes
    ----------
    stops : (level, intensity), both increasing; linear between them
    unit : of the intensities; empty where they have none
    windows : (name, lowest, highest intensity shown); the first is shown first
    """

    stops: tuple[tuple[int, float], ...]
    unit: str
    windows: tuple[tuple[str, float, float], ...]

    def of(self, values: Array) -> Array:
        """Levels (uint8) of intensities of any shape; what is no number is level 0."""
        if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
            every = np.iinfo(values.dtype)
            table = self._interpolate(np.arange(every.min, every.max + 1))
            unsigned = values.view(f"u{values.dtype.itemsize}")
            return np.asarray(np.roll(table, int(every.min))[unsigned])
        return self._interpolate(np.nan_to_num(values, nan=self.stops[0][1]))

    def of_one(self, value: float) -> int:
        """Level of one intensity."""
        return int(self._interpolate(np.array([value]))[0])

    def _interpolate(self, values: Array) -> Array:
        levels, intensities = zip(*self.stops, strict=True)
        return np.asarray(np.rint(np.interp(values, intensities, levels)).astype(np.uint8))


CT = Levels(
    # 12 HU a level in lung and fat, 3 HU in soft tissue, 30 HU in bone
    ((0, -1024.0), (72, -160.0), (205, 240.0), (255, 1740.0)),
    "HU",
    (
        ("soft tissue", -160.0, 240.0),
        ("lung", -1350.0, 150.0),
        ("bone", -450.0, 1050.0),
        ("liver", -15.0, 155.0),
        ("mediastinum", -125.0, 225.0),
    ),
)
"""Usual centres and widths: 40, 400; -600, 1500; 300, 1500; 70, 170; 50, 350."""


def choose_levels(some: Array) -> Levels:
    """Levels for an image: CT's, or linear between percentiles.

    Parameters
    ----------
    some : intensities of voxels from all over the image, any shape
    """
    finite = some[np.isfinite(some)].astype(np.float64)
    if not finite.size:
        return Levels(((0, 0.0), (255, 1.0)), "", (("all", 0.0, 1.0),))
    if is_ct(float(finite.min())):
        return CT
    low, dark, bright, high = map(float, np.percentile(finite, [0, 1, 99, 99.9]))
    high = max(high, low + 1e-6 * max(1.0, abs(low)))
    bright = bright if bright > dark else high
    windows = (("1st to 99th percentile", dark, bright), ("all", low, high))
    return Levels(((0, low), (255, high)), "", windows)
