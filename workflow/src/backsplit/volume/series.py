"""A folder of DICOM slices as one volume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.errors import InvalidDicomError

from backsplit.errors import CaseError, Code
from backsplit.volume.geometry import Geometry
from backsplit.volume.grid import Array, Grid, Volume

EVEN = 0.01
"""Slices are equally spaced when no gap differs from the median by more than this share of it:
positions are written with a few decimals."""

TAGS = [
    "SeriesInstanceUID",
    "SeriesDescription",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
]


@dataclass(frozen=True)
class Slice:
    """One file of a series, from its header."""

    path: Path
    series: str
    description: str
    position: Array
    cosines: Array
    spacing: tuple[float, float]
    size: tuple[int, int]


def series_geometry(folder: Path) -> Geometry:
    """Read the grid of a series from its headers; raises as `read_series`."""
    return Geometry(_grid(folder, _sorted_slices(folder)))


def read_series(folder: Path) -> Volume:
    """Read a DICOM series with GDCM; rescale slope and intercept are applied.

    Raises
    ------
    CaseError
        FILE_UNREADABLE, SERIES_AMBIGUOUS (several series in the folder), SLICES_UNEVEN (slices
        missing, doubled, of other size or orientation) or DIRECTION_SHEARED (gantry tilt).
    """
    slices = _sorted_slices(folder)
    grid = _grid(folder, slices)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(s.path) for s in slices])
    try:
        array = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise _unreadable(folder, str(error).strip().splitlines()[-1]) from None
    return Volume(_narrow(array).reshape(grid.shape), grid)


def _narrow(array: Array) -> Array:
    """int16 where all values fit, else float32: GDCM gives int32 or float64."""
    if array.dtype.kind in "iu":
        limits = np.iinfo(np.int16)
        fits = limits.min <= int(array.min()) and int(array.max()) <= limits.max
        return array.astype(np.int16 if fits else np.int32)
    return array.astype(np.float32)


def _sorted_slices(folder: Path) -> list[Slice]:
    """Slices in the direction of their normal; files that are no slice are left aside."""
    slices = [s for path in sorted(folder.iterdir()) if path.is_file() for s in _slice(path)]
    if not slices:
        raise _unreadable(folder, "no file of it is a DICOM slice with a position")
    counts = Counter((s.series, s.description) for s in slices)
    if len(counts) > 1:
        shown = ", ".join(f"{d or uid} ({n} slices)" for (uid, d), n in counts.most_common())
        raise CaseError(
            Code.SERIES_AMBIGUOUS,
            f"{folder} holds {len(counts)} series: {shown}",
            "give each a folder of its own",
        )
    normal = np.cross(slices[0].cosines[:3], slices[0].cosines[3:])
    return sorted(slices, key=lambda s: float(s.position @ normal))


def _slice(path: Path) -> list[Slice]:
    """The slice in a file; nothing where it is none."""
    try:
        data: Any = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
        return [
            Slice(
                path,
                str(data.SeriesInstanceUID),
                str(data.get("SeriesDescription", "")),
                np.array([float(v) for v in data.ImagePositionPatient]).reshape(3),
                np.array([float(v) for v in data.ImageOrientationPatient]).reshape(6),
                (float(data.PixelSpacing[0]), float(data.PixelSpacing[1])),
                (int(data.Rows), int(data.Columns)),
            )
        ]
    except (
        InvalidDicomError,
        AttributeError,
        TypeError,
        ValueError,
        OSError,
        IndexError,
        EOFError,
    ):
        return []


def _grid(folder: Path, slices: Sequence[Slice]) -> Grid:
    first = slices[0]
    for other in slices:
        same = np.allclose(other.cosines, first.cosines, atol=1e-4)
        if not same or other.size != first.size or other.spacing != first.spacing:
            raise _uneven(folder, f"{other.path.name} has another size, spacing or orientation")
    if len(slices) < 2:
        raise _uneven(folder, "it has one slice only")
    normal = np.cross(first.cosines[:3], first.cosines[3:])
    positions = np.array([s.position for s in slices])
    steps = np.diff(positions, axis=0)
    gaps = steps @ normal
    gap = float(np.median(gaps))
    wrong = np.flatnonzero(np.abs(gaps - gap) > max(EVEN * gap, 0.01))
    if gap <= 0 or len(wrong):
        at = int(wrong[0]) if len(wrong) else 0
        raise _uneven(
            folder,
            f"{slices[at].path.name} and {slices[at + 1].path.name} are {gaps[at]:.4g} mm apart "
            f"where {gap:.4g} mm is usual",
        )
    tilt = float(np.linalg.norm(steps - np.outer(gaps, normal), axis=1).max())
    if tilt > max(EVEN * gap, 0.01):
        raise CaseError(
            Code.DIRECTION_SHEARED,
            f"{folder}: each slice is displaced by {tilt:.3g} mm in its plane (gantry tilt)",
            "resample the series to a rectangular grid",
        )
    rows, columns = first.size
    direction = np.stack([first.cosines[:3], first.cosines[3:], normal], axis=1)
    origin = positions[0]
    return Grid(
        (columns, rows, len(slices)),
        (first.spacing[1], first.spacing[0], gap),
        (float(origin[0]), float(origin[1]), float(origin[2])),
        tuple(float(c) for c in direction.ravel()),
    )


def _uneven(folder: Path, what: str) -> CaseError:
    return CaseError(
        Code.SLICES_UNEVEN,
        f"{folder}: {what}",
        "complete the series, or take out what does not belong to it",
    )


def _unreadable(folder: Path, reason: str) -> CaseError:
    return CaseError(
        Code.FILE_UNREADABLE,
        f"{folder} can not be read as a DICOM series ({reason[:200]})",
        "give a folder with the slices of one series",
    )
