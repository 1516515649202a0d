"""Learning curves: whether training was long enough to compare what came out of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

PART = 0.2
"""The end of a training: its last fifth …"""
RISE = 0.01
"""… and a rise of the targets' Dice since the fifth before that says that it was too short."""
LEAST_EPOCHS = 10
"""Shorter trainings have no end that could be told from their beginning."""


@dataclass(frozen=True)
class Ending:
    """How the trainings of an arm ended.

    Attributes
    ----------
    arm : its name
    trainings, epochs : how many, and how long the shortest was
    target_dice : mean of the targets' pseudo Dice in the last fifth
    rise : by how much it is above that of the fifth before; NaN of fewer than `LEAST_EPOCHS`
    """

    arm: str
    trainings: int
    epochs: int
    target_dice: float
    rise: float

    @property
    def words(self) -> str:
        """What it says of the training, for a person."""
        if np.isnan(self.rise):
            return f"too short to judge: {self.epochs} epochs"
        if self.rise > RISE:
            return f"too short: Dice still rises ({self.rise:+.3f} in the last fifth)"
        return f"flat at its end ({self.rise:+.3f} in the last fifth)"


def endings(curves: pd.DataFrame) -> list[Ending]:
    """How the trainings of each arm ended, in the order of the table.

    Parameters
    ----------
    curves : `curves.parquet`: one row per arm, fold, seed and epoch
    """
    found = []
    for arm, mine in curves.groupby("arm", sort=False):
        runs = [
            run.sort_values("epoch")["target_dice"].to_numpy(float)
            for _, run in mine.groupby(["fold", "seed"])
        ]
        shortest = min(len(run) for run in runs)
        ends = [_ending(run) for run in runs]
        last, before = (float(np.mean([end[i] for end in ends])) for i in (0, 1))
        rise = last - before if shortest >= LEAST_EPOCHS else np.nan
        found.append(Ending(str(arm), len(runs), shortest, last, rise))
    return found


def _ending(dice: np.ndarray) -> tuple[float, float]:
    """Mean of the last fifth of a training, and of the fifth before."""
    part = max(1, round(PART * len(dice)))
    last, before = dice[-part:], dice[-2 * part : -part]
    return _mean(last), _mean(before if len(before) else last)


def _mean(values: np.ndarray) -> float:
    """Of what is a number: an epoch without a target in its patches has no Dice."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan
