"""Organs with lesions: what a lesion takes from its host is neither missing nor a hole of it."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from backsplit.volume.grid import SIDES

LEAST_SHARE = 0.05
"""A lesion that is less of its organ changes the organ's shape by less than patients differ by."""

SHAPE = (
    *("compactness", "axis_1_mm", "axis_2_mm", "axis_3_mm", "holes_ml", "stray_fraction"),
    *(f"blunt_{side}" for side in SIDES),
)
"""Measures of shape that a lesion changes."""


def with_lesions(
    measures: pd.DataFrame, lesions: pd.DataFrame, sources: Mapping[str, Mapping[str, str]]
) -> pd.DataFrame:
    """Measures in which lesions count as tissue of the organs that they lie in.

    The volume of a composed structure is that with its lesions; where these are more than
    `LEAST_SHARE` of it its shape is not known, in no source.

    Parameters
    ----------
    measures, lesions : the tables of `results/qc`
    sources : segmenter to {class: structure}
    """
    hosted = lesions[lesions["host"].notna()]
    if not len(hosted):
        return measures
    taken = hosted.groupby(["case", "host"])["volume_ml"].sum().to_dict()
    hosts = measures["structure"].where(
        measures["source"] == "labels",
        pd.Series(
            [
                sources.get(source, {}).get(structure, "")
                for source, structure in zip(measures["source"], measures["structure"], strict=True)
            ],
            measures.index,
        ),
    )
    keys = zip(measures["case"], hosts, strict=True)
    lesion_ml = pd.Series([taken.get(key, 0.0) for key in keys], measures.index)
    composed = measures["source"] == "labels"
    volume = measures["volume_ml"] + lesion_ml.where(composed & (measures["voxels"] > 0), 0.0)
    hidden = lesion_ml > LEAST_SHARE * volume
    shape = measures[list(SHAPE)].astype(float).mask(hidden)
    return measures.assign(volume_ml=volume, **{name: shape[name] for name in SHAPE})
