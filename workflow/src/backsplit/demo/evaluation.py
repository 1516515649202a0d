"""How well the demo's network knows phantoms that it has not seen."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from backsplit.cases.table import Case
from backsplit.config.model import Run
from backsplit.config.segmenters import TotalSegmentator
from backsplit.config.slices import Labelling, Placing
from backsplit.demo.phantoms import Phantom, make_phantom
from backsplit.errors import CaseError
from backsplit.segment.totalsegmentator import TotalSegmentatorSegmenter
from backsplit.volume import Array

SEEDS = tuple(range(500, 510))
"""Neither the demo's phantoms nor those of the training."""
STRUCTURES = {
    "lungs": "lung_*",
    "liver": "liver",
    "spleen": "spleen",
    "kidney_right": "kidney_right",
    "kidney_left": "kidney_left",
    "heart": "heart",
    "aorta": "aorta",
    "vertebrae": "vertebrae_*",
}
"""What the demo makes of the classes: name to pattern."""


def evaluate(seeds: Sequence[int] = SEEDS, weights: str = "demo") -> pd.DataFrame:
    """Label phantoms through TotalSegmentator and compare with their truth.

    Parameters
    ----------
    seeds : of the phantoms; each gets a kidney and a liver lesion
    weights : as in the configuration

    Returns
    -------
    table
        seed, kind (`structure` as the demo merges them, `class` for single lobes and vertebrae),
        name, dice.
    """
    settings = TotalSegmentator(
        kind="totalsegmentator", task="total", fastest=True, weights=weights
    )
    inputs = Labelling(("ct",), Placing("ct"))
    segmenter = TotalSegmentatorSegmenter(settings, inputs, Run(device="cpu"))
    classes = segmenter.classes()
    phantoms = {str(seed): make_phantom(seed, ("kidney", "liver")) for seed in seeds}
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="backsplit-") as folder:
        cases = [_write(Path(folder), seed, phantom) for seed, phantom in phantoms.items()]
        for case, result in segmenter.label(cases):
            if isinstance(result, CaseError):
                raise result
            rows += _compare(case.id, phantoms[case.id].anatomy, result.array, classes)
    return pd.DataFrame(rows)


def _write(folder: Path, name: str, phantom: Phantom) -> Case:
    path = folder / f"{name}.nii.gz"
    image = sitk.GetImageFromArray(phantom.image)
    image.SetSpacing(phantom.grid.spacing)
    image.SetOrigin(phantom.grid.origin)
    sitk.WriteImage(image, str(path))
    return Case(name, 2, {"ct": path}, {}, {}, folder)


def _compare(
    seed: str, truth: Array, labels: Array, classes: Mapping[str, int]
) -> Iterator[dict[str, object]]:
    groups = {("structure", name): pattern for name, pattern in STRUCTURES.items()}
    groups |= {("class", name): name for name in classes if name.startswith(("lung_", "vert"))}
    for (kind, name), pattern in groups.items():
        values = [value for label, value in classes.items() if fnmatchcase(label, pattern)]
        a, b = np.isin(truth, values), np.isin(labels, values)
        if a.any():
            dice = 2 * float((a & b).sum()) / float(a.sum() + b.sum())
            yield {"seed": seed, "kind": kind, "name": name, "dice": dice}
