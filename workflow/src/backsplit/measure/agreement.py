"""Where two segmenters label the same structure: how far they agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np

from backsplit.scheme.scheme import Claims
from backsplit.volume import Array, Grid
from backsplit.volume.coverage import covered_by_all
from backsplit.volume.distance import distance_mm

COLUMNS = ("case", "structure", "first", "second", "dice", "surface_mm", "hausdorff95_mm")


def agreement(
    layers: Mapping[str, tuple[Array, Claims]],
    names: Mapping[int, str],
    grid: Grid,
    parts: Mapping[tuple[str, int], Sequence[Grid]] = MappingProxyType({}),
) -> Iterator[dict[str, Any]]:
    """Compare every two segmenters on every structure that both can label, where both looked.

    Parameters
    ----------
    layers : segmenter to its label map, (z, y, x), and which ids its values claim
    names : id to structure
    grid : where the maps lie
    parts : segmenter and id to the grids that it looked on, where these are not all of the image

    Yields
    ------
    row
        `COLUMNS` but case. `dice` is NaN where neither found the structure; `surface_mm` is the
        mean distance between the surfaces, taken from both sides, and `hausdorff95_mm` the larger
        95th percentile of the two; NaN where one found nothing.
    """
    for (first, (a, claims_a)), (second, (b, claims_b)) in combinations(layers.items(), 2):
        for label, name in names.items():
            values = [
                [value for value, labels in claims.items() if label in labels]
                for claims in (claims_a, claims_b)
            ]
            if not all(values):
                continue
            mine, other = np.isin(a, values[0]), np.isin(b, values[1])
            looked = {*parts.get((first, label), ()), *parts.get((second, label), ())}
            if looked:
                both = covered_by_all(looked, grid)
                mine, other = mine & both, other & both
            yield {
                "structure": name,
                "first": first,
                "second": second,
                **compare(mine, other, grid),
            }


def compare(a: Array, b: Array, grid: Grid) -> dict[str, float]:
    """Dice, mean surface distance and 95th percentile of two masks, (z, y, x)."""
    sizes = int(a.sum()), int(b.sum())
    nothing = float("nan")
    if not any(sizes):
        return {"dice": nothing, "surface_mm": nothing, "hausdorff95_mm": nothing}
    dice = 2 * int((a & b).sum()) / sum(sizes)
    if not all(sizes):
        return {"dice": dice, "surface_mm": nothing, "hausdorff95_mm": nothing}
    where = np.argwhere(a | b)
    box = tuple(
        slice(max(0, int(low) - 1), int(high) + 2)
        for low, high in zip(where.min(axis=0), where.max(axis=0), strict=True)
    )
    edges = [_surface(mask[box]) for mask in (a, b)]
    to_b, to_a = (distance_mm(~edge, grid.spacing_zyx) for edge in reversed(edges))
    ways = [to_b[edges[0]], to_a[edges[1]]]
    return {
        "dice": dice,
        "surface_mm": float(np.concatenate(ways).mean()),
        "hausdorff95_mm": float(max(np.percentile(way, 95) for way in ways)),
    }


def _surface(mask: Array) -> Array:
    """Voxels of a mask with a face neighbour outside it."""
    padded = np.pad(mask, 1)
    inner = mask.copy()
    for axis in range(3):
        for step in (-1, 1):
            inner &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
    return np.asarray(mask & ~inner)
