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


# faults of a whole label map, as segmenters and pipelines make them


def leaking(
    labels: Labels, value: int, spacing: Spacing, rng: np.random.Generator
) -> Labels | None:
    """The structure takes the nearer two fifths of the neighbour that it touches most."""
    mask = labels == value
    shell = ndimage.binary_dilation(mask, iterations=2) & ~mask & (labels > 0)
    if not shell.any():
        return None
    neighbour = int(np.bincount(labels[shell]).argmax())
    places = labels == neighbour
    away = ndimage.distance_transform_edt(~mask, sampling=spacing)
    return np.where(places & (away <= np.quantile(away[places], 0.4)), value, labels).astype(
        labels.dtype
    )


def half_of_view_missing(
    labels: Labels, value: int, spacing: Spacing, rng: np.random.Generator
) -> Labels:
    """Nothing is labelled in the upper, or in the lower, half of what was."""
    z = np.flatnonzero(labels.any(axis=(1, 2)))
    middle = int(z[len(z) // 2])
    out = labels.copy()
    out[slice(middle, None) if rng.random() < 0.5 else slice(0, middle)] = 0
    return out


def other_version(labels: Labels, value: int, spacing: Spacing, rng: np.random.Generator) -> Labels:
    """The names are of a table in which one class less comes before this one."""
    table = np.arange(int(labels.max()) + 1)
    table[value:] -= 1
    table[value] = table[-1] + 1 if value == 1 else value - 1
    return table[labels].astype(labels.dtype)


def shifted_by_bed(
    labels: Labels, value: int, spacing: Spacing, rng: np.random.Generator
) -> Labels:
    """The whole map lies 40 mm further to the front or to the back than its image."""
    out = np.zeros_like(labels)
    step = (0, int(rng.choice([-1, 1])) * round(40 / spacing[1]), 0)
    for label in np.unique(labels[labels > 0]).tolist():
        out[shifted(labels == label, step)] = label
    return out


def swapped_below(labels: Labels, value: int, spacing: Spacing, rng: np.random.Generator) -> Labels:
    """Left and right are exchanged in the lower half of what is labelled."""
    z = np.flatnonzero(labels.any(axis=(1, 2)))
    x = np.flatnonzero(labels.any(axis=(0, 1)))
    out = labels.copy()
    middle, inside = int(z[len(z) // 2]), slice(int(x[0]), int(x[-1]) + 1)
    out[:middle, :, inside] = out[:middle, :, inside][:, :, ::-1]
    return out


def smoothed_away(labels: Labels, value: int, spacing: Spacing, rng: np.random.Generator) -> Labels:
    """What is not the majority within 24 mm is gone: small and thin structures."""
    size = [max(1, round(24 / side)) for side in spacing]
    out = np.zeros_like(labels)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            mask = labels[box] == label
            share = ndimage.uniform_filter(mask.astype(np.float32), size, mode="constant")
            out[box][mask & (share > 0.5)] = label
    return out


REAL_LIFE: dict[str, Fault] = {
    "leaking into its neighbour": leaking,
    "half of the field of view missing": half_of_view_missing,
    "names of another version": other_version,
    "shifted by the patient bed": shifted_by_bed,
    "left and right swapped below": swapped_below,
    "small structures smoothed away": smoothed_away,
}
"""Faults of segmenters and of pipelines in real life; all but the first are of the whole map."""

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
