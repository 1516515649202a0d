"""Cases that stand out from the others: robust outliers over the data set and within groups.

What is compared is what anatomy keeps alike from patient to patient: the logarithm of a structure's
volume, its cross-section, its median intensity, how blunt its ends are, the share of holes and of
its largest component, and its place and size relative to the other structures of the same case. A
value is an outlier when it lies further from the median than `limit` robust standard deviations
(1.4826 MAD; Iglewicz & Hoaglin 1993 use 3.5 for one value of normal data; here many values are
looked at; see `limit_of`). Structures that the field of view cuts off are left out. What no single
value shows, all of a structure's measures together may: see `backsplit.judge.likeness`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtrit

from backsplit.config.quality import Cohort, Severity
from backsplit.judge.anatomy import Finding
from backsplit.judge.cube import Cube, counts, median, spread, where
from backsplit.judge.place import Off
from backsplit.volume import Array
from backsplit.volume.grid import SIDES


@dataclass(frozen=True)
class Feature:
    """Something that is compared over cases.

    Attributes
    ----------
    name : in rules and messages
    floor : least standard deviation that is taken for granted, in the feature's unit: anatomy
        varies by as much even where the cases at hand happen not to
    severity : of an outlier
    """

    name: str
    floor: float
    severity: Severity


VOLUME = Feature("cohort_volume", 0.12, Severity.REVIEW)
SECTION = Feature("cohort_section", 0.12, Severity.REVIEW)
INTENSITY = Feature("cohort_intensity", 10.0, Severity.WARN)
BRIGHTEST = Feature("cohort_brightest", 20.0, Severity.WARN)
CONTRAST = Feature("cohort_contrast", 0.15, Severity.WARN)
BLUNT = Feature("cohort_blunt", 0.08, Severity.REVIEW)
PARTS = Feature("cohort_parts", 0.03, Severity.REVIEW)
HOLES = Feature("cohort_holes", 0.0045, Severity.REVIEW)
"""At the default limit 2 % of the volume, as in the rules of anatomy."""

POSITION = Feature("cohort_position", 3.0, Severity.REVIEW)
SIZE = Feature("cohort_size", 0.15, Severity.REVIEW)
ABSENT = Feature("cohort_absent", 0.0, Severity.REVIEW)
CUT = Feature("cohort_truncated", 0.0, Severity.INFO)

SAYS_TISSUE = {feature.name for feature in (INTENSITY, BRIGHTEST, CONTRAST)}

CUT_OFF = 1.0
"""Bluntness of a tube; only what ends wider than that looks cut off."""

BLAME = 0.5
"""One structure out of place moves all others relative to it: of a case's structures those are
reported that are off by at least this share of the worst one."""

MANY = 120
"""Structures of a label map of the whole body: TotalSegmentator has 117."""

USUAL = 0.8
"""What so many cases have is expected of the others."""

Found = Iterator[tuple[str, Finding]]
"""Cases and what was found in them."""


def outliers(cube: Cube, off: Off | None, settings: Cohort) -> Found:
    """Find the cases that stand out, of the measures of one source.

    Parameters
    ----------
    cube : measures of one source
    off : how far each structure lies from where the others say; None where too few say it
    settings : limit and fewest cases
    """
    if len(cube.cases) < settings.fewest:
        return
    yield from _shape(cube, settings)
    yield from _tissue(cube, settings)
    if off is not None:
        yield from _relative(cube, off, settings)
    yield from _absences(cube)


def limit_of(limit: float, cases: Array, structures: int) -> Array:
    """The limit for so many cases and structures.

    `limit` is for many cases and `MANY` structures. With fewer structures less is looked at, so
    that a value may be more likely by as much (Bonferroni); with fewer cases the standard deviation
    is less well known, so that Student's t with `cases` - 1 degrees of freedom takes the place of
    the normal distribution. For 4.5: 4.5 with 120 structures and 1,000 cases, 4.8 with 7 and 20.
    """
    chance = min(ndtr(-limit) * MANY / max(structures, 1), 0.5)
    return np.asarray(-stdtrit(np.maximum(cases - 1, 1), chance))


def _shape(cube: Cube, settings: Cohort) -> Found:
    """Compare volume, ends, parts and cross-section."""
    volume = np.log(where(cube.whole, cube["volume_ml"]))
    yield from _report(cube, VOLUME, volume, settings, lambda v: f"{np.exp(v):.3g} ml")
    for side in SIDES:
        blunt = where(cube.whole, cube[f"blunt_{side}"])
        words = f"{side} end {{:.2f}} as wide as the structure is on average"
        yield from _report(cube, BLUNT, blunt, settings, words.format, above=CUT_OFF)
    parts = where(cube.there, cube["stray_fraction"])
    words = "{:.0%} of it apart from its largest part"
    yield from _report(cube, PARTS, parts, settings, words.format, above=0.0)
    # what leaves the field of view at its ends only has a cross-section; but of what does not
    # usually, such as a kidney, the tip that is left has another than the whole
    inside = cube.there & (cube.several([f"border_{side}" for side in SIDES[:4]]) == 0).all(axis=2)
    inside &= cube.whole | ~_usual(cube, cube.whole)
    length = where(inside, cube["box_z_max"] - cube["box_z_min"])
    section = np.log(cube["volume_ml"] * 10 / length)
    yield from _report(cube, SECTION, section, settings, lambda v: f"{np.exp(v):.3g} cm2 across")


def _tissue(cube: Cube, settings: Cohort) -> Found:
    """Compare intensities and holes, which a part of a structure shows as the whole does."""
    middle, bright, sd = (where(cube.there, cube[column]) for column in ("p50", "p95", "sd"))
    yield from _report(cube, INTENSITY, middle, settings, "median {:.4g}".format)
    words = "brightest twentieth from {:.4g}"
    yield from _report(cube, BRIGHTEST, bright, settings, words.format)
    yield from _report(
        cube, CONTRAST, np.log(np.maximum(sd, 1e-6)), settings,
        lambda v: f"standard deviation of intensity {np.exp(v):.3g}",
    )  # fmt: skip
    holes = where(cube.there, cube["holes_ml"]) / where(cube.there, cube["volume_ml"])
    yield from _report(cube, HOLES, holes, settings, "holes of {:.1%}".format, above=0.0)


def _relative(cube: Cube, off: Off, settings: Cohort) -> Found:
    """Compare place and size of each structure with those of the others of the same case."""
    for feature, values in ((POSITION, off.centroid_mm), (SIZE, off.size[..., None])):
        middle = median(values)
        z = np.abs(values - middle) / np.maximum(spread(values, middle), feature.floor)
        worst = np.nan_to_num(z).max(axis=-1)
        limit = limit_of(settings.limit, counts(values[..., 0]), len(cube.structures))
        least = np.maximum(limit, BLAME * worst.max(axis=1, keepdims=True))
        for i, j in np.argwhere(worst > least).tolist():
            finding = _misfit(cube.structures[j], feature, values[i, j], float(worst[i, j]))
            yield cube.cases[i], finding


def _absences(cube: Cube) -> Found:
    """Find structures that most cases have and one has not, or has cut off, and nobody else."""
    there, cut = cube.there, cube.there & ~cube.whole
    for feature, mine, usual, value, expected in (
        (ABSENT, np.isfinite(cube["voxels"]) & ~there, there, "0 voxels", "there"),
        (CUT, cut, cube.whole, "cut off by the field of view", "whole"),
    ):
        for i, j in np.argwhere(mine & _usual(cube, usual)).tolist():
            yield cube.cases[i], _unusual(cube.structures[j], feature, value, expected)


def _usual(cube: Cube, true: Array) -> Array:
    """Whether something is true of a structure in most cases, (structure,)."""
    measured = np.isfinite(cube["voxels"]).sum(axis=0)
    return np.asarray(true.sum(axis=0) >= USUAL * np.maximum(measured, 1))


def _unusual(structure: str, feature: Feature, value: str, usual: str) -> Finding:
    expected = f"{usual}, as in most cases"
    message = f"{structure}: {value}; expected {expected}"
    return Finding(structure, feature.name, feature.severity, value, expected, message)


def _misfit(structure: str, feature: Feature, off: Array, z: float) -> Finding:
    if feature is SIZE:
        value = f"{np.exp(off[0]):.2g} times the size"
    else:
        words = (("right", "left"), ("anterior", "posterior"), ("inferior", "superior"))
        axis = int(np.argmax(np.abs(off)))
        value = f"{np.linalg.norm(off):.0f} mm off, to {words[axis][int(off[axis] > 0)]}"
    expected = "what follows from the other structures of the case"
    message = f"{structure}: {value} of {expected} ({z:.1f} standard deviations)"
    return Finding(structure, feature.name, feature.severity, value, expected, message)


def _report(
    cube: Cube,
    feature: Feature,
    values: Array,
    settings: Cohort,
    say: Callable[[float], str],
    *,
    above: float | None = None,
) -> Found:
    """Report values, (case, structure), that lie too far from their structure's median."""
    values = np.where(counts(values) >= settings.fewest, values, np.nan)
    middle = median(values)
    sd = np.maximum(spread(values, middle), feature.floor)
    away = np.abs(values - middle) if above is None else values - np.maximum(middle, above)
    limit = limit_of(settings.limit, counts(values), len(cube.structures))
    for i, j in np.argwhere(away / sd > limit).tolist():
        value, expected = say(values[i, j]), f"about {say(middle[j])} as in the other cases"
        z, structure = away[i, j] / sd[j], cube.structures[j]
        message = f"{structure}: {value}; {expected} ({z:.1f} standard deviations)"
        finding = Finding(structure, feature.name, feature.severity, value, expected, message)
        yield cube.cases[i], finding
