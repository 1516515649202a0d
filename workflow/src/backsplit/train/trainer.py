"""nnU-Net's trainer for label maps with targets, structures, and voxels of unknown anatomy.

What differs from nnU-Net's: where forced patches lie, what an ignored voxel teaches, what the
best checkpoint is best for, and no mirroring of what has a side. All of it is in `Settings`.
"""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from backsplit import __version__
from backsplit.config.base import BACKGROUND, IGNORE
from backsplit.errors import Code, RunError
from backsplit.store.disk import atomic_path
from backsplit.store.provenance import read_json, write_json
from backsplit.train.loss import CaseLoss, MarginalLoss, possible_classes
from backsplit.train.sampling import TargetSampling
from backsplit.train.settings import WARM_UP, read_settings

KEY = "backsplit"
"""Where a checkpoint holds the settings: in its `init_args`."""


def names_of(dataset_json: Mapping[str, Any]) -> list[str]:
    """Names of the labels by id, background first, without `ignore`.

    Raises
    ------
    RunError
        TRAINING_UNSUITED: regions, no targets, or targets that are not the first ids.
    """
    labels = dataset_json["labels"]
    targets = list(dataset_json.get("targets", ()))
    if regions := [name for name, ids in labels.items() if not isinstance(ids, int)]:
        raise RunError(
            Code.TRAINING_UNSUITED,
            f"dataset.json has regions ({', '.join(regions)}), and this trainer needs plain labels",
            "set compose.emit to flat and export again, or train with nnU-Net's own trainer",
        )
    names = sorted((name for name in labels if name != IGNORE), key=lambda name: labels[name])
    if not targets or names[: 1 + len(targets)] != [BACKGROUND, *targets]:
        raise RunError(
            Code.TRAINING_UNSUITED,
            f"dataset.json must list as `targets` the labels 1, 2, …; found {targets}, labels "
            f"{names[:5]} …",
            "export the data set with backsplit, or add `targets` to the preprocessed dataset.json",
        )
    return names


class WarmUp(PolyLRScheduler):
    """nnU-Net's polynomial schedule; in the first epochs the learning rate rises to it.

    Attributes
    ----------
    warm_up : number of epochs in which it rises
    """

    def __init__(self, optimizer: Any, initial_lr: float, epochs: int, warm_up: int) -> None:  # noqa: ANN401
        self.warm_up = warm_up
        super().__init__(optimizer, initial_lr, epochs)

    def step(self, current_step: int | None = None) -> None:
        """Set the learning rate of an epoch."""
        super().step(current_step)
        rise = min(1.0, ((current_step or 0) + 1) / (self.warm_up + 1))
        for group in self.optimizer.param_groups:
            group["lr"] *= rise
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


