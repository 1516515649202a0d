"""Colours of labels: those of anatomical atlases, told apart as they are drawn, by every eye.

The same names in the same order have the same colours in every picture and file of a data set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backsplit.config.base import IGNORE as IGNORE_NAME
from backsplit.scheme.scheme import Scheme

Array = NDArray[Any]

Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

Named = Mapping[int, tuple[str, Colour]]
"""Label to its name and colour."""

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

FILL = 0.45
"""Opacity of a structure's colour on the image."""

LINE = 0.85
"""Opacity of the line round a structure."""

GREY = 118
"""Grey value of soft tissue (25 HU) in the window that pictures open with."""

ENOUGH = 0.055
"""Distance in OKLab, as drawn, from which colours are easily told apart: nearly three times what
an eye just notices, 0.02 (Ottosson 2020)."""


PALE = 0.1
"""Range in OKLab of what lies round everything."""


@dataclass(frozen=True)
class Tissue:
    """What atlases draw in one hue.

    The hues follow the illustrations of anatomy that students learn from (Gray, Netter): arteries
    red, veins blue, bile green, lungs pale blue, gut rose, muscle brick, glands ochre.

    Attributes
    ----------
    pattern : of names
    colour : that the first one gets
    reach : how far others may be off in hue, degrees
    within : how far in OKLab: what lies round everything stays pale
    outlined : it is drawn as a line, because it lies round everything, or is told by its own
        brightness
    """

    pattern: re.Pattern[str]
    colour: Colour
    reach: float = 25.0
    outlined: bool = False
    within: float = np.inf


def _tissue(
    words: str,
    colour: Colour,
    reach: float = 25.0,
    *,
    outlined: bool = False,
    within: float = np.inf,
) -> Tissue:
    pattern = re.compile(rf"(^|[_.\-\d])({words})", re.IGNORECASE)
    return Tissue(pattern, colour, reach, outlined, within)


TISSUES = (
    _tissue(
        "fat|adipose|subcutaneous|visceral_fat|torso_fat",
        (214, 158, 110),
        outlined=True,
        within=PALE,
    ),
    _tissue(
        "soft_tissue|body|skin|tissue|torso|external|trunc",
        (186, 170, 190),
        outlined=True,
        within=PALE,
    ),
    _tissue(
        "bones?|vertebra|rib|skull|cranium|sternum|sacrum|hips?$|hip_|femur|humerus|scapula"
        "|clavicul|mandible|maxilla|pelvis|tibia|fibula|patella|carpal|tarsal|ulna|radius|spine",
        (176, 214, 196),
        70.0,
        outlined=True,
    ),
    _tissue(
        "vein|vena|portal|inferior_vena|superior_vena|brachiocephalic_vein|iliac_vena",
        (60, 120, 225),
        20.0,
    ),
    _tissue(
        "aorta|arter|carotid|subclavian|heart|ventricle|atri|myocard|brachiocephalic|pulmonary",
        (222, 62, 62),
        35.0,
    ),
    _tissue("lung|trachea|bronch|airway", (104, 190, 226), 30.0),
    _tissue("liver", (176, 104, 68)),
    _tissue("spleen", (184, 96, 150), 30.0),
    _tissue("kidney|renal|ureter", (222, 128, 62)),
    _tissue("gallbladder|bile", (60, 176, 88)),
    _tissue("pancreas", (224, 176, 96)),
    _tissue(
        "stomach|small_bowel|bowel|colon|duodenum|esophag|oesophag|rectum|gut|intestin",
        (238, 140, 150),
        30.0,
    ),
    _tissue("bladder|urinary|prostate|uter|ovar|vagina|seminal", (150, 190, 70), 30.0),
    _tissue("adrenal|thyroid|parotid|submandibular|gland|lymph|thymus", (70, 184, 160), 50.0),
    _tissue("brain|cord|spinal|nerve|eye|optic|chiasm|lens|cochlea", (190, 200, 120), 35.0),
    _tissue(
        "muscle|glute|iliopsoas|autochthon|psoas|quadriceps|pectoral|diaphragm|cartilage|costal",
        (188, 92, 84),
        30.0,
    ),
)

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

_PROTANOPIA = np.array(
    [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]
)
_DEUTERANOPIA = np.array(
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
)
"""Linear RGB as the two commonest strong kinds of colour blindness see it (Machado et al. 2009)."""

SIGHTS = (np.eye(3), _PROTANOPIA, _DEUTERANOPIA)

VIOLET = (262.0, 330.0)
"""Hues from blue to violet: they look alike, so that only what atlases draw so gets one."""


def is_outlined(name: str) -> bool:
    """Whether a structure is drawn as a line alone."""
    tissue = _tissue_of(name)
    return tissue is not None and tissue.outlined


def label_colours(names: Sequence[str], target_count: int) -> list[Colour]:
    """Give each id its colour.

    Parameters
    ----------
    names : of the ids: background, targets, structures; the last may be `ignore`
    target_count : ids 1..T are targets
    """
    has_ignore = names[-1] == IGNORE_NAME
    targets = [TARGETS[i % len(TARGETS)] for i in range(target_count)]
    structures = names[1 + target_count : len(names) - has_ignore]
    return [BACKGROUND, *targets, *_structure_colours(tuple(structures)), *[IGNORE] * has_ignore]


