"""Intensity bands inside the body: needs no weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backsplit.cases.table import Case
from backsplit.config.model import Run
from backsplit.config.segmenters import Threshold
from backsplit.config.slices import Labelling
from backsplit.errors import CaseError
from backsplit.segment.base import Commercial, Labelled, Licence, Segmenter
from backsplit.segment.timing import Timings
from backsplit.volume import read_volume
from backsplit.volume.body import OPENING_MM, body_mask
from backsplit.volume.intensity import PADDING_HU, padding_value, require_finite
from backsplit.work.batch import one_by_one


def build(section: Threshold, inputs: Labelling, run: Run) -> Segmenter:
    """Make the segmenter of a section."""
    return ThresholdSegmenter(section, inputs)


class ThresholdSegmenter(Segmenter):
    """Labels voxels by their intensity."""

    def __init__(self, config: Threshold, inputs: Labelling) -> None:
        self.config = config
        self.timings = Timings()
        (self.channel,) = inputs.channels

    def classes(self) -> dict[str, int]:
        """The bands, numbered 1, 2, 3 … in the order of the configuration."""
        return {name: value for value, name in enumerate(self.config.bands, start=1)}

    def licence(self) -> Licence:
        """Nobody has rights to it."""
        return Licence("none", Commercial.YES, "intensities of the image itself", "no weights")

    def identity(self) -> dict[str, Any]:
        """Version of the method: a change of the body mask changes labels."""
        return {"method": 2, "opening_mm": OPENING_MM}

    def inputs(self, case: Case) -> Mapping[str, Path]:
        """The image of its channel."""
        return {"image": case.images[self.channel]}

    def label(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Labelled | CaseError]]:
        """Threshold each case."""
        return one_by_one(cases, self._label_case)

    def _label_case(self, case: Case) -> Labelled:
        volume = read_volume(case.images[self.channel])
        require_finite(case.images[self.channel], volume.array)
        labels = np.zeros(volume.array.shape, np.min_scalar_type(len(self.config.bands)))
        for value, (low, high) in enumerate(self.config.bands.values(), start=1):
            inside = np.ones(labels.shape, bool) if low is None else volume.array >= low
            if high is not None:
                inside &= volume.array < high
            labels[inside] = value
        padding = padding_value(volume.array)
        if padding is not None and padding < PADDING_HU:  # nothing was measured there
            labels[volume.array == padding] = 0
        if self.config.within == "body":
            labels *= body_mask(volume.array, volume.grid, self.config.body_above)
        return Labelled(labels, volume.grid)
