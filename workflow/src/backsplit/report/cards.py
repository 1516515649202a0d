"""Cards of cases: what each can be found and ordered by among hundreds, and its small picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from backsplit.config.quality import Severity
from backsplit.report.facts import CaseFacts, LesionFacts
from backsplit.report.pictures.encode import STRIP, data_address, file_address
from backsplit.scheme.scheme import Scheme
from backsplit.store.status import Status

PICTURES_MOST = 2500
"""Cases with a picture at all: browsers grow slow beyond 60 MB."""
LARGE_PICTURES = 40
"""Cases whose picture is on the page in its full size, about 90 kB; those that stand first."""
SMALL_WIDTH = 480
"""Width of the small pictures, px: about 12 kB."""
SMALL_QUALITY = 60


@dataclass(frozen=True)
class Strip:
    """The labelled planes of a case beside each other, small.

    Attributes
    ----------
    small : address
    large : address of the whole picture; empty where the page does not hold it
    width, height : of the small picture, px
    mm : width of the small picture in the patient; 0 where that is not known
    """

    small: str
    large: str
    width: int
    height: int
    mm: float

    @property
    def bar_mm(self) -> int:
        """Length of a bar on it: round, and an eighth of its width at most."""
        return next((mm for mm in (100, 50, 20, 10, 5, 2) if mm * 8 < self.mm), 1)


@dataclass(frozen=True)
class Card:
    """What a case is found by: what its flags speak of, and how many lesions it has."""

    rules: tuple[str, ...]
    structures: tuple[str, ...]
    segmenters: tuple[str, ...]
    lesions: int


def make_cards(
    cases: Sequence[CaseFacts], lesions: Sequence[LesionFacts], scheme: Scheme
) -> dict[str, Card]:
    """Give each case that `check` let pass its card."""
    counted = Counter(lesion.case for lesion in lesions)
    return {case.id: _card(case, counted[case.id], scheme) for case in cases if _is_ok(case)}


def _is_ok(case: CaseFacts) -> bool:
    return case.status is Status.OK


def _card(case: CaseFacts, lesions: int, scheme: Scheme) -> Card:
    """Sort what the flags speak of: `structure`, `segmenter/class` or `segment segmenter`."""
    flags = [flag for flag in case.flags if flag.severity is not Severity.INFO]
    structures, segmenters = set[str](), set(case.failed_segmenters)
    for subject in (flag.subject for flag in flags):
        first, _, name = subject.partition("/")
        if first in scheme.sources and name:
            segmenters.add(first)
            structures |= {scheme.sources[first][name]} if name in scheme.sources[first] else set()
        elif subject in scheme.names:
            structures.add(subject)
        elif subject.startswith("segment "):
            segmenters.add(subject.removeprefix("segment "))
    rules = {flag.rule for flag in flags}
    return Card(tuple(sorted(rules)), tuple(sorted(structures)), tuple(sorted(segmenters)), lesions)


def make_strips(cases: Sequence[CaseFacts]) -> Mapping[str, Strip]:
    """Small pictures by case, those of the first cases with the whole one beside them.

    A picture that cannot be read is left out.
    """
    shown = [case for case in cases if case.picture is not None][:PICTURES_MOST]
    with ThreadPoolExecutor(max_workers=4) as pool:
        strips = pool.map(_strip, shown, range(len(shown)))
        return {case.id: strip for case, strip in zip(shown, strips, strict=True) if strip}


def _strip(case: CaseFacts, rank: int) -> Strip | None:
    path = case.picture
    if path is None:
        return None
    try:
        small, mm = _cut(path)
        large = file_address(path) if rank < LARGE_PICTURES else ""
    except (OSError, ValueError):
        return None
    return Strip(data_address(small, quality=SMALL_QUALITY), large, small.width, small.height, mm)


def _cut(path: Path) -> tuple[Image.Image, float]:
    """The labelled planes of a picture, and their width in mm; all of a picture without a note."""
    with Image.open(path) as picture:
        box, mm = (0, 0, picture.width, picture.height), 0.0
        if noted := str(picture.info.get(STRIP, "")).split():
            left, top, right, bottom = map(int, noted[:4])
            box, mm = (left, top, right, bottom), float(noted[4])
        part = picture.convert("RGB").crop(box)
    if part.width <= SMALL_WIDTH:
        return part, mm
    height = max(1, round(part.height * SMALL_WIDTH / part.width))
    return part.resize((SMALL_WIDTH, height), Image.Resampling.BOX), mm
