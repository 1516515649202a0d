"""Faults injected into a real whole-body cohort: how early in the ranking they come.

    python tests/benchmarks/organs.py FOLDER --cache /tmp/organs [--draws 100] [--share 0.05]
    PYTHONPATH=OTHER_CHECKOUT/workflow/src python tests/benchmarks/organs.py …   (its rules)

FOLDER holds label maps of organs, as the shared inputs have them; images are made of the labels. In
each draw a share of the cases gets a random fault each. The ranking is held against the largest
z-score of a volume and against an isolation forest on all measures. Nobody checked these maps, so
that what comes before a fault may be wrong as well. Measures are kept in the cache.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.ranked import ranked
from support.wholebody import by_forest, by_kind, by_volume, draws, pool, summary


def main() -> None:
    """Print how early faults come, by kind and against the baselines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--baselines", action="store_true")
    arguments = parser.parse_args()
    table = pool(arguments.folder, arguments.cache)
    drawn = list(draws(table, arguments.draws, arguments.share, arguments.seed))
    rankers = {"judge": lambda measures: ranked(measures)[0]}
    if arguments.baselines:
        rankers |= {"volume z-score": by_volume, "isolation forest": by_forest}
    orders = {name: [rank(d.measures) for d in drawn] for name, rank in rankers.items()}
    rows = {name: summary(mine, drawn) for name, mine in orders.items()}
    print(pd.DataFrame(rows).T.round(3).to_string())
    print(by_kind(orders["judge"], drawn).round(2).to_string())


if __name__ == "__main__":
    main()
