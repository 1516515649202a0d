"""Settings of the trainers: `backsplit.json` beside the preprocessed data set, or the environment.

nnU-Net takes no settings of a trainer on its command line. `nnUNet_preprocessed/DatasetNNN_NAME/
backsplit.json` holds those of a data set; `$BACKSPLIT_TRAIN`, a JSON object as well, goes before
it for one run.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backsplit.config.base import words
from backsplit.errors import Code, RunError, shown

FILE = "backsplit.json"
VARIABLE = "BACKSPLIT_TRAIN"
MANY_CLASSES = 20
"""From so many labels on augmentation takes the nearest label: nnU-Net's own way resamples one
mask a label (60 labels on 64 x 64 x 64 voxels: 2.6 s instead of 0.15 s)."""
WARM_UP = 10
"""Epochs of warming up after an extension."""


class Settings(BaseModel):
    """How a network is trained; nnU-Net's own values where there is a default of nnU-Net."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    forced: float = Field(
        default=0.33, ge=0, le=1, description="Share of a batch that must hold some class."
    )
    targets: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of the forced patches that are centred on a target, where the case has "
        "one; the others are drawn as nnU-Net does.",
    )
    by_lesion: bool = Field(
        default=False,
        description="Centre them on each lesion of the case as often as on another, not on each "
        "voxel: small lesions as often as large ones.",
    )
    anywhere: bool = Field(
        default=False,
        description="Patches that are centred on no target lie anywhere in the image: where they "
        "lie then depends on the targets alone. false: as nnU-Net draws them, on a structure, or "
        "on an annotated voxel where the data set has `ignore`.",
    )
    target_dice: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of the targets in the Dice part of the loss; null: every class alike.",
    )
    marginal: bool = Field(
        default=True,
        description="Ignored voxels are one of the structures unknown in their case, no target; "
        "false: they teach nothing.",
    )
    mirroring: bool | None = Field(
        default=None, description="null: unless a label's name has a side (left, right)."
    )
    nearest: bool | None = Field(
        default=None,
        description=f"Augmentation takes the nearest label; null: from {MANY_CLASSES} labels on.",
    )
    warm_up: int | None = Field(
        default=None,
        ge=0,
        description="Epochs in which the learning rate rises; null: none, "
        f"{WARM_UP} after `backsplit train extend`.",
    )
    epochs: int = Field(default=1000, ge=1)
    iterations: int = Field(default=250, ge=1, description="Steps of an epoch.")
    validation_iterations: int = Field(default=50, ge=1)
    learning_rate: float | None = Field(
        default=None, gt=0, description="null: the trainer's, 0.01 (SegResNet: 0.0002)."
    )
    save_every: int = Field(default=50, ge=1, description="Epochs between two checkpoints.")
    seed: int | None = Field(
        default=None,
        ge=0,
        description="Of the weights and, with nnUNet_n_proc_DA=0, of the patches: the same network "
        "again on a CPU, though killed and continued; null: none.",
    )

    def mirrors(self, names: Iterable[str]) -> bool:
        """Whether images are mirrored, labels being kept."""
        return not any(map(has_side, names)) if self.mirroring is None else self.mirroring

    def takes_nearest(self, labels: int) -> bool:
        """Whether augmentation takes the nearest label, with so many labels."""
        return labels >= MANY_CLASSES if self.nearest is None else self.nearest


def has_side(name: str) -> bool:
    """Whether a name is that of one side: `kidney_left`, `RightLung`, `kidney-L`; no `L4`."""
    letters = {part.lower() for part in re.split(r"[^A-Za-z0-9]+", name)}
    return bool({"left", "right"} & set(words(name)) or {"l", "r"} & letters)


def read_settings(folder: Path) -> Settings:
    """Settings of a data set.

    Parameters
    ----------
    folder : of the preprocessed data set

    Raises
    ------
    RunError
        TRAINING_UNSUITED: a key that there is not, or a value that does not fit.
    """
    given: dict[str, Any] = {}
    path = folder / FILE
    if path.exists():
        given |= _parsed(path.read_text("utf-8"), str(path))
    if os.environ.get(VARIABLE):
        given |= _parsed(os.environ[VARIABLE], f"${VARIABLE}")
    return given_settings(given, f"{path} and ${VARIABLE}")


def given_settings(given: dict[str, Any], where: str) -> Settings:
    """Check settings; `where` they come from, for the message."""
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        wrong = "; ".join(
            f"`{'.'.join(map(str, e['loc']))}`: {e['msg']}, found {shown(e['input'], 80)}"
            for e in error.errors()
        )
        raise RunError(
            Code.TRAINING_UNSUITED,
            f"settings of training ({where}): {wrong}",
            f"there are {', '.join(Settings.model_fields)} (docs/training.md)",
        ) from None


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        found = error
    if not isinstance(found, dict):
        raise RunError(
            Code.TRAINING_UNSUITED,
            f"{where} is not a JSON object ({shown(found, 80)})",
            'write it as {"targets": 0.5}',
        )
    return found
