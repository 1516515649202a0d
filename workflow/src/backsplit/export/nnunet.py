"""nnU-Net v2 raw layout: imagesTr, labelsTr, dataset.json, splits_final.json."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from backsplit.cases import Case
from backsplit.config import Config
from backsplit.provenance import file_sha256, read_json, sidecar_path, write_json
from backsplit.scheme import Scheme
from backsplit.volume import atomic_path

FILE_ENDING = ".nii.gz"
FOLDS = 5
SPLIT_SEED = 12345
"""nnU-Net's own number of folds and seed (`generate_crossval_split`)."""


@dataclass(frozen=True)
class NnUNetDataset:
    """Where a data set of nnU-Net lies."""

    folder: Path

    @property
    def json(self) -> Path:
        """Its description, written last."""
        return self.folder / "dataset.json"


def dataset_folder(config: Config) -> Path:
    """Folder of the data set, DatasetNNN_NAME."""
    name = f"Dataset{config.dataset.id:03d}_{config.dataset.name}"
    return config.run.results / "datasets" / "nnunet" / name


def export_nnunet(config: Config, scheme: Scheme, cases: Sequence[Case]) -> NnUNetDataset:
    """Write the data set; what a run before left there and is no longer part of it goes.

    Parameters
    ----------
    config : the configuration
    scheme : names and ids
    cases : the cases that are part of it, each with a label map in `results/labels`
    """
    dataset = NnUNetDataset(dataset_folder(config))
    dataset.json.unlink(missing_ok=True)  # not finished until it is there again
    images: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    ignored = False
    for case in cases:
        for number, channel in enumerate(config.dataset.channels):
            images[f"{case.id}_{number:04d}{FILE_ENDING}"] = case.images[channel]
        source = config.run.results / "labels" / f"{case.id}{FILE_ENDING}"
        labels[f"{case.id}{FILE_ENDING}"] = source
        ignored = ignored or bool(read_json(sidecar_path(source))["ignored_voxels"])
    link = config.export.nnunet.mode == "symlink"
    _place(dataset.folder / "imagesTr", images, link=link)
    _place(dataset.folder / "labelsTr", labels, link=False)
    splits = cross_validation([case.id for case in cases], _groups(cases))
    with atomic_path(dataset.folder / "splits_final.json") as temporary:
        temporary.write_text(json.dumps(splits, indent=1) + "\n", "utf-8")
    write_json(dataset.json, describe(config, scheme, len(cases), ignored=ignored))
    return dataset


def describe(config: Config, scheme: Scheme, count: int, *, ignored: bool) -> dict[str, object]:
    """Content of dataset.json.

    `ignore` is declared only when a label map holds it: declaring it makes nnU-Net train with a
    partial loss.
    """
    labels = dict(scheme.ids)
    if not ignored:
        del labels["ignore"]
    return {
        "channel_names": {
            str(i): _channel_name(channel) for i, channel in enumerate(config.dataset.channels)
        },
        "labels": labels,
        "numTraining": count,
        "file_ending": FILE_ENDING,
        "name": config.dataset.name,
        "targets": list(scheme.targets),
    }


def cross_validation(cases: Sequence[str], groups: Mapping[str, str]) -> list[dict[str, list[str]]]:
    """Five folds of training and validation cases; a group (patient) is never on both sides.

    Returns fewer folds when there are fewer groups, and none for a single one.
    """
    members: dict[str, list[str]] = {}
    for case in sorted(cases):
        members.setdefault(groups[case], []).append(case)
    names = sorted(members)
    if len(names) < 2:
        return []
    shuffled = [names[i] for i in np.random.default_rng(SPLIT_SEED).permutation(len(names))]
    parts = [sorted(shuffled[i :: min(FOLDS, len(names))]) for i in range(min(FOLDS, len(names)))]
    return [
        {
            "train": sorted(c for n in names if n not in part for c in members[n]),
            "val": sorted(c for n in part for c in members[n]),
        }
        for part in parts
    ]


def _groups(cases: Sequence[Case]) -> dict[str, str]:
    """Patient of each case where the table has the column, else the case itself."""
    return {case.id: case.columns.get("patient", "") or case.id for case in cases}


def _channel_name(channel: str) -> str:
    """nnU-Net normalises the channel called CT by Hounsfield units and any other by z-score."""
    return "CT" if channel.lower() == "ct" else channel


def _place(folder: Path, files: Mapping[str, Path], *, link: bool) -> None:
    """Make a folder hold exactly these files."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.iterdir():
        if stale.name not in files:
            stale.unlink()
    for name, source in files.items():
        _place_one(folder / name, source, link=link)


def _place_one(target: Path, source: Path, *, link: bool) -> None:
    if not source.name.endswith(FILE_ENDING):
        image = sitk.ReadImage(str(source))
        with atomic_path(target) as temporary:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        return
    wanted = os.path.realpath(source)
    if link:
        if target.is_symlink() and os.path.realpath(target) == wanted:
            return
        target.unlink(missing_ok=True)
        target.symlink_to(wanted)
        return
    if target.is_file() and not target.is_symlink() and file_sha256(target) == file_sha256(source):
        return
    target.unlink(missing_ok=True)
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
