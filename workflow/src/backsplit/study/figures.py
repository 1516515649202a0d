"""The figure of a study, and the learning curves behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from backsplit.store.disk import atomic_path
from backsplit.study.compare import KEYS, Comparisons, Verdict
from backsplit.study.curves import Ending
from backsplit.study.measures import LESION_CLASSES, MAIN_SCORE, WITH, WITHOUT

COLOURS = {Verdict.BETTER: "#1f5f8b", Verdict.WORSE: "#b3471c"}
OTHERWISE = "#5b6b78"
DOTS = "#9fb0bd"
BAND = "#edf1f4"
SOFT = "#5b6b78"
PAPER = "#7a4fa3"

PANEL = 2.5
"""Width of a panel; inches, like all lengths of the layout."""
ROW = 0.5
HEAD = 1.0
LABELS = 2.1
SHOWN = 0.95
"""Share of patients whose dots set the scale; others are drawn at its end."""
CURVES_ACROSS = 4
LONGEST_NAME = 28


def draw_differences(
    found: Comparisons, decision: str, paper: Mapping[str, float] | None = None
) -> Figure:
    """Draw paired differences with intervals, for each arm and size of lesions.

    One row per arm, one column per kind of cases, one block per target. Dots are patients (means
    over seeds), the thick line is the interval over patients, the thin one that over patients and
    trainings, ticks are single seeds, the band is what this many patients and trainings cannot
    show.

    Parameters
    ----------
    found : all comparisons
    decision : which one is drawn
    paper : arm to the difference in Dice that the paper reports, drawn beside
    """
    rows = found.arms[found.arms["decision"] == decision]
    columns = [
        (cases, score)
        for cases, score in [
            *((cases, MAIN_SCORE) for cases in (WITH, *LESION_CLASSES)),
            (WITHOUT, "false_alarm"),
        ]
        if ((rows["cases"] == cases) & (rows["score"] == score)).any()
    ]
    targets, arms = list(dict.fromkeys(rows["target"])), list(dict.fromkeys(rows["arm"]))
    heights = [ROW * len(arms) + HEAD for _ in targets]
    size = (LABELS + PANEL * max(1, len(columns)), sum(heights) + 0.55)
    figure = _figure(size)
    if not columns:
        return figure
    axes = figure.subplots(len(targets), len(columns), squeeze=False, sharey=True)
    figure.subplots_adjust(
        left=LABELS / size[0],
        right=1 - 0.15 / size[0],
        top=1 - 0.62 / size[1],
        bottom=1.02 / size[1],
        wspace=0.09,
        hspace=HEAD / (ROW * len(arms)),
    )
    for line, target in zip(axes, targets, strict=True):
        keys = [
            {"target": target, "decision": decision, "cases": cases, "score": score}
            for cases, score in columns
        ]
        limits = [_limit(found, key) for key in keys]
        # Dice has one scale, so that sizes of lesions compare
        dice = max((x for x, k in zip(limits, keys, strict=True) if k["score"] == MAIN_SCORE))
        for axis, key, limit in zip(line, keys, limits, strict=True):
            beside = paper if paper and key["cases"] == WITH else {}
            end = dice if key["score"] == MAIN_SCORE else limit
            _draw_panel(axis, found, key, arms, end, beside)
        _name_arms(line[0], arms, target if len(targets) > 1 else "")
    figure.text(
        0.01,
        0.012,
        "Dots: patients. Thick: 95 % interval over patients. Thin: over patients and trainings. "
        "Ticks: single seeds. Grey band: too small to be found\nin 80 % of repeats. Blue, rust: "
        "better, worse after Holm's correction. Right: patients better / worse.",
        fontsize=7.5,
        color=SOFT,
    )
    return figure


def _figure(size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _draw_panel(
    axis: Axes,
    found: Comparisons,
    key: dict[str, str],
    arms: Sequence[str],
    limit: float,
    paper: Mapping[str, float],
) -> None:
    rows, people, seeds = (_rows(table, key) for table in (found.arms, found.patients, found.seeds))
    if not rows["patients"].any():
        axis.set_axis_off()
        axis.set_title(f"{key['cases']}\nnone", fontsize=8.5, loc="left", color=SOFT)
        return
    axis.axvline(0, color="#1c2730", linewidth=0.8, zorder=1)
    for row in rows.to_dict("records"):
        at = arms.index(row["arm"])
        colour = COLOURS.get(Verdict(row["verdict"]), OTHERWISE)
        if np.isfinite(row["detectable"]):
            reach = min(row["detectable"], limit)
            axis.fill_betweenx([at - 0.42, at + 0.42], -reach, reach, color=BAND, zorder=0, lw=0)
        apart = people.loc[people["arm"] == row["arm"], "difference"].to_numpy(float)
        places = at + _spread_out(len(apart))
        axis.scatter(
            np.clip(apart, -limit, limit), places, s=7, color=DOTS, alpha=0.7, lw=0, zorder=2
        )
        for low, high, width in (("trainings_low", "trainings_high", 1.1), ("low", "high", 3.6)):
            ends = np.clip([row[low], row[high]], -limit, limit)
            axis.plot(
                ends, [at, at], color=colour, linewidth=width, zorder=3, solid_capstyle="butt"
            )
        single = seeds.loc[seeds["arm"] == row["arm"], "difference"].to_numpy(float)
        if len(single) > 1:
            clipped = np.clip(single, -limit, limit)
            axis.scatter(clipped, np.full(len(single), at + 0.2), marker="|", s=32, color=colour)
        axis.scatter(
            [np.clip(row["difference"], -limit, limit)],
            [at],
            s=34,
            color=colour,
            edgecolor="white",
            linewidth=0.9,
            zorder=4,
        )
        axis.text(
            1.04 * limit,
            at + 0.44,
            f"{row['better']} / {row['worse']}",
            ha="right",
            va="bottom",
            fontsize=6.5,
            color=SOFT,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )
        if row["arm"] in paper:
            _draw_paper(axis, at, paper[row["arm"]], limit)
    axis.set_xlim(-limit * 1.04, limit * 1.04)
    axis.set_ylim(len(arms) - 0.4, -0.65)
    axis.set_yticks([])
    axis.tick_params(axis="x", labelsize=7.5, color=SOFT)
    axis.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5, symmetric=True))
    for side in ("top", "left", "right"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color(SOFT)
    what = "lesion" if key["cases"] in LESION_CLASSES else "case"
    counted = (
        _counted(int(rows["patients"].max()), "patient"),
        _counted(int(rows["items"].max()), what),
    )
    axis.set_title(f"{key['cases']}\n{', '.join(counted)}", fontsize=8.5, loc="left")
    words = "difference in Dice\n(higher is better)"
    if key["score"] == "false_alarm":
        words = "difference in share of cases\nwith a false alarm (lower is better)"
    axis.set_xlabel(words, fontsize=8, color=SOFT)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _draw_paper(axis: Axes, at: int, apart: float, limit: float) -> None:
    """The paper's own difference, at the end of the scale where it lies beyond."""
    place = float(np.clip(apart, -limit, limit))
    beyond = "" if place == apart else " →" if apart > 0 else " ←"
    axis.scatter([place], [at], marker="D", s=26, facecolor="white", edgecolor=PAPER, zorder=5)
    axis.text(
        place,
        at - 0.2,
        f"paper {apart:+.3f}{beyond}",
        ha="right" if place > 0 else "left",
        va="bottom",
        fontsize=6.8,
        color=PAPER,
    )


