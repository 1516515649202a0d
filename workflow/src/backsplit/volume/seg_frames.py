"""Segments of a DICOM-SEG: frames, each at its own position on the image's lattice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from backsplit.errors import CaseError, Code, shown
from backsplit.volume.drawn import Drawn, gaps_between
from backsplit.volume.frames import frame_pixels
from backsplit.volume.grid import Array, Grid, require_same_frame
from backsplit.volume.lattice import on_lattice, place
from backsplit.volume.planes import Plane, frame_count, group, plane_of
from backsplit.volume.segments import Segment, SegmentFile


class SegFrames(SegmentFile):
    """A DICOM-SEG of type BINARY, LABELMAP, or FRACTIONAL with nothing between 0 and 1.

    Raises
    ------
    Exception
        Whatever the header lacks (pydicom's).
    """

    def __init__(self, path: Path, data: Any) -> None:  # noqa: ANN401 (a pydicom Dataset)
        self.data = data
        self.kind = str(data.SegmentationType)
        if self.kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
            raise ValueError(f"its SegmentationType is {shown(self.kind, 40)}")
        given = [(int(i.SegmentNumber), str(i.SegmentLabel)) for i in data.SegmentSequence]
        if self.kind == "LABELMAP":  # its background may be described as well
            given = [(number, name) for number, name in given if number]
        super().__init__(path, given)
        self._labels: dict[int, Array] = {}
        """Frames of a LABELMAP, which all segments share."""
        self.frames: dict[int, list[int]] = {}
        for frame in range(frame_count(data)):
            for number in self._numbers if self.kind == "LABELMAP" else (self._of(frame),):
                self.frames.setdefault(number, []).append(frame)
        if unknown := self.frames.keys() - set(self._numbers):
            raise ValueError(f"it has frames of segment {min(unknown)}, which it does not describe")

    def _of(self, frame: int) -> int:
        """Segment that a frame belongs to."""
        return int(group(self.data, frame, "SegmentIdentificationSequence").ReferencedSegmentNumber)

    def _read(self, number: int, name: str, grid: Grid) -> Segment:
        """Put the frames of one segment on the image's lattice.

        Raises
        ------
        CaseError
            ORIENTATION_UNKNOWN, GRID_MISMATCH, GRID_NO_OVERLAP, SERIES_AMBIGUOUS (two frames at
            one position), LABEL_NOT_INTEGER (a fractional segmentation).
        """
        require_same_frame(str(self.path), str(self.data.get("FrameOfReferenceUID") or ""), grid)
        mask = np.zeros(grid.shape, bool)
        voxels, ml = 0, 0.0
        planes: set[tuple[int, ...]] = set()
        for frame in self.frames.get(number, []):
            held = self._pixels(frame, number)
            if not held.any():
                continue
            plane = self._plane(frame)
            start, steps = self._on(plane, grid)
            if tuple(start) in planes:
                raise CaseError(
                    Code.SERIES_AMBIGUOUS,
                    f"{self.path} has two frames of segment {shown(name)!r} at one position",
                    "split it: a segmentation of one volume is needed",
                )
            planes.add(tuple(start))
            place(self.path, held, start, steps, mask)
            across = int(np.flatnonzero(~steps.any(axis=0))[0])  # the axis that no step runs along
            area = plane.spacing[0] * plane.spacing[1]
            voxels += int(held.sum())
            ml += int(held.sum()) * area * grid.spacing_zyx[across] / 1000
        slices = {start[across] for start in planes}
        drawn = Drawn("frames", len(planes), voxels, ml, gaps_between(slices))
        return Segment(mask, drawn, () if planes else (f"segment {name!r} has no voxels",))

    def _plane(self, frame: int) -> Plane:
        try:
            return plane_of(self.data, frame)
        except (ValueError, TypeError, AttributeError) as error:
            raise CaseError(
                Code.ORIENTATION_UNKNOWN,
                f"{self.path} gives no position for its frame {frame + 1} ({error})",
                "export it again, from the series that it was made from",
            ) from None

    def _on(self, plane: Plane, grid: Grid) -> tuple[Array, Array]:
        rows, columns = plane.cosines[3:], plane.cosines[:3]
        steps = np.stack([rows * plane.spacing[0], columns * plane.spacing[1]])
        try:
            return on_lattice(plane.position, steps, np.asarray(plane.size), grid)
        except ValueError as error:
            raise CaseError(
                Code.GRID_MISMATCH,
                f"{self.path} is not on the voxels of the image ({error})",
                "use the series that it was made from",
            ) from None

    def _pixels(self, frame: int, number: int) -> Array:
        """Which pixels of a frame belong to a segment."""
        if self.kind == "LABELMAP":
            if frame not in self._labels:
                self._labels[frame] = self._described(frame_pixels(self.data, frame))
            return np.asarray(self._labels[frame] == number)
        pixels = frame_pixels(self.data, frame)
        highest = int(self.data.MaximumFractionalValue) if self.kind == "FRACTIONAL" else 1
        between = pixels[(pixels != 0) & (pixels != highest)]
        if between.size and self.kind == "BINARY":
            raise ValueError(f"a binary frame holds the value {between.max()}")
        if between.size:
            raise CaseError(
                Code.LABEL_NOT_INTEGER,
                f"{self.path} is a fractional segmentation with values between 0 and 1 "
                f"({between[0]} of {highest})",
                "threshold it and save it as binary",
            )
        return np.asarray(pixels != 0)

    def _described(self, labels: Array) -> Array:
        """Refuse a frame with values that no segment has."""
        known = {0, *self._numbers, int(self.data.get("PixelPaddingValue") or 0)}
        if unknown := set(np.unique(labels).tolist()) - known:
            raise ValueError(f"it holds the value {min(unknown)}, which it does not describe")
        return labels
