"""An image turned to RAS and resampled as TotalSegmentator does, and labels on their way back.

The same as `alignment.as_closest_canonical`, `resampling.change_spacing` and
`alignment.undo_canonical` one after the other. Turning costs nothing here: it is a matter of which
voxel is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np

from backsplit.volume import Array, Grid
from backsplit.volume.zoom import linear_axis, nearest_axis, zoom_linear, zoom_nearest

ANY_LABEL = np.arange(256, dtype=np.uint8)


@dataclass(frozen=True)
class Turned:
    """How an image was brought to a task's lattice.

    Attributes
    ----------
    grid : of the image
    axes : axes of its array, (z, y, x), in the order that makes them those of RAS
    flipped : whether each of these runs the other way, in the new order
    shape : at the task's spacing, (z, y, x)
    spacing_zyx : there, mm
    task_affine : there, of (x, y, z)
    same_spacing : whether the image had the task's spacing, or none is asked for
    """

    grid: Grid
    axes: tuple[int, ...]
    flipped: tuple[bool, ...]
    shape: tuple[int, int, int]
    spacing_zyx: tuple[float, ...]
    task_affine: Array
    same_spacing: bool

    def to_task(self, image: Array) -> Array:
        """Bring an image (z, y, x) to the task's lattice, float32 (z, y, x)."""
        view = image.transpose(self.axes)
        if self.same_spacing:
            steps = tuple(slice(None, None, -1 if back else 1) for back in self.flipped)
            return np.ascontiguousarray(view[steps], np.float32)
        out = np.empty(self.shape, np.float32)
        z, y, x = (
            axis.turned(size) if back else axis
            for axis, size, back in zip(
                (linear_axis(*sizes) for sizes in zip(view.shape, self.shape, strict=True)),
                view.shape,
                self.flipped,
                strict=True,
            )
        )
        zoom_linear(np.ascontiguousarray(view), (z, y, x), out)
        return out

    def to_image(self, labels: Array) -> Array:
        """Bring labels (z, y, x) from the task's lattice to the image's grid, uint8 (z, y, x)."""
        out = np.empty(self.grid.shape, np.uint8)
        view = out.transpose(self.axes)
        z, y, x = (
            index[::-1] if back else index
            for index, back in zip(
                (nearest_axis(*sizes) for sizes in zip(self.shape, view.shape, strict=True)),
                self.flipped,
                strict=True,
            )
        )
        zoom_nearest(np.ascontiguousarray(labels), (z, y, x), ANY_LABEL, view)
        return out


def turn(grid: Grid, spacing_mm: tuple[float, float, float] | None) -> Turned:
    """Say where an image lies once it is turned to RAS and has that spacing, (x, y, z)."""
    x, y, z = grid.size
    original = _empty((x, y, z), grid.affine_ras)
    # [input axis] to (its place among those of RAS, its sign), of x, y, z
    places, signs = nib.orientations.io_orientation(original.affine).astype(int).T
    order = np.argsort(places)
    canonical = nib.as_closest_canonical(original)
    task, same = canonical, True
    if spacing_mm is not None:
        # as `change_spacing`: the affine's columns by the zoom, the shape rounded as in SciPy
        spacing, wanted = np.array(canonical.header.get_zooms()), np.array(list(spacing_mm))
        if not np.array_equal(spacing, wanted):
            zoom = spacing / wanted
            affine = canonical.affine.copy()
            affine[:3, :3] /= zoom
            sizes = [round(n * factor) for n, factor in zip(canonical.shape, zoom, strict=True)]
            task, same = _empty(sizes, affine), False
    width, height, depth = task.shape
    return Turned(
        grid=grid,
        axes=tuple(int(2 - axis) for axis in order[::-1]),
        flipped=tuple(bool(signs[axis] < 0) for axis in order[::-1]),
        shape=(depth, height, width),
        spacing_zyx=tuple(float(s) for s in task.header.get_zooms()[::-1]),
        task_affine=task.affine,
        same_spacing=same,
    )


def _empty(shape: Any, affine: Array) -> Any:  # noqa: ANN401 (nibabel is untyped)
    """An image that holds no memory."""
    return nib.Nifti1Image(np.broadcast_to(np.uint8(0), tuple(shape)), affine)
