"""The Brain Imaging Data Structure, with lesion masks as groups name them; ISLES'22 is one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from backsplit.config.base import words
from backsplit.config.lesion_words import is_lesion
from backsplit.errors import CaseError, Code
from backsplit.start.found import Found, FoundCase
from backsplit.start.look import holds_mask
from backsplit.start.names import channel_of, is_mask_name, stem
from backsplit.volume import read_geometry

IMAGES = ("sub-*/*/*", "sub-*/ses-*/*/*")
FOLDERS = ("anat", "ct", "pet", "dwi", "perf", "swi")
"""Data types that hold images, as folders are called."""

TISSUE = {"brain", "skull", "head", "gm", "wm", "csf", "aseg", "aparc", "tissue", "vessel", "body"}
"""Words of masks that are no lesion's."""

LOOKED_AT = 2
"""So many files of a channel are looked into."""

Session = tuple[str, str]
"""Subject and session."""


def find_bids(root: Path) -> Found | None:
    """One case a subject and session; images from the raw data, masks from anywhere."""
    if not list(root.glob("sub-*")):
        return None
    paths = [
        path
        for path in sorted(p for start in IMAGES for p in root.glob(start))
        if _parsed(path)[1] and path.parent.name in FOLDERS and not _is_mask(path)
    ]
    images, suffixes = _images(paths)
    everywhere = [set(found) for found in images.values()]
    channels = sorted(set.intersection(*everywhere)) if everywhere else []
    unused = []
    for channel in list(channels):
        if why := _is_no_image(images, channel):
            channels.remove(channel)
            unused.append((f"*_{_suffix(images, channel)}.*", why))
    if not channels:
        return None
    for channel in sorted(set().union(*everywhere) - set(channels)):
        why = f"{channel} does not exist for every case"
        unused.append((f"*_{_suffix(images, channel)}.*", why))
    masks, others = _masks(root)
    notes, decide = [], []
    if sum(map(len, masks.values())):
        names = sorted({_without_subject(p) for paths in masks.values() for p in paths})
        notes.append(f"recognised as lesion masks by their names: {', '.join(names[:5])}")
    else:
        decide.append("no lesion mask was found: name its files in the column `lesion`")
    cases = []
    for who, found in sorted(images.items()):
        case = "_".join(filter(None, who))
        kinds = {**{channel: found[channel] for channel in channels}, "lesion": masks.get(who, [])}
        decide += [
            f"{case} has {len(paths)} files for {kind}: choose in the table which belong together"
            for kind, paths in kinds.items()
            if len(paths) > 1
        ]
        single = {kind: paths[0] for kind, paths in kinds.items() if len(paths) == 1}
        lesion = single.pop("lesion", None)
        cases.append(FoundCase(case, single, lesion, who[0]))
    unused += [(f"*{_without_subject(path)}*", "a mask that no word calls a lesion")
               for path in {_without_subject(p): p for p in others}.values()]  # fmt: skip
    return Found(
        "bids", cases, channels, {"lesion": 1}, notes, decide, unused, patients_known=True,
        part="head" if "flair" in channels else "",
        suffixes={c: s for c, s in suffixes.items() if c in channels and c != channel_of(s)},
    )  # fmt: skip


def _images(
    paths: Sequence[Path],
) -> tuple[dict[Session, dict[str, list[Path]]], Mapping[str, str]]:
    """Images by session and channel, and the suffix of BIDS of each channel.

    A channel is a suffix; where a session has several images of one suffix, entities tell them
    apart (`ce-gd_T1w` beside `T1w`), but not those of repetitions.
    """
    sessions: dict[Session, dict[str, list[str]]] = {}
    for path in paths:
        who, suffix = _parsed(path)
        sessions.setdefault(who, {}).setdefault(suffix, []).append(_variant(path))
    several = {
        suffix
        for found in sessions.values()
        for suffix, variants in found.items()
        if len(set(variants)) > 1
    }
    images: dict[Session, dict[str, list[Path]]] = {}
    suffixes: dict[str, str] = {}
    for path in paths:
        who, suffix = _parsed(path)
        named = _variant(path) if suffix in several else suffix
        channel = channel_of("_".join(re.sub(r"^[a-z]+-", "", part) for part in named.split("_")))
        suffixes[channel] = named
        images.setdefault(who, {}).setdefault(channel, []).append(path)
    return images, suffixes


def _variant(path: Path) -> str:
    """What a file's name says beyond whose it is and which repetition."""
    parts = _without_subject(path).split("_")
    return "_".join(part for part in parts if not part.startswith(("run-", "echo-")))


def _masks(root: Path) -> tuple[Mapping[Session, list[Path]], Sequence[Path]]:
    """Lesion masks of each session, and other masks.

    Those that a word calls a lesion's; where there are none, those of derivatives that no word
    calls another's (`_msk` of ISLES).
    """
    found = [path for path in sorted(root.rglob("sub-*")) if _parsed(path)[1] and _is_mask(path)]
    lesions = [path for path in found if is_lesion(_without_subject(path))]
    if not lesions:
        lesions = [
            path
            for path in found
            if "derivatives" in path.parts and not TISSUE & set(words(_without_subject(path)))
        ]
    masks: dict[Session, list[Path]] = {}
    for path in lesions:
        masks.setdefault(_parsed(path)[0], []).append(path)
    return masks, [path for path in found if path not in set(lesions)]


def _is_mask(path: Path) -> bool:
    return is_mask_name(_without_subject(path))


def _without_subject(path: Path) -> str:
    """Name of a file without its ending, subject and session, which may be any word."""
    parts = (stem(path.name) or path.name).split("_")
    return "_".join(part for part in parts if not part.startswith(("sub-", "ses-")))


def _suffix(images: Mapping[Session, Mapping[str, Sequence[Path]]], channel: str) -> str:
    """A channel's suffix as files have it."""
    path = next(found[channel][0] for found in images.values() if channel in found)
    return _parsed(path)[1]


def _is_no_image(images: Mapping[Session, Mapping[str, Sequence[Path]]], channel: str) -> str:
    """Why the first files of a channel are no images; empty where they may be."""
    paths = [found[channel][0] for found in images.values() if channel in found][:LOOKED_AT]
    if paths and all(holds_mask(path) for path in paths):
        return "a mask: it holds few values, all whole numbers"
    try:
        read_geometry(paths[0])
    except CaseError as error:
        return "several volumes in a file" if error.code is Code.NOT_3D else ""
    return ""


def _parsed(path: Path) -> tuple[Session, str]:
    """Subject and session, and the suffix, of a file; empty where it is no volume of BIDS."""
    name = stem(path.name)
    if name is None or not name.startswith("sub-"):
        return ("", ""), ""
    parts = name.split("_")
    entities: Mapping[str, str] = {p.split("-")[0]: p for p in parts[:-1] if "-" in p}
    return (entities.get("sub", ""), entities.get("ses", "")), parts[-1]
