"""Colours of labels: the same id has the same colour in every picture of a data set."""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np

from backsplit.volume import Array

Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

BACKGROUND: Colour = (0, 0, 0)
IGNORE: Colour = (150, 150, 150)

TARGETS: tuple[Colour, ...] = (
    (255, 230, 0),
    (255, 60, 220),
    (0, 255, 255),
    (255, 255, 255),
    (255, 120, 0),
    (120, 255, 60),
)
"""Bright colours kept for lesions; they stay apart for the colour-blind, too, as they differ in
lightness. Beyond six targets they repeat."""

TARGET_HUE = 14.0
"""Hues that near to a target's are not given to structures, degrees."""

STRUCTURE_COUNT = 160
"""Structure colours before they repeat: more than any reader can tell apart."""

_LINEAR_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LMS_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
"""OKLab (Ottosson 2020): distances in it are close to what an eye sees."""

_DEUTERANOPIA = np.array(
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
)
"""Linear RGB as the commonest strong colour blindness sees it (Machado et al. 2009)."""


def label_colours(label_count: int, target_count: int, *, has_ignore: bool) -> list[Colour]:
    """Give each id its colour.

    Parameters
    ----------
    label_count : number of ids, background and `ignore` included
    target_count : ids 1..T are targets
    has_ignore : the highest id is `ignore`
    """
    colours = [BACKGROUND]
    colours += [TARGETS[i % len(TARGETS)] for i in range(target_count)]
    structures = structure_colours()
    missing = label_count - len(colours) - has_ignore
    colours += [structures[i % STRUCTURE_COUNT] for i in range(missing)]
    return [*colours, IGNORE] if has_ignore else colours


@lru_cache(maxsize=1)
def structure_colours() -> tuple[Colour, ...]:
    """Colours of structures: each lies as far as can be from all before it.

    The distance is the smaller one of normal sight and of deuteranopia. The colours of targets,
    black and white count as taken, so that no structure looks like a lesion or like the image.
    """
    levels = range(0, 256, 17)
    candidates = np.array(list(product(levels, levels, levels)))
    normal = _oklab(candidates)
    chroma = np.hypot(normal[:, 1], normal[:, 2])
    # too dark, too light or too grey colours get lost on a grey-scale image
    keep = (normal[:, 0] > 0.5) & (normal[:, 0] < 0.88) & (chroma > 0.07)
    for target in TARGETS[:2]:  # and no structure has the hue of the first two targets
        known = _oklab(np.array([target]))[0]
        turned = np.angle((normal[:, 1] + 1j * normal[:, 2]) / complex(known[1], known[2]))
        keep &= np.abs(turned) > np.radians(TARGET_HUE)
    candidates = candidates[keep]
    seen = np.stack([_oklab(candidates), _oklab(candidates, _DEUTERANOPIA)])
    taken = np.array([*TARGETS[:3], (0, 0, 0), (255, 255, 255), IGNORE])
    distance = np.full(len(candidates), np.inf)
    for colour in taken:
        known = np.stack([_oklab(colour[None]), _oklab(colour[None], _DEUTERANOPIA)])
        distance = np.minimum(distance, _apart(seen, known))
    chosen: list[Colour] = []
    for _ in range(STRUCTURE_COUNT):
        best = int(np.argmax(np.round(distance, 6)))
        red, green, blue = (int(level) for level in candidates[best])
        chosen.append((red, green, blue))
        distance = np.minimum(distance, _apart(seen, seen[:, best : best + 1]))
    return tuple(chosen)


def as_hex(colour: Colour) -> str:
    """`#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _apart(seen: Array, known: Array) -> Array:
    """Distance of each candidate to one colour, the smaller one of both ways to see, (n,)."""
    return np.asarray(np.linalg.norm(seen - known, axis=2).min(axis=0))


def _oklab(rgb: Array, sight: Array | None = None) -> Array:
    """OKLab of 8-bit sRGB colours (n, 3), as seen through a matrix on linear RGB."""
    share = rgb / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    if sight is not None:
        linear = np.clip(linear @ sight.T, 0, 1)
    return np.asarray(np.cbrt(linear @ _LINEAR_TO_LMS.T) @ _LMS_TO_LAB.T)
