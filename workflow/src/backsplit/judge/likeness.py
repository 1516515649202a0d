"""All measures of a structure together, against those of the other cases.

A half of a kidney may have the volume, the width and the flatness of some kidney, but not all of
them at once. So size and shape, place, and tissue with edges are each compared as a whole, with
their correlations (`backsplit.judge.joint`), and then all three together (Fisher 1932).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from backsplit.config.quality import Cohort
from backsplit.judge.cube import Cube, counts, where
from backsplit.judge.joint import by_chance, combined, distances
from backsplit.judge.looks import Look, Show, eased, usual
from backsplit.judge.place import ENDS, Off
from backsplit.volume import Array


@dataclass(frozen=True)
class Likeness:
    """Measures that are compared together.

    Attributes
    ----------
    rule : its name
    words : about each measure, with {} where its value goes
    shows : a value of each in words
    floors : least standard deviation of each that is taken for granted
    values : (case, structure, measure)
    """

    rule: str
    words: tuple[str, ...]
    shows: tuple[Show, ...]
    floors: Array
    values: Array


def joint_looks(cube: Cube, off: Off | None, settings: Cohort) -> Iterator[Look]:
    """Compare all measures of each structure together, of one source.

    Parameters
    ----------
    cube : measures of one source
    off : how far each structure lies from where the others say
    settings : fewest cases
    """
    kinds = [_shape(cube), _tissue(cube), *([] if off is None else [_place(off)])]
    looks = [_look(kind, settings) for kind in kinds]
    yield from looks
    chances = np.stack([look.chance for look in looks], axis=2)
    together = combined(chances)
    together = np.where(counts(together) >= settings.fewest, together, np.nan)

    def say(i: int, j: int) -> tuple[str, str]:
        return looks[int(np.nanargmin(chances[i, j]))].say(i, j)

    yield Look("cohort_together", eased(together), say)


def _shape(cube: Cube) -> Likeness:
    """Logarithms of size, extent along and across, and compactness."""
    boxes = cube.several(ENDS)
    sizes = np.stack(
        [
            np.cbrt(cube["volume_ml"]),
            *np.moveaxis(boxes[..., 1::2] - boxes[..., ::2], 2, 0),
            *(cube[f"axis_{i}_mm"] for i in (1, 2, 3)),
            cube["compactness"],
        ],
        axis=2,
    )
    words = (
        "volume {}", "width from right to left {}", "depth from front to back {}",
        "height along the body {}", "spread along its longest axis {}",
        "spread along its middle axis {}", "spread along its shortest axis {}", "compactness {}",
    )  # fmt: skip
    shows = (
        lambda v: f"{np.exp(3 * v):.3g} ml",
        *[lambda v: f"{np.exp(v):.3g} mm"] * 6,
        lambda v: f"{np.exp(v):.2g}",
    )
    values = np.log(np.maximum(where(cube.whole, sizes), 1e-3))
    return Likeness("cohort_shape", words, shows, np.full(len(words), 0.05), values)


def _place(off: Off) -> Likeness:
    """Misfit of the centroid and of each end."""
    ends = ("right", "left", "front", "back", "lower", "upper")
    where_ = ("centre from right to left", "centre from front to back", "centre in height")
    words = tuple(
        f"{what} {{}} from where the other structures suggest it"
        for what in (*where_, *(f"{side} end" for side in ends))
    )
    values = np.concatenate([off.centroid_mm, off.ends_mm], axis=2)
    show: Show = "{:+.0f} mm".format
    return Likeness("cohort_place", words, (show,) * len(words), np.full(len(words), 3.0), values)


def _tissue(cube: Cube) -> Likeness:
    """Percentiles of the intensity, and what the surface runs along."""
    levels = ("p05", "p25", "p50", "p75", "p95", "edge_inside", "edge_outside")
    steps = ("sd", "edge_step", "texture")
    values = np.concatenate(
        [cube.several(levels), np.log(np.maximum(cube.several(steps), 1e-3))], axis=2
    )
    words = (
        *(f"{level[1:].lstrip('0')}th percentile of intensity {{}}" for level in levels[:5]),
        "intensity just inside its surface {}", "intensity just outside its surface {}",
        "standard deviation of intensity {}", "step of intensity across its surface {}",
        "texture {}",
    )  # fmt: skip
    shows: tuple[Show, ...] = (*["{:.3g}".format] * 7, *[lambda v: f"{np.exp(v):.3g}"] * 3)
    floors = np.array([10.0] * len(levels) + [0.15] * len(steps))
    return Likeness("cohort_tissue", words, shows, floors, where(cube.there, values))


def _look(kind: Likeness, settings: Cohort) -> Look:
    """How improbable all measures of a kind are together; the one furthest off is named."""
    chances = np.full(kind.values.shape[:2], np.nan)
    most = np.zeros(kind.values.shape[:2], int)
    complete = np.asarray(np.isfinite(kind.values).all(axis=2))
    for j in range(complete.shape[1]):
        mine = np.flatnonzero(complete[:, j])
        if len(mine) >= settings.fewest:
            squares, z = distances(kind.values[mine, j], kind.floors)
            chances[mine, j] = by_chance(squares, len(kind.words))
            most[mine, j] = np.abs(z).argmax(axis=1)

    ranges = [usual(kind.values[:, :, k], show) for k, show in enumerate(kind.shows)]

    def say(i: int, j: int) -> tuple[str, str]:
        k = int(most[i, j])
        return kind.words[k].format(kind.shows[k](kind.values[i, j, k])), ranges[k](j)

    return Look(kind.rule, eased(chances), say)
