"""The separate parts of each structure, coarsely: how large they are and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import cc3d
import numpy as np

from backsplit.measure.passes import gather_components
from backsplit.measure.rows import Row
from backsplit.volume import Array, Grid

COARSE_MM = 3.0
"""Parts are looked for on every n-th voxel, about so far apart: that tells a gland from its
counterpart, in a small part of the time."""

LEAST_ML = 0.3
LEAST_SHARE = 0.02
"""Parts count from both of these on: crumbs of a segmenter are smaller."""

MOST_PARTS = 16
"""Of a structure in more parts the largest are noted."""

COLUMNS = ("case", "structure", "part", "volume_ml", "centroid_x", "centroid_y", "centroid_z")


def parts(labels: Array, names: Sequence[str], grid: Grid) -> list[Row]:
    """The larger parts of every structure.

    Parameters
    ----------
    labels : ids, (z, y, x), unsigned, each lesion as part of its host
    names : name of each id, beginning with background
    grid : where the label map lies

    Returns
    -------
    rows
        `COLUMNS` but case, a row for each 26-connected part, the largest of a structure first;
        centroids in mm (LPS)
    """
    step = [max(1, int(COARSE_MM / side)) for side in grid.spacing_zyx]
    coarse = np.ascontiguousarray(labels[tuple(slice(None, None, n) for n in step)])
    found, number = cc3d.connected_components(coarse, connectivity=26, return_N=True)
    owner = np.zeros(number + 1, np.int64)
    sums = np.zeros((number + 1, 4), np.int64)
    gather_components(coarse, found, owner, sums)
    ml = sums[:, 0] * float(np.prod(step)) * grid.voxel_ml
    whole = np.bincount(owner, weights=ml, minlength=len(names))
    large = np.flatnonzero((owner > 0) & (owner < len(names)) & (ml >= LEAST_ML))
    large = large[ml[large] >= LEAST_SHARE * whole[owner[large]]]
    large = large[np.lexsort((-ml[large], owner[large]))]
    centroids = grid.to_mm(sums[large, 1:] / sums[large, :1] * np.array(step))
    rows: list[Row] = []
    number_of: Counter[int] = Counter()
    measured = zip(owner[large].tolist(), ml[large].tolist(), centroids.tolist(), strict=True)
    for label, volume, (x, y, z) in measured:
        number_of[label] += 1
        if number_of[label] <= MOST_PARTS:
            values = (names[label], number_of[label], volume, x, y, z)
            rows.append(dict(zip(COLUMNS[1:], values, strict=True)))
    return rows
