"""What a comparison says, in words and in tables that people read."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from backsplit.study.curves import Ending
from backsplit.study.false_alarms import FalseAlarms
from backsplit.study.measures import MAIN_SCORE, WITH
from backsplit.study.statistics import ALPHA
from backsplit.train.summary import markdown

SCORES: Mapping[str, str] = {
    "dice": "Dice",
    "nsd": "NSD",
    "hd95_mm": "HD95, mm",
    "lesion_dice": "lesion-wise Dice",
    "found": "share of lesions found",
    "invented": "invented lesions",
    "false_positive_ml": "false positive, ml",
    "false_negative_ml": "false negative, ml",
    "false_alarm": "share of cases with a false alarm",
}
"""Names of scores for people."""


def signed(value: float) -> str:
    """A difference with its sign and a real minus; a dash for what is not known."""
    if np.isnan(value):
        return "–"
    return f"{value:+.3f}".replace("-", "−")


def plain(value: float) -> str:
    """A score; a dash for what is not known."""
    return "–" if np.isnan(value) else f"{value:.3f}".replace("-", "−")


def p_value(value: float) -> str:
    """A p-value; a dash for what is not known."""
    return "< 0.001" if value < 0.001 else plain(value)


def between(low: float, high: float) -> str:
    """An interval; a dash for what is not known."""
    return "–" if np.isnan(low) else f"{signed(low)} to {signed(high)}"


def findable(value: float) -> str:
    """The smallest difference that would be found."""
    return "none" if np.isinf(value) else plain(value)


def sentence(row: Mapping[Hashable, Any]) -> str:
    """Say what one row of `arms.tsv` says."""
    get = {name: float(row[name]) for name in _NUMBERS}
    words = SCORES[str(row["score"])]
    over = between(get["trainings_low"], get["trainings_high"])
    trained = f", {over} over patients and trainings" if over != "–" else ""
    p_text = f"p {p_value(get['p_holm'])} after Holm's correction"
    if np.isnan(get["p_holm"]):
        p_text = f"p {p_value(get['p_patients'])} by sign flips, for these networks"
    text = (
        f"{row['arm']} against {row['reference']}: {row['verdict']}. {words} "
        f"{plain(get['reference_mean'])} to {plain(get['arm_mean'])} ({signed(get['difference'])}; "
        f"95 % interval {between(get['low'], get['high'])} over patients{trained}; "
        f"{p_text}), {row['patients']} patients: "
        f"{row['better']} better, {row['worse']} worse, {row['equal']} equal."
    )
    networks = int(row["folds"]) * int(row["seeds"])
    if np.isinf(get["detectable"]):
        return f"{text} With so few patients no difference can be shown, however large."
    if not np.isnan(get["detectable"]) and not get["p_holm"] < ALPHA:
        text += (
            f" This many patients and trainings ({networks} per arm) would find a true difference "
            f"of {plain(get['detectable'])} in 80 % of repeats."
        )
    return text


_NUMBERS = (
    *("reference_mean", "arm_mean", "difference", "low", "high", "p_holm", "detectable"),
    *("trainings_low", "trainings_high", "p_patients"),
)


def headlines(arms: pd.DataFrame) -> list[str]:
    """One sentence per arm, target and decision, on Dice in the cases with the target."""
    main = arms[(arms["cases"] == WITH) & (arms["score"] == MAIN_SCORE)]
    many = main["target"].nunique() > 1 or main["decision"].nunique() > 1
    return [
        (f"{row['target']} ({row['decision']}): " if many else "") + sentence(row)
        for row in main.to_dict("records")
    ]


def alarm_sentence(found: FalseAlarms) -> str:
    """Say how often equal arms would have been called different."""
    return (
        f"{found.target} ({found.decision}): two arms that differ only in their seeds are called "
        f"different in {100 * found.called:.1f} % of {found.draws} simulated repeats "
        f"({100 * found.low:.1f} to {100 * found.high:.1f} %); by sign flips over patients only "
        f"it would be {100 * found.patients_only:.1f} %. Trained again, a network's mean Dice "
        f"changes by {plain(found.network_sd)} (standard deviation), and that of a single patient "
        f"by a further {plain(found.patient_sd)}."
    )


NO_ALARMS = (
    "How often two arms that differ only in their seeds would be called different cannot be "
    "simulated: no arm was trained with more than one seed."
)


def noise_table(noise: pd.DataFrame) -> pd.DataFrame:
    """Dice of changed labels against clean ones: per arm and structure, and over all of them."""
    by_structure = noise.groupby(["arm", "structure"])["dice"].agg(["mean", "min", "count"])
    every = noise.groupby("arm")["dice"].agg(["mean", "min", "count"])
    every.index = pd.MultiIndex.from_product([every.index, ["all"]], names=["arm", "structure"])
    table = pd.concat([every, by_structure]).sort_index(level="arm", sort_remaining=False)
    return table.rename(columns={"count": "cases"}).reset_index()


def summary(
    arms: pd.DataFrame,
    alarms: Sequence[FalseAlarms],
    ends: Sequence[Ending],
    noise: pd.DataFrame | None,
    left_out: pd.DataFrame,
) -> str:
    """Markdown: sentences, a table of all comparisons, trainings, noise, what was left out."""
    parts = [
        ("Arms", _bullets(headlines(arms))),
        ("All comparisons", markdown(_comparisons(arms))),
        ("Equal arms", _bullets([alarm_sentence(found) for found in alarms] or [NO_ALARMS])),
        ("Trainings", _bullets([f"{end.arm}: {end.words}." for end in ends])),
    ]
    if noise is not None and len(noise):
        rows = noise_table(noise)
        rows = rows[rows["structure"] == "all"]
        words = [f"{row['arm']}: {row['mean']:.3f}." for row in rows.to_dict("records")]
        parts.append(
            ("Dice of changed labels (noise, controls) against clean ones", _bullets(words))
        )
    if len(left_out):
        lines = [
            f"{arm}, {target} ({decision}): {', '.join(mine['case'])}."
            for (arm, target, decision), mine in left_out.groupby(["arm", "target", "decision"])
        ]
        parts.append(("Left out: not scored by every network of both arms", _bullets(lines)))
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in parts) + "\n"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _comparisons(arms: pd.DataFrame) -> pd.DataFrame:
    rows = [
        {
            "target": row["target"],
            "decision": row["decision"],
            "cases": row["cases"],
            "score": SCORES[row["score"]],
            "arm": row["arm"],
            "patients": str(row["patients"]),
            "reference": plain(row["reference_mean"]),
            "this arm": plain(row["arm_mean"]),
            "difference": signed(row["difference"]),
            "over patients": between(row["low"], row["high"]),
            "and trainings": between(row["trainings_low"], row["trainings_high"]),
            "p (Holm)": p_value(row["p_holm"]),
            "better/worse": f"{row['better']}/{row['worse']}",
            "detectable": findable(row["detectable"]),
            "verdict": row["verdict"],
        }
        for row in arms.to_dict("records")
    ]
    return pd.DataFrame(rows)
