"""The organ that a lesion lies in, found from its surroundings.

Overlap alone fails: contours of organs may leave the tumour out (in one real lung case 11 % of the
tumour lay in the lung's contour). So three things are looked at for each organ: how much of the
lesion it covers, how much of the shell round the lesion is its, and how much of the lesion it
closes over: whether the organ looks whole with the lesion taken as part of it. A neighbour that is
only touched has some of the shell, and closes over nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backsplit.volume import Array
from backsplit.volume.distance import distance_mm

SHELL_MM = 3.0
"""Thickness of the shell: about two voxels of an abdominal CT, and thinner than organs are."""

CLOSING_RADII = 2.0
"""Radius of the closing in radii of the lesion. A ball of one radius would still fit into the
crater that a half-buried lesion leaves; one of two does not."""

LARGEST_CLOSING_MM = 40.0
"""Beyond it a closing bridges neighbouring organs."""

LEAST_SHARE = 0.05
MOST_CANDIDATES = 3
"""Organs with less of shell and lesion than this, or than the three that have most of them, are not
asked whether they close over the lesion."""

LEAST_SCORE = 0.2
"""Mean of the share of the shell and the share closed over, below which no organ is the host. In
phantoms a lesion that only touches an organ reaches 0.05 to 0.15, a half-buried one 0.5."""

SAMPLES_PER_RADIUS = 4
"""Large lesions are looked at on every n-th voxel, so that a radius has about that many."""


@dataclass(frozen=True)
class Host:
    """The organ of a lesion and why.

    Attributes
    ----------
    label : id of the organ, None if there is none
    basis : `inside` (it covers half of the lesion), `surroundings`, or `none`
    inside : share of the lesion's voxels that the organ covers
    shell : share of the shell round the lesion that is the organ
    closed : share of the lesion that the organ closes over
    distance_mm : from the lesion's nearest voxel to the organ's; NaN if there is none
    """

    label: int | None
    basis: str
    inside: float
    shell: float
    closed: float
    distance_mm: float


NO_HOST = Host(None, "none", 0.0, 0.0, 0.0, float("nan"))


def look_mm(voxels: int, voxel_ml: float) -> float:
    """How far round a lesion its host is looked for, mm."""
    return 2 * _closing_mm(voxels, voxel_ml) + SHELL_MM


def find_host(
    lesion: Array, anatomy: Array, spacing_zyx: Sequence[float], candidates: Sequence[int]
) -> Host:
    """Find the organ that a lesion lies in.

    Parameters
    ----------
    lesion : mask of one lesion, (z, y, x), with `look_mm` round it where the volume has as much
    anatomy : label ids without lesions: in lesion voxels what the segmenters say there
    spacing_zyx : mm
    candidates : ids of the structures that can be a host
    """
    voxels = int(np.count_nonzero(lesion))
    voxel_ml = float(np.prod(spacing_zyx)) / 1000
    radius = _closing_mm(voxels, voxel_ml) / CLOSING_RADII
    step = [max(1, int(radius / SAMPLES_PER_RADIUS / s)) for s in spacing_zyx]
    thin = _thinned(lesion, step)
    if not lesion[thin].any():
        step, thin = [1, 1, 1], (slice(None),) * 3
    lesion, anatomy = lesion[thin], anatomy[thin]
    spacing = tuple(float(s * n) for s, n in zip(spacing_zyx, step, strict=True))
    away = distance_mm(~lesion, spacing)
    shell = ~lesion & (away <= max(SHELL_MM, *(1.01 * s for s in spacing)))
    around = np.bincount(anatomy[shell])
    under = np.bincount(anatomy[lesion])
    hosts = [
        _score(label, lesion, anatomy, spacing, _share(around, label), _share(under, label), radius)
        for label in sorted(_likely(candidates, around, under))  # of equal ones the first
    ]
    best = max(hosts, key=lambda host: host.shell + host.closed, default=NO_HOST)
    return best if (best.shell + best.closed) / 2 >= LEAST_SCORE else NO_HOST


def _likely(candidates: Sequence[int], around: Array, under: Array) -> list[int]:
    """The few organs that have most of the shell and of the lesion."""
    share = {label: _share(around, label) + _share(under, label) for label in candidates}
    near = [label for label in candidates if share[label] >= LEAST_SHARE]
    near.sort(key=lambda label: -share[label])
    return near[:MOST_CANDIDATES]


def _score(
    label: int,
    lesion: Array,
    anatomy: Array,
    spacing: tuple[float, ...],
    shell: float,
    inside: float,
    radius: float,
) -> Host:
    organ = anatomy == label
    outside = distance_mm(~organ, spacing)
    closing = CLOSING_RADII * radius
    closed = organ | (distance_mm(outside <= closing, spacing) > closing)
    return Host(
        label,
        "inside" if inside >= 0.5 else "surroundings",
        inside,
        shell,
        float(closed[lesion].mean()),
        0.0 if inside > 0 else float(outside[lesion].min()),
    )


def _closing_mm(voxels: int, voxel_ml: float) -> float:
    """Radius of the closing: of the ball of the lesion's volume, times `CLOSING_RADII`."""
    radius = (3 * voxels * voxel_ml * 1000 / (4 * np.pi)) ** (1 / 3)
    return float(min(CLOSING_RADII * radius, LARGEST_CLOSING_MM))


def _thinned(lesion: Array, step: Sequence[int]) -> tuple[slice, ...]:
    """Every n-th voxel, so that the middle of the lesion is among them."""
    middle = np.argwhere(lesion).mean(axis=0).astype(int)
    return tuple(slice(int(m) % n, None, n) for m, n in zip(middle, step, strict=True))


def _share(counts: Array, label: int) -> float:
    total = int(counts.sum())
    return float(counts[label] / total) if total and label < len(counts) else 0.0
