"""Cases of a configuration, without opening their files."""

from __future__ import annotations

from backsplit.cases.table import (
    open_table,
)


def read_cases(config):
    table = open_table(config)
    return table.cases(range(len(table)))
