"""What judging a large data set takes: anatomy, cohort, agreement, faults of the mapping.

    python tests/benchmarks/judge.py [--cases 1000]

Synthetic measures of two sources (label maps and one segmenter) by the names of TotalSegmentator's
classes. Their places are random, so that many rules of anatomy are broken in every case.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import pandas as pd
from totalsegmentator.registry import get_task_classes

from backsplit.config.quality import Quality
from backsplit.judge.flags import all_flags
from backsplit.judge.verdicts import DECISION_COLUMNS, verdicts
from backsplit.measure.agreement import COLUMNS as AGREEMENT
from backsplit.measure.table import COLUMNS
from backsplit.volume.grid import SIDES


def synthetic(cases: int, structures: int, seed: int = 0) -> pd.DataFrame:
    """Measures of structures that differ from case to case; three quarters are in view."""
    rng = np.random.default_rng(seed)
    classes = list(get_task_classes("total").values())
    names = [classes[i] if i < len(classes) else f"structure_{i}" for i in range(structures)]
    shape = (cases, structures)
    volume = np.exp(rng.uniform(2, 6, structures) + rng.normal(0, 0.2, shape))
    centre = rng.uniform(-200, 200, (3, structures))[:, None] + rng.normal(0, 5, (3, *shape))
    half = np.cbrt(volume * 1000) / 2 * np.exp(rng.normal(0, 0.05, (3, *shape)))
    damaged = rng.random(shape) < 0.02 / structures
    volume = np.where(damaged, volume * 0.3, volume)
    levels = rng.uniform(0, 100, structures) + rng.normal(0, 8, shape)
    table = {
        "case": np.repeat([f"case_{i:05d}" for i in range(cases)], structures),
        "structure": np.tile(names, cases),
        "voxels": volume * 500, "volume_ml": volume, "mean": levels, "sd": np.full(shape, 20.0),
        "minimum": np.full(shape, -1000.0), "maximum": levels + 200,
        **{f"p{p:02d}": levels + (p - 50) for p in (5, 25, 50, 75, 95)},
        "edge_inside": levels - 5, "edge_outside": rng.normal(0, 20, shape),
        "edge_step": np.exp(rng.normal(3, 0.2, shape)),
        "texture": np.exp(rng.normal(2, 0.1, shape)),
        "components": np.ones(shape), "components_large": np.ones(shape),
        "largest_fraction": np.ones(shape), "stray_fraction": np.zeros(shape),
        "spread_mm": np.zeros(shape), "touches_border": rng.random(shape) < 0.25,
        "holes_ml": np.zeros(shape), "compactness": np.exp(rng.normal(-0.4, 0.05, shape)),
        **{f"axis_{i}_mm": half[i - 1] / 2 for i in (1, 2, 3)},
        **{f"blunt_{side}": rng.uniform(0, 0.4, shape) for side in SIDES},
        **{f"border_{side}": np.zeros(shape) for side in SIDES},
    }  # fmt: skip
    for i, axis in enumerate("xyz"):
        table[f"centroid_{axis}"] = centre[i]
        table[f"box_{axis}_min"], table[f"box_{axis}_max"] = (
            centre[i] - half[i],
            centre[i] + half[i],
        )
    flat = {name: np.ravel(values) for name, values in table.items()}
    sources = [pd.DataFrame(flat).assign(source=source) for source in ("labels", "organs")]
    return pd.concat(sources).reindex(columns=list(COLUMNS))


def main() -> None:
    """Time it, and say how much memory it took beyond the table's own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--structures", type=int, default=120)
    arguments = parser.parse_args()
    measures = synthetic(arguments.cases, arguments.structures)
    names = list(measures["structure"].unique())
    cases = list(measures["case"].unique())
    groups = {"site": {"north": cases[::2], "south": cases[1::2]}}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started, used = time.perf_counter(), time.process_time()
    nothing = pd.DataFrame(columns=list(AGREEMENT))
    mapped = {"organs": dict(zip(names, names, strict=True))}
    flags = all_flags(measures, nothing, mapped, groups, Quality())
    table = verdicts(cases, flags, pd.DataFrame(columns=list(DECISION_COLUMNS)))
    seconds, used = time.perf_counter() - started, time.process_time() - used
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(measures)} rows of {measures.shape[1]} columns, {before:.0f} MiB with all imports")
    print(f"{seconds:.1f} s ({used:.1f} s of CPU), at most {after:.0f} MiB")
    print(f"{len(flags)} flags; {table['verdict'].value_counts().to_dict()}")


if __name__ == "__main__":
    main()
