"""Images that hold several channels in one 4D file, written as a file for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from backsplit.errors import Code, RunError
from backsplit.start.found import Found, FoundCase
from backsplit.store.disk import atomic_path

FOLDER = "images"
"""Where the files go, in the folder of the configuration."""


def needs_split(found: Found) -> bool:
    """Whether images hold several channels each (Decathlon)."""
    return found.layout == "msd" and len(found.channels) > 1


def split_volumes(
    found: Found, ids: Sequence[str], into: Path, say: Callable[[str], None], *, allowed: bool
) -> Found:
    """Write each channel of each image as a 3D NIfTI file of the same voxels and the same grid.

    Raises
    ------
    RunError
        LAYOUT_UNKNOWN where it is not allowed, or a file does not hold as many volumes as there
        are channels.
    """
    count = len(found.channels)
    if not allowed:
        raise RunError(
            Code.LAYOUT_UNKNOWN,
            f"each image holds {count} channels in one file ({', '.join(found.channels)}), and "
            "trainers read one file per channel",
            f"run init again with --split: it writes {count * len(ids)} files to {into / FOLDER}",
        )
    cases = []
    for number, (name, case) in enumerate(zip(ids, found.cases, strict=True), start=1):
        say(f"[backsplit] init: splitting {name} ({number} of {len(ids)})")
        cases.append(_split(name, case, found.channels, into / FOLDER))
    note = f"each channel was written to a separate file in {into / FOLDER}"
    return replace(found, cases=cases, notes=[*found.notes, note])


def _split(name: str, case: FoundCase, channels: Sequence[str], folder: Path) -> FoundCase:
    (source,) = case.images.values()
    targets = {channel: folder / f"{name}_{channel}.nii.gz" for channel in channels}
    if not source.exists():  # `check` says which
        return replace(case, images=targets)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        image = nib.load(source)
        data = np.asanyarray(image.dataobj)
    except Exception as error:
        raise _unfit(source, str(error)) from None
    if data.ndim != 4 or data.shape[3] != len(channels):
        raise _unfit(source, f"its shape is {data.shape}, and there are {len(channels)} channels")
    for at, path in enumerate(targets.values()):
        part = nib.Nifti1Image(data[..., at], None, image.header)
        part.header.set_data_shape(data.shape[:3])
        with atomic_path(path) as temporary:
            nib.save(part, temporary)
    return replace(case, images=targets)


def _unfit(path: Path, why: str) -> RunError:
    return RunError(Code.LAYOUT_UNKNOWN, f"{path} cannot be split ({why})", "remove or replace it")
