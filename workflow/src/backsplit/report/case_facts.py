"""What the page of a case says, ready to be laid out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from backsplit.config.model import Config
from backsplit.judge.verdicts import Verdict
from backsplit.report.facts import CaseFacts, Flag, LesionFacts
from backsplit.report.gather import gather_cases, ready_cases
from backsplit.report.read import (
    read_agreement,
    read_flags,
    read_lesions,
    read_measures,
    read_text_table,
)
from backsplit.report.sums import SEVERITIES
from backsplit.scheme.scheme import Scheme
from backsplit.store.status import STATUS_COLUMNS, Status

PAGES: Mapping[str, tuple[str, ...]] = {
    "all": tuple(Verdict),
    "review": (Verdict.REVIEW, Verdict.REJECT),
    "none": (),
}
"""Which verdicts a case has a page with, by `run.pages`."""


@dataclass(frozen=True)
class Measured:
    """One structure of one source in the case; `cut_off`: it reaches the edge of the image."""

    source: str
    structure: str
    volume_ml: float
    median: float
    parts: int
    largest_fraction: float
    holes_ml: float
    cut_off: bool


@dataclass(frozen=True)
class Compared:
    """How far two segmenters agree on a structure of the case."""

    structure: str
    first: str
    second: str
    dice: float
    surface_mm: float


@dataclass(frozen=True)
class PageFacts:
    """All that the page of a case says; the pictures come beside it.

    Attributes
    ----------
    verdict : accept, review or reject
    decided, note : a person gave the verdict, and what they wrote to it
    flags : what speaks against the case, what leads first, then by severity
    leading : how many of them lead: 1, or 0 where there are only notes
    absent : structures without a voxel
    columns : the row of the case table
    before, after : cases whose pages come before and after this one, in the table's order; empty
        where there is none
    """

    dataset: str
    dataset_id: int
    id: str
    verdict: str
    decided: bool
    note: str
    flags: tuple[Flag, ...]
    leading: int
    absent: tuple[str, ...]
    columns: Mapping[str, str]
    lesions: tuple[LesionFacts, ...]
    measures: tuple[Measured, ...]
    agreement: tuple[Compared, ...]
    before: str = ""
    after: str = ""

    @property
    def subjects(self) -> list[str]:
        """What the flags speak of, what leads first; not all of it can be seen."""
        return list(dict.fromkeys(f.subject for f in self.flags if f.severity in SEVERITIES))

    def about(self, subject: str) -> list[Flag]:
        """Flags that speak of a subject."""
        return [flag for flag in self.flags if flag.subject == subject]

    def plain(self) -> dict[str, Any]:
        """Give everything as plain data, for a fingerprint."""
        return asdict(self)


def gather_pages(
    config: Config, scheme: Scheme, *, everything: bool = False
) -> dict[str, PageFacts]:
    """Facts of every case with a page: measured, and of a verdict that `run.pages` gives one.

    Parameters
    ----------
    config : the configuration
    scheme : names and ids
    everything : of all that were measured

    Returns
    -------
    pages
        By case id, in the table's order.
    """
    results = config.results
    table = read_text_table(results.cases, STATUS_COLUMNS)
    ready = ready_cases(table)
    measures = read_measures(results, ready)
    composed = measures[measures["source"] == "labels"]
    cases = gather_cases(results, scheme, table, composed, read_flags(results), {}, frozenset())
    wanted = PAGES["all" if everything else config.run.pages]
    flagged = [c for c in cases if c.status is Status.OK and c.measured and c.verdict in wanted]
    ids = [case.id for case in flagged]
    rows = dict(iter(measures[measures["case"].isin(ids)].groupby("case", sort=False)))
    compared = dict(iter(read_agreement(results, ids).groupby("case", sort=False)))
    lesions: dict[str, list[LesionFacts]] = {case: [] for case in ids}
    for lesion in read_lesions(results, ids):
        lesions[lesion.case].append(lesion)
    beside = ["", *ids, ""]
    return {
        case.id: replace(
            _page(config, case, lesions[case.id], rows[case.id], compared.get(case.id)),
            before=beside[position],
            after=beside[position + 2],
        )
        for position, case in enumerate(flagged)
    }


def _page(
    config: Config,
    case: CaseFacts,
    lesions: Sequence[LesionFacts],
    rows: pd.DataFrame,
    compared: pd.DataFrame | None,
) -> PageFacts:
    leading, rest = case.leading, case.folded
    return PageFacts(
        dataset=config.dataset.name,
        dataset_id=config.dataset.id,
        id=case.id,
        verdict=case.verdict,
        decided=case.decided,
        note=case.note,
        flags=(*leading, *rest),
        leading=len(leading),
        absent=case.absent,
        columns=case.columns,
        lesions=tuple(lesions),
        measures=_measured(rows, config.layers),
        agreement=_compared(compared),
    )


def _measured(rows: pd.DataFrame, layers: Sequence[str]) -> tuple[Measured, ...]:
    """What has a voxel, the label map first, then the segmenters by precedence."""
    there = rows[(rows["voxels"] > 0) & (rows["structure"] != "background")]
    return tuple(
        Measured(
            source=str(row["source"]),
            structure=str(row["structure"]),
            volume_ml=float(row["volume_ml"]),
            median=float(row["p50"]),
            parts=int(row["components_large"]),
            largest_fraction=float(row["largest_fraction"]),
            holes_ml=float(row["holes_ml"]),
            cut_off=bool(row["touches_border"]),
        )
        for source in ("labels", *layers)
        for row in there[there["source"] == source].to_dict("records")
    )


def _compared(rows: pd.DataFrame | None) -> tuple[Compared, ...]:
    if rows is None:
        return ()
    there = rows[rows["dice"].notna()].sort_values("dice")
    return tuple(
        Compared(
            structure=str(row["structure"]),
            first=str(row["first"]),
            second=str(row["second"]),
            dice=float(row["dice"]),
            surface_mm=float(row["surface_mm"]),
        )
        for row in there.to_dict("records")
    )
