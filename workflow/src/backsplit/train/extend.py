"""A trained network of lesions alone, continued on a data set with anatomy.

What comes out is a fold with `checkpoint_latest.pth` at epoch 0, from which `nnUNetv2_train … --c`
goes on. nnU-Net's own `-pretrained_weights` leaves every output layer out, and with it the lesion.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backsplit.config.base import BACKGROUND, IGNORE
from backsplit.errors import Code, RunError, shown
from backsplit.store.disk import atomic_path
from backsplit.store.provenance import file_sha256
from backsplit.train.binary import Binary, described_in
from backsplit.train.carry import carry_plans
from backsplit.train.heads import extend_heads, largest_change
from backsplit.train.nnunet import data_set_folder, found_trainer
from backsplit.train.trainer import KEY, nnUNetTrainerBackSplit
from backsplit.volume import read_labels
from backsplit.volume.pieces import count_values
from backsplit.work.progress import Say

LATEST = "checkpoint_latest.pth"
CHECKPOINTS = ("checkpoint_final.pth", LATEST, "checkpoint_best.pth")
"""nnU-Net goes on from the first of these that is there."""
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Extended:
    """What was written.

    Attributes
    ----------
    checkpoint : to go on from
    share : of background and each new class in what was background
    change : largest difference of a probability that had to stay, on `case`
    commands : what to run next
    """

    checkpoint: Path
    share: Mapping[str, float]
    change: float
    case: str
    commands: Sequence[str]


def write_extended(
    binary: Binary,
    dataset: str,
    say: Say,
    *,
    plans_name: str | None = None,
    trainer: str | None = None,
) -> Extended:
    """Give a trained network the classes of a data set, and write where nnU-Net goes on.

    Parameters
    ----------
    binary : the trained network
    dataset : name or id of the data set, in nnUNet_raw and nnUNet_preprocessed
    say : is told of progress
    plans_name : plans of the data set; default: named as the network's
    trainer : class of nnU-Net's trainer; default: the network's if it is one of ours, else
        nnUNetTrainerBackSplit

    Raises
    ------
    RunError
        EXTENSION_MISMATCH: labels, channels, plans or networks do not fit, or cases that were
        trained on would be validated on; WOULD_OVERWRITE: the fold has a checkpoint;
        PROMISE_BROKEN: a probability changed.
    """
    raw, ready = (data_set_folder(dataset, kind) for kind in ("raw", "preprocessed"))
    described = described_in(raw / "dataset.json")
    old, new = label_names(binary.description), label_names(described)
    _require_labels(binary, described, old, new)
    loaded = binary.load()
    configuration = str(loaded["init_args"]["configuration"])
    name = plans_name or str(binary.plans["plans_name"])
    plans = carry_plans(binary, (raw, ready), configuration, name)
    _require_other_cases(binary, ready)
    kind = found_trainer(trainer or _own_trainer(str(loaded["trainer_name"])))
    made = kind(
        {**plans, "continue_training": False}, configuration, binary.fold, described,
        torch.device("cpu"),
    )  # fmt: skip
    out = Path(made.output_folder)
    if there := [name for name in CHECKPOINTS if (out / name).exists()]:
        raise RunError(
            Code.WOULD_OVERWRITE,
            f"{out} already has {', '.join(there)}, from which nnU-Net would go on",
            f"keep it and train another fold, or remove it: rm -r {shlex.quote(str(out))}",
        )
    cases = _splits(ready / "splits_final.json")[binary.fold]["train"]
    share = shares(raw, described, old, new, cases, say)
    before, after = (_network(made, count) for count in (len(old), len(new)))
    _load(before, loaded["network_weights"])
    parts = [share.get(name, 0) for name in new]
    after.load_state_dict(extend_heads(before.state_dict(), after.state_dict(), old, new, parts))
    case = cases[0]
    change = _change(made, before, after, raw, case, (old, new))
    made.network = after
    made.optimizer, made.lr_scheduler = made.configure_optimizers()
    made.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    made.current_epoch = -1  # nnU-Net writes the next one
    origin = {"from": str(binary.path), "sha256": file_sha256(binary.path), "share": dict(share)}
    record = {**made.my_init_kwargs.get(KEY, {}), "extended": origin}
    made.my_init_kwargs = {**made.my_init_kwargs, KEY: record}
    with atomic_path(out / LATEST) as temporary:
        made.save_checkpoint(str(temporary))
    commands = _commands(made, ready, configuration, binary.fold)
    return Extended(out / LATEST, share, change, case, commands)


def label_names(description: Mapping[str, Any]) -> list[str]:
    """Names of the labels by id, background first, without `ignore`; no regions.

    Raises
    ------
    RunError
        EXTENSION_MISMATCH
    """
    labels = description["labels"]
    if regions := [name for name, ids in labels.items() if not isinstance(ids, int)]:
        raise RunError(
            Code.EXTENSION_MISMATCH,
            f"labels are regions ({', '.join(regions)}), whose outputs are not a softmax",
            "extend a network of labels, onto a data set of labels (compose.emit)",
        )
    return sorted((name for name in labels if name != IGNORE), key=lambda name: labels[name])


def shares(
    raw: Path,
    described: Mapping[str, Any],
    old: Sequence[str],
    new: Sequence[str],
    cases: Sequence[str],
    say: Say,
) -> dict[str, float]:
    """Share of background and each new class in what was background, in the cases trained on.

    A class counts in the cases where it is known (`unknown` of dataset.json), an ignored voxel
    where the class is known; one without a voxel has half a voxel. They sum to 1.
    """
    split = [label for label, name in enumerate(new) if name == BACKGROUND or name not in old]
    ignore = described["labels"].get(IGNORE)
    table = described.get("unknown", {})
    found, among = np.zeros(len(new)), np.zeros(len(new))
    for number, case in enumerate(cases, start=1):
        labels = read_labels(raw / "labelsTr" / f"{case}{described['file_ending']}").array
        counts = count_values(labels, max(len(new), int(labels.max())) + 1).astype(float)
        hidden = {BACKGROUND, *(table.get(case) or new)} if ignore and counts[ignore] else set()
        whole = counts[split].sum() + (counts[ignore] if ignore else 0)
        for label in split:
            if new[label] not in hidden or label == 0:
                found[label] += counts[label]
                among[label] += whole
        say(f"[backsplit] extend: label maps counted, {number}/{len(cases)}")
    part = np.maximum(found, 0.5)[split] / np.maximum(among, 1)[split]
    return {new[label]: float(p) for label, p in zip(split, part / part.sum(), strict=True)}


def _require_labels(
    binary: Binary, described: Mapping[str, Any], old: Sequence[str], new: Sequence[str]
) -> None:
    wrong = []
    if lost := [name for name in old if name not in new]:
        wrong.append(f"the network has {', '.join(lost)}, which the data set lacks")
    if not set(new) - set(old):
        wrong.append("the data set adds no class to the network's")
    theirs, ours = (d["channel_names"] for d in (binary.description, described))
    if theirs != ours:
        wrong.append(f"channels are {ours}, the network's {theirs}")
    if wrong:
        raise RunError(
            Code.EXTENSION_MISMATCH,
            f"{binary.folder} cannot be extended: {'; '.join(wrong)}",
            "give both data sets the same target names, and the same channels in the same order",
        )


def _require_other_cases(binary: Binary, ready: Path) -> None:
    """No case on which the network was trained is validated on."""
    splits = _splits(ready / "splits_final.json")
    theirs = data_set_folder(binary.plans["dataset_name"], "preprocessed") / "splits_final.json"
    if binary.fold >= len(splits):
        raise RunError(
            Code.EXTENSION_MISMATCH,
            f"{ready / 'splits_final.json'} has {len(splits)} folds, and none has the number "
            f"{binary.fold}",
            "give another --fold",
        )
    if not theirs.exists():
        return
    mine = _splits(theirs)
    trained = mine[binary.fold]["train"] if binary.fold < len(mine) else []
    if both := sorted(set(trained) & set(splits[binary.fold]["val"])):
        raise RunError(
            Code.EXTENSION_MISMATCH,
            f"fold {binary.fold} validates on {len(both)} cases on which the network was trained "
            f"({', '.join(both[:3])})",
            f"use the folds of {theirs} for both data sets",
        )


def _splits(path: Path) -> list[dict[str, list[str]]]:
    return list(json.loads(path.read_text("utf-8")))


def _own_trainer(name: str) -> str:
    ours = nnUNetTrainerBackSplit.__name__
    return name if name.startswith(ours) else ours


def _network(trainer: Any, classes: int) -> Any:  # noqa: ANN401
    """The network of the trainer's plans with so many classes."""
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels

    plans, configuration = trainer.plans_manager, trainer.configuration_manager
    channels = determine_num_input_channels(plans, configuration, trainer.dataset_json)
    network = trainer.build_network_architecture(
        plans, configuration, channels, classes, trainer.enable_deep_supervision
    )
    return network.eval()


