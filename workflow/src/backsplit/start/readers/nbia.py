"""Collections of The Cancer Imaging Archive as its download tool writes them: NSCLC-Radiomics.

A case is an image series with the RTSTRUCT or DICOM-SEG that was drawn on it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from backsplit.start.found import Found, FoundCase
from backsplit.start.readers.dicom import DRAWN, Drawn, Series, drawn_in, series_below
from backsplit.start.written import CONTOURS, listed, targets_among

CHANNELS = {"CT": "ct", "MR": "mr", "PT": "pet"}
"""Modality of DICOM to channel; of several images of a study the first kind counts."""


def find_nbia(root: Path, kind: str | None = None) -> Found | None:
    """A case for each image series that an RTSTRUCT or DICOM-SEG was drawn on.

    Parameters
    ----------
    root : the folder
    kind : which of both is the lesion file; None takes the one that more images have
    """
    series, notes = series_below(root)
    drawn = [item for one in series if one.modality in DRAWN for item in drawn_in(one)]
    images = [one for one in series if one.modality in CHANNELS]
    if not drawn or not images:
        return None
    of = _by_image(drawn, images)
    have = Counter(item.kind for items in of.values() for item in items)
    kind = kind or max(DRAWN, key=lambda each: (have[each], each == CONTOURS))
    used = [one for one in images if of.get(one.uid)]
    modality = Counter(one.modality for one in used).most_common(1)[0][0] if used else "CT"
    chosen = [one for one in used if one.modality == modality]
    bare = _without_drawing(images, used, modality)
    cases, decide = _cases([*chosen, *bare], of, kind, CHANNELS[modality])
    placed = [item for items in of.values() for item in items]
    lesions = targets_among(name for item in placed if item.kind == kind for name in item.names)
    other = next(each for each in DRAWN if each != kind)
    if have[other]:
        decide.append(
            f"lesions are read from {kind} ({have[kind]} images); {other} exists for "
            f"{have[other]}: `--from {other}` uses it"
        )
    return Found(
        "nbia",
        cases,
        [CHANNELS[modality]],
        lesions,
        notes=[*notes, *_names(placed)],
        decide=decide,
        unused=_unused(root, series, drawn, of),
        title=_collection(root, series),
        patients_known=True,
        kind=kind,
    )


def _by_image(drawn: Sequence[Drawn], images: Sequence[Series]) -> Mapping[str, list[Drawn]]:
    """Image series to what was drawn on it: as the file says, else the only image of the study."""
    uids = {one.uid for one in images}
    of: dict[str, list[Drawn]] = defaultdict(list)
    for item in drawn:
        said = sorted(item.of & uids)
        study = [one for one in images if one.study == item.series.study]
        ranked = [m for m in CHANNELS if any(one.modality == m for one in study)]
        same = [one.uid for one in study if one.modality == ranked[0]] if ranked else []
        if said:
            of[said[0]].append(item)
        elif len(same) == 1:
            of[same[0]].append(item)
    return of


def _without_drawing(
    images: Sequence[Series], used: Sequence[Series], modality: str
) -> list[Series]:
    """Images of patients of whom nothing was drawn, where there is just one that it could be."""
    done = {one.patient for one in used}
    left: dict[str, list[Series]] = defaultdict(list)
    for one in images:
        if one.modality == modality and one.patient not in done:
            left[one.patient].append(one)
    return [several[0] for several in left.values() if len(several) == 1]


def _cases(
    images: Sequence[Series], of: Mapping[str, Sequence[Drawn]], kind: str, channel: str
) -> tuple[list[FoundCase], list[str]]:
    patients = Counter(one.patient for one in images)
    cases, decide = [], []
    for one in sorted(images, key=lambda each: (each.patient, each.folder)):
        name = one.patient if patients[one.patient] == 1 else f"{one.patient}_{one.folder.name}"
        files: dict[str, list[Path]] = defaultdict(list)
        for item in of.get(one.uid, ()):
            files[item.kind].append(item.path)
        if len(files[kind]) > 1:
            paths = ", ".join(f"{path.parent.name}/{path.name}" for path in files[kind])
            decide.append(f"{name} has several {kind} files ({paths}): choose one in the table")
        columns = {k.lower(): files[k][0] for k in DRAWN if len(files[k]) == 1}
        lesion = files[kind][0] if len(files[kind]) == 1 else None
        cases.append(FoundCase(name, {channel: one.folder}, lesion, one.patient, columns=columns))
    return cases, decide


def _names(drawn: Sequence[Drawn]) -> list[str]:
    """What regions and segments are called, for the user to choose."""
    notes = []
    for kind in DRAWN:
        counts = Counter(name for item in drawn if item.kind == kind for name in item.names)
        if counts:
            notes.append(listed(counts, sum(item.kind == kind for item in drawn), kind))
    return notes


def _unused(
    root: Path,
    series: Sequence[Series],
    drawn: Sequence[Drawn],
    of: Mapping[str, Sequence[Drawn]],
) -> list[tuple[str, str]]:
    """Why a series is no case."""
    placed = {item.path for items in of.values() for item in items}
    lost = {item.series.folder for item in drawn if item.path not in placed}
    reasons = []
    for one in series:
        if one.folder in lost:
            why = f"{one.modality}: the image that it was drawn on is not there"
        elif one.modality in CHANNELS:
            why = f"{one.modality} series on which nothing was drawn"
        elif one.modality in DRAWN:
            why = f"{one.modality}: not the lesion file of its case"
        else:
            why = f"series of modality {one.modality}"
        where = one.folder.relative_to(root).as_posix()
        reasons.append((re.sub(r"([\[*?])", r"[\1]", where) + "/*", why))
    return reasons


def _collection(root: Path, series: Sequence[Series]) -> str:
    """What the collection is called: the folder that holds all patients."""
    tops = {one.folder.relative_to(root).parts for one in series}
    for level in zip(*tops, strict=False):
        if len(set(level)) == 1 and not str(level[0]).startswith("manifest"):
            return str(level[0])
    return root.name
