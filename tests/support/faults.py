"""Faults of label maps as segmenters and people make them, for the fault bench."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

Labels = np.ndarray
Spacing = tuple[float, float, float]
"""Millimetres, (z, y, x)."""
Fault = Callable[[Labels, int, Spacing, np.random.Generator], Labels | None]
"""Makes a faulty copy of a label map; the number is the structure that is hit. None where the
structure, or the volume, has no room for the fault."""


def shifted(mask: np.ndarray, by: tuple[int, int, int]) -> np.ndarray:
    """A mask moved by voxels; what leaves the volume is gone."""
    out = np.zeros_like(mask)
    source, target = [], []
    for n, step in zip(mask.shape, by, strict=True):
        source.append(slice(max(0, -step), n - max(0, step)))
        target.append(slice(max(0, step), n - max(0, -step)))
    out[tuple(target)] = mask[tuple(source)]
    return out


def replaced(labels: Labels, value: int, mask: np.ndarray) -> Labels:
    """The structure takes another shape; other structures keep what is theirs."""
    out = np.where(labels == value, 0, labels)
    out[mask & (out == 0)] = value
    return out.astype(labels.dtype)


def _random_step(spacing: Spacing, far_mm: float, rng: np.random.Generator) -> tuple[int, int, int]:
    axis, sign = int(rng.integers(3)), int(rng.choice([-1, 1]))
    step = [0, 0, 0]
    step[axis] = sign * round(far_mm / spacing[axis])
    return step[0], step[1], step[2]


def moved_30_mm(labels: Labels, value: int, spacing: Spacing, rng: np.random.Generator) -> Labels:
    """One structure lies 30 mm off, along a random axis."""
    return replaced(labels, value, shifted(labels == value, _random_step(spacing, 30, rng)))


def cut_in_half(labels: Labels, value: int, spacing: Spacing, rng: np.random.Generator) -> Labels:
    """One half of the structure is gone, across a random axis."""
    mask = labels == value
    axis = int(rng.integers(3))
    index = np.arange(mask.shape[axis]).reshape([-1 if a == axis else 1 for a in range(3)])
    middle = np.median(np.nonzero(mask)[axis])
    return replaced(
        labels, value, mask & (index < middle if rng.random() < 0.5 else index > middle)
    )


def dilated(labels: Labels, value: int, spacing: Spacing, rng: np.random.Generator) -> Labels:
    """The structure is two voxels too large on every side, at its neighbours' cost."""
    grown = ndimage.binary_dilation(labels == value, iterations=2)
    return np.where(grown, value, labels).astype(labels.dtype)


def far_part(
    labels: Labels, value: int, spacing: Spacing, rng: np.random.Generator
) -> Labels | None:
    """A third of the structure's volume lies 60 mm away as well, touching it nowhere."""
    mask = labels == value
    part = mask.copy()
    places = np.argwhere(mask)
    part[tuple(places[len(places) // 3 :].T)] = False
    near = ndimage.binary_dilation(mask, np.ones((3, 3, 3)), iterations=2)
    chosen = None
    for step in rng.permutation(_steps(spacing, 60)).tolist():
        moved = shifted(part, tuple(step)) & (labels == 0)
        # what lies beyond the volume or under another structure is lost
        if not (moved & near).any() and moved.sum() >= 0.8 * part.sum():
            chosen = moved
    return None if chosen is None else replaced(labels, value, mask | chosen)


def _steps(spacing: Spacing, far_mm: float) -> np.ndarray:
    """Steps of voxels along each axis, both ways."""
    steps = np.diag([round(far_mm / side) for side in spacing])
    return np.concatenate([steps, -steps])


def hole(labels: Labels, value: int, spacing: Spacing, rng: np.random.Generator) -> Labels | None:
    """The inner tenth of the structure is background, enclosed on every side."""
    mask = labels == value
    inside = ndimage.binary_erosion(mask)
    wanted = int(np.ceil(0.1 * mask.sum()))
    if inside.sum() < wanted:
        return None
    depth = np.where(inside, ndimage.distance_transform_edt(mask, sampling=spacing), 0.0)
    inner = np.zeros(mask.shape, bool)
    inner.reshape(-1)[np.argsort(-depth, axis=None, kind="stable")[:wanted]] = True
    return replaced(labels, value, mask & ~inner)


def half_missing_at(lesion: np.ndarray) -> Fault:
    """The half of the structure that lies nearer to the lesion is not labelled."""

    def cut(labels: Labels, value: int, spacing: Spacing, rng: np.random.Generator) -> Labels:
        mask = labels == value
        outside = ndimage.distance_transform_edt(~lesion, sampling=spacing)
        away = outside - ndimage.distance_transform_edt(lesion, sampling=spacing)
        return replaced(labels, value, mask & (away > np.median(away[mask])))

    return cut


def lesion_at_surface(
    labels: Labels, value: int, spacing: Spacing, rng: np.random.Generator
) -> np.ndarray:
    """A ball of 12 mm round a random voxel of the structure's surface."""
    mask = labels == value
    surface = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    centre = surface[rng.integers(len(surface))]
    away = [(np.arange(n) - c) * s for n, c, s in zip(labels.shape, centre, spacing, strict=True)]
    z, y, x = np.meshgrid(*away, indexing="ij", sparse=True)
    return z**2 + y**2 + x**2 <= 12**2


def empty(labels: Labels, value: int, spacing: Spacing, rng: np.random.Generator) -> Labels:
    """The structure is not there."""
    return replaced(labels, value, np.zeros(labels.shape, bool))


def exchanged(labels: Labels, value: int, spacing: Spacing, rng: np.random.Generator) -> Labels:
    """Two structures have each other's id."""
    others = [v for v in np.unique(labels) if v not in (0, value)]
    other = int(rng.choice(others))
    table = np.arange(int(labels.max()) + 1)
    table[[value, other]] = other, value
    return table[labels].astype(labels.dtype)


def flipped(axis: int) -> Fault:
    """The whole label map is mirrored along an array axis."""

    def flip(labels: Labels, value: int, spacing: Spacing, rng: np.random.Generator) -> Labels:
        return np.ascontiguousarray(np.flip(labels, axis))

    return flip


FAULTS: dict[str, Fault] = {
    "two ids exchanged": exchanged,
    "moved by 30 mm": moved_30_mm,
    "cut in half": cut_in_half,
    "dilated by 2 voxels": dilated,
    "second component far away": far_part,
    "hole": hole,
    "empty": empty,
    "flipped along x": flipped(2),
    "flipped along y": flipped(1),
    "flipped along z": flipped(0),
}
