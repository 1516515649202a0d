"""The geometry gate: one reading of a header that every tool shares, or a code.

nibabel (TotalSegmentator, MONAI) and ITK (nnU-Net, SimpleITK) read the same NIfTI header by
different rules. Where their readings put a voxel on different places the file is refused; where
they differ by rounding only, it is taken, and what was done is said.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backsplit.errors import CaseError, Code
from backsplit.volume.grid import Array, Grid
from backsplit.volume.nifti import MM, MOST_VOXELS, NiftiHeader

READINGS_VOXELS = 0.5
"""Two readings of one header (sform and qform; as stored and made orthonormal) may differ by
half of the smallest voxel side at the farthest corner: each voxel is then still nearest to
itself. quaternions in float32 alone can cost 0.2 mm at 500 mm."""

SKEW_OF_ITK = 1e-4
"""Largest cosine between two axes with which ITK's NIfTI reader still opens a file (measured:
1e-4 is opened, 5e-4 is refused)."""

ROUNDING = 1e-6
"""Cosines that differ from right angles by less are float32 rounding and are not worth a word."""

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Geometry:
    """The grid of a file, and what was done to have it.

    Attributes
    ----------
    grid : where the voxels lie
    notes : what was snapped or repaired, for the user
    faithful : whether every reader takes the header as stored; when False the file has to be
        rewritten for trainers, with the repaired header
    reads_alike : whether trainers' readers give the voxels of the file, as it is, that
        `read_volume` gives; they go by the ending `.nii.gz`, under which an export links it
    """

    grid: Grid
    notes: tuple[str, ...] = ()
    faithful: bool = True
    reads_alike: bool = False

    def like(self, path: Path) -> Path | None:
        """The file whose header a label map can take over, where every reader takes it."""
        return path if self.faithful else None


_COPY_AFFINE = (
    "import sys, nibabel as n; a, b = map(n.load, sys.argv[1:3]); "
    "n.save(n.Nifti1Image(b.dataobj[...], a.affine), sys.argv[3])"
)


def nifti_geometry(path: Path, header: NiftiHeader, *, packed: bool) -> Geometry:
    """Read a NIfTI header: sform where it is set, else qform, when all readings agree.

    Parameters
    ----------
    path : the file, for messages
    header : its header
    packed : whether gzip is around it

    Raises
    ------
    CaseError
        NOT_3D, SPACING_INVALID, ORIENTATION_UNKNOWN, ORIENTATION_AMBIGUOUS, DIRECTION_SHEARED.
    """
    size = require_3d(path, header.size)
    spacing = _spacing(path, header)
    notes: list[str] = []
    forms = {
        name: LPS_FROM_RAS @ affine
        for name, affine in (("sform", header.sform), ("qform", header.qform))
        if affine is not None
    }
    if not forms:
        raise CaseError(
            Code.ORIENTATION_UNKNOWN,
            f"{path} does not say how it is oriented in the patient (sform_code and qform_code "
            "are 0), so left and right would be a guess",
            "copy the header of an original whose voxels are in the same order: "
            f"python -c '{_COPY_AFFINE}' ORIGINAL.nii.gz {shlex.quote(str(path))} FIXED.nii.gz",
        )
    for name, affine in forms.items():
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
            raise CaseError(
                Code.ORIENTATION_AMBIGUOUS,
                f"{path} has a {name} that is not a usable matrix (NaN, infinite or flat)",
                "rewrite its header from the original",
            )
    chosen = forms.get("sform", forms.get("qform"))
    assert chosen is not None
    if len(forms) == 2:
        gap = _corner_gap(size, forms["sform"], forms["qform"])
        _require_agreement(path, "sform and qform", gap, min(spacing))
        if gap > 1e-2:
            notes.append(f"sform and qform differ by {gap:.2g} mm; the sform is used")
    columns = np.linalg.norm(chosen[:3, :3], axis=0)
    gap = float(np.linalg.norm((columns - spacing) * (np.asarray(size) - 1)))
    _require_agreement(path, "pixdim and the sform's column lengths", gap, min(spacing))
    rotation, repaired = orthonormal(path, chosen[:3, :3] / columns, size, spacing)
    notes += repaired
    grid = Grid(
        size,
        spacing,
        (float(chosen[0, 3]), float(chosen[1, 3]), float(chosen[2, 3])),
        tuple(float(cosine) for cosine in rotation.ravel()),
    )
    if header.version == 2:
        notes.append("it is NIfTI-2, which ITK does not open; trainers get it as NIfTI-1")
    faithful = not repaired and header.version == 1
    return Geometry(grid, tuple(notes), faithful, packed and header.reads_alike)


def geometry_of_axes(
    path: Path,
    size: tuple[int, int, int],
    columns: Array,
    origin: Array,
    lengths: Array | None = None,
) -> Geometry:
    """The grid of a header that states its axes once.

    Parameters
    ----------
    path : the file, for messages
    size : voxels, (x, y, z)
    columns : 3x3, step from voxel to voxel along each axis, mm, LPS
    origin : centre of the first voxel, mm, LPS
    lengths : spacing, where the header states it beside the axes

    Raises
    ------
    CaseError
        SPACING_INVALID, DIRECTION_SHEARED.
    ValueError
        The origin is no place.
    """
    with np.errstate(over="ignore"):
        spacing = np.linalg.norm(columns, axis=0) if lengths is None else lengths
    if not np.isfinite([*spacing, *columns.flat]).all() or spacing.min() <= 0:
        raise bad_spacing(path, f"a spacing of {' x '.join(f'{s:g}' for s in spacing)} mm")
    if not np.isfinite(origin).all():
        raise ValueError(f"its first voxel is at {origin.tolist()}")
    x, y, z = (float(length) for length in spacing)
    rotation, repaired = orthonormal(path, columns / spacing, size, (x, y, z))
    place = (float(origin[0]), float(origin[1]), float(origin[2]))
    grid = Grid(size, (x, y, z), place, tuple(float(cosine) for cosine in rotation.ravel()))
    return Geometry(grid, tuple(repaired), faithful=not repaired)


def require_3d(
    path: Path, size: Sequence[int], components: int = 1, least: int = 2
) -> tuple[int, int, int]:
    """Size (x, y, z) of one 3D volume; trailing axes of length 1 are left out.

    Raises
    ------
    CaseError
        NOT_3D.
    """
    shown = "x".join(map(str, size)) + (f", {components} components" if components > 1 else "")
    size = list(size)
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    if len(size) != 3 or min(size) < least or components != 1:
        raise CaseError(
            Code.NOT_3D,
            f"{path} has size {shown}; one 3D volume with at least {least} voxels a side is needed",
            "split or convert it",
        )
    if max(size) > MOST_VOXELS:
        raise CaseError(
            Code.NOT_3D,
            f"{path} has size {shown}; label maps are NIfTI-1, whose sides have at most "
            f"{MOST_VOXELS} voxels",
            "crop or resample it",
        )
    return int(size[0]), int(size[1]), int(size[2])


def orthonormal(
    path: Path, direction: Array, size: Sequence[int], spacing: Sequence[float]
) -> tuple[Array, list[str]]:
    """Nearest orthonormal cosines (polar decomposition), and a note where that changed something.

    Raises
    ------
    CaseError
        DIRECTION_SHEARED when a corner voxel would move by more than half a voxel.
    """
    skew = float(np.abs(direction.T @ direction - np.eye(3)).max())
    if skew <= ROUNDING:
        return direction, []
    left, _, right = np.linalg.svd(direction)
    rotation = left @ right
    scale = np.asarray(spacing)
    before, after = np.eye(4), np.eye(4)
    before[:3, :3], after[:3, :3] = direction * scale, rotation * scale
    gap = _corner_gap(size, before, after)
    if gap > READINGS_VOXELS * min(spacing):
        raise CaseError(
            Code.DIRECTION_SHEARED,
            f"{path} has axes that are not at right angles (cosine {skew:.3g}; up to {gap:.3g} mm "
            "at its corners), as after a gantry tilt",
            "resample it, and what was drawn on it, to a rectangular grid "
            "(nibabel.processing.resample_to_output; order=0 for masks)",
        )
    if skew <= SKEW_OF_ITK:
        return rotation, []
    return rotation, [
        f"axes were not at right angles (cosine {skew:.2g}, {gap:.2g} mm at the corners) "
        "and have been made so"
    ]


_MM_OR_UNKNOWN = (MM, 0)
"""0 is NIFTI_UNITS_UNKNOWN; 1 is metres, 3 micrometres."""


def _spacing(path: Path, header: NiftiHeader) -> tuple[float, float, float]:
    x, y, z = header.spacing
    if not np.isfinite([x, y, z]).all() or min(x, y, z) <= 0:
        raise bad_spacing(path, f"a spacing (pixdim) of {x:g} x {y:g} x {z:g}")
    if header.unit not in _MM_OR_UNKNOWN:
        raise bad_spacing(
            path, f"its lengths in the unit {header.unit}, which readers treat differently,"
        )
    return x, y, z


def bad_spacing(path: Path, found: str) -> CaseError:
    """Say that no lengths of voxels can be had from a file."""
    return CaseError(
        Code.SPACING_INVALID,
        f"{path} has {found} where positive lengths in mm are needed",
        "correct its header",
    )


def _corner_gap(size: Sequence[int], first: Array, second: Array) -> float:
    """Largest distance between corner voxels under two matrices, mm."""
    far = np.asarray(size) - 1
    corners = np.array([[x, y, z, 0] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    corners[:, :3] *= far
    corners[:, 3] = 1
    return float(np.linalg.norm((corners @ (first - second).T)[:, :3], axis=1).max())


def _require_agreement(path: Path, what: str, gap_mm: float, voxel_mm: float) -> None:
    if gap_mm > READINGS_VOXELS * voxel_mm:
        raise CaseError(
            Code.ORIENTATION_AMBIGUOUS,
            f"{path}: {what} disagree by up to {gap_mm:.3g} mm, so nibabel and ITK place it "
            "differently in the patient",
            "rewrite its header from the original",
        )
