"""Intensity bands inside the body: needs no weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from backsplit.batch import one_by_one
from backsplit.cases import Case
from backsplit.config import Dataset, Threshold
from backsplit.errors import CaseError, Code
from backsplit.segment.base import Labelled
from backsplit.segment.timing import Timings
from backsplit.volume import Array, Grid, read_volume

OPENING_MM = 6.0
"""Couches, cables and blankets are thinner or hang on by less than this."""


class ThresholdSegmenter:
    """Labels voxels by their intensity."""

    def __init__(self, config: Threshold, dataset: Dataset) -> None:
        self.config = config
        self.timings = Timings()
        self.channel = config.channel or dataset.channels[0]

    def classes(self) -> dict[str, int]:
        """The bands, numbered 1, 2, 3 … in the order of the configuration."""
        return {name: value for value, name in enumerate(self.config.bands, start=1)}

    def weights(self) -> Sequence[Path]:
        """None."""
        return ()

    def identity(self) -> dict[str, Any]:
        """Version of the method: a change of the body mask changes labels."""
        return {"method": 1, "opening_mm": OPENING_MM}

    def inputs(self, case: Case) -> Mapping[str, Path]:
        """The image of its channel."""
        return {"image": case.images[self.channel]}

    def label(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Labelled | CaseError]]:
        """Threshold each case."""
        return one_by_one(cases, self._label_case)

    def _label_case(self, case: Case) -> Labelled:
        volume = read_volume(case.images[self.channel])
        require_finite(case.images[self.channel], volume.array)
        labels = np.zeros(
            volume.array.shape, np.uint8 if len(self.config.bands) < 256 else np.uint16
        )
        for value, (low, high) in enumerate(self.config.bands.values(), start=1):
            inside = np.ones(labels.shape, bool) if low is None else volume.array >= low
            if high is not None:
                inside &= volume.array < high
            labels[inside] = value
        if self.config.within == "body":
            labels *= body_mask(volume.array, volume.grid, self.config.body_above)
        return Labelled(labels, volume.grid)


def body_mask(image: Array, grid: Grid, above: float | str = -500.0) -> Array:
    """Mask of the patient: the largest thing brighter than air, with its cavities.

    Parameters
    ----------
    image : intensities, (z, y, x)
    grid : its grid
    above : lowest intensity of tissue, or "otsu" to split the image's histogram in two
        (Otsu 1979); -500 HU lies half-way between air (-1000) and water (0)

    Returns
    -------
    mask
        bool (z, y, x). Lungs and bowel gas are inside: holes are filled slice by slice across
        the body's long axis, so that an airway that leaves the field of view opens nothing.
    """
    if above == "otsu":
        tissue = sitk.GetArrayFromImage(
            sitk.OtsuThreshold(sitk.GetImageFromArray(image.astype(np.float32)), 0, 1)
        ).astype(bool)
    else:
        tissue = image > float(above)
    if not tissue.any():
        return np.zeros(image.shape, bool)
    opened = _opened(tissue, grid)
    components = cc3d.largest_k(opened if opened.any() else tissue, k=1, connectivity=6) > 0
    # the opening rounds off limbs and ears: what it took from the body comes back
    grown = components
    if opened.any():
        grown = _dilated(components, grid) & tissue
    axis, _ = grid.array_axis(2)
    filled = np.zeros(grown.shape, bool)
    for index in range(grown.shape[axis]):
        at = (slice(None),) * axis + (index,)
        filled[at] = ndimage.binary_fill_holes(grown[at])
    return filled


def require_finite(path: Path, image: Array) -> None:
    """Refuse an image with NaN or infinity.

    Raises
    ------
    CaseError
        IMAGE_NOT_FINITE.
    """
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        count = int((~np.isfinite(image)).sum())
        raise CaseError(
            Code.IMAGE_NOT_FINITE,
            f"{path} has {count} voxels that are NaN or infinite; "
            "replace them by what the scanner writes for air",
        )


def _radius_voxels(grid: Grid) -> list[int]:
    return [max(1, round(OPENING_MM / 2 / s)) for s in grid.spacing]


def _opened(mask: Array, grid: Grid) -> Array:
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    opened = sitk.BinaryMorphologicalOpening(image, _radius_voxels(grid))
    return np.asarray(sitk.GetArrayFromImage(opened)) > 0


def _dilated(mask: Array, grid: Grid) -> Array:
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    dilated = sitk.BinaryDilate(image, _radius_voxels(grid))
    return np.asarray(sitk.GetArrayFromImage(dilated)) > 0