def colours_of(names: Sequence[str], scheme: Scheme) -> list[Colour]:
    """Colours of a data set's labels by id: those that they have in the report.

    Parameters
    ----------
    names : of the labels by id, background first; some or all of the scheme's
    scheme : names and ids
    """
    every = scheme.all_names
    known = dict(zip(every, label_colours(every, len(scheme.targets)), strict=True))
    return [known.get(name, BACKGROUND) for name in names]


def named_labels(names: Sequence[str], scheme: Scheme, array: Array) -> Named:
    """Names and colours of the labels that a label map of a data set can hold.

    Parameters
    ----------
    names, scheme : as `colours_of`
    array : the label map; without voxels that are ignored, `ignore` is not one of its labels
    """
    pairs = enumerate(zip(names, colours_of(names, scheme), strict=True))
    highest = int(array.max(initial=0))
    return {i: pair for i, pair in pairs if i and (pair[0] != IGNORE_NAME or i == highest)}


@lru_cache(maxsize=8)
def _structure_colours(names: tuple[str, ...]) -> tuple[Colour, ...]:
    """Colours of structures, each as far as its tissue's hue allows from all drawn like it before.

    A distance is the smallest one of normal sight, protanopia and deuteranopia, of colours as they
    are drawn. Beyond `ENOUGH`, the colour nearest to that of the tissue is taken.
    """
    candidates, lab = _candidates()
    drawn = {lines: _drawn(candidates, LINE if lines else FILL) for lines in (False, True)}
    targets = np.array([*TARGETS[:3], IGNORE])
    distance = {}
    for lines, opacity in ((False, FILL), (True, LINE)):
        known = np.concatenate([_drawn(targets, 1.0), _drawn(targets[:1], 0.0)], axis=1)
        near = [_apart(_drawn(candidates, opacity), seen) for seen in np.moveaxis(known, 1, 0)]
        distance[lines] = np.min(near, axis=0)
    found: list[Colour] = []
    for name in names:
        tissue = _tissue_of(name)
        lines = tissue is not None and tissue.outlined
        allowed, off = _fitting(tissue, lab)
        score = np.where(allowed, np.minimum(distance[lines], ENOUGH) - 0.02 * off, -np.inf)
        best = int(np.argmax(np.round(score, 6)))
        red, green, blue = (int(level) for level in candidates[best])
        found.append((red, green, blue))
        near_it = _apart(drawn[lines], drawn[lines][:, best])
        distance[lines] = np.minimum(distance[lines], near_it)
    return tuple(found)


@lru_cache(maxsize=1)
def _candidates() -> tuple[Array, Array]:
    """Colours that are seen on a grey image and look like no lesion, and their OKLab."""
    levels = range(0, 256, 15)
    colours = np.array(list(product(levels, levels, levels)))
    lab = _oklab(colours)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    keep = (lab[:, 0] > 0.45) & (lab[:, 0] < 0.9) & (chroma > 0.05)
    for target in TARGETS[:2]:
        known = _oklab(np.array([target]))[0]
        turned = np.angle((lab[:, 1] + 1j * lab[:, 2]) / complex(known[1], known[2]))
        keep &= (np.abs(turned) > np.radians(TARGET_HUE)) | (chroma < 0.09)
    return colours[keep], lab[keep]


def _fitting(tissue: Tissue | None, lab: Array) -> tuple[Array, Array]:
    """Which candidates a tissue may have, and how far they are from its own colour in OKLab."""
    hue = np.degrees(np.arctan2(lab[:, 2], lab[:, 1])) % 360
    violet = (hue > VIOLET[0]) & (hue < VIOLET[1])
    if tissue is None:
        return ~violet, np.zeros(len(lab))
    own = _oklab(np.array([tissue.colour]))[0]
    turned = np.abs((hue - np.degrees(np.arctan2(own[2], own[1])) + 180) % 360 - 180)
    off = np.linalg.norm(lab - own, axis=1)
    return (turned <= tissue.reach) & (off <= tissue.within), off


def _tissue_of(name: str) -> Tissue | None:
    return next((tissue for tissue in TISSUES if tissue.pattern.search(name)), None)


def as_hex(colour: Colour) -> str:
    """`#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _drawn(colours: Array, opacity: float) -> Array:
    """OKLab (sight, n, 3) of colours (n, 3) over soft tissue, as each kind of sight sees it."""
    blended = (1 - opacity) * GREY + opacity * colours
    return np.stack([_oklab(blended, sight) for sight in SIGHTS])


def _apart(seen: Array, known: Array) -> Array:
    """Distance of each candidate (sight, n, 3) to one colour (sight, 3), the smallest one, (n,)."""
    return np.asarray(np.linalg.norm(seen - known[:, None], axis=2).min(axis=0))


def _oklab(rgb: Array, sight: Array | None = None) -> Array:
    """OKLab of 8-bit sRGB colours (n, 3), as seen through a matrix on linear RGB."""
    share = rgb / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    if sight is not None:
        linear = np.clip(linear @ sight.T, 0, 1)
    return np.asarray(np.cbrt(linear @ _LINEAR_TO_LMS.T) @ _LMS_TO_LAB.T)
