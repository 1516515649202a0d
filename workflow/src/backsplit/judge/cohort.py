"""Single measures that are compared between the cases, of the data set and within groups.

What is compared is what anatomy keeps alike from patient to patient: the logarithm of a structure's
volume, its cross-section, its median intensity, how blunt its ends are, the share of holes and of
its largest component, and its place and size relative to the other structures of the same case. How
improbable a value is follows from its distance to the median in robust standard deviations
(1.4826 MAD) by Student's t with one degree of freedom less than there are cases, which allows for
few cases, and from how heavy the tails of that structure are (`looks.eased`). Structures that the
field of view cuts off are left out. What no single value shows, all of a structure's measures
together may: see `backsplit.judge.likeness`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from backsplit.config.quality import Cohort
from backsplit.judge.cube import Cube, counts, median, spread, where
from backsplit.judge.looks import Look, Show, eased, usual
from backsplit.judge.place import Off
from backsplit.volume import Array
from backsplit.volume.grid import SIDES


@dataclass(frozen=True)
class Feature:
    """Something that is compared over cases.

    Attributes
    ----------
    name : of the rule
    floor : least standard deviation that is taken for granted, in the feature's unit: anatomy
        varies by as much even where the cases at hand happen not to
    """

    name: str
    floor: float


VOLUME = Feature("cohort_volume", 0.12)
SECTION = Feature("cohort_section", 0.12)
INTENSITY = Feature("cohort_intensity", 10.0)
BRIGHTEST = Feature("cohort_brightest", 20.0)
CONTRAST = Feature("cohort_contrast", 0.15)
BLUNT = Feature("cohort_blunt", 0.08)
PARTS = Feature("cohort_parts", 0.03)
HOLES = Feature("cohort_holes", 0.0045)
POSITION = Feature("cohort_position", 3.0)
SIZE = Feature("cohort_size", 0.15)

CUT_OFF = 1.0
"""Bluntness of a tube; only what ends wider than that looks cut off."""

USUAL = 0.8
"""What so many cases have is expected of the others."""


def single_looks(cube: Cube, off: Off | None, settings: Cohort) -> Iterator[Look]:
    """Compare single measures of one source.

    Parameters
    ----------
    cube : measures of one source
    off : how far each structure lies from where the others say; None where too few say it
    settings : fewest cases
    """
    yield from _shape(cube, settings)
    yield from _tissue(cube, settings)
    if off is not None:
        yield _position(off, settings)
        words = "{} the size that the other structures suggest"
        yield _look(SIZE, off.size, settings, words, lambda v: f"{np.exp(v):.2g} times")


def _shape(cube: Cube, settings: Cohort) -> Iterator[Look]:
    """Compare volume, ends, parts and cross-section."""
    volume = np.log(where(cube.whole, cube["volume_ml"]))
    yield _look(VOLUME, volume, settings, "volume {}", lambda v: f"{np.exp(v):.3g} ml")
    for side in SIDES:
        blunt = where(cube.whole, cube[f"blunt_{side}"])
        words = f"{side} end {{}} as wide as the structure is on average"
        yield _look(BLUNT, blunt, settings, words, "{:.2f} times".format, above=CUT_OFF)
    parts = where(cube.there, cube["stray_fraction"])
    yield _look(
        PARTS, parts, settings, "{} of it apart from its largest part", "{:.0%}".format, above=0
    )
    # what leaves the field of view at its ends only has a cross-section; but of what does not
    # usually, such as a kidney, the tip that is left has another than the whole
    inside = cube.there & (cube.several([f"border_{side}" for side in SIDES[:4]]) == 0).all(axis=2)
    inside &= cube.whole | ~is_usual(cube, cube.whole)
    length = where(inside, cube["box_z_max"] - cube["box_z_min"])
    section = np.log(cube["volume_ml"] * 10 / length)
    yield _look(SECTION, section, settings, "cross-section {}", lambda v: f"{np.exp(v):.3g} cm2")


def _tissue(cube: Cube, settings: Cohort) -> Iterator[Look]:
    """Compare intensities and holes, which a part of a structure shows as the whole does."""
    middle, bright, sd = (where(cube.there, cube[column]) for column in ("p50", "p95", "sd"))
    number: Show = "{:.4g}".format
    yield _look(INTENSITY, middle, settings, "median intensity {}", number)
    yield _look(BRIGHTEST, bright, settings, "95th percentile of intensity {}", number)
    yield _look(
        CONTRAST, np.log(np.maximum(sd, 1e-6)), settings, "standard deviation of intensity {}",
        lambda v: f"{np.exp(v):.3g}",
    )  # fmt: skip
    holes = where(cube.there, cube["holes_ml"]) / where(cube.there, cube["volume_ml"])
    yield _look(HOLES, holes, settings, "holes of {} of its volume", "{:.1%}".format, above=0)


def _position(off: Off, settings: Cohort) -> Look:
    """Compare where each structure's centroid lies with where the others say."""
    values = off.centroid_mm
    enough = counts(values[..., 0]) >= settings.fewest
    middle = median(values)
    z = np.abs(values - middle) / np.maximum(spread(values, middle), POSITION.floor)
    freedom = np.maximum(counts(values[..., 0]) - 1, 1)
    chance = np.minimum(6 * stdtr(freedom, -z.max(axis=2)), 1.0)
    amount = np.linalg.norm(values - middle, axis=2)
    in_others = usual(amount, lambda v: f"{v:.0f} mm", below=True)

    def say(i: int, j: int) -> tuple[str, str]:
        words = (("right side", "left side"), ("front", "back"), ("feet", "head"))
        away = values[i, j] - middle[j]
        axis = int(np.argmax(np.abs(away)))
        way = words[axis][int(away[axis] > 0)]
        value = f"{amount[i, j]:.0f} mm nearer to the {way} than the other structures suggest"
        return value, in_others(j)

    return Look(POSITION.name, eased(np.where(enough, chance, np.nan)), say)


def is_usual(cube: Cube, true: Array) -> Array:
    """Whether something is true of a structure in most cases, (structure,)."""
    measured = np.isfinite(cube["voxels"]).sum(axis=0)
    return np.asarray(true.sum(axis=0) >= USUAL * np.maximum(measured, 1))


def _look(
    feature: Feature,
    values: Array,
    settings: Cohort,
    words: str,
    show: Show,
    *,
    above: float | None = None,
) -> Look:
    """Compare one value, (case, structure), with its structure's median."""
    known = np.where(counts(values) >= settings.fewest, values, np.nan)
    middle = median(known)
    sd = np.maximum(spread(known, middle), feature.floor)
    freedom = np.maximum(counts(known) - 1, 1)
    if above is None:
        chance = 2 * stdtr(freedom, -np.abs(known - middle) / sd)
    else:
        # what is no larger than it may be surprises nobody
        z = (known - np.maximum(middle, above)) / sd
        chance = np.where(z <= 0, 1.0, stdtr(freedom, -z))
    in_others = usual(known, show, below=above is not None)
    return Look(
        feature.name,
        eased(chance),
        lambda i, j: (words.format(show(known[i, j])), in_others(j)),
    )
