"""Faults of the mapping that no single case shows: what is odd about a structure in nearly all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from backsplit.config.lesion_words import is_lesion
from backsplit.config.quality import AnatomyRules, Cohort
from backsplit.judge.anatomy import fits
from backsplit.judge.cohort import POSITION, USUAL, VOLUME
from backsplit.judge.cube import MAD_TO_SD, Cube, where
from backsplit.judge.place import Off
from backsplit.judge.systematic import SYSTEMATIC_CASES, Fault, Groups
from backsplit.volume import Array

TOUCHING = 0.5 ** (1 / 3)
"""Two balls that touch have their centres so many diameters of a ball of their joint volume apart;
parts that lie further apart are not two halves of one thing."""

SAME_MM = 10.0
SAME_FACTOR = 1.5
"""Two structures are the same thing when their centroids lie no further apart and their volumes
differ by no more: precedence and lesions take something away from what was mapped."""

APART = 4.5
"""Two kinds have their medians so many robust standard deviations of the wider one apart."""

GAP = 0.5
"""Between two kinds lies nothing over at least this share of the way between their medians: of
normally distributed values that are six standard deviations apart or more hardly any lie there."""

PURE = 0.9
"""A group explains which cases are different when so many of both are the same cases."""


def several_parts(cube: Cube, rules: AnatomyRules) -> Iterator[Fault]:
    """Find structures that nearly always come in more far-apart parts than their name allows.

    A name allows one part, a plural or a lesion any number (`several` in the rules, and
    `config.lesion_words`), and `components` says otherwise of some.
    """
    several = tuple(name for rule in rules.several for name in rule.of)
    diameter = np.cbrt(6 / np.pi * where(cube.there, cube["volume_ml"]) * 1000)
    apart = cube["spread_mm"] > TOUCHING * diameter
    for j, structure in enumerate(cube.structures):
        most = next((r.most for r in rules.components if fits(structure, r.of)), 1.0)
        if is_lesion(structure) or fits(structure, several):  # lesions come in any number
            continue
        odd = apart[:, j] & (cube["components_large"][:, j] > most)
        if hit := _nearly_all(cube, j, odd):
            typical = float(np.median(cube["components_large"][odd, j]))
            yield Fault(
                structure, "parts", _where(hit, cube, j), hit, f"at most {most:g} by its name",
                f"{structure} consists of {typical:.0f} large parts that lie far apart in "
                f"{_where(hit, cube, j)}, and its name allows {most:g}: more than one thing may be "
                "mapped to it; give it a plural name if that is meant",
            )  # fmt: skip


def one_side(cubes: Mapping[str, Cube], source: str, rules: AnatomyRules) -> Iterator[Fault]:
    """Find structures that lie always on one side though their name has two.

    Sides are told by the middle of what has both a left and a right, of unpaired structures, or of
    all structures.
    """
    cube = cubes[source]
    paired = tuple(name for rule in rules.paired for name in rule.of)
    names = {name for one in cubes.values() for name in one.structures}
    middle = middle_of(cube, rules)
    low, high = (cube[f"box_x_{end}"] - middle[:, None] for end in ("min", "max"))
    for j, structure in enumerate(cube.structures):
        stem = structure.removesuffix("s")
        if not (fits(structure, paired) or {f"{stem}_left", f"{stem}_right"} <= names):
            continue
        for side, odd in (("left", low[:, j] > 0), ("right", high[:, j] < 0)):
            if hit := _nearly_all(cube, j, odd):
                yield Fault(
                    structure, "one_side", _where(hit, cube, j), hit, "there on both sides",
                    f"{structure} lies only on the patient's {side} in {_where(hit, cube, j)}, "
                    "but its name means both sides: one side is probably missing from its mapping",
                )  # fmt: skip


def middle_of(cube: Cube, rules: AnatomyRules) -> Array:
    """The x that parts left from right, by case, mm."""
    unpaired = tuple(name for rule in rules.midline for name in rule.of)
    x = where(cube.there, cube["centroid_x"])
    columns = []
    for j, structure in enumerate(cube.structures):
        partner = structure.replace("left", "right")
        if partner != structure and partner in cube.structures:
            columns.append((x[:, j] + x[:, cube.structures.index(partner)]) / 2)
        elif fits(structure, unpaired):
            columns.append(x[:, j])
    ends = [where(cube.there, cube[f"box_x_{end}"]) for end in ("min", "max")]
    with np.errstate(invalid="ignore"):
        width = (np.fmin.reduce(ends[0], axis=1) + np.fmax.reduce(ends[1], axis=1)) / 2
    if not columns:
        return np.asarray(width)
    several = np.stack(columns, axis=1)
    known = np.asarray(np.isfinite(several).any(axis=1))
    told = np.nanmedian(np.where(known[:, None], several, 0.0), axis=1)
    return np.asarray(np.where(known, told, width))


def looks_like(
    cubes: Mapping[str, Cube], source: str, mapped: Mapping[str, Mapping[str, str]]
) -> Iterator[Fault]:
    """Find structures with the size and place of what a segmenter calls otherwise.

    Asked only where that segmenter has a class of the structure's own name, which lies elsewhere.

    Parameters
    ----------
    cubes : source to its measures
    source : the one whose structures are looked at
    mapped : segmenter to {class: structure}
    """
    cube = cubes[source]
    said: set[frozenset[str]] = set()
    for segmenter, classes in mapped.items():
        if segmenter not in cubes:
            continue
        other = cubes[segmenter].aligned(cube.cases)
        for name, structure in classes.items():
            if structure == name or not {structure, name} <= set(other.structures):
                continue
            if structure not in cube.structures or frozenset({name, structure}) in said:
                continue
            same = _same(cube, structure, other, name) & ~_same(cube, structure, other, structure)
            j = cube.structures.index(structure)
            if hit := _nearly_all(cube, j, same):
                said.add(frozenset({name, structure}))
                own = f"{segmenter}/{structure}"
                yield Fault(
                    structure, "exchanged", _where(hit, cube, j), hit, f"as {own}",
                    f"{structure} has the size and place of {segmenter}/{name} in "
                    f"{_where(hit, cube, j)}, and {own} lies elsewhere: the names may be "
                    "exchanged in `structures`", name,
                )  # fmt: skip


def _same(cube: Cube, structure: str, other: Cube, name: str) -> Array:
    """Whether two structures have one place and size, by case."""
    a, b = cube.structures.index(structure), other.structures.index(name)
    centroid = [f"centroid_{axis}" for axis in "xyz"]
    away = np.linalg.norm(cube.several(centroid)[:, a] - other.several(centroid)[:, b], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.abs(np.log(cube["volume_ml"][:, a] / other["volume_ml"][:, b]))
    return np.asarray((away <= SAME_MM) & (factor <= np.log(SAME_FACTOR)))


def two_groups(cube: Cube, off: Off | None, groups: Groups, settings: Cohort) -> Iterator[Fault]:
    """Find structures whose volume, or place among the others, comes in two kinds.

    The values are parted where the squares within both parts are least; there are two kinds when
    the medians lie far apart (`APART`) and hardly anything lies between (`GAP`).
    """
    volume = np.log(where(cube.whole, cube["volume_ml"]))
    features = [("volume", "ml", VOLUME.floor, volume)]
    if off is not None:
        features += [
            (f"place along {axis}", "mm", POSITION.floor, off.centroid_mm[:, :, i])
            for i, axis in enumerate("xyz")
        ]
    said: set[str] = set()
    for what, unit, floor, values in features:
        for j, structure in enumerate(cube.structures):
            known = np.flatnonzero(np.isfinite(values[:, j]))
            if structure in said or len(known) < settings.fewest:
                continue
            few = _second_kind(values[known, j], floor)
            if few is None:
                continue
            said.add(structure)
            hit = frozenset(cube.cases[known[i]] for i in np.flatnonzero(few))
            rest = frozenset(cube.cases[i] for i in known) - hit
            levels = [float(np.median(values[known, j][part])) for part in (few, ~few)]
            shown = [f"{np.exp(v) if unit == 'ml' else v:.3g} {unit}" for v in levels]
            where_ = f"{len(hit)} of {len(known)} cases" + _explained(hit, rest, groups)
            yield Fault(
                structure, "two_kinds", where_, hit, "one kind",
                f"{structure} comes in two kinds: its {what} is about {shown[0]} in {where_}, and "
                f"about {shown[1]} in the other {len(rest)}: two things may be mapped to it",
            )  # fmt: skip


def _second_kind(values: Array, floor: float) -> Array | None:
    """Which values are of the rarer kind; None where there is one kind only."""
    order = np.argsort(values, kind="stable")
    ordered = values[order] - values.mean()
    count = len(ordered)
    at = np.arange(SYSTEMATIC_CASES, count - SYSTEMATIC_CASES + 1)
    if not len(at):
        return None
    sums = np.cumsum(ordered)
    between = sums[at - 1] ** 2 * (1 / at + 1 / (count - at))
    cut = int(at[np.argmax(between)])
    parts = ordered[:cut], ordered[cut:]
    middles = [float(np.median(part)) for part in parts]
    spreads = [
        max(MAD_TO_SD * float(np.median(np.abs(part - middle))), floor)
        for part, middle in zip(parts, middles, strict=True)
    ]
    apart, gap = middles[1] - middles[0], ordered[cut] - ordered[cut - 1]
    if apart <= APART * max(spreads) or gap < GAP * apart:
        return None
    few = np.zeros(count, bool)
    few[order[:cut] if cut <= count - cut else order[cut:]] = True
    return few


def _explained(hit: frozenset[str], rest: frozenset[str], groups: Groups) -> str:
    """The group that these cases are and the rest are not."""
    for column, values in groups.items():
        for value, cases in values.items():
            members = set(cases) & (hit | rest)
            both = len(members & hit)
            if both and both >= PURE * len(members) and both >= PURE * len(hit):
                return f" ({column} {value})"
    return ""


def _nearly_all(cube: Cube, j: int, odd: Array) -> frozenset[str]:
    """The odd cases where they are nearly all that have the structure, else none."""
    there = cube.there[:, j]
    odd = odd & there
    if odd.sum() < max(SYSTEMATIC_CASES, USUAL * there.sum()):
        return frozenset()
    return frozenset(cube.cases[i] for i in np.flatnonzero(odd))


def _where(hit: Sequence[str] | frozenset[str], cube: Cube, j: int) -> str:
    return f"{len(hit)} of {int(cube.there[:, j].sum())} cases"
