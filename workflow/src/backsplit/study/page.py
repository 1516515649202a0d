"""Everything that a comparison writes: tables, figures, and a page that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from backsplit.errors import CaseError, Code, RunError
from backsplit.report.render import page
from backsplit.store.disk import atomic_path
from backsplit.store.tsv import write_tsv
from backsplit.study.changes import Change, changes, extremes
from backsplit.study.compare import Comparisons, compare
from backsplit.study.curves import Ending, endings
from backsplit.study.false_alarms import FalseAlarms, false_alarms
from backsplit.study.figures import draw_curves, draw_differences, save
from backsplit.study.measures import MAIN_SCORE, WITH
from backsplit.study.pictures import Artist, LegendEntry, Shown
from backsplit.study.summary import (
    NO_ALARMS,
    SCORES,
    alarm_sentence,
    between,
    findable,
    headlines,
    noise_table,
    p_value,
    plain,
    signed,
    summary,
)
from backsplit.train.evaluation import ANY

ARGMAX = "argmax"
DIGITS = 6
"""Of numbers in tables of text; the Parquet files have all."""


@dataclass(frozen=True)
class Example:
    """A case that gained or lost, and its picture; `problem` says why there is none."""

    change: Change
    picture: Shown | None
    problem: str = ""


@dataclass(frozen=True)
class ArmCases:
    """The cases that gained and lost most by an arm, and all of them by name."""

    arm: str
    target: str
    decision: str
    seed: int
    gained: Sequence[Example]
    lost: Sequence[Example]
    every: Sequence[Change]


def write_comparison(
    scores: Path,
    lesions: Path,
    curves: Path,
    noise: Path | None,
    reference: str,
    out: Path,
    say: Callable[[str], None],
    *,
    name: str = "Study",
    artist: Artist | None = None,
    paper: pd.DataFrame | None = None,
) -> None:
    """Compare the arms of a study and write what came out.

    `arms`, `patients` (Parquet and TSV), `seeds.tsv`, `left_out.tsv`, `false_alarms.tsv`,
    `summary.md`, `figure` of the first decision, `figure_…` of each other one, and `curves` (PNG
    and SVG), `index.html`.

    Parameters
    ----------
    scores, lesions, curves, noise : tables of the study
    reference : arm that the others are compared with
    out : folder to write to
    say : is told what happens
    name : of the data set, for the heading
    artist : draws the cases that gained and lost most; None: no pictures
    paper : the paper's own figures (`what`, `arm`, `score`, `paper`, `yours`)

    Raises
    ------
    RunError
        FILE_MISSING without the tables; TABLE_INVALID when there is nothing to compare.
    """
    for path in (scores, lesions, curves):
        if not path.exists():
            raise RunError(
                Code.FILE_MISSING, f"{path} does not exist", "run `backsplit study compare`"
            )
    score_table, lesion_table = pd.read_parquet(scores), pd.read_parquet(lesions)
    curve_table = pd.read_parquet(curves)
    noise_rows = pd.read_parquet(noise) if noise is not None and noise.exists() else None
    found = compare(score_table, lesion_table, reference)
    alarms = false_alarms(score_table, lesion_table)
    ends = endings(curve_table)
    text = summary(found.arms, alarms, ends, noise_rows, found.left_out)
    _write_tables(found, alarms, text, out)
    figures = _figures(found)
    beside = _paper_differences(paper, reference)
    for old in out.glob("figure_*"):  # of decisions that are no more
        old.unlink()
    for decision, figure in figures.items():
        save(draw_differences(found, decision, beside), out, figure)
    save(draw_curves(curve_table, ends), out, "curves")
    cases = [
        arm
        for decision in figures
        for arm in _cases(score_table, found, reference, decision, artist, say)
    ]
    legend = artist.legend if artist is not None else []
    html = render(name, reference, found, alarms, ends, noise_rows, cases, legend, paper, out)
    with atomic_path(out / "index.html") as temporary:
        temporary.write_text(html, "utf-8")
    for line in headlines(found.arms[found.arms["target"] == _headline(found)]):
        say(f"[backsplit] study: {line}")


def _write_tables(found: Comparisons, alarms: Sequence[FalseAlarms], text: str, out: Path) -> None:
    alarm_rows = pd.DataFrame(
        [asdict(row) for row in alarms], columns=[f.name for f in fields(FalseAlarms)]
    )
    for name, table in (
        ("arms", found.arms),
        ("patients", found.patients),
        ("seeds", found.seeds),
        ("left_out", found.left_out),
        ("false_alarms", alarm_rows),
    ):
        write_tsv(table.round(DIGITS), out / f"{name}.tsv")
        with atomic_path(out / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False)
    with atomic_path(out / "summary.md") as temporary:
        temporary.write_text(text, "utf-8")


def _figures(found: Comparisons) -> dict[str, str]:
    """Each decision and the name of its figure; argmax comes first, and the first is `figure`."""
    known = dict.fromkeys(str(decision) for decision in found.arms["decision"])
    ordered = sorted(known, key=lambda decision: (decision != ARGMAX, decision))
    return {d: f"figure_{d}" if place else "figure" for place, d in enumerate(ordered)}


def _paper_differences(paper: pd.DataFrame | None, reference: str) -> Mapping[str, float]:
    """Arm to the paper's difference in Dice from the reference, of its first experiment."""
    if paper is None:
        return {}
    dice = paper[paper["score"] == MAIN_SCORE].drop_duplicates("arm").set_index("arm")["paper"]
    if reference not in dice:
        return {}
    return {str(arm): float(value - dice[reference]) for arm, value in dice.items()}


