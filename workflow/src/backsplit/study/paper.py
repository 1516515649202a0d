"""The paper's own figures, to put beside those of a study: BackSplit, arXiv 2511.19394.

A U-Net configured by nnU-Net, five folds. HD95 in mm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backsplit.config.study import Paper

SOURCE = "BackSplit, arXiv 2511.19394"
PLAIN, SPLIT = "binary", "backsplit"


@dataclass(frozen=True)
class Figure:
    """One score of one arm in the paper.

    Attributes
    ----------
    arm : as the presets call it
    score : column of `scores.parquet`
    value : the paper's
    what : which of its experiments
    """

    arm: str
    score: str
    value: float
    what: str = "main comparison"


def _pair(
    plain: float, split: float, score: str = "dice", what: str = "main comparison"
) -> list[Figure]:
    return [Figure(PLAIN, score, plain, what), Figure(SPLIT, score, split, what)]


INTERACTIVE = "interactive labels"
SOURCES = "sources of labels"

FIGURES: Mapping[Paper, Sequence[Figure]] = {
    "kits23": [
        *_pair(0.1787, 0.4573),
        *_pair(0.170, 0.600, "nsd"),
        *_pair(428, 267, "hd95_mm"),
        *_pair(0.203, 0.530, what=INTERACTIVE),
    ],
    "kits23-interactive": _pair(0.203, 0.492, what=INTERACTIVE),
    "panther": _pair(0.478, 0.525),
    "nsclc": _pair(0.497, 0.526),
    "autopet": _pair(0.392, 0.446, what=SOURCES),
    "autopet-abdomenatlas": [*_pair(0.388, 0.444), *_pair(0.392, 0.454, what=SOURCES)],
    "autopet-vibesegmentator": _pair(0.392, 0.431, what=SOURCES),
    "mswal": _pair(0.272, 0.319),
}
"""Study to its figures, as far as they are known to us."""


def beside(scores: pd.DataFrame, paper: Paper) -> pd.DataFrame:
    """The paper's figures, and this study's.

    Parameters
    ----------
    scores : the study's long table
    paper : key `study.paper` of the configuration

    Returns
    -------
    table
        `what`, `arm`, `score`, `paper`, `yours`, `cases`, `source`: a row for each figure. `yours`
        is the mean over the cases of all folds and seeds by argmax, of all targets (each target's
        mean counts once); cases without lesion and prediction are left out, and for HD95 those
        without prediction. NaN where the study has no such arm.
    """
    targets = scores[(scores["decision"] == "argmax") & (scores["target"] != "any target")]
    rows = []
    for figure in FIGURES[paper]:
        mine = targets[targets["arm"] == figure.arm]
        mine = mine[np.isfinite(mine[figure.score])]
        yours = mine.groupby("target")[figure.score].mean().mean()
        cases = mine["case"].nunique()
        rows.append(
            (figure.what, figure.arm, figure.score, figure.value, float(yours), cases, SOURCE)
        )
    columns = ["what", "arm", "score", "paper", "yours", "cases", "source"]
    return pd.DataFrame(rows, columns=columns)