class nnUNetTrainerBackSplit(nnUNetTrainer):  # noqa: N801 (nnU-Net's way to name trainers)
    """Trains the network of the plans: a plain or a residual U-Net."""

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.names = names_of(dataset_json)
        self.targets = len(dataset_json["targets"])
        self.settings = settings = read_settings(Path(self.preprocessed_dataset_folder_base))
        self.oversample_foreground_percent = settings.forced
        self.num_epochs = settings.epochs
        self.num_iterations_per_epoch = settings.iterations
        self.num_val_iterations_per_epoch = settings.validation_iterations
        self.save_every = settings.save_every
        self.initial_lr = settings.learning_rate or self.own_learning_rate()
        self.record: dict[str, Any] = {"version": __version__, "runs": [], "extended": None}
        self._keep_record(0)

    def own_learning_rate(self) -> float:
        """The learning rate where the settings name none."""
        return float(self.initial_lr)

    # what is written into the checkpoint

    def _keep_record(self, epoch: int) -> None:
        """Note from which epoch on the settings hold; nnU-Net writes `my_init_kwargs`."""
        now = self.settings.model_dump(mode="json")
        runs = [run for run in self.record["runs"] if run["from_epoch"] < epoch]
        if runs and (before := runs[-1]["settings"]) != now:
            changed = [f"{k}: {before.get(k)} -> {now[k]}" for k in now if before.get(k) != now[k]]
            self.print_to_log_file(f"Settings changed from epoch {epoch} on: {'; '.join(changed)}")
        if not runs or runs[-1]["settings"] != now:
            runs.append({"from_epoch": epoch, "settings": now})
        self.record = {**self.record, "runs": runs}
        self.my_init_kwargs: dict[str, Any] = {**self.my_init_kwargs, KEY: self.record}

    def load_checkpoint(self, filename_or_checkpoint: Any) -> None:  # noqa: ANN401
        """Load a checkpoint; the settings of today hold from here on."""
        super().load_checkpoint(filename_or_checkpoint)
        self.record = self.my_init_kwargs.get(KEY, self.record)
        self._keep_record(self.current_epoch)
        if isinstance(self.lr_scheduler, WarmUp):
            self.lr_scheduler.warm_up = self._warm_up()

    def _warm_up(self) -> int:
        if self.settings.warm_up is not None:
            return self.settings.warm_up
        return WARM_UP if self.record["extended"] else 0

    def save_checkpoint(self, filename: str) -> None:
        """Write a checkpoint; one that a kill cuts off never takes the place of the last."""
        if self.disable_checkpointing or self.local_rank != 0:
            super().save_checkpoint(filename)
            return
        with atomic_path(Path(filename)) as temporary:
            super().save_checkpoint(str(temporary))

    # what is drawn

    def initialize(self) -> None:
        """Build the network."""
        self._seed(0)
        super().initialize()

    def on_train_epoch_start(self) -> None:
        """Begin an epoch, with draws of its own: a training that goes on draws the same."""
        self._seed(1 + self.current_epoch)
        super().on_train_epoch_start()

    def _seed(self, step: int) -> None:
        if self.settings.seed is None:
            return
        seed = int(np.random.SeedSequence([self.settings.seed, step]).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)

    # what a voxel teaches

    def configure_optimizers(self) -> tuple[Any, Any]:
        """Give nnU-Net's optimiser, and its schedule with a warm-up."""
        optimizer, _ = super().configure_optimizers()
        return optimizer, WarmUp(optimizer, self.initial_lr, self.num_epochs, self._warm_up())

    def _build_loss(self) -> Any:  # noqa: ANN401
        """Give nnU-Net's loss, or the marginal one where it would be another."""
        plain = super()._build_loss()
        ignore = self.label_manager.ignore_label
        marginal = ignore is not None and self.settings.marginal
        if not marginal and self.settings.target_dice is None:
            return plain
        loss = MarginalLoss(
            self.targets,
            ignore,
            batch_dice=self.configuration_manager.batch_dice,
            ddp=self.is_ddp,
            target_dice=self.settings.target_dice,
        )
        return CaseLoss(loss, plain.weight_factors if self.enable_deep_supervision else None)

    def _tell_loss(self, cases: Sequence[str]) -> None:
        """Tell the loss what ignored voxels of the batch can be."""
        if not isinstance(self.loss, CaseLoss):
            return
        table = self.dataset_json.get("unknown") if self.settings.marginal else dict.fromkeys(cases)
        self.loss.possible = possible_classes(table, self.names, self.targets, list(cases))

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Do one step of the optimiser."""
        self._tell_loss(batch["keys"])
        step: dict[str, Any] = super().train_step(batch)
        return step

    # what patches hold

    def get_tr_and_val_datasets(self) -> tuple[TargetSampling, TargetSampling]:
        """Give the data sets of the fold; forced patches are centred on targets as asked."""
        settings = self.settings
        training, validation = (
            TargetSampling(
                data,
                self.targets,
                settings.targets,
                by_lesion=settings.by_lesion,
                anywhere=settings.anywhere,
            )
            for data in super().get_tr_and_val_datasets()
        )
        return training, validation

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, ...]:  # noqa: N802
        """Mirror nothing, in training and in prediction, where a label has a side."""
        *others, axes = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        if not self.settings.mirrors(self.names):
            axes = self.inference_allowed_mirroring_axes = None
            self.print_to_log_file("No mirroring: labels have a side, or the settings say so")
        return (*others, axes)

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Give nnU-Net's augmentation; with many labels the nearest one is taken."""
        from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

        transforms = super().get_training_transforms(*args, **kwargs)
        if self.settings.takes_nearest(len(self.names)):
            for transform in transforms.transforms:
                if isinstance(transform, SpatialTransform):
                    transform.mode_seg = "nearest"
        return transforms

    # how good it is: by the targets

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Loss, and voxels of the targets found, invented and missed in a batch.

        Ignored voxels count: they are no target, so that what is found there is invented.
        """
        self._tell_loss(batch["keys"])
        deep = self.enable_deep_supervision
        data = batch["data"].to(self.device, non_blocking=True)
        wanted = batch["target"] if deep else [batch["target"]]
        wanted = [labels.to(self.device, non_blocking=True) for labels in wanted]
        with torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
            logits = self.network(data)
            loss = self.loss(logits, wanted if deep else wanted[0])
        found = (logits[0] if deep else logits).argmax(1)
        true = wanted[0][:, 0]
        counts = np.array(
            [
                [int((f & t).sum()), int((f & ~t).sum()), int((t & ~f).sum())]
                for f, t in ((found == i, true == i) for i in range(1, self.targets + 1))
            ]
        )
        tp, fp, fn = counts.T.astype(float)
        return {"loss": loss.detach().cpu().numpy(), "tp_hard": tp, "fp_hard": fp, "fn_hard": fn}

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """Log the Dice of the targets; an epoch without any leaves its running mean as it was."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # 0 / 0, and the mean of nothing
            super().on_validation_epoch_end(val_outputs)
        if np.isnan(self.logger.get_value("mean_fg_dice", step=-1)):
            before = self.logger.get_value("ema_fg_dice", step=None)[:-1]
            self.logger.log("mean_fg_dice", before[-1] if before else 0.0, self.current_epoch)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Predict the fold's validation cases; `validation/targets.json` has the targets' Dice."""
        super().perform_actual_validation(save_probabilities)
        if self.local_rank != 0:
            return
        folder = Path(self.output_folder) / "validation"
        means = read_json(folder / "summary.json")["mean"]
        dice = {
            name: means.get(str(label), {}).get("Dice")
            for label, name in enumerate(self.names[: 1 + self.targets])
            if label
        }
        write_json(folder / "targets.json", {"Dice": dice})
        self.print_to_log_file(f"Mean validation Dice of the targets: {json.dumps(dice)}")
