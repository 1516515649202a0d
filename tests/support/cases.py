"""Cases: of a configuration, without opening their files; and one by itself."""

from __future__ import annotations

from pathlib import Path

from backsplit.cases.table import Case, open_table
from support.project import ct_like, save

MARK = 9999
"""The intensity by which `labeller.py` knows the case in which something goes wrong."""


def read_cases(config):
    table = open_table(config)
    return table.cases(range(len(table)))


def marked_case(folder: Path, name: str, *, bad: bool = False) -> Case:
    """A case of one small CT, with the mark in it or not."""
    image = ct_like()
    image[0, 0, 0] = MARK if bad else -1000
    path = save(folder / f"{name}.nii.gz", image)
    return Case(name, 2, {"ct": path}, {}, {"case": name}, folder)
