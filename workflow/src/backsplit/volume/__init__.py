"""Volumes and their grids: read, check, write, compare, resample."""

from backsplit.volume.drawn import Drawn
from backsplit.volume.geometry import Geometry
from backsplit.volume.grid import Array, Grid, Volume, require_same_grid
from backsplit.volume.label_names import LabelNames
from backsplit.volume.labels import LabelMap, read_label_grid, read_label_map, stack_masks
from backsplit.volume.nifti import NIFTI_ENDINGS
from backsplit.volume.read import (
    VOLUME_ENDINGS,
    read_geometry,
    read_grid,
    read_labels,
    read_volume,
)
from backsplit.volume.slabs import read_slabs
from backsplit.volume.write import save_nifti, write_labels

__all__ = [
    "NIFTI_ENDINGS",
    "VOLUME_ENDINGS",
    "Array",
    "Drawn",
    "Geometry",
    "Grid",
    "LabelMap",
    "LabelNames",
    "Volume",
    "read_geometry",
    "read_grid",
    "read_label_grid",
    "read_label_map",
    "read_labels",
    "read_slabs",
    "read_volume",
    "require_same_grid",
    "save_nifti",
    "stack_masks",
    "write_labels",
]