def _load(network: Any, weights: Mapping[str, Any]) -> None:  # noqa: ANN401
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise RunError(
            Code.EXTENSION_MISMATCH,
            f"the network is not that of its plans ({shown(str(error), 200)})",
            "use the trainer that it was trained with (--trainer)",
        ) from None


def _change(
    trainer: Any,  # noqa: ANN401
    before: Any,  # noqa: ANN401
    after: Any,  # noqa: ANN401
    raw: Path,
    case: str,
    names: tuple[Sequence[str], Sequence[str]],
) -> float:
    """Largest change of a probability in the middle patch of a case; refused if it is not small."""
    from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd

    configuration, described = trainer.configuration_manager, trainer.dataset_json
    ending = described["file_ending"]
    channels = range(len(described["channel_names"]))
    images = [str(raw / "imagesTr" / f"{case}_{number:04d}{ending}") for number in channels]
    preprocessor = configuration.preprocessor_class(verbose=False)
    data, _, _ = preprocessor.run_case(
        images, None, trainer.plans_manager, configuration, described
    )
    patch = configuration.patch_size
    if len(patch) == 2:
        data = data[:, data.shape[1] // 2]
    sides = zip(data.shape[1:], patch, strict=True)
    middle = [[(n - p) // 2, (n - p) // 2 + p] for n, p in sides]
    with torch.no_grad():
        given = torch.from_numpy(crop_and_pad_nd(data, middle, 0)).float()[None]
        change = largest_change(before(given), after(given), *names)
    if not change < TOLERANCE:
        raise RunError(
            Code.PROMISE_BROKEN,
            f"a probability of the extended network differs by {change:.1e} on {case}",
            "report this as a bug",
        )
    return change


def _commands(trainer: Any, ready: Path, configuration: str, fold: int) -> list[str]:  # noqa: ANN401
    name = trainer.plans_manager.plans_name
    number = int(ready.name.removeprefix("Dataset")[:3])
    commands = []
    if not list((ready / trainer.configuration_manager.data_identifier).glob("*.pkl")):
        commands.append(f"nnUNetv2_preprocess -d {number} -plans_name {name} -c {configuration}")
    if os.environ.get("nnUNet_extTrainer") is None:  # noqa: SIM112 (nnU-Net's own)
        commands.append("export nnUNet_extTrainer=$(backsplit train trainers)")
    kind = type(trainer).__name__
    commands.append(f"nnUNetv2_train {number} {configuration} {fold} -tr {kind} -p {name} --c")
    return commands
