"""Names of cases, channels and labels, made of whatever files are called."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from backsplit.config.base import is_case_id, words
from backsplit.config.lesion_words import is_lesion
from backsplit.volume import VOLUME_ENDINGS

LONGEST_ID = 120

Value = TypeVar("Value")

MASK_WORDS = {
    "mask", "masks", "msk", "seg", "segs", "dseg", "probseg", "segmentation", "segmentations",
    "label", "labels", "roi", "rois", "annotation", "annotations", "contour", "contours",
    "groundtruth", "gt", "lesionmask", "oar", "oars", "organs",
}  # fmt: skip
"""Words by which files of labels are called."""

SIDES = {"l": "left", "lt": "left", "left": "left", "r": "right", "rt": "right", "right": "right"}

SYNONYMS = {
    "adrenal": "adrenal_gland",
    "bladder": "urinary_bladder",
    "cord": "spinal_cord",
    "gall_bladder": "gallbladder",
    "ivc": "inferior_vena_cava",
    "large_bowel": "colon",
    "myelon": "spinal_cord",
    "oesophagus": "esophagus",
    "parotid": "parotid_gland",
    "postcava": "inferior_vena_cava",
    "small_intestine": "small_bowel",
    "spinalcord": "spinal_cord",
    "submandibular": "submandibular_gland",
    "suprarenal_gland": "adrenal_gland",
    "svc": "superior_vena_cava",
    "thyroid": "thyroid_gland",
    "vertebra": "vertebrae",
}
"""Other names of what TotalSegmentator has a class for; only what is the very same thing."""


ANATOMY = """
adrenal airway aorta artery autochthon background bladder body bone bowel brain
brainstem breast bronchus carotid cartilage cava cerebellum chiasm cochlea colon cord
cortex disc duodenum esophagus eye fat femur gallbladder gland gluteus head heart hip
humerus ileum iliopsoas intestine jejunum kidney larynx len lens liver lobe lung
mandible mediastinum muscle myocardium nerve oesophagus optic organ pancreas parotid
pelvis pharynx pituitary prostate rectum rib sacrum scapula sinus skin skull spinal
spine spleen sternum stomach submandibular temporal thymus thyroid tissue tongue trachea
uterus vein ventricle vertebra vertebrae vessel wall zone
"""
"""Words that name a part of the body; a label of other words is said to be unclear."""


def stem(name: str) -> str | None:
    """Name of a volume without its ending; None for any other file, and for those of macOS."""
    ending = next((e for e in VOLUME_ENDINGS if name.lower().endswith(e)), None)
    return None if ending is None or name.startswith(".") else name[: -len(ending)]


def case_ids(names: Sequence[str]) -> list[str]:
    """An id for each name that `check` takes.

    Other characters become `-` (but ü is u), equal ids are numbered, and names that no file may
    have (`CON`, `labels`) get `case-` before them.
    """
    ids: list[str] = []
    taken: set[str] = set()
    for name in names:
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
        clean = re.sub(r"[^A-Za-z0-9._-]+", "-", plain or name)
        clean = re.sub(r"\.\.+", ".", clean).strip("-._")[:LONGEST_ID].rstrip("-._") or "case"
        clean = clean if is_case_id(clean) else f"case-{clean}"
        given, number = clean, 1
        while given.lower() in taken:
            number += 1
            given = f"{clean}-{number}"
        taken.add(given.lower())
        ids.append(given)
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
    clean = re.sub(r"[^A-Za-z0-9_.-]+", "_", text.strip()).strip("_.-")[:70]
    return clean if clean[:1].isalpha() else f"label_{clean}".rstrip("_")


def unlike(name: str, others: Iterable[str]) -> str:
    """The name, numbered where others have it."""
    taken, free, number = set(others), name, 1
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def lesions_and_anatomy(
    labels: Mapping[str, Value], lesions: Collection[str] = ()
) -> tuple[dict[str, Value], dict[str, Value]]:
    """Which labels are lesions, by their names or by `lesions`; all of them where none is."""
    found = {n: value for n, value in labels.items() if n in lesions or is_lesion(n)}
    if not found:
        return dict(labels), {}
    return found, {name: value for name, value in labels.items() if name not in found}


def is_anatomy_name(name: str) -> bool:
    """Whether a name says what part of the body it is."""
    return bool(set(ANATOMY.split()) & {_singular(word) for word in words(name)})


def counted(count: int, noun: str) -> str:
    """A number with its noun: 1 case, 2 cases."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def few(names: Sequence[str], most: int = 5) -> str:
    """The first of several names, for a message."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def is_mask_name(name: str) -> bool:
    """Whether a file is called as masks are: by such a word, or by a lesion."""
    return bool(MASK_WORDS & set(words(name))) or is_lesion(name)


def structure_name(name: str) -> str:
    """Name of a structure as TotalSegmentator spells it, whatever the spelling.

    `Right_kidney`, `kidney-R`, `RightKidney`, `kidney_right` and `kidneys right` are all
    `kidney_right`. Names are the same structure exactly if this gives the same.
    """
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=^[LR])(?=[A-Z][a-z])", "_", name.strip())
    parts = [part.lower() for part in re.split(r"[^A-Za-z0-9]+", apart) if part]
    sides = {SIDES[part] for part in parts if part in SIDES}
    if len(sides) != 1:
        whole = "_".join(map(_singular, parts))
        return SYNONYMS.get(whole, whole)
    rest = "_".join(_singular(part) for part in parts if part not in SIDES)
    return f"{SYNONYMS.get(rest, rest)}_{sides.pop()}"


def sideless(name: str) -> str:
    """A structure's name as `structure_name` gives it, without its side."""
    whole = re.sub(r"_(left|right)$", "", name)
    return SYNONYMS.get(whole, whole)


def _singular(word: str) -> str:
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[:-1] if re.search(r"[^aius]s$", word) and len(word) > 3 else word


def is_config_name(name: str) -> bool:
    """Whether the configuration takes a name as it is."""
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,79}", name) is not None and name not in (
        "background",
        "ignore",
        "targets",
    )
