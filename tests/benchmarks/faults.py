"""The fault bench with other seeds than its test's, and false alarms in more clean cases.

    python tests/benchmarks/faults.py phantoms [--first 100] [--seed 1] [--per-case 2]
    python tests/benchmarks/faults.py openkbp [--seed 1] [--per-case 2]   (the shared inputs)

Faults are drawn anew, of phantoms the patients too. Clean cases are judged in cohorts of other
sizes and members: phantoms in five cohorts of twenty, the real cases in random cohorts of fifteen.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

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


def main() -> None:
    """Print what is found, and how often clean cases are sent to review."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("which", choices=["phantoms", "openkbp"])
    parser.add_argument("--first", type=int, default=100, help="seed of the first phantom")
    parser.add_argument("--seed", type=int, default=1, help="of the faults")
    parser.add_argument("--per-case", type=int, default=2, help="structures that are hit")
    arguments = parser.parse_args()
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
