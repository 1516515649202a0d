"""Plans of a trained network for another data set: carried over, or held against those there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backsplit.errors import Code, RunError, shown
from backsplit.store.provenance import read_json, write_json
from backsplit.train.binary import Binary

FREE = {"data_identifier", "batch_size", "batch_dice", "median_image_size_in_voxels"}
"""Keys of a configuration that may differ: they change how is trained, not what a weight means."""
SHARED = (
    "image_reader_writer",
    "transpose_forward",
    "transpose_backward",
    "foreground_intensity_properties_per_channel",
)
"""Keys of the plans beside the configuration that must be equal."""


def carry_plans(
    binary: Binary, folders: tuple[Path, Path], configuration: str, name: str
) -> dict[str, Any]:
    """Plans of the data set: those that are there, if they fit, else the network's.

    Parameters
    ----------
    binary : the trained network
    folders : of the data set, raw and preprocessed
    configuration : of nnU-Net, as 3d_fullres
    name : of the plans in the data set

    Raises
    ------
    RunError
        EXTENSION_MISMATCH, naming every key that must be equal and is not.
    """
    raw, ready = folders
    path = ready / f"{name}.json"
    if path.exists():
        plans: dict[str, Any] = read_json(path)
        if wrong := different_plans(binary.plans, plans, configuration):
            raise RunError(
                Code.EXTENSION_MISMATCH,
                f"{path} does not fit the network: {'; '.join(wrong)}",
                f"carry the network's plans over under another name (--plans {name}Carried), or "
                "train the network of lesions on shared plans (`backsplit train plan`)",
            )
        return plans
    carried = {**binary.plans, "dataset_name": raw.name, "plans_name": name}
    carried["configurations"] = {
        key: settings
        if name == binary.plans["plans_name"] or "data_identifier" not in settings
        else {**settings, "data_identifier": f"{name}_{key}"}
        for key, settings in binary.plans["configurations"].items()
    }
    fingerprint = binary.folder / "dataset_fingerprint.json"
    seen = read_json(fingerprint) if fingerprint.exists() else {}
    ready.mkdir(parents=True, exist_ok=True)
    for file, content in (
        (path, carried),
        (ready / "dataset.json", read_json(raw / "dataset.json")),
        (ready / "dataset_fingerprint.json", seen),
        (ready / "splits_final.json", read_json(raw / "splits_final.json")),
    ):
        if not file.exists():
            write_json(file, content)
    return carried


def different_plans(
    one: Mapping[str, Any], other: Mapping[str, Any], configuration: str
) -> list[str]:
    """Every key of two plans that changes what a weight means, and differs; for people."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    resolved = []
    for plans in (one, other):
        if configuration not in plans["configurations"]:
            return [f"it has no configuration {configuration}"]
        manager = PlansManager(dict(plans)).get_configuration(configuration)
        mine = {key: value for key, value in manager.configuration.items() if key not in FREE}
        resolved.append(mine | {key: plans.get(key) for key in SHARED})
    here, there = resolved
    return [
        f"{key} is {shown(there.get(key), 150)}, the network's {shown(here.get(key), 150)}"
        for key in sorted(here.keys() | there.keys())
        if here.get(key) != there.get(key)
    ]
