"""What part of the body a data set shows: by its names, else by the size of its images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from backsplit.config.base import words
from backsplit.errors import CaseError
from backsplit.start.found import Found
from backsplit.volume import Grid, read_grid

LOOKED_AT = 8
"""So many images are asked for their size."""

WHOLE_BODY_MM = 900.0
"""No field of view from the skull to the thighs is shorter; none of a trunk is longer."""

HEAD_MM = (110.0, 290.0)
"""Fields of view of a head: adult heads are about 150 mm wide, 195 mm deep and 230 mm high
(ISO/TR 7250-2), and scans of a trunk are wider."""


class Part(StrEnum):
    """Parts of the body for which anatomy is proposed."""

    HEAD = "head"
    HEAD_NECK = "head_neck"
    BREAST = "breast"
    THORAX = "thorax"
    ABDOMEN = "abdomen"
    PELVIS = "pelvis"
    WHOLE_BODY = "whole_body"
    TRUNK = "trunk"


_WORDS = {
    Part.HEAD: "brain brains head cranial cerebral intracranial glioma gliomas glioblastoma brats "
    "gbm meningioma meningiomas isles stroke strokes wmh bmets hippocampus pituitary vestibular "
    "schwannoma ich intracerebral",
    Part.HEAD_NECK: "neck hecktor headneck larynx laryngeal pharynx oropharynx oropharyngeal "
    "nasopharynx nasopharyngeal npc hnscc thyroid parotid parotids mandible tongue openkbp",
    Part.BREAST: "breast breasts mamma mammary ispy",
    Part.THORAX: "lung lungs thorax thoracic chest nsclc sclc pulmonary pleural covid mediastinal "
    "mediastinum esophagus esophageal oesophagus heart cardiac luna lndb",
    Part.ABDOMEN: "abdomen abdominal abdomenatlas liver livers hepatic hepatocellular hcc lits "
    "kidney kidneys renal kits pancreas pancreatic pdac panther pants spleen splenic gallbladder "
    "gallstone gallstones colon colorectal stomach gastric adrenal mswal",
    Part.PELVIS: "pelvis pelvic prostate prostatic bladder rectum rectal uterus uterine cervix "
    "endometrial ovary ovarian picai promise",
    Part.WHOLE_BODY: "wholebody autopet petct",
}
PART_OF_WORD = {word: part for part, several in _WORDS.items() for word in several.split()}


@dataclass(frozen=True)
class View:
    """What the images show.

    Attributes
    ----------
    parts : of the body
    why : what says so, for the user
    sure : whether anything does
    """

    parts: Sequence[Part]
    why: str
    sure: bool = True


def view_of(found: Found, root: Path) -> View:
    """What a data set's images show.

    What is known of the layout counts most, then names of labels, of the folder, of cases and of
    drawn anatomy, then the size of the images. An image from the head to the thighs is one of the
    whole body whatever is drawn in it.
    """
    size = extent_mm(found)
    shown = "" if size is None else " x ".join(f"{side:.0f}" for side in size)
    shown = f"the images are about {shown} mm (left to right, front to back, feet to head)"
    if found.part:
        return View([Part(found.part)], f"the layout {found.layout} is known")
    if size is not None and size[2] >= WHOLE_BODY_MM:
        return View([Part.WHOLE_BODY], shown)
    for what, names in (
        ("names of labels", [*found.labels, *found.own_files]),
        ("names of the data set", [found.title, root.resolve().name]),
        ("names of cases", [case.id for case in found.cases[:LOOKED_AT]]),
        ("names of drawn anatomy", [n for given in found.given.values() for n in given.names]),
    ):
        if told := parts_of(names):
            said = ", ".join(sorted({word for _, word in told}))
            return View(list(dict.fromkeys(part for part, _ in told)), f"{what}: {said}")
    if size is not None and all(HEAD_MM[0] <= side <= HEAD_MM[1] for side in size):
        return View([Part.HEAD], shown, sure=False)
    return View([Part.TRUNK], "" if size is None else shown, sure=False)


def parts_of(names: Iterable[str]) -> list[tuple[Part, str]]:
    """Parts of the body that names speak of, each with the word."""
    said = [word for name in names for word in words(name)]
    return [(PART_OF_WORD[word], word) for word in dict.fromkeys(said) if word in PART_OF_WORD]


def extent_mm(found: Found) -> tuple[float, float, float] | None:
    """Median size of the first channel's images: left to right, front to back, feet to head, mm.

    None where no image can be read; what is wrong with one `check` says.
    """
    sizes = [_extent(grid) for grid in _grids(found)]
    if not sizes:
        return None
    x, y, z = np.median(sizes, axis=0)
    return float(x), float(y), float(z)


def _grids(found: Found) -> Iterator[Grid]:
    first = found.channels[0] if found.channels else ""
    paths = [case.images[first] for case in found.cases if first in case.images]
    for path in paths[:: max(1, len(paths) // LOOKED_AT)][:LOOKED_AT]:
        try:
            yield read_grid(path)
        except CaseError:
            continue


def _extent(grid: Grid) -> list[float]:
    """Size along the patient's axes, each image axis counting for the nearest."""
    direction = np.abs(np.reshape(grid.direction, (3, 3)))
    extent = [0.0, 0.0, 0.0]
    for axis, (count, spacing) in enumerate(zip(grid.size, grid.spacing, strict=True)):
        nearest = int(direction[:, axis].argmax())
        extent[nearest] = max(extent[nearest], count * spacing)
    return extent
