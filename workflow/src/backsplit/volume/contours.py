"""Regions of an RTSTRUCT: contours in the planes of an image, filled by the even-odd rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataelem import RawDataElement

from backsplit.errors import CaseError, Code, shown
from backsplit.volume import even_odd
from backsplit.volume.drawn import Drawn, gaps_between
from backsplit.volume.grid import Array, Grid, require_same_frame
from backsplit.volume.segments import Segment, SegmentFile

FILLED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "INTERPOLATED_PLANAR")
"""Types that enclose an area (DICOM PS3.3 C.8.8.6.3). Only the second one says that contours
within contours are holes; programs write holes as the first one as well."""

PLANE_TOLERANCE = 0.25
"""A contour belongs to the slice whose plane is that near, in slices …"""

PLANE_NOTED = 0.02
"""… and is worth a note from here on."""

OUTSIDE_VOXELS = 1.0
"""A contour may stick out of the grid by a voxel: it is drawn round the voxels at the edge."""


class Regions(SegmentFile):
    """An RTSTRUCT.

    Raises
    ------
    Exception
        Whatever the header lacks (pydicom's).
    """

    def __init__(self, path: Path, data: Any) -> None:  # noqa: ANN401 (a pydicom Dataset)
        given = data.StructureSetROISequence
        super().__init__(path, [(int(item.ROINumber), str(item.ROIName)) for item in given])
        self.data = data
        self.frames = {
            int(item.ROINumber): str(item.get("ReferencedFrameOfReferenceUID") or "")
            for item in given
        }

    def _read(self, number: int, name: str, grid: Grid) -> Segment:
        what = f"{self.path}: region {shown(name)!r}"
        require_same_frame(what, self.frames[number], grid)
        items = [
            contour
            for item in self.data.get("ROIContourSequence") or []
            if int(item.ReferencedROINumber) == number
            for contour in item.get("ContourSequence") or []
        ]
        mask, drawn, notes = read_region(self.path, name, items, grid)
        return Segment(mask, drawn, tuple(notes))


def read_region(
    path: Path, region: str, items: list[Any], grid: Grid
) -> tuple[Array, Drawn, list[str]]:
    """Fill the contours of one region.

    Parameters
    ----------
    path, region : the file, and the name of the region in it, for messages
    items : the region's items of ContourSequence (pydicom)
    grid : the image's

    Returns
    -------
    mask, drawn, notes
        bool (z, y, x), what the contours themselves say, and what is worth a word.

    Raises
    ------
    CaseError
        CONTOUR_UNUSABLE for contours that enclose nothing (open ones, points, types that DICOM
        does not have) or that have no points; GRID_MISMATCH for one that lies in no slice of the
        image; GRID_NO_OVERLAP for one that reaches outside.
    ValueError
        Coordinates that are no numbers.
    """
    contours, copies = _points(path, region, items)
    notes = [f"region {region!r} has {copies} contours twice; each is used once"] if copies else []
    mask = np.zeros(grid.shape, bool)
    if not contours:
        return mask, Drawn("contours", 0, None, 0.0), [f"region {region!r} has no contours"]
    indices = [grid.to_index(points) for points in contours]
    axis = _axis(indices)
    order = [axis, *(a for a in range(3) if a != axis)]
    slices = np.moveaxis(mask, axis, 0)
    planes: dict[int, list[Array]] = {}
    off = 0.0
    for index in indices:
        plane = _plane(path, region, index[:, order], slices.shape)
        off = max(off, float(np.abs(index[:, axis] - plane).max()))
        planes.setdefault(min(max(plane, 0), len(slices) - 1), []).append(index[:, order[1:]])
    for plane, polygons in planes.items():
        slices[plane] = even_odd.fill(polygons, slices.shape[1:])
    sides = [grid.spacing_zyx[a] for a in order]
    drawn = _drawn(planes, sides[0], np.array(sides[1:]))
    if off > PLANE_NOTED:
        notes.append(
            f"contours of region {region!r} are up to {off * sides[0]:.2g} mm off the planes of "
            "the image; each was moved to the nearest one"
        )
    if drawn.gaps:
        notes.append(
            f"region {region!r} has no contour in {drawn.gaps} of the slices between its first "
            "and its last"
        )
    if not mask.any():
        notes.append(f"no voxel centre is inside the contours of region {region!r}")
    return mask, drawn, notes


def _points(path: Path, region: str, items: list[Any]) -> tuple[list[Array], int]:
    """Vertices (n, 3) of each contour in mm, and how many contours are copies of another one."""
    unusable = Counter(
        str(item.get("ContourGeometricType", "")) or "no type"
        for item in items
        if item.get("ContourGeometricType") not in FILLED
    )
    if unusable:
        found = ", ".join(f"{shown(kind, 40)} ({count})" for kind, count in unusable.most_common(5))
        raise CaseError(
            Code.CONTOUR_UNUSABLE,
            f"{path}: region {shown(region)!r} has contours that enclose no area: {found}; "
            f"{', '.join(FILLED)} can be filled",
            "export it as closed contours, or as DICOM-SEG, or name another region in the targets",
        )
    contours: dict[bytes, Array] = {}
    copies = 0
    for item in items:
        values = _coordinates(item)
        count = item.get("NumberOfContourPoints", len(values) // 3)
        if not len(values) or len(values) % 3 or len(values) != 3 * int(count):
            raise CaseError(
                Code.CONTOUR_UNUSABLE,
                f"{path}: region {shown(region)!r} has a contour with {len(values)} coordinates "
                f"for {shown(count, 40)} points; three each, and at least one point, are needed",
                "export it again",
            )
        points = values.reshape(-1, 3)
        if not np.isfinite(points).all():
            raise ValueError("a contour has points that are not numbers")
        copies += points.tobytes() in contours
        contours[points.tobytes()] = points
    return list(contours.values()), copies


def _coordinates(item: Any) -> Array:  # noqa: ANN401
    """Numbers of a contour, from the text in the file: pydicom makes an object of each."""
    raw = item.get_item("ContourData")
    if isinstance(raw, RawDataElement) and isinstance(raw.value, bytes):
        text = raw.value.strip(b" \0")
        return np.array(text.split(b"\\") if text else [], "S").astype(float)
    given = item.get("ContourData")
    return np.asarray([] if given is None else given, float).ravel()


def _axis(indices: list[Array]) -> int:
    """The array axis that all contours are perpendicular to: 0, unless the image was reordered."""
    spread = np.max([np.ptp(index, axis=0) for index in indices], axis=0)
    return 0 if spread[0] <= PLANE_TOLERANCE else int(spread.argmin())


def _plane(path: Path, region: str, index: Array, shape: tuple[int, ...]) -> int:
    """Slice that a contour lies in; `index` and `shape` have the slices' axis first."""
    plane = round(float(index[:, 0].mean()))
    off = float(np.abs(index[:, 0] - plane).max())
    if off > PLANE_TOLERANCE:
        raise CaseError(
            Code.GRID_MISMATCH,
            f"{path}: region {shown(region)!r} has a contour that is in no slice of the image "
            f"({off:.2g} slices from the nearest; at most {PLANE_TOLERANCE} is accepted)",
            "it was drawn on another series: use that one as the image",
        )
    low = index.min(axis=0)
    high = index.max(axis=0) - (np.asarray(shape) - 1)
    slack = np.array([PLANE_TOLERANCE, 0.5 + OUTSIDE_VOXELS, 0.5 + OUTSIDE_VOXELS])
    if (low < -slack).any() or (high > slack).any():
        raise CaseError(
            Code.GRID_NO_OVERLAP,
            f"{path}: region {shown(region)!r} has a contour that reaches outside the image",
            "use the series that it was drawn on",
        )
    return plane


def _drawn(planes: Mapping[int, list[Array]], distance: float, sides: Array) -> Drawn:
    """Volume from the contours' area, in mm², times the distance of the slices."""
    in_mm = {plane: [index * sides for index in polygons] for plane, polygons in planes.items()}
    step = float(sides.min()) / 4
    square_mm = sum(even_odd.area(polygons, step) for polygons in in_mm.values())
    tolerance = sum(
        contour_tolerance(polygon, sides) for polygons in in_mm.values() for polygon in polygons
    )
    return Drawn(
        "contours",
        sum(len(polygons) for polygons in planes.values()),
        None,
        square_mm * distance / 1000,
        gaps_between(set(planes)),
        tolerance * distance / 1000,
    )


def contour_tolerance(polygon: Array, sides: Array) -> float:
    """By how much the pixels of a contour may differ from its area, mm².

    A pixel that is counted wrongly, wholly or in part, is cut by the contour, so it lies within
    half a diagonal r of it. What lies within r on one side of a closed curve of length P has at
    most the area r P + pi r² (Steiner's formula). Vertices are moved by `even_odd.ON_PIXEL` at
    most, which is added to r.
    """
    reach = float(np.linalg.norm(sides)) * (0.5 + even_odd.ON_PIXEL)
    return reach * even_odd.perimeter(polygon) + np.pi * reach**2
