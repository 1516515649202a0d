"""The layouts that public data sets come in; each reader gives None for a folder of another one.

- nnunet: dataset.json, imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz (nnU-Net v2 raw)
- msd: dataset.json with a list `training` of images and labels (Medical Segmentation Decathlon)
- kits: [dataset/]case_00000/imaging.nii.gz and segmentation.nii.gz (KiTS19, 23), or of KiTS21
  aggregated_MAJ_seg.nii.gz, the majority of its annotators
- autopet: PATIENT/STUDY/CTres.nii.gz, SUV.nii.gz, SEG.nii.gz (FDG-PET-CT-Lesions as NIfTI)
- bids: sub-*/[ses-*/]{anat,ct,pet}/*_SUFFIX.nii.gz, lesion masks in derivatives
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from backsplit.config.export import BIDS_TYPES
from backsplit.start.found import Found, FoundCase, channel_of, name_of, numbered, stem

KITS_LABELS = {"kidney": 1, "tumor": 2, "cyst": 3}
"""Of the KiTS challenges; KiTS19 has no cysts."""

KITS_LESIONS = ("segmentation.nii.gz", "aggregated_MAJ_seg.nii.gz")

BIDS_MASK = re.compile(r"(lesion|tumou?r)", re.IGNORECASE)
BIDS_SUFFIXES = ("mask", "dseg")
BIDS_IMAGES = ("sub-*/*/*", "sub-*/ses-*/*/*")

Session = tuple[str, str]
"""Subject and session."""


def find_nnunet(root: Path) -> Found | None:
    """nnU-Net v2's raw layout."""
    data = _description(root)
    if data is None or not isinstance(data.get("channel_names"), dict):
        return None
    ending = str(data.get("file_ending", ".nii.gz"))
    numbers = sorted(data["channel_names"], key=int)
    names = numbered([channel_of(str(data["channel_names"][number])) for number in numbers])
    channels = {f"{int(number):04d}": name for number, name in zip(numbers, names, strict=True)}
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
    modality = data.get("modality") or {"0": "image"}
    channels = [channel_of(str(name)) for _, name in sorted(modality.items())]
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
    root = root if list(root.glob("case_*")) else root / "dataset"
    if not list(root.glob("case_*/imaging.nii.gz")):
        return None
    cases = []
    for folder in sorted(path for path in root.glob("case_*") if path.is_dir()):
        given = (path for name in KITS_LESIONS if (path := _there(folder / name)) is not None)
        cases.append(FoundCase(folder.name, {"ct": folder / "imaging.nii.gz"}, next(given, None)))
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
    images: dict[Session, dict[str, list[Path]]] = {}
    for path in sorted(p for start in BIDS_IMAGES for p in root.glob(start)):
        who, suffix = _bids_name(path)
        if suffix and suffix not in BIDS_SUFFIXES and path.parent.name in BIDS_TYPES.values():
            images.setdefault(who, {}).setdefault(channel_of(suffix), []).append(path)
    masks: dict[Session, list[Path]] = {}
    for path in sorted(root.rglob("sub-*")):
        who, suffix = _bids_name(path)
        if suffix in BIDS_SUFFIXES and BIDS_MASK.search(path.name):
            masks.setdefault(who, []).append(path)
    everywhere = [set(found) for found in images.values()]
    channels = sorted(set.intersection(*everywhere)) if everywhere else []
    if not channels:
        return None
    notes = [
        f"{channel} is not there for every case, and left out"
        for channel in sorted(set.union(*everywhere) - set(channels))
    ]
    cases = []
    for who, found in sorted(images.items()):
        case = "_".join(filter(None, who))
        kinds = {**{channel: found[channel] for channel in channels}, "lesion": masks.get(who, [])}
        notes += [
            f"{case} has {len(paths)} files for {kind}: choose in the table what belongs together"
            for kind, paths in kinds.items()
            if len(paths) > 1
        ]
        single = {kind: paths[0] for kind, paths in kinds.items() if len(paths) == 1}
        lesion = single.pop("lesion", None)
        cases.append(FoundCase(case, single, lesion, who[0]))
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
        label = name_of(str(name))
        try:
            number = int(value)
        except (TypeError, ValueError):
            notes.append(f"{name} is a region of the values {value}: name its values yourself")
            continue
        if number > 0 and str(name).lower() != "ignore":
            labels[f"{label}_{number}" if label in labels else label] = number
    return labels, notes


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _there(path: Path) -> Path | None:
    return path if path.exists() else None


def _bids_name(path: Path) -> tuple[Session, str]:
    """Subject and session, and the suffix, of a file; empty where it is no volume of BIDS."""
    name = stem(path.name)
    if name is None or not name.startswith("sub-"):
        return ("", ""), ""
    parts = name.split("_")
    entities: Mapping[str, str] = {p.split("-")[0]: p for p in parts[:-1] if "-" in p}
    return (entities.get("sub", ""), entities.get("ses", "")), parts[-1]
