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

from backsplit.config.quality import Quality
from backsplit.judge.flags import all_flags
from backsplit.judge.verdicts import DECISION_COLUMNS, verdicts
from backsplit.measure.agreement import COLUMNS
from support.wholebody import by_forest, by_kind, by_volume, draws, pool, summary

NOTHING = pd.DataFrame(columns=list(COLUMNS))
NOBODY = pd.DataFrame(columns=list(DECISION_COLUMNS))


def ranked(measures: pd.DataFrame) -> list[str]:
    """Cases as `judge` ranks them; where it does not, by verdict and number of flags."""
    cases = list(dict.fromkeys(measures["case"]))
    flags = all_flags(measures, NOTHING, {}, {}, Quality())
    table = verdicts(cases, flags, NOBODY).set_index("case")
    if "rank" in table:
        return [str(case) for case in table.sort_values("rank").index]
    weights = flags["severity"].map({"reject": 9, "review": 3, "warn": 1, "info": 0})
    against = weights.groupby(flags["case"]).sum().reindex(table.index, fill_value=0)
    sent = table["verdict"] != "accept"
    order = pd.DataFrame({"sent": sent, "against": against})
    order = order.sort_values(["sent", "against"], ascending=False, kind="stable")
    return [str(case) for case in order.index]


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
    rankers = {"judge": ranked}
    if arguments.baselines:
        rankers |= {"volume z-score": by_volume, "isolation forest": by_forest}
    orders = {name: [rank(d.measures) for d in drawn] for name, rank in rankers.items()}
    rows = {name: summary(mine, drawn) for name, mine in orders.items()}
    print(pd.DataFrame(rows).T.round(3).to_string())
    print(by_kind(orders["judge"], drawn).round(2).to_string())


if __name__ == "__main__":
    main()
