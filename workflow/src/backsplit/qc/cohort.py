"""Cases that stand out from the others: robust outliers over the data set and within groups.

What is compared is what anatomy keeps alike from patient to patient: the logarithm of a structure's
volume, its cross-section, its median intensity, how blunt its ends are, the share of holes and of
its largest component, and its place and size relative to the other structures of the same case. A
value is an outlier when it lies further from the median than `limit` robust standard deviations
(1.4826 MAD; Iglewicz & Hoaglin 1993 use 3.5 for one value of normal data; here many values are
looked at). Structures that the field of view cuts off are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backsplit.config_quality import Cohort
from backsplit.qc.anatomy import Finding
from backsplit.qc.measure import SIDES
from backsplit.volume import Array

MAD_TO_SD = 1.4826


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
    severity: str


VOLUME = Feature("cohort_volume", 0.12, "review")
SECTION = Feature("cohort_section", 0.12, "review")
INTENSITY = Feature("cohort_intensity", 10.0, "warn")
BRIGHTEST = Feature("cohort_brightest", 20.0, "warn")
CONTRAST = Feature("cohort_contrast", 0.15, "warn")
BLUNT = Feature("cohort_blunt", 0.08, "review")
PARTS = Feature("cohort_parts", 0.03, "review")
HOLES = Feature("cohort_holes", 0.01, "review")
POSITION = Feature("cohort_position", 3.0, "review")
SIZE = Feature("cohort_size", 0.15, "review")
ABSENT = Feature("cohort_absent", 0.0, "review")
CUT = Feature("cohort_truncated", 0.0, "info")

CUT_OFF = 1.0
"""Bluntness of a tube; only what ends wider than that looks cut off."""

BLAME = 0.5
"""One structure out of place moves all others relative to it: of a case's structures those are
reported that are off by at least this share of the worst one."""

FEWEST_PARTNERS = 2

USUAL = 0.8
"""What so many cases have is expected of the others."""


def outliers(measures: pd.DataFrame, settings: Cohort) -> Iterator[tuple[str, Finding]]:
    """Find the cases that stand out, of the measures of one source.

    Parameters
    ----------
    measures : rows of `measures.parquet` of one source
    settings : limit and fewest cases

    Yields
    ------
    case, finding
    """
    there = measures[(measures["voxels"] > 0) & (measures["structure"] != "background")]
    whole = there[~there["touches_border"].astype(bool)]
    for structure, rows in whole.groupby("structure", sort=False):
        if len(rows) >= settings.fewest:
            yield from _shape(str(structure), rows, settings)
    for structure, rows in there.groupby("structure", sort=False):
        if len(rows) >= settings.fewest:
            yield from _tissue(str(structure), rows, settings)
    yield from _sections(there, settings)
    yield from _relative(whole, settings)
    yield from _absences(measures, settings)


def _shape(structure: str, rows: pd.DataFrame, settings: Cohort) -> Iterator[tuple[str, Finding]]:
    """Compare volume, ends and parts of a structure that is wholly in the field of view."""
    cases = rows["case"].tolist()
    volume = rows["volume_ml"].to_numpy(float)
    yield from _report(
        cases, structure, VOLUME, np.log(volume), settings, lambda v: f"{np.exp(v):.3g} ml"
    )
    for side in SIDES:
        blunt = rows[f"blunt_{side}"].to_numpy(float)
        words = f"{side} end {{:.2f}} as wide as the structure is on average"
        yield from _report(cases, structure, BLUNT, blunt, settings, words.format, above=CUT_OFF)
    parts = 1 - rows["largest_fraction"].to_numpy(float)
    words = "{:.0%} of it apart from its largest part"
    yield from _report(cases, structure, PARTS, parts, settings, words.format, above=0.0)


def _tissue(structure: str, rows: pd.DataFrame, settings: Cohort) -> Iterator[tuple[str, Finding]]:
    """Compare intensities and holes, which a part of a structure shows as the whole does."""
    cases = rows["case"].tolist()
    for column, words, feature in (
        ("p50", "median {:.4g}", INTENSITY),
        ("p95", "brightest twentieth from {:.4g}", BRIGHTEST),
    ):
        level = rows[column].to_numpy(float)
        yield from _report(cases, structure, feature, level, settings, words.format)
    contrast = np.log(np.maximum(rows["sd"].to_numpy(float), 1e-6))
    yield from _report(
        cases, structure, CONTRAST, contrast, settings,
        lambda v: f"standard deviation of intensity {np.exp(v):.3g}",
    )  # fmt: skip
    holes = (rows["holes_ml"] / rows["volume_ml"]).to_numpy(float)
    yield from _report(
        cases, structure, HOLES, holes, settings, "holes of {:.1%}".format, above=0.0
    )


def _sections(there: pd.DataFrame, settings: Cohort) -> Iterator[tuple[str, Finding]]:
    """Compare mean cross-sections of what leaves the field of view at its ends only."""
    sides = [f"border_{side}" for side in SIDES[:4]]
    inside = there[(there[sides] == 0).all(axis=1)]
    for structure, rows in inside.groupby("structure", sort=False):
        if len(rows) >= settings.fewest:
            length = rows["box_z_max"].to_numpy(float) - rows["box_z_min"].to_numpy(float)
            section = rows["volume_ml"].to_numpy(float) * 10 / length
            yield from _report(
                rows["case"].tolist(), str(structure), SECTION, np.log(section), settings,
                lambda v: f"{np.exp(v):.3g} cm2 across",
            )  # fmt: skip


def _relative(whole: pd.DataFrame, settings: Cohort) -> Iterator[tuple[str, Finding]]:
    """Compare place and size of each structure with those of the others of the same case.

    From each other structure follows where this one should be (its place, plus the median over
    cases of the way between the two), and how large. What follows from all of them is averaged with
    weights of 1 / variance, so that neighbours count most.
    """
    tables = [
        whole.pivot_table(index="case", columns="structure", values=f"centroid_{axis}")
        for axis in "xyz"
    ]
    volumes = whole.pivot_table(index="case", columns="structure", values="volume_ml")
    names, cases = [str(name) for name in volumes.columns], volumes.index.tolist()
    if len(names) <= FEWEST_PARTNERS or len(cases) < settings.fewest:
        return
    at = np.stack([*(t.to_numpy() for t in tables), np.log(volumes.to_numpy(float))], axis=2)
    off = _off(at, settings.fewest)
    floors = np.array([POSITION.floor] * 3 + [SIZE.floor])
    spread = MAD_TO_SD * _nanmedian(np.abs(off - _nanmedian(off)))
    z = np.abs(off - _nanmedian(off)) / np.maximum(spread, floors)
    for feature, part in ((POSITION, slice(0, 3)), (SIZE, slice(3, 4))):
        worst = np.nan_to_num(z[..., part]).max(axis=-1)  # case, structure
        least = np.maximum(settings.limit, BLAME * worst.max(axis=1, keepdims=True))
        for i, j in np.argwhere(worst > least).tolist():
            yield cases[i], _misfit(names[j], feature, off[i, j, part], float(worst[i, j]))


def _off(at: Array, fewest: int) -> Array:
    """How far each structure is off from what the others say, (case, structure, coordinate)."""
    off = np.full(at.shape, np.nan)
    for structure in range(at.shape[1]):
        away = at[:, structure, None] - at
        usable = np.isfinite(away[..., 0]).sum(axis=0) >= fewest
        usable[structure] = False
        away = away[:, usable]
        away -= _nanmedian(away)
        weights = 1 / np.maximum(MAD_TO_SD * _nanmedian(np.abs(away)), 1e-3) ** 2
        there = np.isfinite(away)
        said = np.where(there, weights * np.nan_to_num(away), 0.0).sum(axis=1)
        total = np.where(there, weights, 0.0).sum(axis=1)
        enough = there[..., 0].sum(axis=1) >= FEWEST_PARTNERS
        off[enough, structure] = said[enough] / total[enough]
    return off


def _absences(measures: pd.DataFrame, settings: Cohort) -> Iterator[tuple[str, Finding]]:
    """Find structures that most cases have and one has not, or has cut off, and nobody else."""
    rows = measures[measures["structure"] != "background"]
    for structure, mine in rows.groupby("structure", sort=False):
        there = mine["voxels"] > 0
        if len(mine) < settings.fewest:
            continue
        if there.mean() >= USUAL:
            for case in mine["case"][~there]:
                yield case, _unusual(str(structure), ABSENT, "0 voxels", "there")
        cut = there & mine["touches_border"].astype(bool)
        if (there & ~cut).mean() >= USUAL:
            for case in mine["case"][cut]:
                yield case, _unusual(str(structure), CUT, "cut off by the field of view", "whole")


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


def _nanmedian(values: Array) -> Array:
    """Median over cases; NaN where no case has a value."""
    empty = ~np.isfinite(values).any(axis=0)
    filled = np.where(empty, 0.0, values)
    return np.asarray(np.where(empty, np.nan, np.nanmedian(filled, axis=0)))


def _report(
    cases: Sequence[str],
    structure: str,
    feature: Feature,
    values: Array,
    settings: Cohort,
    say: Callable[[float], str],
    *,
    above: float | None = None,
) -> Iterator[tuple[str, Finding]]:
    middle = float(np.nanmedian(values))
    spread = max(MAD_TO_SD * float(np.nanmedian(np.abs(values - middle))), feature.floor)
    z = (
        np.abs(values - middle) / spread
        if above is None
        else (values - max(middle, above)) / spread
    )
    for i in np.flatnonzero(z > settings.limit).tolist():
        value, expected = say(values[i]), f"about {say(middle)} as in the other cases"
        message = f"{structure}: {value}; {expected} ({z[i]:.1f} standard deviations)"
        yield (
            cases[i],
            Finding(structure, feature.name, feature.severity, value, expected, message),
        )
