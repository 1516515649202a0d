"""What tests of `init` share: small volumes, folders of nnU-Net, and what init makes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from backsplit.config.file import load_config
from backsplit.config.model import Config
from backsplit.flow.check import CheckReport, check
from backsplit.start.init import Target, Wanted, find, init
from backsplit.start.patterns import Patterns
from support.project import ct_like, save

V2 = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "tumor": 1, "edema": 2, "necrosis": 3},
    "file_ending": ".nii.gz",
}
V1 = {
    "modality": {"0": "CT"},
    "labels": {"0": "background", "1": "tumor", "2": "edema", "3": "necrosis"},
    "training": [{"image": f"./imagesTr/c_{i}.nii.gz", "label": f"./labelsTr/c_{i}.nii.gz"}
                 for i in (1, 2)],
}  # fmt: skip


def volume(path: Path, *values: int, seed: int = 0) -> Path:
    """An image, or a label file with some values, each in three voxels."""
    array = ct_like(seed)
    if values:
        array = np.zeros(array.shape, np.uint8)
        for number, value in enumerate(values):
            array[3, 4 + 3 * number, 5:8] = value
    return save(path, array)


def nnunet_folder(
    root: Path,
    images: Sequence[str] = ("c_1_0000.nii.gz", "c_2_0000.nii.gz"),
    labels: Sequence[str] = ("c_1.nii.gz", "c_2.nii.gz"),
    description: dict | None = V2,
    values: Sequence[int] = (1, 2, 3),
) -> Path:
    for name in images:
        volume(root / "imagesTr" / name)
    for name in labels:
        volume(root / "labelsTr" / name, *values)
    if description is not None:
        (root / "dataset.json").write_text(json.dumps(description))
    return root


def model(folder: Path, labels: dict[str, int], folds=("fold_0", "fold_1")) -> Path:
    """A trained-model folder by its names, with empty checkpoints."""
    folder.mkdir(parents=True, exist_ok=True)
    for fold in folds:
        (folder / fold).mkdir(parents=True)
        (folder / fold / "checkpoint_final.pth").touch()
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    (folder / "plans.json").write_text("{}")
    return folder


def found_in(root: Path, **wanted: object):
    return find(root, Wanted(**wanted))


def started(
    root: Path, into: Path | None = None, *, split: bool = False, **wanted: object
) -> tuple[Config, CheckReport, list[str]]:
    """The configuration, the checked table and what init said."""
    said: list[str] = []
    target = Target(into or root / "mine")
    path = init(root, target, found_in(root, **wanted), said.append, split=split)
    return load_config(path), check(path), said


def by_patterns(root: Path, images: dict[str, str], lesion: str = "", **more: object):
    return started(root, patterns=Patterns(images, lesion, **more))


def statuses(report: CheckReport) -> list[str]:
    return [str(checked.status) for checked in report.checked]


def codes(report: CheckReport) -> set[str]:
    return {str(problem.code) for problem in (*report.fatal, *report.problems)}


def section(said: Sequence[str], heading: str) -> list[str]:
    """The lines that were said under a heading."""
    lines = [line.removeprefix("[backsplit] init: ") for line in said]
    start = lines.index(f"{heading}:") + 1
    inside = []
    for line in lines[start:]:
        if not line.startswith("  - "):
            break
        inside.append(line.removeprefix("  - "))
    return inside
