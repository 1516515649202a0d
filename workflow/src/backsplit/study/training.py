"""One training of a study, in this process: seeded, taken up again where it was cut off."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from backsplit.store.disk import atomic_path
from backsplit.store.provenance import file_sha256, read_json
from backsplit.store.study import StudyFolder
from backsplit.study.jobs import (
    FINAL,
    TRAINERS,
    ArmSet,
    Job,
    Shared,
    Trained,
    found_models,
    model_folder,
)
from backsplit.train.settings import VARIABLE, Settings

CURVES = "curves.tsv"
"""Beside a checkpoint: what was measured in each epoch."""

LATEST = "checkpoint_latest.pth"


@dataclass(frozen=True)
class Training:
    """What a job needs to be trained.

    Attributes
    ----------
    job : which one
    key : `training_key`
    settings : of the trainer
    labels : the arm's set
    shared : what all arms share
    configuration : of nnU-Net
    folder : of the study
    trained : of trained networks
    device : torch device
    augmenters : processes that make patches
    start : the network that it starts from
    """

    job: Job
    key: str
    settings: Settings
    labels: ArmSet
    shared: Shared
    configuration: str
    folder: StudyFolder
    trained: Path
    device: str
    augmenters: int
    start: Trained | None = None

    @property
    def model(self) -> Path:
        """Its trained-model folder."""
        return model_folder(
            self.trained, self.labels.dataset, self.job.arm.network, self.key, self.configuration
        )

    @property
    def fold(self) -> Path:
        """Folder of its fold, with checkpoints and curves."""
        return self.model / f"fold_{self.job.fold}"

    def network(self) -> Trained | None:
        """The network, where this or another study has trained it already."""
        fold = f"fold_{self.job.fold}"
        models = sorted(found_models(self.trained, self.key))
        model = next((one for one in models if (one / fold / FINAL).exists()), None)
        if model is None:
            return None
        described = read_json(model / "dataset.json")
        classes = len([name for name in described["labels"] if name != "ignore"])
        splits: Any = read_json(
            self.folder.preprocessed / self.labels.dataset / "splits_final.json"
        )
        cases = len(splits[self.job.fold]["train"])
        sha256 = file_sha256(model / fold / FINAL)
        return Trained(model, self.job.fold, self.key, sha256, cases, classes)


def set_environment(folder: StudyFolder, trained: Path, augmenters: int) -> None:
    """Tell nnU-Net where the study is; before any of its modules is imported."""
    places = {
        "nnUNet_raw": folder.raw,
        "nnUNet_preprocessed": folder.preprocessed,
        "nnUNet_results": trained,
    }
    given = {name: str(path.resolve()) for name, path in places.items()}
    os.environ |= {**given, "nnUNet_n_proc_DA": str(augmenters)}


def train(training: Training, each: Callable[[int, float], None]) -> Trained:
    """Train a network, or go on where it was cut off.

    Parameters
    ----------
    training : what to train; `set_environment` was called
    each : is told of each epoch: its number, and the seconds that it took

    Returns
    -------
    trained
        The network of the last epoch.
    """
    if (done := training.network()) is not None:
        return done
    if training.augmenters == 0 and training.device == "cpu":
        _use_one_thread()
    trainer = _trainer(training)
    latest = training.fold / LATEST
    if latest.exists():
        trainer.load_checkpoint(str(latest))
    after = trainer.on_epoch_end

    def on_epoch_end() -> None:
        after()
        curves = curves_of(trainer.logger)
        _write_curves(curves, training.fold / CURVES)
        each(trainer.current_epoch, float(curves["seconds"].iloc[-1]))

    trainer.on_epoch_end = on_epoch_end
    trainer.run_training()
    done = training.network()
    assert done is not None  # nnU-Net wrote it at the end
    return done


def _use_one_thread() -> None:
    """Threads add up in an order that depends on their number; one gives the same network again."""
    import torch

    torch.set_num_threads(1)


def _trainer(training: Training) -> Any:  # noqa: ANN401
    import torch

    from backsplit.train.nnunet import found_trainer

    os.environ[VARIABLE] = training.settings.model_dump_json()
    ready = training.folder.preprocessed / training.labels.dataset
    described = read_json(ready / "dataset.json")
    plans = read_json(ready / f"{training.shared.plans}.json")
    plans["plans_name"] = training.model.name.split("__")[1]
    if training.start is not None and not (training.fold / LATEST).exists():
        _extend(training, training.start, plans)
    kind = found_trainer(TRAINERS[training.job.arm.network])
    going_on = (training.fold / LATEST).exists()
    return kind(
        {**plans, "continue_training": going_on},
        training.configuration,
        training.job.fold,
        described,
        torch.device(training.device),
    )


def _extend(training: Training, start: Trained, plans: dict[str, Any]) -> None:
    """Write the checkpoint that a training starts from: a network whose background is split."""
    from backsplit.store.provenance import write_json
    from backsplit.train.binary import Binary
    from backsplit.train.extend import write_extended

    ready = training.folder.preprocessed / training.labels.dataset
    write_json(ready / f"{plans['plans_name']}.json", plans)
    write_extended(
        Binary(start.model, start.fold),
        training.labels.dataset,
        lambda line: None,
        plans_name=plans["plans_name"],
    )


def curves_of(logger: Any) -> pd.DataFrame:  # noqa: ANN401
    """What nnU-Net measured in each epoch.

    Returns
    -------
    curves
        epoch (from 0), train_loss, val_loss, target_dice (of the targets, in patches of the fold's
        validation cases), seconds.
    """
    held = {
        name: logger.get_value(key, step=None)
        for name, key in (
            ("train_loss", "train_losses"),
            ("val_loss", "val_losses"),
            ("target_dice", "mean_fg_dice"),
            ("start", "epoch_start_timestamps"),
            ("end", "epoch_end_timestamps"),
        )
    }
    epochs = min(map(len, held.values()))
    rows = [{"epoch": n, **{k: float(v[n]) for k, v in held.items()}} for n in range(epochs)]
    table = pd.DataFrame(rows, columns=["epoch", *held])
    table["seconds"] = (table.pop("end") - table.pop("start")).astype(float)
    return table


def _write_curves(curves: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as temporary:
        curves.to_csv(temporary, sep="\t", index=False)


def read_curves(fold: Path) -> pd.DataFrame:
    """What was measured in each epoch so far, from the folder of a fold."""
    return pd.read_csv(fold / CURVES, sep="\t")


def as_note(trained: Trained) -> dict[str, Any]:
    """Content of `trained.json`."""
    return {**asdict(trained), "model": str(trained.model)}
