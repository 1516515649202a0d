"""The long table of scores that everything after training is made from."""

from __future__ import annotations

import pandas as pd

KEYS = ("arm", "fold", "seed", "case", "patient", "target", "decision")
"""Columns that name a row of `scores.parquet`; it is sorted by them."""

SCORES: dict[str, str] = {
    "arm": "str",
    "fold": "int64",
    "seed": "int64",
    "case": "str",
    "patient": "str",
    "target": "str",
    "decision": "str",
    "has_lesion": "bool",
    "reference_ml": "float64",
    "predicted_ml": "float64",
    "dice": "float64",
    "nsd": "float64",
    "hd95_mm": "float64",
    "false_positive_ml": "float64",
    "false_negative_ml": "float64",
    "lesions": "int64",
    "found": "int64",
    "missed": "int64",
    "invented": "int64",
    "lesion_dice": "float64",
    "lesion_hd95_mm": "float64",
}
"""Columns of `scores.parquet` and their types; what they mean says `train.evaluation.CaseRow`.

`decision` is how a voxel became a target: `argmax`, or the probability above which it is one, as
`0.5`. `has_lesion` is `reference_ml > 0`: where it is false and nothing was predicted, Dice is NaN.
Where there are several targets, the target `any target` has all of them together.
"""

LESIONS: dict[str, str] = {
    **{name: SCORES[name] for name in KEYS},
    "kind": "str",
    "number": "int64",
    "volume_ml": "float64",
    "diameter_mm": "float64",
    "found": "bool",
    "covered": "float64",
    "dice": "float64",
    "hd95_mm": "float64",
    "counts": "bool",
}
"""Columns of `lesions.parquet`, a row a lesion; see `train.evaluation.LesionRow`."""

CURVES = ("arm", "fold", "seed", "epoch", "train_loss", "val_loss", "target_dice", "seconds")
"""Columns of `curves.parquet`, a row an epoch."""

NOISE = ("arm", "case", "structure", "dice")
"""Columns of `noise.parquet`: how like the clean labels those of an arm are."""

JOBS = ("arm", "fold", "seed", "key", "dataset", "model", "cases", "failed")
"""Columns of `jobs.tsv`, a row a training."""


def typed(table: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """Put a table's columns in order, give them their types, and sort its rows.

    Parameters
    ----------
    table : with every column of `columns`
    columns : name to type
    """
    keys = [*KEYS, *(["kind", "number"] if "number" in columns else [])]
    ordered = table[list(columns)].astype(columns)
    return ordered.sort_values(keys, kind="stable").reset_index(drop=True)
