"""Names that label files give to what they hold: regions, segments; and the targets among them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydicom import dcmread

from backsplit.config.lesion_words import is_lesion
from backsplit.errors import CaseError
from backsplit.start.found import Labelling
from backsplit.start.names import counted, name_of, unlike
from backsplit.volume.labels import segment_file
from backsplit.volume.seg_nrrd import SlicerSegments, is_slicer_file

CONTOURS, SEGMENTS = "RTSTRUCT", "SEG"
"""Objects of DICOM that hold what was drawn."""

NAMES = ("StructureSetROISequence", "SegmentSequence")
"""Where they name their regions and segments."""

MOST_NAMES = 40
"""So many names are listed."""


def names_in(path: Path) -> Sequence[str]:
    """Names in a DICOM-SEG, an RTSTRUCT or a segmentation of 3D Slicer; none in other files."""
    with suppress(CaseError, OSError, ValueError, RuntimeError):  # `check` says what is wrong
        if (found := segment_file(path)) is not None:
            tags = ["Modality", *NAMES]
            return object_names(dcmread(found, stop_before_pixels=True, specific_tags=tags))
        if path.is_file() and is_slicer_file(path):
            return [segment.name for segment in SlicerSegments(path).segments]
    return []


def object_names(data: Any) -> list[str]:  # noqa: ANN401 (a data set of pydicom)
    """Names of the regions of an RTSTRUCT, or of the segments of a DICOM-SEG."""
    if data.get("Modality") == CONTOURS:
        return [str(item.get("ROIName", "")) for item in data.get(NAMES[0], ())]
    return [str(item.get("SegmentLabel", "")) for item in data.get(NAMES[1], ())]


def listed(names: Counter[str], files: int, kind: str) -> str:
    """A line with the names of files and how often each comes."""
    shown = ", ".join(f"{name} ({n})" for name, n in _ranked(names)[:MOST_NAMES])
    more = f", and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"names in {counted(files, f'{kind} file')}, and how often: {shown}{more}"


def targets_among(names: Iterable[str]) -> dict[str, Labelling]:
    """Targets from names that mean lesions, spellings together; from all where none does."""
    ranked = [name for name, _ in _ranked(Counter(names))]
    lesions = [name for name in ranked if is_lesion(name)] or ranked
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in lesions:
        spellings[re.sub(r"[^a-z0-9]+", "", name.lower())].append(name)
    targets: dict[str, Labelling] = {}
    for several in spellings.values():
        patterns = tuple(re.sub(r"([\[*?])", r"[\1]", name) for name in several)
        target = unlike(name_of(several[0]), targets)
        targets[target] = patterns if len(patterns) > 1 else patterns[0]
    return targets


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    """Names with their counts, the most frequent first."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
