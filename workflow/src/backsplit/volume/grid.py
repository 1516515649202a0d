"""Where voxels lie in the patient: the one place where (z, y, x) meets (x, y, z).

Arrays are (z, y, x). Sizes, spacings, origins and directions are (x, y, z), in mm, in ITK's
LPS patient axes: +x to the patient's left, +y to posterior, +z to superior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backsplit.errors import CaseError, Code

Array = NDArray[Any]

SNAP_MM = 1e-2
"""Two files are on the same grid when no corner voxel lies further apart than this: above what
float32 headers round away (about 1e-4 mm at 1000 mm), below any segmentation's precision …"""

SNAP_VOXELS = 0.05
"""… or than this share of the smallest voxel side, whichever is larger: headers written with two
decimals differ by that much, and no voxel comes to lie on another one."""


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a volume lie in the patient.

    Attributes
    ----------
    size : number of voxels, (x, y, z)
    spacing : mm, (x, y, z)
    origin : centre of the first voxel, mm, LPS
    direction : 3x3 cosines, row-major, columns are the x, y, z axes of the volume, LPS
    frame : DICOM's UID of the frame of reference, which says what positions can be held against
        these; empty where a format has none
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    frame: str = field(default="", compare=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the array, (z, y, x)."""
        x, y, z = self.size
        return (z, y, x)

    @property
    def spacing_zyx(self) -> tuple[float, float, float]:
        """Spacing in the order of the array's axes, mm, (z, y, x)."""
        x, y, z = self.spacing
        return (z, y, x)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml."""
        return float(np.prod(self.spacing)) / 1000.0

    @property
    def affine_lps(self) -> Array:
        """4x4 matrix from voxel (x, y, z) to mm in LPS."""
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(self.direction, (3, 3)) * np.asarray(self.spacing)
        affine[:3, 3] = self.origin
        return affine

    @property
    def affine_ras(self) -> Array:
        """4x4 matrix from voxel (x, y, z) to mm in RAS, as NIfTI keeps it."""
        return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ self.affine_lps)

    def to_mm(self, index_zyx: Array) -> Array:
        """Positions (n, 3) in mm, LPS, of continuous array indices (n, 3) in (z, y, x)."""
        affine = self.affine_lps
        return np.asarray(np.asarray(index_zyx)[..., ::-1] @ affine[:3, :3].T + affine[:3, 3])

    def to_index(self, mm: Array) -> Array:
        """Continuous array indices (n, 3) in (z, y, x) of positions (n, 3) in mm, LPS."""
        inverse = np.linalg.inv(self.affine_lps)
        return np.asarray((np.asarray(mm) @ inverse[:3, :3].T + inverse[:3, 3])[..., ::-1])

    def corners_mm(self) -> Array:
        """Positions of the eight corner voxels, (8, 3), mm, LPS."""
        far = np.asarray(self.shape) - 1
        index = np.array([[z, y, x] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * far
        return self.to_mm(index)

    def distance_mm(self, other: Grid) -> float:
        """Largest distance between corresponding corner voxels, mm; inf when sizes differ."""
        if self.size != other.size:
            return float("inf")
        gap = np.linalg.norm(self.corners_mm() - other.corners_mm(), axis=1)
        return float(gap.max())

    def is_same(self, other: Grid) -> bool:
        """Whether both are one grid but for rounding."""
        if self == other:
            return True
        tolerance = max(SNAP_MM, SNAP_VOXELS * min(*self.spacing, *other.spacing))
        return self.distance_mm(other) <= tolerance

    def array_axis(self, patient_axis: int) -> tuple[int, int]:
        """Array axis (of z, y, x) that runs most along a patient axis, and its sign.

        Parameters
        ----------
        patient_axis
            0 for right to left, 1 for anterior to posterior, 2 for inferior to superior.

        Returns
        -------
        axis, sign
            `axis` of the (z, y, x) array; `sign` is 1 when the index grows with the patient axis.
        """
        cosines = np.reshape(self.direction, (3, 3))
        # each image axis goes to one patient axis, so that oblique grids never name one twice
        order: dict[int, int] = {}
        strength = np.abs(cosines).copy()
        for _ in range(3):
            row, column = np.unravel_index(np.argmax(strength), (3, 3))
            order[int(row)] = int(column)
            strength[row, :] = -1
            strength[:, column] = -1
        chosen = order[patient_axis]
        return 2 - chosen, 1 if cosines[patient_axis, chosen] >= 0 else -1

    def describe(self) -> str:
        """Size and spacing for a message, as `512x512x90 voxels of 0.8x0.8x1.5 mm`."""
        size = "x".join(map(str, self.size))
        return f"{size} voxels of {'x'.join(f'{s:.4g}' for s in self.spacing)} mm"

    @property
    def axes(self) -> str:
        """Where the x, y and z axes point to: LPS for left, posterior, superior."""
        letters = [""] * 3
        for patient_axis, pair in enumerate(("LR", "PA", "SI")):
            axis, sign = self.array_axis(patient_axis)
            letters[2 - axis] = pair[0 if sign > 0 else 1]
        return "".join(letters)

    def differences(self, other: Grid) -> str:
        """What a grid of the same size differs in, for a message.

        The distance is at most the sum of what spacing, origin and directions make of it: at least
        one of them makes a fourth.
        """
        matters = self.distance_mm(other) / 4
        stretched = np.subtract(self.spacing, other.spacing) * np.subtract(self.size, 1)
        if np.linalg.norm(stretched) >= matters:
            return f"spacing {_unlike(self.spacing, other.spacing)}"
        if self.axes != other.axes:
            return f"axes {self.axes}, not {other.axes}"
        if math.dist(self.origin, other.origin) >= matters:
            return f"origin {_unlike(self.origin, other.origin)}"
        return "the directions of its axes differ"


def _unlike(values: tuple[float, ...], others: tuple[float, ...]) -> str:
    """Two triples in mm, with as many digits as tell them apart."""
    for digits in range(4, 18):
        mine, theirs = (
            f"({', '.join(f'{value:.{digits}g}' for value in triple)}) mm"
            for triple in (values, others)
        )
        if mine != theirs:
            break
    return f"{mine}, not {theirs}"


@dataclass(frozen=True)
class Volume:
    """An array (z, y, x) and the grid that it lies on."""

    array: Array
    grid: Grid

    def __post_init__(self) -> None:
        if self.array.shape != self.grid.shape:
            raise ValueError(
                f"Volume requires an array of the grid's shape {self.grid.shape}, "
                f"got {self.array.shape}"
            )


def require_same_grid(what: str, grid: Grid, reference: Grid, reference_name: str) -> None:
    """Refuse a volume that is not on its case's grid.

    Raises
    ------
    CaseError
        GRID_MISMATCH, naming both grids.
    """
    if grid.is_same(reference):
        return
    if grid.size != reference.size:
        found = f"is {grid.describe()} but {reference_name} is {reference.describe()}"
    else:
        found = (
            f"has the size of {reference_name} but is up to "
            f"{grid.distance_mm(reference):.3g} mm away from it ({grid.differences(reference)})"
        )
    raise CaseError(
        Code.GRID_MISMATCH, f"{what} {found}", "resample it to that grid or fix the table"
    )


def require_same_frame(what: str, frame: str, grid: Grid) -> None:
    """Refuse positions in another frame of reference than the image's, where both are named.

    Raises
    ------
    CaseError
        GRID_MISMATCH.
    """
    if frame and grid.frame and frame != grid.frame:
        raise CaseError(
            Code.GRID_MISMATCH,
            f"{what} is drawn in the frame of reference …{frame[-16:]}, but the image is in "
            f"…{grid.frame[-16:]}: their positions are unrelated",
            "use the series that it was drawn on; if it is that one and UIDs were changed since, "
            "convert the image to NIfTI (dcm2niix), which has no UIDs",
        )


SIDES = ("right", "left", "anterior", "posterior", "inferior", "superior")
"""Low and high end of each patient axis (LPS)."""
