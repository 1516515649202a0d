"""Tables of a study as its trainings would leave them, with known differences between arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from backsplit.study.table import LESIONS, SCORES, typed


def tables(
    arms: Sequence[str],
    *,
    patients: int = 30,
    folds: int = 1,
    seeds: int = 3,
    gains: Mapping[str, float] | None = None,
    networks: float = 0.01,
    noise: float = 0.05,
    free: int = 0,
    targets: Sequence[str] = ("tumor",),
    random: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores and lesions; one case a patient, two lesions a case (8 and 25 mm).

    Dice = level of the patient + gain of the arm + that of the network (sd `networks`) + noise.
    The last `free` patients have no lesion; a network alarms in half of them.
    """
    rng = np.random.default_rng(random)
    level = rng.uniform(0.3, 0.7, patients)
    scores, lesions = [], []
    for target in targets:
        for arm in arms:
            for seed in range(seeds):
                shift = rng.normal(0, networks, folds) + (gains or {}).get(arm, 0)
                for patient in range(patients):
                    fold = patient % folds
                    keys = {
                        "arm": arm,
                        "fold": fold,
                        "seed": seed,
                        "case": f"c{patient:03d}",
                        "patient": f"p{patient:03d}",
                        "target": target,
                        "decision": "argmax",
                    }
                    if patient >= patients - free:
                        scores.append(keys | without_lesion(float(rng.random() < 0.5)))
                        continue
                    dice = float(np.clip(level[patient] + shift[fold] + rng.normal(0, noise), 0, 1))
                    scores.append(keys | with_lesion(dice))
                    lesions += [keys | one_lesion(1, 8.0, dice), keys | one_lesion(2, 25.0, dice)]
    return typed(pd.DataFrame(scores), SCORES), typed(
        pd.DataFrame(lesions, columns=list(LESIONS)), LESIONS
    )


def with_lesion(dice: float) -> dict[str, object]:
    return {
        "has_lesion": True,
        "reference_ml": 8.0,
        "predicted_ml": 8.0 * (dice > 0),
        "dice": dice,
        "nsd": dice,
        "hd95_mm": 20 * (1 - dice) if dice else np.inf,
        "false_positive_ml": 1 - dice,
        "false_negative_ml": 1 - dice,
        "lesions": 2,
        "found": 2 * (dice > 0),
        "missed": 2 * (dice == 0),
        "invented": 0,
        "lesion_dice": dice,
        "lesion_hd95_mm": 20 * (1 - dice),
    }


def without_lesion(false_ml: float) -> dict[str, object]:
    empty = false_ml == 0
    return {
        "has_lesion": False,
        "reference_ml": 0.0,
        "predicted_ml": false_ml,
        "dice": np.nan if empty else 0.0,
        "nsd": np.nan if empty else 0.0,
        "hd95_mm": np.nan if empty else np.inf,
        "false_positive_ml": false_ml,
        "false_negative_ml": 0.0,
        "lesions": 0,
        "found": 0,
        "missed": 0,
        "invented": int(not empty),
        "lesion_dice": np.nan if empty else 0.0,
        "lesion_hd95_mm": np.nan if empty else 374.0,
    }


def one_lesion(number: int, diameter_mm: float, dice: float) -> dict[str, object]:
    return {
        "kind": "reference",
        "number": number,
        "volume_ml": np.pi * diameter_mm**3 / 6000,
        "diameter_mm": diameter_mm,
        "found": dice > 0,
        "covered": dice,
        "dice": dice,
        "hd95_mm": 3.0,
        "counts": True,
    }


def curves(lengths: Mapping[str, float], *, epochs: int = 50, seeds: int = 2) -> pd.DataFrame:
    """Learning curves that come near their end with a time constant, in epochs, of each arm."""
    rng = np.random.default_rng(0)
    rows = []
    for arm, constant in lengths.items():
        for seed in range(seeds):
            for epoch in range(epochs):
                dice = 0.7 * (1 - np.exp(-(epoch + 1) / constant)) + rng.normal(0, 0.002)
                rows.append((arm, 0, seed, epoch, -dice, 0.1 - dice, dice, 10.0))
    names = ["arm", "fold", "seed", "epoch", "train_loss", "val_loss", "target_dice", "seconds"]
    return pd.DataFrame(rows, columns=names)
