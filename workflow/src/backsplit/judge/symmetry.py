"""Faults of the mapping that show in the parts of a structure: a side, or a part, is not mapped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backsplit.config.quality import AnatomyRules
from backsplit.judge.anatomy import fits
from backsplit.judge.cube import Cube
from backsplit.judge.mapping import middle_of
from backsplit.judge.systematic import SYSTEMATIC_CASES, Fault
from backsplit.volume import Array

MIRROR_MM = 30.0
"""A part's counterpart lies no further from its mirror image: heads are turned, and organs are not
quite where their counterparts are."""

MIRROR_FACTOR = 3.0
"""Volumes of counterparts differ by no more."""

LATERAL_MM = 8.0
"""What lies nearer to the midline has no side."""

MOST_CASES = 0.6
"""What is lopsided in so many cases, always to the same side, is a fault of the mapping."""


@dataclass(frozen=True)
class Sided:
    """Parts of one structure in one case.

    Attributes
    ----------
    paired : number of parts that have a counterpart on the other side
    single : side ("left", "right") to (volume in ml, height in mm) of the largest part without
    """

    paired: int
    single: dict[str, tuple[float, float]]


def lopsided(parts: pd.DataFrame, cube: Cube, rules: AnatomyRules) -> Iterator[Fault]:
    """Find structures of which a part on one side has no counterpart in most cases.

    Asked of every structure that has parts on both sides in most cases, whatever its name: such a
    structure is paired, and what is mapped to one side should be mapped to the other.

    Parameters
    ----------
    parts : of the composed label maps, as `measure.parts` has them
    cube : measures of the composed label maps
    rules : the rules of anatomy, which name what is `uneven` by nature
    """
    middle = dict(zip(cube.cases, middle_of(cube, rules).tolist(), strict=True))
    uneven = tuple(name for rule in rules.uneven for name in rule.of)
    for structure, mine in parts.groupby("structure", sort=False):
        name = str(structure)
        if name not in cube.structures or fits(name, uneven):
            continue
        places = mine[[f"centroid_{axis}" for axis in "xyz"]].to_numpy(float)
        volumes = mine["volume_ml"].to_numpy(float)
        rows_of: dict[str, list[int]] = {}
        for row, case in enumerate(mine["case"]):
            rows_of.setdefault(str(case), []).append(row)
        sided = {
            case: _sides(places[rows] - [middle[case], 0.0, 0.0], volumes[rows])
            for case, rows in rows_of.items()
            if np.isfinite(middle.get(case, np.nan))
        }
        both = [case for case, one in sided.items() if one.paired]
        if len(both) < max(SYSTEMATIC_CASES, MOST_CASES * len(sided)):
            continue
        for side, other in (("left", "right"), ("right", "left")):
            hit = [case for case, one in sided.items() if side in one.single]
            against = sum(other in one.single for one in sided.values())
            if len(hit) < max(SYSTEMATIC_CASES, MOST_CASES * len(sided)) or against > len(hit) / 3:
                continue
            yield _fault(name, side, other, hit, sided)


def _fault(name: str, side: str, other: str, hit: Sequence[str], sided: dict[str, Sided]) -> Fault:
    where = f"{len(hit)} of {len(sided)} cases"
    volume = float(np.median([sided[case].single[side][0] for case in hit]))
    example = min(hit, key=lambda case: abs(sided[case].single[side][0] - volume))
    message = (
        f"{name} is on both sides, and a part of about {volume:.2g} ml on the {side} has no "
        f"counterpart on the {other} in {where} (look at {example}): the {other} one may not be "
        f"mapped to it, or the one on the {side} should not be"
    )
    expected = "a counterpart of each part on the other side"
    return Fault(name, "lopsided", where, frozenset(hit), expected, message, example=example)


def _sides(places: Array, volumes: Array) -> Sided:
    """Pair the parts of one structure with those that lie at their mirror image.

    Parameters
    ----------
    places : (part, 3), x, y, z in mm from the midline
    volumes : (part,), in ml
    """
    left = np.flatnonzero(places[:, 0] > LATERAL_MM).tolist()
    right = np.flatnonzero(places[:, 0] < -LATERAL_MM).tolist()
    free = _unpaired(places, volumes, left, right)
    single = {}
    for side, its in (("left", left), ("right", right)):
        alone = [i for i in its if i in free]
        if alone:
            largest = max(alone, key=lambda i: volumes[i])
            single[side] = (float(volumes[largest]), float(places[largest, 2]))
    return Sided(len(left) + len(right) - len(free), single)


def _unpaired(places: Array, volumes: Array, left: Sequence[int], right: Sequence[int]) -> set[int]:
    """Parts that no part of the other side is the counterpart of; the nearest are paired first."""
    pairs = []
    for i in left:
        for j in right:
            away = float(np.linalg.norm(places[i] * [-1, 1, 1] - places[j]))
            factor = max(volumes[i], volumes[j]) / min(volumes[i], volumes[j])
            if away <= MIRROR_MM and factor <= MIRROR_FACTOR:
                pairs.append((away, i, j))
    free = {*left, *right}
    for _, i, j in sorted(pairs):
        if i in free and j in free:
            free -= {i, j}
    return free
