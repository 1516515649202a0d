"""nnU-Net's folders: version 2, version 1, with images listed in dataset.json, or undescribed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from backsplit.errors import CaseError
from backsplit.start.found import Found, FoundCase
from backsplit.start.names import channel_of, numbered
from backsplit.start.readers.files import (
    FOLDS_KEPT,
    TEST_IMAGES,
    description,
    folder_of,
    folds_of,
    labels_of,
    volumes,
)
from backsplit.start.readers.known import Known, known_set, patient_in
from backsplit.volume import read_volume
from backsplit.volume.intensity import CT_BELOW_HU

CHANNEL = re.compile(r"(.+)_(\d{4})")

NORMALISED = {"ct", "nonorm", "zscore", "rescale_to_0_1", "rgb_to_0_1"}
"""Names of channels that mean a normalisation (nnU-Net's `get_normalization_scheme`)."""

NO_IMAGE = "labels of cases that have no image"

Files = Mapping[str, tuple[Mapping[int, Path], Path | None]]
"""Case to its images by channel number, and its label file."""

Left = list[tuple[str, str]]
"""Files that are left out, as patterns, and why."""


def find_nnunet(root: Path) -> Found | None:
    """nnU-Net's folders: `imagesTr/CASE_0000.nii.gz` and `labelsTr/CASE.nii.gz`.

    Also those of version 1, without `_0000`, with several file endings, and with images and
    labels listed under `dataset`.
    """
    data = description(root)
    if data is None or _names(data) is None:
        return None
    if isinstance(data.get("training"), list) and _is_decathlon(root, data["training"]):
        return None
    if isinstance(data.get("dataset"), Mapping):
        return _described(root, data, _listed(root, data["dataset"]), [])
    return _described(root, data, *_in_folders(root, len(_names(data) or ())))


def find_undescribed(root: Path) -> Found | None:
    """`imagesTr` and `labelsTr` without a dataset.json, as PANTHER and MSWAL are downloaded."""
    if description(root) is not None or not folder_of(root, "labelsTr").is_dir():
        return None
    cases, left = _in_folders(root, None)
    if not any(label for _, label in cases.values()):  # names of images and labels differ
        return None
    count = 1 + max(number for files, _ in cases.values() for number in files)
    known = _known(cases, count)
    first = next(files[0] for files, _ in cases.values() if 0 in files)
    names = _looks_like(first, count) if known is None else known.channels
    found = _found(cases, names, left)
    if known is None:
        decide = ["no dataset.json names the channels: correct dataset.channels"]
        return replace(found, layout="undescribed", decide=decide)
    return _as_known(found, known)


def _described(
    root: Path,
    data: Mapping[str, Any],
    cases: Files,
    left: Left,
) -> Found:
    given = _names(data) or []
    names = numbered([channel_of(name) for name in given])
    known = _known(cases, len(names))
    names = names if known is None else list(known.channels)
    meant = {
        channel: name
        for channel, name in zip(names, given, strict=True)
        if name.lower() in NORMALISED and channel != name.lower()
    }
    labels = labels_of(data)
    folds, doubts = folds_of(root)
    found = replace(
        _found(cases, names, left, folds),
        labels=labels.values,
        ignore=labels.ignore,
        lesions=labels.lesions,
        regions=labels.regions,
        notes=[*labels.notes, *([FOLDS_KEPT] if folds else [])],
        decide=doubts,
        channel_names=meant,
        title=str(data.get("name", "")),
    )
    return found if known is None else _as_known(found, known)


def _found(
    cases: Files,
    names: Sequence[str],
    left: Left,
    folds: Mapping[str, int] | None = None,
) -> Found:
    return Found(
        "nnunet",
        [
            FoundCase(
                case,
                {names[number]: path for number, path in files.items() if number < len(names)},
                label,
                fold=(folds or {}).get(case),
            )
            for case, (files, label) in sorted(cases.items())
        ],
        list(names),
        unused=[*left, TEST_IMAGES, ("[Ii]mages[Tt]r_*/*", "images without labels"),
                ("[Ll]abels[Tt]s/*", "labels of the test set")],
    )  # fmt: skip


def _as_known(found: Found, known: Known) -> Found:
    cases = [
        replace(case, patient=patient_in(case.id, known.patient) if known.patient else case.id)
        for case in found.cases
    ]
    return replace(
        found,
        layout=known.layout,
        cases=cases,
        labels=found.labels or known.labels,
        part=known.part,
        patients_known=True,
    )


def _known(cases: Files, channels: int) -> Known | None:
    """The known data set whose names these are."""
    files = [path.name for images, _ in cases.values() for path in images.values()]
    return known_set(list(cases), files[0] if files else "", channels)


def _names(data: Mapping[str, Any]) -> list[str] | None:
    """Names of the channels in order: `channel_names`, or `modality` of version 1."""
    given = data.get("channel_names", data.get("modality"))
    if given is None or (not isinstance(given, Mapping) and "channel_names" not in data):
        return None
    return [str(given[number]) for number in sorted(given, key=int)]


def _is_decathlon(root: Path, items: Sequence[Any]) -> bool:
    """Whether the images of `training` are there as they are named, several channels in one."""
    named = [root / str(item["image"]) for item in items]
    whole = [path for path in named if path.exists()]
    return bool(whole) or not any(CHANNEL.fullmatch(n) for n, _ in volumes(root / "imagesTr"))


def _listed(root: Path, items: Mapping[str, Any]) -> Files:
    """Cases of the key `dataset`: paths of images and label, relative to the folder."""
    cases = {}
    for case, item in items.items():
        images = {number: root / str(path) for number, path in enumerate(item["images"])}
        label = root / str(item["label"])
        cases[str(case)] = (images, label if label.exists() else None)
    return cases


def _in_folders(root: Path, channels: int | None) -> tuple[Files, Left]:
    """Cases of imagesTr and labelsTr, and what is left out of both, with why.

    A name ends with the channel's number unless a single channel's name is that of a label.
    """
    labels: dict[str, Path] = {}
    left: Left = []
    for name, path in volumes(folder_of(root, "labelsTr")):
        if name in labels:
            left.append((_pattern(path, root), f"{labels[name].name} exists too"))
        labels.setdefault(name, path)
    images: dict[str, dict[int, Path]] = {}
    for name, path in volumes(folder_of(root, "imagesTr")):
        match = CHANNEL.fullmatch(name)
        plain = name in labels and (match is None or match[1] not in labels)
        if match is None and not plain and channels not in (None, 1):
            left.append((_pattern(path, root), "its name does not end with a channel's number"))
            continue
        number = 0 if match is None or plain else int(match[2])
        case = name if match is None or plain else match[1]
        if channels is not None and number >= channels:
            why = f"dataset.json has no channel {number}"
            left.append((_pattern(path, root), why))
        elif number in images.setdefault(case, {}):
            why = f"{images[case][number].name} exists too"
            left.append((_pattern(path, root), why))
        else:
            images[case][number] = path
    orphans = sorted(set(labels) - {case for case, files in images.items() if files})
    left += [(_pattern(labels[case], root), NO_IMAGE) for case in orphans]
    return {case: (files, labels.get(case)) for case, files in images.items() if files}, left


def _pattern(path: Path, root: Path) -> str:
    """A file as a pattern that fits it alone."""
    return re.sub(r"([\[*?])", r"[\1]", path.relative_to(root).as_posix())


def _looks_like(image: Path, count: int) -> list[str]:
    """Names of channels that nothing names: the first is CT where only a CT has such values."""
    try:
        ct = bool(read_volume(image).array.min() < CT_BELOW_HU)
    except CaseError:
        ct = False
    first = "ct" if ct else "image"
    return [first, *(f"channel_{number}" for number in range(1, count))]
