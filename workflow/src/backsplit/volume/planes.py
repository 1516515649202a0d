"""Where a DICOM frame lies in the patient: of single slices and of multi-frame objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backsplit.volume.grid import Array

COSINES_OFF = 1e-3
"""By how much direction cosines may miss length 1 and right angles: they have few decimals."""

MOST_MM = 1e6
"""Positions and spacings beyond this are none."""

MOST_FRAMES = 100_000
"""More frames are no header of an image."""


@dataclass(frozen=True)
class Plane:
    """Where the pixels of a frame lie.

    Attributes
    ----------
    position : centre of the first pixel, mm, LPS
    cosines : direction of growing column index, then of growing row index, (6,)
    spacing : distance of rows, and of columns, mm, as DICOM orders them
    size : rows, columns
    """

    position: Array
    cosines: Array
    spacing: tuple[float, float]
    size: tuple[int, int]

    @property
    def normal(self) -> Array:
        """Direction in which slices follow each other."""
        return np.cross(self.cosines[:3], self.cosines[3:])


def is_dicom_file(path: Path) -> bool:
    """Whether a file has DICOM's preamble."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except (OSError, ValueError):  # whoever reads it as an image says what is wrong
        return False


def is_dicom(path: Path) -> bool:
    """Whether an image is a folder of slices, or a multi-frame object."""
    return path.is_dir() or is_dicom_file(path)


def frame_count(data: Any) -> int:  # noqa: ANN401 (a pydicom Dataset)
    """Frames of an object.

    Raises
    ------
    ValueError
        A number that no object has, or another one than frames are described.
    """
    count = int(data.get("NumberOfFrames") or 1)
    groups = data.get("PerFrameFunctionalGroupsSequence")
    if not 1 <= count <= MOST_FRAMES or (groups is not None and len(groups) != count):
        described = "" if groups is None else f" and describes {len(groups)}"
        raise ValueError(f"it says that it has {count} frames{described}")
    return count


def group(data: Any, frame: int, name: str) -> Any:  # noqa: ANN401
    """Item of a functional group, the frame's own or shared; None if there is none."""
    own = data.get("PerFrameFunctionalGroupsSequence") or []
    shared = data.get("SharedFunctionalGroupsSequence") or []
    for groups in (*own[frame : frame + 1], *shared[:1]):
        if items := groups.get(name):
            return items[0]
    return None


def plane_of(data: Any, frame: int = 0) -> Plane:  # noqa: ANN401
    """Plane of a frame (counted from 0), or of an object that is one slice.

    Raises
    ------
    ValueError
        It is not said, or not sound.
    """
    position = orientation = measures = data
    if data.get("PerFrameFunctionalGroupsSequence") is not None:
        position = group(data, frame, "PlanePositionSequence")
        orientation = group(data, frame, "PlaneOrientationSequence")
        measures = group(data, frame, "PixelMeasuresSequence")
    elif frame_count(data) > 1:
        raise ValueError("it has several frames but no position for any of them")
    return Plane(
        _numbers(position, "ImagePositionPatient", 3),
        _cosines(_numbers(orientation, "ImageOrientationPatient", 6)),
        _spacing(_numbers(measures, "PixelSpacing", 2)),
        (int(data.Rows), int(data.Columns)),
    )


def _numbers(item: Any, name: str, count: int) -> Array:  # noqa: ANN401
    given = None if item is None else item.get(name)
    if given is None:
        raise ValueError(f"it has no {name}")
    values = np.asarray([float(value) for value in np.atleast_1d(np.asarray(given))])
    if len(values) != count or not (np.abs(values) <= MOST_MM).all():  # nor is NaN
        raise ValueError(f"its {name} is {str(given)[:80]}")
    return values


def _cosines(values: Array) -> Array:
    axes = values.reshape(2, 3)
    if np.abs(axes @ axes.T - np.eye(2)).max() > COSINES_OFF:
        raise ValueError(f"its ImageOrientationPatient {values.tolist()} has no right angle")
    return values


def _spacing(values: Array) -> tuple[float, float]:
    if values.min() <= 0:
        raise ValueError(f"its PixelSpacing is {values.tolist()}")
    return float(values[0]), float(values[1])
