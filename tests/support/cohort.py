"""Measures of a data set as they would be, made up: no image is needed to judge them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from backsplit.measure.table import COLUMNS

ANATOMY = {
    # centroid x, y, z (mm, LPS), volume (ml), half the box (mm), intensity
    "liver": ((-70, -10, 20), 1500, 70, 60),
    "spleen": ((80, 30, 20), 200, 35, 55),
    "kidney_left": ((60, 40, -40), 150, 40, 35),
    "kidney_right": ((-60, 40, -45), 150, 40, 35),
    "aorta": ((5, 35, 0), 120, 30, 45),
    "sacrum": ((0, 60, -170), 200, 45, 300),
}
SIDES = ("right", "left", "anterior", "posterior", "inferior", "superior")


def cohort(
    cases: int = 40, seed: int = 0, source: str = "labels", names: Sequence[str] = tuple(ANATOMY)
) -> pd.DataFrame:
    """`measures.parquet` of patients who differ as people do; cases are c00, c01, …"""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(cases):
        moved = rng.normal(0, 30, 3)
        for name in names:
            at, ml, half, level = ANATOMY[name]
            centroid = np.array(at) + moved + rng.normal(0, 2, 3)
            ends = half * np.exp(rng.normal(0, 0.03, (3, 2)))
            volume = ml * np.exp(rng.normal(0, 0.08))
            middle = level + rng.normal(0, 4)
            row = {
                "case": f"c{number:02}", "source": source, "structure": name,
                "voxels": int(volume * 100), "volume_ml": volume,
                "mean": middle, "sd": 20 * np.exp(rng.normal(0, 0.05)),
                "minimum": -1000.0, "maximum": middle + 80, "edge_inside": middle - 10,
                "edge_outside": rng.normal(-50, 5), "edge_step": 40 * np.exp(rng.normal(0, 0.05)),
                "texture": 15 * np.exp(rng.normal(0, 0.05)), "shared_fraction": 0.2,
                "components": 1, "components_large": 1, "largest_fraction": 1.0,
                "stray_fraction": 0.0, "spread_mm": 0.0, "touches_border": False, "holes_ml": 0.0,
                "surface_mm2": 1000.0, "compactness": 0.6 * np.exp(rng.normal(0, 0.03)),
            }  # fmt: skip
            shifts = zip(("p05", "p25", "p50", "p75", "p95"), (-33, -13, 0, 13, 33), strict=True)
            row |= {column: middle + shift + rng.normal(0, 2) for column, shift in shifts}
            for axis, centre, (low, high) in zip("xyz", centroid, ends, strict=True):
                row |= {f"centroid_{axis}": centre}
                row |= {f"box_{axis}_min": centre - low, f"box_{axis}_max": centre + high}
            row |= {f"border_{side}": 0 for side in SIDES}
            row |= {f"blunt_{side}": 0.4 + rng.normal(0, 0.03) for side in SIDES}
            axes = zip((1, 2, 3), (0.5, 0.4, 0.3), strict=True)
            row |= {f"axis_{i}_mm": half * s * np.exp(rng.normal(0, 0.03)) for i, s in axes}
            rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def changed(
    table: pd.DataFrame, cases: Sequence[str], structure: str, values: Mapping[str, float]
) -> pd.DataFrame:
    """The same with other values of a structure in some cases."""
    table = table.astype(dict.fromkeys(values, float))
    chosen = table["case"].isin(cases) & (table["structure"] == structure)
    assert chosen.any()
    table.loc[chosen, list(values)] = list(values.values())
    return table


def absent(table: pd.DataFrame, cases: Sequence[str], structure: str) -> pd.DataFrame:
    """The same without a voxel of a structure in some cases."""
    measured = [name for name in table.columns if name not in ("case", "source", "structure")]
    nothing = dict.fromkeys(measured, np.nan) | {"voxels": 0, "volume_ml": 0.0}
    return changed(table, cases, structure, nothing | {"touches_border": 0})


def names_of(count: int) -> list[str]:
    """The first cases."""
    return [f"c{number:02}" for number in range(count)]
