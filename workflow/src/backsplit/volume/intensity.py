"""What can be wrong with an image's intensities, and what lies outside the field of view."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from backsplit.errors import CaseError, Code
from backsplit.volume.grid import Array

CT_BELOW_HU = -200.0
"""An image with values below is a CT: air is -1000 HU and water 0 HU by the definition of the scale
(Hounsfield 1973) and no tissue but lung lies below fat, at about -100 HU. MR magnitudes and uptake
are never negative, but for what filters make of noise."""

PADDING_HU = -1024.0
"""CT numbers start at -1024 (12 bits); scanners and converters write -1024, -2000, -2048 or -3024
where nothing was measured. No other modality goes as low."""

FACE_SHARE = 0.1
"""A circle leaves out a fifth of its square; noise cut off at -1024 reaches a few percent."""

PADDING_SHARE = 0.01
"""Less than this share of an image is not worth a word."""


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
            f"{path} has {count} voxels that are NaN or infinite",
            "replace them with the value of air (-1024 in CT, else 0)",
        )


def require_contrast(path: Path, image: Array) -> None:
    """Refuse an image that holds one value only.

    Raises
    ------
    CaseError
        IMAGE_CONSTANT.
    """
    if image.min() == image.max():
        raise CaseError(
            Code.IMAGE_CONSTANT,
            f"{path} holds {image.flat[0]} in every voxel",
            "replace it with the image",
        )


def is_ct(lowest: float) -> bool:
    """Whether the lowest intensity of an image tells that it is a CT."""
    return lowest < CT_BELOW_HU


def padding_value(image: Array) -> float | None:
    """Intensity that means "not measured" in a CT, or None.

    The lowest value of the image, when it is -1024 or below and makes up a good part of the
    volume's faces: scanners reconstruct a circle or a tilted box and pad the rest. Air that is
    cut off at -1024 is scattered noise there.
    """
    lowest = float(image.min())
    if lowest > PADDING_HU:
        return None
    faces = [np.take(image, end, axis).ravel() for axis in range(3) for end in (0, -1)]
    share = (np.concatenate(faces) == lowest).mean()
    return lowest if share >= FACE_SHARE else None


def padding_note(image: Array) -> str | None:
    """Say how much of a CT is padding; None where it is none, or next to none."""
    value = padding_value(image)
    if value is None:
        return None
    share = np.count_nonzero(image == value) / image.size
    if share < PADDING_SHARE:
        return None
    return f"{share:.0%} of the image is padding ({value:g}) outside the field of view"
