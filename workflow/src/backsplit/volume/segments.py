"""Files that hold named segments: DICOM-SEG and RTSTRUCT, put on an image's grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from backsplit.config.base import MOST_LABEL
from backsplit.errors import CaseError, Code
from backsplit.volume.contours import read_region
from backsplit.volume.drawn import Drawn, gaps_between
from backsplit.volume.grid import Array, Grid

LATTICE_TOLERANCE = 0.01
"""Relative tolerance of highdicom when a segmentation is put on an image's lattice."""


@dataclass(frozen=True)
class SegmentName:
    """A segment or region: its number in label maps, and its name in the file."""

    number: int
    name: str


@dataclass(frozen=True)
class Segment:
    """A segment on an image's grid.

    Attributes
    ----------
    mask : bool (z, y, x)
    drawn : what the file itself says of it
    notes : what is worth a word about it
    """

    mask: Array
    drawn: Drawn
    notes: tuple[str, ...] = ()


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

    def read(self, segment: SegmentName, grid: Grid) -> Segment:
        """One segment on a grid.

        Raises
        ------
        CaseError
            CONTOUR_UNUSABLE, GRID_MISMATCH, GRID_NO_OVERLAP, LABEL_NOT_INTEGER (a fractional
            segmentation), FILE_UNREADABLE.
        """
        number = self._given()[self.segments.index(segment)][0]
        try:
            if self.is_contours:
                items = self._contours(number)
                mask, drawn, notes = read_region(self.path, segment.name, items, grid)
                return Segment(mask, drawn, tuple(notes))
            return self._from_frames(number, grid)
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

    def _contours(self, number: int) -> list[Any]:
        """Contours of a region; it may have none."""
        return [
            contour
            for item in self.data.get("ROIContourSequence") or []
            if int(item.ReferencedROINumber) == number
            for contour in item.get("ContourSequence") or []
        ]

    def _from_frames(self, number: int, grid: Grid) -> Segment:
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
        held = volume.array[..., 0].reshape(len(volume.array), -1).any(axis=1)
        voxels = int((volume.array != 0).sum())
        drawn = Drawn(
            "frames",
            int(held.sum()),
            voxels,
            voxels * grid.voxel_ml,
            gaps_between(set(np.flatnonzero(held).tolist())),
        )
        return Segment(np.asarray(matched.array[..., 0] != 0), drawn)

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
