"""The order in which a judge, today's or an earlier one, puts the cases."""

from __future__ import annotations

import pandas as pd

from backsplit.config.quality import Quality
from backsplit.judge import verdicts as judge
from backsplit.judge.flags import all_flags
from backsplit.measure.agreement import COLUMNS

NOTHING = pd.DataFrame(columns=list(COLUMNS))
NOBODY = pd.DataFrame(columns=list(judge.DECISION_COLUMNS))


def ranked(measures: pd.DataFrame, review: float = 0.1) -> tuple[list[str], pd.DataFrame]:
    """Cases as `judge` ranks them; where it does not, by verdict and number of flags.

    Returns
    -------
    order, flags
        the first case is the one to look at first; flags as they are written for that share
    """
    cases = list(dict.fromkeys(measures["case"]))
    flags = all_flags(measures, NOTHING, {}, {}, Quality())
    if hasattr(judge, "settled"):
        table = judge.verdicts(cases, flags, NOBODY, review)
        order = table.sort_values("rank")["case"].astype(str).tolist()
        return order, judge.settled(flags, table, NOBODY, review)
    table = judge.verdicts(cases, flags, NOBODY).set_index("case")
    weights = flags["severity"].map({"reject": 9, "review": 3, "warn": 1, "info": 0})
    against = weights.groupby(flags["case"]).sum().reindex(table.index, fill_value=0)
    sent = table["verdict"] != "accept"
    keys = pd.DataFrame({"sent": sent, "against": against})
    keys = keys.sort_values(["sent", "against"], ascending=False, kind="stable")
    return keys.index.astype(str).tolist(), flags