def _rows(table: pd.DataFrame, key: dict[str, str]) -> pd.DataFrame:
    chosen = np.logical_and.reduce([table[name] == key[name] for name in KEYS if name in key])
    return table[chosen]


def _limit(found: Comparisons, key: dict[str, str]) -> float:
    """End of a panel's scale: intervals over patients, and most patients, lie within."""
    rows, people = _rows(found.arms, key), _rows(found.patients, key)
    ends = np.abs(rows[["low", "high", "difference"]].to_numpy(float)).reshape(-1)
    dots = np.abs(people["difference"].to_numpy(float))
    most = np.quantile(dots, SHOWN) if len(dots) else 0.0
    return float(1.05 * max(np.nanmax(ends, initial=0.0), most)) or 0.1


def _spread_out(count: int) -> np.ndarray:
    """Heights of dots round a line, the same in every drawing (multiples of the golden ratio)."""
    return np.asarray(0.34 * (np.arange(1, count + 1) * (np.sqrt(5) - 1) / 2 % 1 - 0.5) * 2)


def _name_arms(axis: Axes, arms: Sequence[str], target: str) -> None:
    for at, arm in enumerate(arms):
        axis.annotate(
            _short(arm),
            (0, at),
            xycoords=("axes fraction", "data"),
            xytext=(-8, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=9,
            parse_math=False,
        )
    if target:
        axis.annotate(
            _short(target),
            (0, 1),
            xycoords="axes fraction",
            xytext=(-8, 8),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=9.5,
            fontweight="bold",
            parse_math=False,
        )


def _short(name: str) -> str:
    """A name that fits beside the panels."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def draw_curves(curves: pd.DataFrame, ends: Sequence[Ending]) -> Figure:
    """Draw the learning curves, one panel per arm, so that a training too short is seen.

    Parameters
    ----------
    curves : `curves.parquet`
    ends : how each arm's trainings ended
    """
    across = min(CURVES_ACROSS, max(1, len(ends)))
    down = -(-len(ends) // across) or 1
    figure = _figure((2.9 * across + 0.4, 3.4 * down))
    grid = figure.subplots(2 * down, across, squeeze=False, sharex=True, sharey=False)
    figure.subplots_adjust(
        left=0.55 / (2.9 * across + 0.4),
        right=0.99,
        bottom=0.5 / (3.4 * down),
        top=1 - 0.45 / (3.4 * down),
        hspace=0.38,
        wspace=0.22,
    )
    for axis in grid.reshape(-1)[:]:
        axis.set_visible(False)
    for number, end in enumerate(ends):
        above = grid[2 * (number // across), number % across]
        below = grid[2 * (number // across) + 1, number % across]
        mine = curves[curves["arm"] == end.arm]
        for axis, columns in (
            (above, (("target_dice", "#1f5f8b"),)),
            (below, (("train_loss", "#9fb0bd"), ("val_loss", "#b3471c"))),
        ):
            axis.set_visible(True)
            for column, colour in columns:
                for _, run in mine.groupby(["fold", "seed"]):
                    axis.plot(run["epoch"] + 1, run[column], color=colour, lw=0.6, alpha=0.45)
                mean = mine.groupby("epoch")[column].mean()
                axis.plot(mean.index + 1, mean, color=colour, lw=1.6)
            axis.tick_params(labelsize=7, color=SOFT, labelbottom=True)
            for side in ("top", "right"):
                axis.spines[side].set_visible(False)
        above.set_ylim(-0.02, 1.02)
        short = end.words.startswith("too short")
        above.set_title(_short(end.arm), fontsize=9, loc="left", parse_math=False)
        above.text(
            0.02,
            0.99,
            end.words,
            transform=above.transAxes,
            fontsize=6.8,
            va="top",
            color="#b3471c" if short else SOFT,
        )
        if number % across == 0:
            above.set_ylabel("Dice of the targets", fontsize=7.5, color=SOFT)
            below.set_ylabel("loss: validation, training", fontsize=7.5, color=SOFT)
        below.set_xlabel("epoch", fontsize=7.5, color=SOFT)
    return figure


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure as PNG and as SVG; the same figure gives the same bytes."""
    with mpl.rc_context({"svg.hashsalt": "backsplit"}):
        for target, options in (
            (folder / f"{name}.png", {"format": "png", "dpi": 200}),
            (folder / f"{name}.svg", {"format": "svg", "metadata": {"Date": None}}),
        ):
            with atomic_path(target) as temporary:
                figure.savefig(temporary, **options)