def _headline(found: Comparisons) -> str:
    """All targets together, else the first one."""
    targets = list(dict.fromkeys(found.arms["target"]))
    return ANY if ANY in targets else (str(targets[0]) if targets else "")


def _cases(
    scores: pd.DataFrame,
    found: Comparisons,
    reference: str,
    decision: str,
    artist: Artist | None,
    say: Callable[[str], None],
) -> list[ArmCases]:
    """Cases that gained and lost by each arm, of all targets together."""
    target = _headline(found)
    result = []
    for arm in dict.fromkeys(found.arms["arm"]):
        every = changes(scores, reference, arm, target, decision)
        if not every:
            continue
        seeds = [set(scores.loc[scores["arm"] == name, "seed"]) for name in (reference, arm)]
        seed = int(min(seeds[0] & seeds[1]))
        if artist is not None:
            say(f"[backsplit] study: pictures of {arm} against {reference} ({decision})")
        sides = [
            [_example(change, reference, arm, seed, decision, artist, say) for change in side]
            for side in extremes(every)
        ]
        result.append(ArmCases(str(arm), target, decision, seed, sides[0], sides[1], every))
    return result


def _example(
    change: Change,
    reference: str,
    arm: str,
    seed: int,
    decision: str,
    artist: Artist | None,
    say: Callable[[str], None],
) -> Example:
    if artist is None:
        return Example(change, None)
    first, second = (
        artist.prediction(name, change.fold, seed, decision, change.case)
        for name in (reference, arm)
    )
    try:
        return Example(change, artist.draw(change.case, first, second))
    except CaseError as error:
        say(f"[backsplit] study: {change.case} has no picture: {error}")
        return Example(change, None, str(error))


def render(
    name: str,
    reference: str,
    found: Comparisons,
    alarms: Sequence[FalseAlarms],
    ends: Sequence[Ending],
    noise: pd.DataFrame | None,
    cases: Sequence[ArmCases],
    legend: Sequence[LegendEntry],
    paper: pd.DataFrame | None,
    out: Path,
) -> str:
    """Lay a comparison out as HTML.

    Parameters
    ----------
    name, reference : data set and arm of reference
    found, alarms, ends, noise, cases, paper : what the page says
    legend : targets, as they are outlined on the pictures
    out : folder that holds the figures
    """
    rows = found.arms.to_dict("records")
    main = [row for row in rows if row["cases"] == WITH and row["score"] == MAIN_SCORE]
    return page(
        "study.html.j2",
        "study.css.j2",
        "study.js.j2",
        structures=legend,
        name=name,
        reference=reference,
        main=main,
        rows=rows,
        several=len({(row["target"], row["decision"]) for row in main}) > 1,
        words=headlines(found.arms),
        score_names=SCORES,
        alarms=[alarm_sentence(row) for row in alarms] or [NO_ALARMS],
        ends=ends,
        noise=[] if noise is None else noise_table(noise).to_dict("records"),
        cases=cases,
        left_out=found.left_out.to_dict("records"),
        paper=[] if paper is None else paper.to_dict("records"),
        figures={d: _svg_address(out / f"{figure}.svg") for d, figure in _figures(found).items()},
        curves=_svg_address(out / "curves.svg"),
        signed=signed,
        plain=plain,
        p_value=p_value,
        between=between,
        findable=findable,
    )


def _svg_address(path: Path) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"
