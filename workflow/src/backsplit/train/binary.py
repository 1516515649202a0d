"""A trained-model folder of nnU-Net, read without running code that its checkpoint may hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backsplit.errors import Code, RunError, shown
from backsplit.store.provenance import read_json

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Binary:
    """A trained-model folder of nnU-Net: Trainer__Plans__Configuration.

    Attributes
    ----------
    folder : the folder
    fold : which of its folds
    checkpoint : file of the fold
    """

    folder: Path
    fold: int
    checkpoint: str = "checkpoint_final.pth"

    @property
    def path(self) -> Path:
        """Its weights."""
        return self.folder / f"fold_{self.fold}" / self.checkpoint

    @cached_property
    def plans(self) -> dict[str, Any]:
        """Its plans; their names are fit for paths and command lines.

        Raises
        ------
        RunError
            MODEL_INVALID
        """
        path = self.folder / "plans.json"
        plans = described_in(path)
        configurations = plans.get("configurations") or [""]
        names = [plans.get("plans_name"), plans.get("dataset_name"), *configurations]
        for name in names:
            if not NAME.fullmatch(str(name)):
                raise RunError(
                    Code.MODEL_INVALID,
                    f"{path} holds the name {shown(repr(name), 80)}",
                    "rename it with letters, digits, `.`, `_` and `-`",
                )
        return plans

    @cached_property
    def description(self) -> dict[str, Any]:
        """Its dataset.json."""
        return described_in(self.folder / "dataset.json")

    def load(self) -> dict[str, Any]:
        """Load the checkpoint; no code in it is run.

        Raises
        ------
        RunError
            WEIGHTS_MISSING, MODEL_INVALID
        """
        if not self.path.is_file():
            raise RunError(
                Code.WEIGHTS_MISSING,
                f"{self.path} does not exist",
                "give another --fold or --checkpoint, or finish the training",
            )
        known = self.plans["configurations"]
        numbers = [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "?")]
        scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
        before_numpy_2 = (scalar, "numpy.core.multiarray.scalar")
        safe = [np.dtype, scalar, before_numpy_2, *numbers]
        try:
            with torch.serialization.safe_globals(safe):
                loaded = torch.load(self.path, map_location="cpu", weights_only=True)
            known[loaded["init_args"]["configuration"]]  # its plans have it
            return {"network_weights": loaded["network_weights"], **loaded}
        except Exception as error:
            raise RunError(
                Code.MODEL_INVALID,
                f"{self.path} is not an nnU-Net checkpoint that can be read without running "
                f"code in it ({shown(str(error).partition(chr(10))[0], 200)})",
                "give one that nnU-Net's trainer wrote",
            ) from None


def described_in(path: Path) -> dict[str, Any]:
    """Read a JSON file of a model or a data set.

    Raises
    ------
    RunError
        MODEL_INVALID
    """
    try:
        found = read_json(path)
        if not isinstance(found, dict):
            raise ValueError("it is not a JSON object")
    except (OSError, ValueError) as error:
        raise RunError(
            Code.MODEL_INVALID,
            f"{path} cannot be read ({error})",
            "name a trained-model folder (Trainer__Plans__Configuration), and a data set that was "
            "exported to nnUNet_raw",
        ) from None
    return dict(found)
