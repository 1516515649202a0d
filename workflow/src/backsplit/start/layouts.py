"""The layouts that public data sets come in; each reader gives None for a folder of another one.

- nnunet: dataset.json, imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz (nnU-Net v2 raw)
- msd: dataset.json with a list `training` of images and labels (Medical Segmentation Decathlon)
- kits: case_00000/imaging.nii.gz and segmentation.nii.gz (KiTS19, 21, 23)
- autopet: PATIENT/STUDY/CTres.nii.gz, SUV.nii.gz, SEG.nii.gz (FDG-PET-CT-Lesions as NIfTI)
- bids: sub-*/[ses-*/]TYPE/*_SUFFIX.nii.gz, lesion masks in derivatives
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from backsplit.start.found import Found, FoundCase, channel_of, name_of, stem

KITS_LABELS = {"kidney": 1, "tumor": 2, "cyst": 3}
"""Of the KiTS challenges; KiTS19 has no cysts."""

BIDS_MASK = re.compile(r"(lesion|tumou?r)", re.IGNORECASE)
BIDS_SUFFIXES = ("mask", "dseg")


def find_nnunet(root: Path) -> Found | None:
    """nnU-Net v2's raw layout."""
    data = _description(root)
    if data is None or not isinstance(data.get("channel_names"), dict):
        return None
    ending = str(data.get("file_ending", ".nii.gz"))
    numbers = sorted(data["channel_names"], key=int)
    channels = {f"{int(n):04d}": channel_of(str(data["channel_names"][n])) for n in numbers}
    images: dict[str, dict[str, Path]] = {}
    for path in _files(root / "imagesTr"):
        match = re.fullmatch(rf"(.+)_(\d{{4}}){re.escape(ending)}", path.name)
        if match and match[2] in channels:
            images.setdefault(match[1], {})[channels[match[2]]] = path
    cases = [
        FoundCase(case, found, _there(root / "labelsTr" / f"{case}{ending}"))
        for case, found in sorted(images.items())
    ]
    labels, notes = _labels(data.get("labels", {}).items())
    return Found("nnunet", cases, list(channels.values()), labels, notes)


def find_msd(root: Path) -> Found | None:
    """The Decathlon's layout."""
    data = _description(root)
    if data is None or not isinstance(data.get("training"), list):
        return None
    channels = [channel_of(str(name)) for _, name in sorted(data.get("modality", {}).items())]
    cases = []
    for item in data["training"]:
        image, label = (root / str(item[key]) for key in ("image", "label"))
        cases.append(FoundCase(stem(image.name) or image.name, {channels[0]: image}, _there(label)))
    labels, notes = _labels((name, value) for value, name in data.get("labels", {}).items())
    if len(channels) > 1:
        notes = [*notes, f"images hold {len(channels)} channels in one file each: split them"]
    return Found("msd", cases, channels[:1], labels, notes)


def find_kits(root: Path) -> Found | None:
    """The KiTS challenges' layout."""
    if not list(root.glob("case_*/imaging.nii.gz")):
        return None
    cases = [
        FoundCase(f.name, {"ct": f / "imaging.nii.gz"}, _there(f / "segmentation.nii.gz"))
        for f in sorted(root.glob("case_*"))
        if f.is_dir()
    ]
    return Found("kits", cases, ["ct"], KITS_LABELS)


def find_autopet(root: Path) -> Found | None:
    """FDG-PET-CT-Lesions after its own conversion to NIfTI."""
    cases = []
    studies = {path.parent for name in ("SUV", "SEG") for path in root.glob(f"*/*/{name}.nii.gz")}
    for study in sorted(studies):
        images = {"ct": study / "CTres.nii.gz", "pet": study / "SUV.nii.gz"}
        patient = study.parent.name
        case = f"{patient}_{study.name}"
        cases.append(FoundCase(case, images, _there(study / "SEG.nii.gz"), patient))
    return Found("autopet", cases, ["ct", "pet"], {"lesion": 1}) if cases else None


def find_bids(root: Path) -> Found | None:
    """The Brain Imaging Data Structure: one case a subject and session."""
    if not list(root.glob("sub-*")):
        return None
    images: dict[tuple[str, str], dict[str, Path]] = {}
    for pattern in ("sub-*/*/*", "sub-*/ses-*/*/*"):
        for path in sorted(root.glob(pattern)):
            who, suffix = _bids_name(path)
            if who and suffix and suffix not in BIDS_SUFFIXES:
                images.setdefault(who, {}).setdefault(channel_of(suffix), path)
    masks: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(root.rglob("sub-*")):
        who, suffix = _bids_name(path)
        if who and suffix in BIDS_SUFFIXES and BIDS_MASK.search(path.name):
            masks.setdefault(who, []).append(path)
    everywhere = [set(found) for found in images.values()]
    channels = sorted(set.intersection(*everywhere)) if everywhere else []
    if not channels:
        return None
    notes = [
        f"{channel} is not there for every case, and left out"
        for channel in sorted(set.union(*everywhere) - set(channels))
    ]
    notes += [
        f"{'_'.join(filter(None, who))} has {len(found)} lesion masks: choose one in the table"
        for who, found in masks.items()
        if len(found) > 1
    ]
    cases = [
        FoundCase(
            "_".join(filter(None, who)),
            {channel: found[channel] for channel in channels},
            masks[who][0] if len(masks.get(who, ())) == 1 else None,
            who[0],
        )
        for who, found in sorted(images.items())
    ]
    return Found("bids", cases, channels, {"lesion": 1}, notes)


LAYOUTS: dict[str, Callable[[Path], Found | None]] = {
    "nnunet": find_nnunet,
    "msd": find_msd,
    "kits": find_kits,
    "autopet": find_autopet,
    "bids": find_bids,
}


def _description(root: Path) -> dict[str, Any] | None:
    try:
        data = json.loads((root / "dataset.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def _labels(items: Any) -> tuple[dict[str, int], list[str]]:  # noqa: ANN401 (pairs of plain data)
    """Names and values but background and ignore; regions (lists of values) name nothing alone."""
    labels: dict[str, int] = {}
    notes: list[str] = []
    for name, value in items:
        try:
            number = int(value)
        except (TypeError, ValueError):
            notes.append(f"{name} is a region of the values {value}: name its values yourself")
            continue
        if number > 0 and str(name).lower() != "ignore":
            labels[name_of(str(name))] = number
    return labels, notes


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(folder.iterdir())


def _there(path: Path) -> Path | None:
    return path if path.exists() else None


def _bids_name(path: Path) -> tuple[tuple[str, str], str]:
    """Subject and session, and the suffix, of a file; empty where it is no volume of BIDS."""
    name = stem(path.name)
    if name is None or not name.startswith("sub-"):
        return ("", ""), ""
    parts = name.split("_")
    entities: Mapping[str, str] = {p.split("-")[0]: p for p in parts[:-1] if "-" in p}
    return (entities.get("sub", ""), entities.get("ses", "")), parts[-1]
