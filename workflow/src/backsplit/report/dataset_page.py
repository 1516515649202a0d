"""The report: one page that needs no network and opens from the disk, and the figures on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from backsplit.cases.table import Case
from backsplit.config.model import Config
from backsplit.report.cards import Card, Strip, make_cards, make_strips
from backsplit.report.facts import CaseFacts, Flag, LesionFacts, ReportFacts
from backsplit.report.fault_pictures import FaultPicture, draw_faults, examples
from backsplit.report.figures import draw_matrix, draw_strips, lay_out_matrix, lay_out_strips
from backsplit.report.gather import gather
from backsplit.report.methods import Methods, methods
from backsplit.report.render import page
from backsplit.report.sums import OUTLIERS_MOST
from backsplit.scheme.scheme import Scheme
from backsplit.store.disk import atomic_path
from backsplit.store.status import Status
from backsplit.store.tsv import write_tsv

OVERRULED_MOST = 100
"""Rows of the table of overruled voxels; the sidecars have them all."""
LESIONS_MOST = 3000
"""Rows of the table of lesions; `lesions.tsv` has them all."""
VOLUMES_MOST = 30_000
"""Cells of the table of volumes; `measures.parquet` has them all."""


Find = Callable[[Collection[str]], Sequence[Case]]
"""Rows of the case table, by id."""


def write_report(config: Config, scheme: Scheme, find: Find = lambda _: ()) -> None:
    """Write the report from what lies in the results folder.

    Beside the page come, for reports that are put together elsewhere, `figures/distributions.svg`,
    `figures/overruled.svg` and `tables/lesions.tsv`.

    Parameters
    ----------
    config : the configuration; `run.results` is read
    scheme : names and ids
    find : called with the ids of examples of faults of the data set, for a picture of each
    """
    results = config.results
    facts = gather(config, scheme)
    shown = examples(facts.flags)
    known = find({flag.example for flag in shown}) if shown else ()
    faults = draw_faults(config, scheme, known, shown)
    cards = make_cards(facts.cases, facts.lesions, scheme)
    texts = {
        results.distributions: draw_strips(lay_out_strips(facts.distributions)),
        results.overruled: draw_matrix(lay_out_matrix(facts.overruled)),
        results.report: render(
            facts, cards, make_strips(facts.cases), methods(config, facts), faults
        ),
    }
    write_lesions(facts.lesions, results.lesions)
    for path, text in texts.items():
        with atomic_path(path) as temporary:
            temporary.write_text(text, "utf-8")


def write_lesions(lesions: Sequence[LesionFacts], path: Path) -> None:
    """Write all lesions as a table, the largest first."""
    columns = ["case", "instance", "target", "volume_ml", "max_diameter_mm", "host"]
    columns += ["inside_fraction", "contrast", "touches_border"]
    table = pd.DataFrame([asdict(lesion) for lesion in lesions]).reindex(columns=columns)
    write_tsv(table.round({"volume_ml": 4, "max_diameter_mm": 2, "contrast": 2}), path)


def render(
    facts: ReportFacts,
    cards: Mapping[str, Card],
    strips: Mapping[str, Strip],
    methods: Methods | None = None,
    faults: Mapping[Flag, FaultPicture] | None = None,
) -> str:
    """Lay the facts out as HTML.

    Parameters
    ----------
    facts : what the page says
    cards : what the cases are found by
    strips : their small pictures
    methods : the text for a paper, where there is one
    faults : pictures of faults of the data set
    """
    columns = [structure for structure in facts.structures if structure.cases]
    measured = [case for case in facts.cases if case.measured]
    return page(
        "page.html.j2",
        "page.css.j2",
        "page.js.j2",
        facts=facts,
        methods=methods,
        faults=faults or {},
        structures=facts.structures,
        cards=cards,
        pictures=strips,
        choices_of={
            "rule": sorted({rule for card in cards.values() for rule in card.rules}),
            "structure": sorted({name for card in cards.values() for name in card.structures}),
            "segmenter": sorted({name for card in cards.values() for name in card.segmenters}),
        },
        totals=_totals(facts.cases),
        measured=measured[: max(1, VOLUMES_MOST // max(1, len(columns)))],
        overruled=facts.overruled[:OVERRULED_MOST],
        matrix=lay_out_matrix(facts.overruled),
        strips=lay_out_strips(facts.distributions),
        more=sum(d.more for d in facts.distributions),
        outliers_most=OUTLIERS_MOST,
        lesions=facts.lesions[:LESIONS_MOST],
        links={case.id: case.link for case in facts.cases if case.status is Status.OK},
        columns=columns,
    )


def _totals(cases: Sequence[CaseFacts]) -> dict[str, float]:
    """Sums over the cases for the head of the page."""
    burdens = sorted(case.lesion_ml for case in cases if case.lesion_ml > 0)
    return {
        "measured": sum(case.measured for case in cases),
        "with_lesion": len(burdens),
        "lesion_ml": sum(burdens),
        "median_ml": burdens[len(burdens) // 2] if burdens else math.nan,
        "overruled": sum(case.overruled_voxels or 0 for case in cases),
        "ignored": sum(case.ignored_voxels or 0 for case in cases),
        "pictures": sum(case.picture is not None for case in cases),
    }
