"""The patient's body in an image."""

from __future__ import annotations

import cc3d
import numpy as np

from backsplit.config.base import TISSUE_ABOVE_HU
from backsplit.volume.grid import Array, Grid
from backsplit.volume.intensity import is_ct

OPENING_MM = 6.0
"""Couches, cables and blankets are thinner or hang on by less than this."""


def body_mask(image: Array, grid: Grid, above: float | str = TISSUE_ABOVE_HU) -> Array:
    """Mask of the patient: the largest thing brighter than air, with its cavities.

    Parameters
    ----------
    image : intensities, (z, y, x)
    grid : its grid
    above : lowest intensity of tissue, or "otsu" to split the image's histogram in two
        (Otsu 1979)

    Returns
    -------
    mask
        bool (z, y, x). Lungs and bowel gas are inside: holes are filled slice by slice across
        the body's long axis, so that an airway that leaves the field of view opens nothing.
    """
    import SimpleITK as sitk
    from scipy import ndimage

    if above == "otsu":
        tissue = sitk.GetArrayFromImage(
            sitk.OtsuThreshold(sitk.GetImageFromArray(image.astype(np.float32)), 0, 1)
        ).astype(bool)
    else:
        tissue = image > float(above)
    if not tissue.any():
        return np.zeros(image.shape, bool)
    opened = _changed(tissue, grid, "BinaryMorphologicalOpening")
    components = cc3d.largest_k(opened if opened.any() else tissue, k=1, connectivity=6) > 0
    # the opening rounds off limbs and ears: what it took from the body comes back
    grown = components
    if opened.any():
        grown = _changed(components, grid, "BinaryDilate") & tissue
    axis, _ = grid.array_axis(2)
    filled = np.zeros(grown.shape, bool)
    for index in range(grown.shape[axis]):
        at = (slice(None),) * axis + (index,)
        filled[at] = ndimage.binary_fill_holes(grown[at])
    return filled


def body_threshold(image: Array) -> float | str:
    """What `body_mask` goes by where nobody says it: -500 HU for CT, Otsu's for anything else."""
    return TISSUE_ABOVE_HU if is_ct(float(image.min())) else "otsu"


def _radius_voxels(grid: Grid) -> list[int]:
    return [max(1, round(OPENING_MM / 2 / s)) for s in grid.spacing]


def _changed(mask: Array, grid: Grid, how: str) -> Array:
    """A mask after one of ITK's operations of mathematical morphology."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    changed = getattr(sitk, how)(image, _radius_voxels(grid))
    return np.asarray(sitk.GetArrayFromImage(changed)) > 0
