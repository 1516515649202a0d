"""What is found in a folder: cases, channels, and what the lesion files' values mean."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backsplit.config.lesion_words import is_lesion
from backsplit.volume import VOLUME_ENDINGS

LONGEST_ID = 120


@dataclass(frozen=True)
class FoundCase:
    """One image with its lesion file.

    Attributes
    ----------
    id : as the folder names it
    images : channel to file
    lesion : None where no file was found: that is not known to be a patient without lesions
    patient : where cases of one patient can be told
    """

    id: str
    images: Mapping[str, Path]
    lesion: Path | None
    patient: str = ""


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes
    ----------
    layout : whose way of laying out it is
    cases : by id
    channels : in order
    labels : name to value in the lesion files, background left out; empty where nothing says
    notes : what a person should know
    """

    layout: str
    cases: Sequence[FoundCase]
    channels: Sequence[str]
    labels: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()


def stem(name: str) -> str | None:
    """Name of a volume without its ending; None for any other file."""
    ending = next((e for e in VOLUME_ENDINGS if name.lower().endswith(e)), None)
    return None if ending is None else name[: -len(ending)]


def case_ids(names: Sequence[str]) -> list[str]:
    """An id for each name: other characters become `-`, and equal ids are numbered."""
    ids: list[str] = []
    for name in names:
        clean = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:LONGEST_ID] or "case"
        same = sum(other.lower() == clean.lower() for other in ids)
        ids.append(f"{clean}-{same + 1}" if same else clean)
    return ids


def numbered(names: Sequence[str]) -> list[str]:
    """Names that differ: those that come several times get their position."""
    return [f"{n}_{at}" if names.count(n) > 1 else n for at, n in enumerate(names)]


def channel_of(name: str) -> str:
    """A name that a channel can have: letters, digits and _, in lower case."""
    clean = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").lower()
    return clean if clean[:1].isalpha() else f"channel_{clean}".rstrip("_")


def name_of(text: str) -> str:
    """A name that a label can have."""
    clean = re.sub(r"[^A-Za-z0-9_.-]+", "_", text.strip()).strip("_.-")
    return clean if clean[:1].isalpha() else f"label_{clean}".rstrip("_")


def lesions_and_anatomy(labels: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Which labels are lesions, by their names; all of them where no name says so."""
    lesions = {name: value for name, value in labels.items() if is_lesion(name)}
    if not lesions:
        return dict(labels), {}
    return lesions, {name: value for name, value in labels.items() if name not in lesions}
