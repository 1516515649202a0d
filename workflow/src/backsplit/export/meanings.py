"""SNOMED CT codes of labels, from TotalSegmentator's table of its classes."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from backsplit.config.base import IGNORE
from backsplit.scheme.scheme import Scheme


@dataclass(frozen=True)
class Concept:
    """A code of a terminology.

    Attributes
    ----------
    scheme : coding scheme: SCT is SNOMED CT, names that begin with 99 are private
    value, meaning : the code, and what it means in words
    """

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Meaning:
    """What a label is, in the terms of a DICOM segment (PS3.3, Segment Description macro).

    Attributes
    ----------
    category, kind : Segmented Property Category and Type
    modifier : of the type: left, right
    region, region_modifier : where it is, if it can be in several places
    """

    category: Concept
    kind: Concept
    modifier: Concept | None = None
    region: Concept | None = None
    region_modifier: Concept | None = None


ANATOMY = Concept("SCT", "123037004", "Anatomical Structure")
ALTERED = Concept("SCT", "49755003", "Morphologically Altered Structure")
SPATIAL = Concept("SCT", "309825002", "Spatial and Relational Concept")
LESION = Concept("SCT", "52988006", "Lesion")
"""Codes from CID 7150 and 7159 of DICOM PS3.16."""

PRIVATE = "99BACKSPLIT"
"""Coding scheme of labels that the table lacks; the code is the label's name."""

LONGEST = 64
"""Most characters of a code's meaning and of a segment's label (VR LO)."""

_TABLE = Path("resources", "totalsegmentator_snomed_mapping.csv")


def meanings(scheme: Scheme) -> dict[str, Meaning]:
    """Meaning of each label, by name.

    Looked up by the names of the classes, whichever segmenter has them, then by the structure's
    own name. A structure of several classes gets the code that they share: the kidneys are
    `Kidney`, without a side.
    """
    table = _table()
    found = {target: Meaning(ALTERED, LESION) for target in scheme.targets}
    for name in scheme.structures:
        rows = [table.get(one) for one in _classes(scheme, name)]
        found[name] = _common(rows) or table.get(name) or Meaning(ANATOMY, _private(name))
    return found | {IGNORE: Meaning(SPATIAL, _private(IGNORE))}


def _classes(scheme: Scheme, structure: str) -> Iterator[str]:
    """Classes of a structure, without the lesions that `segmenter_lesions` adds to it."""
    for segmenter, labels in scheme.sources.items():
        lent = scheme.lent.get(segmenter, ())
        yield from (one for one, to in labels.items() if to == structure and one not in lent)


def _common(rows: list[Meaning | None]) -> Meaning | None:
    """The meaning that all classes share, without sides if they differ; None if there is none."""
    known = [row for row in rows if row is not None]
    if not known or len(known) < len(rows):
        return None
    first = known[0]
    if len({(row.category, row.kind, row.region) for row in known}) > 1:
        return None
    return replace(
        first,
        modifier=first.modifier if len({row.modifier for row in known}) == 1 else None,
        region_modifier=first.region_modifier
        if len({row.region_modifier for row in known}) == 1
        else None,
    )


def _private(name: str) -> Concept:
    return Concept(PRIVATE, name, name[:LONGEST])


@lru_cache
def _table() -> Mapping[str, Meaning]:
    """TotalSegmentator's table by class, read without importing the package."""
    package = find_spec("totalsegmentator")
    if package is None or package.origin is None:
        return {}
    with (Path(package.origin).parent / _TABLE).open(encoding="utf-8", newline="") as stream:
        return {row["Structure"]: _meaning(row) for row in csv.DictReader(stream)}


def _meaning(row: Mapping[str, str]) -> Meaning:
    def concept(sequence: str) -> Concept | None:
        scheme, value, meaning = (
            row[f"{sequence}CodeSequence.{part}"]
            if f"{sequence}CodeSequence.{part}" in row
            else row[f"{sequence}Sequence.{part}"]
            for part in ("CodingSchemeDesignator", "CodeValue", "CodeMeaning")
        )
        return Concept(scheme, value, meaning) if value else None

    category, kind = concept("SegmentedPropertyCategory"), concept("SegmentedPropertyType")
    assert category is not None and kind is not None
    return Meaning(
        category,
        kind,
        concept("SegmentedPropertyTypeModifier"),
        concept("AnatomicRegion"),
        concept("AnatomicRegionModifier"),
    )
