r"""Faults in four cohorts of twenty real head-and-neck CTs: which come first or second.

    python tests/benchmarks/heads.py FOLDER MORE --cache /tmp/heads [--seed 0] [--per-case 1]

The same by the thresholds of before, on the measures that today's run left in the cache:

    git worktree add /tmp/thresholds 30d2c48
    PYTHONPATH=/tmp/thresholds/workflow/src python tests/benchmarks/heads.py FOLDER MORE \
        --cache /tmp/heads

FOLDER holds the twenty cases of the fault bench, MORE sixty others with `cases.tsv`, as the shared
inputs have them. One case at a time has a fault. Either judge may send two of twenty; one without a
ranking is taken by verdict and number of flags. What was not drawn in a case is unknown there.
"""

from __future__ import annotations

import argparse
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.ranked import ranked

SIZE = 20
FIRST = 2
KEYS = ["case", "subject", "rule"]


def not_drawn(folder: Path) -> dict[str, set[str]]:
    """Case to the structures that nobody drew."""
    path = folder / "cases.tsv"
    if not path.exists():
        return {}
    names = {"Esophagus": "esophagus", "LeftParotid": "parotid_left"}
    names |= {"RightParotid": "parotid_right", "SpinalCord": "spinal_cord"}
    table = pd.read_csv(path, sep="\t", keep_default_na=False)
    return {
        case: {names.get(name, name.lower()) for name in text.split(";") if name}
        for case, text in table.itertuples(index=False, name=None)
    }


def measured(places: Sequence[Path], per_case: int, seed: int):
    """Measures of each clean case; and fault, case, structure, whether gross, and its measures."""
    from support.bench import Bench, head_and_neck

    bench: Bench = head_and_neck(places)
    faults = [
        (name, case, bench.names[value], bench.gross(case, value, bad), bench.measured(case, bad))
        for name, case, value, bad in bench.faulty(per_case, seed)
    ]
    return bench.clean, faults


def found(clean, faults, unknown: dict[str, set[str]]) -> pd.DataFrame:
    """Each fault, and whether its case comes early for a reason that it did not have before."""

    def order_of(tables: dict[str, pd.DataFrame]):
        known = [t[~t["structure"].isin(unknown.get(case, ()))] for case, t in tables.items()]
        order, flags = ranked(pd.concat(known))
        return order, set(flags[KEYS].itertuples(index=False, name=None))

    _, before = order_of(clean)
    rows = []
    for name, case, structure, gross, table in faults:
        order, flags = order_of(clean | {case: table})
        new = any(row[0] == case for row in flags - before)
        rows.append((name, case, structure, gross, new and case in order[:FIRST]))
    return pd.DataFrame(rows, columns=["fault", "case", "structure", "gross", "found"])


def main() -> None:
    """Print how many gross faults come first or second, of each cohort."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("more", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--per-case", type=int, default=1)
    parser.add_argument("--without", nargs="+", default=[], help="cases that are left out")
    arguments = parser.parse_args()
    cohorts = [sorted(arguments.folder.glob("pt_*"))]
    more = sorted(arguments.more.glob("pt_*"))
    cohorts += [more[at : at + SIZE] for at in range(0, len(more), SIZE)]
    unknown = not_drawn(arguments.more)
    arguments.cache.mkdir(parents=True, exist_ok=True)
    hits = np.zeros(2, int)
    for number, places in enumerate(cohorts, 1):
        kept = arguments.cache / f"cohort_{number}_{arguments.per_case}_{arguments.seed}.pickle"
        if not kept.exists():
            kept.write_bytes(pickle.dumps(measured(places, arguments.per_case, arguments.seed)))
        clean, faults = pickle.loads(kept.read_bytes())
        clean = {case: table for case, table in clean.items() if case not in arguments.without}
        rows = found(clean, [fault for fault in faults if fault[1] in clean], unknown)
        gross = rows[rows["gross"]]["found"]
        hits += gross.sum(), len(gross)
        print(f"cohort {number}, {len(clean)} cases: {gross.sum()} of {len(gross)}", flush=True)
    print(f"all: {hits[0]} of {hits[1]} ({hits[0] / hits[1]:.1%})")


if __name__ == "__main__":
    main()
