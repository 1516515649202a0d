"""Distances in mm."""

from __future__ import annotations

import edt
import numpy as np

from backsplit.volume import Array


def distance_mm(mask: Array, spacing_zyx: tuple[float, ...]) -> Array:
    """Distance of each voxel of a mask to the nearest voxel outside it, mm; inf without any."""
    as_numbers = np.ascontiguousarray(mask).view(np.uint8)  # five times as fast as bool
    return np.asarray(edt.edt(as_numbers, anisotropy=spacing_zyx, black_border=False))
