"""The fault bench with other seeds than its test's, and false alarms in more clean cases.

    python tests/benchmarks/faults.py phantoms [--first 100] [--seed 1] [--per-case 2]
    python tests/benchmarks/faults.py openkbp [--seed 1] [--per-case 2]
        (the shared inputs; with --seed 0 --per-case 1 the faults of the test)
    python tests/benchmarks/faults.py shares [--first 100] [--seed 1]   (clean phantoms only)

Other faults are drawn and, for phantoms, other patients. Clean cases are judged in cohorts of other
sizes and members: phantoms in five cohorts of twenty, the real cases in random cohorts of fifteen.
`shares` sends 120 clean phantoms to review in cohorts of 10, 20, 50 and 120.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from backsplit.config.quality import REVIEW
from support.bench import Bench, openkbp, table, torso_bench


def alarms(bench: Bench, size: int, cohorts: int, seed: int) -> str:
    """Share of clean cases that are sent to review in random cohorts of some of them."""
    rng = np.random.default_rng(seed)
    sent = judged = 0
    for _ in range(cohorts):
        chosen = rng.choice(sorted(bench.cases), size, replace=False)
        _, verdict = bench.judge_tables([bench.clean[case] for case in chosen])
        sent += int((verdict[chosen] != "accept").sum())
        judged += size
    return f"{sent} of {judged} verdicts ({sent / judged:.1%}) in cohorts of {size}"


def shares(first: int, seed: int) -> None:
    """Print how many clean phantoms go to review, beside the binomial error of the share."""
    bench = torso_bench(range(first, first + 120))
    rng = np.random.default_rng(seed)
    for size in (10, 20, 50, 120):
        sent, judged = 0, 0
        order = rng.permutation(sorted(bench.cases))
        for at in range(0, len(order) - size + 1, size):
            tables = [bench.clean[case] for case in order[at : at + size]]
            _, verdict = bench.judge_tables(tables)
            sent, judged = sent + int((verdict != "accept").sum()), judged + size
        low, high = stats.binom.interval(0.95, judged, REVIEW)
        print(
            f"cohorts of {size}: {sent} of {judged} ({sent / judged:.1%}); a share of {REVIEW:.0%} "
            f"is {low:.0f} to {high:.0f} of {judged} in 95 %",
            flush=True,
        )


def main() -> None:
    """Print what is found, and how often clean cases are sent to review."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("which", choices=["phantoms", "openkbp", "shares"])
    parser.add_argument("--first", type=int, default=100, help="seed of the first phantom")
    parser.add_argument("--seed", type=int, default=1, help="of the faults")
    parser.add_argument("--per-case", type=int, default=2, help="structures that are hit")
    arguments = parser.parse_args()
    if arguments.which == "shares":
        shares(arguments.first, arguments.seed)
        return
    if arguments.which == "openkbp":
        bench = openkbp()
        print("clean:", alarms(bench, 15, 20, arguments.seed))
    else:
        first = arguments.first
        bench = torso_bench(range(first, first + 20))
        clean = [torso_bench(range(at, at + 20)).verdicts for at in range(first, first + 100, 20)]
        sent = sum(int((verdict != "accept").sum()) for verdict in clean)
        print(f"clean: {sent} of 100 cases in cohorts of 20")
    print(table(bench.rates(arguments.per_case, arguments.seed)), flush=True)


if __name__ == "__main__":
    main()
