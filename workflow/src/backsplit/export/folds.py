"""Folds of cross-validation: cases of one patient stay together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

FOLDS = 5


SPLIT_SEED = 12345
"""nnU-Net's own number of folds and seed (`generate_crossval_split`)."""


def cross_validation(cases: Sequence[str], groups: Mapping[str, str]) -> list[dict[str, list[str]]]:
    """Five folds of training and validation cases; a group (patient) is never on both sides.

    Returns fewer folds when there are fewer groups, and none for a single one.
    """
    members: dict[str, list[str]] = {}
    for case in sorted(cases):
        members.setdefault(groups[case], []).append(case)
    names = sorted(members)
    if len(names) < 2:
        return []
    shuffled = [names[i] for i in np.random.default_rng(SPLIT_SEED).permutation(len(names))]
    parts = [sorted(shuffled[i :: min(FOLDS, len(names))]) for i in range(min(FOLDS, len(names)))]
    return [
        {
            "train": sorted(c for n in names if n not in part for c in members[n]),
            "val": sorted(c for n in part for c in members[n]),
        }
        for part in parts
    ]
