"""Where the patient's body is, coarsely: whether a lesion lies in it, and how much of it it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backsplit.volume import Array, Grid, Volume
from backsplit.volume.body import body_mask, body_threshold

COARSE_MM = 5.0
"""The body is looked for on every n-th voxel, about so far apart: its outline is needed to within
some mm, in a hundredth of the time."""


@dataclass(frozen=True)
class Body:
    """Mask of the body on every n-th voxel.

    Attributes
    ----------
    mask : bool, (z, y, x)
    step : every how many voxels, by axis
    """

    mask: Array
    step: tuple[int, ...]

    @property
    def voxels(self) -> int:
        """Voxels of the image that are body, about."""
        return int(np.count_nonzero(self.mask)) * int(np.prod(self.step))

    def outside(self, places: Array, shape: tuple[int, ...]) -> float:
        """Share of voxels, given as flat indices of a volume, that are not body."""
        index = np.unravel_index(places, shape)
        coarse = [
            np.minimum(np.rint(i / n).astype(np.int64), size - 1)
            for i, n, size in zip(index, self.step, self.mask.shape, strict=True)
        ]
        return float(1 - self.mask[tuple(coarse)].mean())


def find_body(image: Volume) -> Body | None:
    """The patient's body in an image; None where nothing is brighter than air."""
    grid = image.grid
    step = tuple(max(1, int(COARSE_MM / s)) for s in grid.spacing_zyx)
    array = image.array[tuple(slice(None, None, n) for n in step)]
    z, y, x = array.shape
    spacing = [s * n for s, n in zip(grid.spacing, step[::-1], strict=True)]
    coarse = Grid((x, y, z), (spacing[0], spacing[1], spacing[2]), grid.origin, grid.direction)
    mask = body_mask(np.ascontiguousarray(array), coarse, body_threshold(array))
    return Body(mask, step) if mask.any() else None
