"""Figures as SVG: how structures are spread over the cases, and who was overruled by whom."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from backsplit.report.facts import Distribution, Outlier, Overruled, Spread
from backsplit.report.render import drawing

WIDTH = 1180
ROW = 20
STRIPS = ((250, 690), (740, 1160))
"""Left and right end of the strips of volume and of intensity; px, like all lengths here."""
AXIS = 40
DECADES = (-3, 5)
"""Volumes are shown from a microlitre to 100 l."""
TICKS_ABOUT = 6

SHADES = 6
SHADE_FACTOR = 4.0
"""Each shade of the matrix stands for volumes so many times as large as the one before."""


@dataclass(frozen=True)
class Axis:
    """A scale: values from `low` to `high` lie between two ends, px; `ticks` are (px, words)."""

    low: float
    high: float
    ends: tuple[int, int]
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool

    def at(self, value: float) -> float:
        """Where a value lies, px; what lies beyond an end is drawn at that end."""
        if math.isnan(value) or (self.logarithmic and value <= 0):
            return float(self.ends[0])
        level = math.log10(value) if self.logarithmic else value
        part = (level - self.low) / (self.high - self.low)
        return round(self.ends[0] + min(max(part, 0.0), 1.0) * (self.ends[1] - self.ends[0]), 1)


@dataclass(frozen=True)
class Strip:
    """A box with whiskers and the dots of flagged cases; px."""

    whisker: tuple[float, float]
    box: tuple[float, float]
    middle: float
    dots: tuple[tuple[float, Outlier], ...]


@dataclass(frozen=True)
class Row:
    """One structure: its strips of volume and of intensity."""

    facts: Distribution
    strips: tuple[Strip, Strip]


@dataclass(frozen=True)
class Strips:
    """The figure of all structures, ready to be drawn."""

    width: int
    row: int
    axis: int
    axes: tuple[Axis, Axis]
    rows: tuple[Row, ...]


def lay_out_strips(distributions: Sequence[Distribution]) -> Strips:
    """Put every structure on the same two scales: log volume, and median intensity."""
    volume = _volume_axis(distributions)
    intensity = _intensity_axis(distributions)
    rows = [
        Row(
            d,
            (
                _strip(volume, d.volume_ml, [(o.volume_ml, o) for o in d.outliers]),
                _strip(intensity, d.intensity, [(o.intensity, o) for o in d.outliers]),
            ),
        )
        for d in distributions
    ]
    return Strips(WIDTH, ROW, AXIS, (volume, intensity), tuple(rows))


def draw_strips(strips: Strips) -> str:
    """Draw the figure to a file of its own; its dots link nowhere."""
    return drawing("distributions.svg.j2", strips=strips)


def _strip(axis: Axis, spread: Spread, outliers: Sequence[tuple[float, Outlier]]) -> Strip:
    return Strip(
        whisker=(axis.at(spread.p05), axis.at(spread.p95)),
        box=(axis.at(spread.p25), axis.at(spread.p75)),
        middle=axis.at(spread.p50),
        dots=tuple((axis.at(value), outlier) for value, outlier in outliers),
    )


def _volume_axis(distributions: Sequence[Distribution]) -> Axis:
    values = [v for d in distributions for v in (d.volume_ml.p05, d.volume_ml.p95)]
    values += [o.volume_ml for d in distributions for o in d.outliers]
    logs = [math.log10(value) for value in values if value > 0] or [0.0]
    low = max(DECADES[0], math.floor(min(logs)))
    high = max(low + 1, min(DECADES[1], math.ceil(max(logs))))
    ends = STRIPS[0]
    steps = [
        (ends[0] + (decade - low) / (high - low) * (ends[1] - ends[0]), f"{10.0**decade:g}")
        for decade in range(low, high + 1)
    ]
    return Axis(low, high, ends, tuple(steps), logarithmic=True)


def _intensity_axis(distributions: Sequence[Distribution]) -> Axis:
    values = [v for d in distributions for v in (d.intensity.p05, d.intensity.p95)]
    values = [value for value in values if math.isfinite(value)] or [0.0]
    step = _nice_step((max(values) - min(values)) / TICKS_ABOUT)
    first = math.floor(min(values) / step)
    last = max(first + 1, math.ceil(max(values) / step))
    ends = STRIPS[1]
    steps = [
        (
            ends[0] + (i - first) / (last - first) * (ends[1] - ends[0]),
            f"{i * step:g}".replace("-", "−"),
        )
        for i in range(first, last + 1)
    ]
    return Axis(first * step, last * step, ends, tuple(steps), logarithmic=False)


def _nice_step(about: float) -> float:
    """Give 1, 2 or 5 times a power of ten, no smaller than `about`."""
    if about <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(about))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= about * (1 - 1e-9))


@dataclass(frozen=True)
class Matrix:
    """Volumes, ml, that structures (rows) gave way to others (columns), the largest sums first.

    Attributes
    ----------
    cells : for each row a cell for each column: ml and shade (1 to `SHADES`), None where nothing
        was overruled
    """

    losers: tuple[str, ...]
    winners: tuple[str, ...]
    cells: tuple[tuple[tuple[float, int] | None, ...], ...]


def lay_out_matrix(overruled: Sequence[Overruled]) -> Matrix:
    """Sum up over layers who was overruled by whom; only rows and columns that hold something."""
    sums: dict[tuple[str, str], float] = defaultdict(float)
    rows: dict[str, float] = defaultdict(float)
    columns: dict[str, float] = defaultdict(float)
    for entry in overruled:
        sums[entry.loser, entry.winner] += entry.volume_ml
        rows[entry.loser] += entry.volume_ml
        columns[entry.winner] += entry.volume_ml
    losers = tuple(sorted(rows, key=lambda name: (-rows[name], name)))
    winners = tuple(sorted(columns, key=lambda name: (-columns[name], name)))
    most = max(sums.values(), default=0.0)
    cells = tuple(
        tuple(
            (sums[pair], _shade(sums[pair], most)) if (pair := (loser, winner)) in sums else None
            for winner in winners
        )
        for loser in losers
    )
    return Matrix(losers, winners, cells)


def draw_matrix(matrix: Matrix) -> str:
    """Draw the matrix to a file of its own."""
    return drawing("overruled.svg.j2", matrix=matrix)


def _shade(volume: float, most: float) -> int:
    """Shade of a cell, the largest volume has the darkest."""
    if volume <= 0:
        return 1
    steps = math.log(most / volume) / math.log(SHADE_FACTOR)
    return max(1, SHADES - int(steps))
