"""What a segmenter's classes say that their structures say too, or that concerns no structure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from backsplit.config.quality import WEIGHTS
from backsplit.judge.ranking import kind_of

LOUDER = 1.0
"""A class whose score is higher by more than this says more than its structure."""


def without_echoes(flags: pd.DataFrame, sources: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """Leave out what a segmenter's class says where its structure says the same.

    What is graver, or ten times less likely (`LOUDER`), is no echo.

    Parameters
    ----------
    flags : flags
    sources : segmenter to {class: structure}
    """
    kinds = flags["rule"].map(kind_of)
    weights = flags["severity"].map(WEIGHTS)
    scores = flags["score"].fillna(0.0) if "score" in flags else [0.0] * len(flags)
    rows = list(zip(flags["case"], flags["subject"], kinds, weights, scores, strict=True))
    said: dict[tuple[str, str, str], tuple[int, float]] = {}
    for case, subject, kind, weight, score in rows:
        least, lowest = said.get((case, subject, kind), (weight, score))
        said[case, subject, kind] = max(least, weight), max(lowest, score)
    structures = {
        f"{segmenter}/{name}": structure
        for segmenter, classes in sources.items()
        for name, structure in classes.items()
    }
    echoes = []
    for case, subject, kind, weight, score in rows:
        its = said.get((case, structures.get(subject, ""), kind))
        echoes.append(its is not None and weight <= its[0] and score <= its[1] + LOUDER)
    return flags[~np.array(echoes, bool)]


def without_unused(flags: pd.DataFrame, sources: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """Leave out what is said of a segmenter's class that no structure takes.

    A segmenter finds a hundred classes where a data set takes five; what is wrong with the others
    is no reason to look at a case. They are measured all the same, and other rules rest on them.

    Parameters
    ----------
    flags : flags
    sources : segmenter to {class: structure}
    """
    used = {f"{segmenter}/{name}" for segmenter, classes in sources.items() for name in classes}
    kept = ["/" not in subject or subject in used for subject in flags["subject"]]
    return flags[np.array(kept, bool)]
