"""Segments of DICOM-SEG and regions of RTSTRUCT, put on an image's grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from backsplit.config.base import MOST_LABEL
from backsplit.errors import CaseError, Code
from backsplit.volume.grid import Array, Grid

PLANE_TOLERANCE = 0.25
"""A contour belongs to the slice whose plane is that near, in slices."""

OUTSIDE_VOXELS = 1.0
"""A contour may stick out of the grid by a voxel: it is drawn round the voxels at the edge."""

LATTICE_TOLERANCE = 0.01
"""Relative tolerance of highdicom when a segmentation is put on an image's lattice."""


@dataclass(frozen=True)
class SegmentName:
    """A segment or region: its number in label maps, and its name in the file."""

    number: int
    name: str


class SegmentFile:
    """A DICOM file with segments; each is put on the grid only when it is asked for.

    Raises
    ------
    CaseError
        FILE_UNREADABLE for anything but a readable DICOM-SEG or RTSTRUCT.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.data: Any = pydicom.dcmread(path)
            self.is_contours = self.data.Modality == "RTSTRUCT"
            if not self.is_contours and self.data.Modality != "SEG":
                raise ValueError(f"its modality is {self.data.Modality}")
            self.segments = tuple(_named(self._given()))
        except CaseError:
            raise
        except Exception as error:
            raise self._unreadable(error) from None

    def mask(self, segment: SegmentName, grid: Grid) -> Array:
        """One segment as a mask (z, y, x) on a grid.

        Raises
        ------
        CaseError
            GRID_MISMATCH, GRID_NO_OVERLAP, LABEL_NOT_INTEGER (a fractional segmentation),
            FILE_UNREADABLE.
        """
        position = self.segments.index(segment)
        try:
            if self.is_contours:
                return self._from_contours(self._given()[position][0], grid)
            return self._from_frames(self._given()[position][0], grid)
        except CaseError:
            raise
        except Exception as error:
            raise self._unreadable(error) from None

    def _given(self) -> list[tuple[int, str]]:
        """Numbers and names as the file has them."""
        if self.is_contours:
            items = self.data.StructureSetROISequence
            return [(int(i.ROINumber), str(i.ROIName)) for i in items]
        items = self.data.SegmentSequence
        return [(int(i.SegmentNumber), str(i.SegmentLabel)) for i in items]

    def _from_contours(self, number: int, grid: Grid) -> Array:
        """Fill closed planar contours slice by slice; even-odd, so that holes stay holes."""
        from skimage.draw import polygon2mask

        mask = np.zeros(grid.shape, bool)
        for item in self.data.ROIContourSequence:
            if int(item.ReferencedROINumber) != number:
                continue
            for contour in item.get("ContourSequence", []):
                if contour.ContourGeometricType != "CLOSED_PLANAR":
                    continue
                points = np.asarray([float(v) for v in contour.ContourData]).reshape(-1, 3)
                if not np.isfinite(points).all():
                    raise ValueError("a contour has points that are no numbers")
                index = grid.to_index(points)
                plane = self._plane(index, grid)
                mask[plane] ^= polygon2mask(grid.shape[1:], index[:, 1:])
        return mask

    def _plane(self, index_zyx: Array, grid: Grid) -> int:
        """Slice that a contour lies in."""
        plane = round(float(index_zyx[:, 0].mean()))
        if np.abs(index_zyx[:, 0] - plane).max() > PLANE_TOLERANCE:
            raise CaseError(
                Code.GRID_MISMATCH,
                f"{self.path} has a contour that lies in no slice of the image",
                "it was drawn on another series: give that one as the image",
            )
        low = index_zyx.min(axis=0)
        high = index_zyx.max(axis=0) - (np.asarray(grid.shape) - 1)
        slack = np.array([PLANE_TOLERANCE, 0.5 + OUTSIDE_VOXELS, 0.5 + OUTSIDE_VOXELS])
        if (low < -slack).any() or (high > slack).any():
            raise CaseError(
                Code.GRID_NO_OVERLAP,
                f"{self.path} has a contour that reaches outside the image",
                "give the series that it was drawn on",
            )
        return int(np.clip(plane, 0, grid.shape[0] - 1))

    def _from_frames(self, number: int, grid: Grid) -> Array:
        """Put the frames of one segment on the image's lattice."""
        import highdicom as hd

        segmentation = hd.seg.Segmentation.from_dataset(self.data)
        volume = segmentation.get_volume(
            segment_numbers=[number], combine_segments=False, rescale_fractional=True
        )
        values = np.unique(volume.array)
        if not set(values.tolist()) <= {0, 1}:
            raise CaseError(
                Code.LABEL_NOT_INTEGER,
                f"{self.path} is a fractional segmentation with values between 0 and 1",
                "threshold it and save it as binary",
            )
        affine = grid.affine_lps[:, [2, 1, 0, 3]]  # highdicom counts indices in array order
        wanted = hd.VolumeGeometry(affine, grid.shape, coordinate_system="PATIENT")
        try:
            matched = volume.match_geometry(wanted, tol=LATTICE_TOLERANCE)
        except (RuntimeError, ValueError) as error:
            raise CaseError(
                Code.GRID_MISMATCH,
                f"{self.path} is not on the voxels of the image ({error})",
                "give the series that it was made from",
            ) from None
        return np.asarray(matched.array[..., 0] != 0)

    def _unreadable(self, error: Exception) -> CaseError:
        reason = str(error).strip().splitlines()
        return CaseError(
            Code.FILE_UNREADABLE,
            f"{self.path} can not be read as DICOM-SEG or RTSTRUCT "
            f"({(reason[-1] if reason else type(error).__name__)[:200]})",
            "export it again",
        )


def _named(given: Sequence[tuple[int, str]]) -> Iterator[SegmentName]:
    """Numbers that fit a label map, the file's own where they do; names that differ."""
    numbers = [number for number, _ in given]
    own = len(set(numbers)) == len(numbers) and all(1 <= n <= MOST_LABEL for n in numbers)
    seen: dict[str, int] = {}
    for position, (number, name) in enumerate(given, start=1):
        seen[name] = seen.get(name, 0) + 1
        shown = name if seen[name] == 1 else f"{name} ({seen[name]})"
        yield SegmentName(number if own else position, shown)
