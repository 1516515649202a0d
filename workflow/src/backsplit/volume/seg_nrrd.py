"""3D Slicer's segmentations (.seg.nrrd): layers of label values, cropped to what they hold.

https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html, "Segmentation
file format": keys `SegmentN_Name`, `SegmentN_LabelValue` and `SegmentN_Layer` in a NRRD header;
segments that overlap lie in layers of their own, along an axis that is no direction in space.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from backsplit.errors import CaseError, Code, shown
from backsplit.volume.drawn import Drawn
from backsplit.volume.grid import Array, Grid
from backsplit.volume.lattice import on_lattice, place
from backsplit.volume.nrrd import nrrd_geometry, nrrd_voxels, read_nrrd_header
from backsplit.volume.segments import Segment, SegmentFile
from backsplit.volume.text_header import TextHeader

_KEY = re.compile(r"Segment(\d{1,5})_(ID|Name)")
_MOST_SEGMENTS = 10_000
_CONTENTS = "Segmentation_ContainedRepresentationNames"


def is_slicer_file(path: Path) -> bool:
    """Whether a file is a NRRD with segments of 3D Slicer."""
    try:
        with path.open("rb") as stream:
            if stream.read(4) != b"NRRD":
                return False
        return bool(_positions(read_nrrd_header(path)))
    except (CaseError, OSError, ValueError):  # whoever reads it as an image says what is wrong
        return False


class SlicerSegments(SegmentFile):
    """A segmentation of 3D Slicer. Each segment is a value in one of the layers.

    Raises
    ------
    CaseError
        FILE_UNREADABLE, LABEL_NOT_INTEGER (fractional), LABEL_UNDECLARED (a voxel of a value
        that no segment has); NOT_3D, SPACING_INVALID, ORIENTATION_UNKNOWN, DIRECTION_SHEARED.
    ValueError
        What the header says is impossible.
    """

    def __init__(self, path: Path) -> None:
        header = read_nrrd_header(path)
        fields = header.fields
        if "Binary labelmap" not in fields.get(_CONTENTS, "Binary labelmap"):
            raise CaseError(
                Code.LABEL_NOT_INTEGER,
                f"{path} is not a binary labelmap ({shown(fields[_CONTENTS], 80)})",
                "save it from 3D Slicer with a binary labelmap",
            )
        flat, axis = _in_space(header)
        self.own = nrrd_geometry(flat, least=1).grid
        stored = nrrd_voxels(header).read()
        self.layers = stored[None] if axis is None else np.moveaxis(stored, -1 - axis, 0)
        if self.layers.dtype.kind not in "iu":
            raise ValueError(f"its voxels are of type {self.layers.dtype}, not whole numbers")
        positions = _positions(header)
        self.places = [self._place(fields, n, at) for at, n in enumerate(positions)]
        names = [fields.get(f"Segment{n}_Name") or fields[f"Segment{n}_ID"] for n in positions]
        values = [value for _, value in self.places]
        numbers = values if len(set(values)) == len(values) else list(range(1, len(values) + 1))
        super().__init__(path, list(zip(numbers, names, strict=True)))
        self._require_described()

    def _place(self, fields: Mapping[str, str], number: int, position: int) -> tuple[int, int]:
        """Layer and value of a segment; before they were written, each had a layer and was 1."""
        layer = int(fields.get(f"Segment{number}_Layer", position))
        value = int(fields.get(f"Segment{number}_LabelValue", 1))
        if not 0 <= layer < len(self.layers) or value < 1:
            raise ValueError(f"Segment{number} is value {value} of layer {layer}")
        return layer, value

    def _require_described(self) -> None:
        """Refuse voxels of no segment, and segments of the same voxels."""
        if len(set(self.places)) < len(self.places):
            raise ValueError("two of its segments are one value of one layer")
        for number, layer in enumerate(self.layers):
            known = [0, *(value for at, value in self.places if at == number)]
            unknown = layer[~np.isin(layer, known)]
            if unknown.size:
                raise CaseError(
                    Code.LABEL_UNDECLARED,
                    f"{self.path} holds the value {unknown[0]} ({unknown.size} voxels), which no "
                    "segment of it has",
                    "save it again from 3D Slicer",
                )

    def target_grid(self, grid: Grid) -> Grid:
        """The image's grid where the voxels are voxels of it, as after cropping; else its own."""
        try:
            self._on(grid)
        except ValueError:
            return self.own
        return grid

    def _on(self, grid: Grid) -> tuple[Array, Array]:
        axes = self.own.affine_lps[:3, :3].T[::-1]
        return on_lattice(np.array(self.own.origin), axes, np.array(self.own.shape), grid)

    def _read(self, number: int, name: str, grid: Grid) -> Segment:
        layer, value = self.places[self._numbers.index(number)]
        held = self.layers[layer] == value
        mask = np.zeros(grid.shape, bool)
        start, steps = self._on(grid)
        place(self.path, held, start, steps, mask)
        voxels = int(held.sum())
        notes = () if voxels else (f"segment {name!r} has no voxels",)
        return Segment(mask, Drawn("voxels", 0, voxels, voxels * self.own.voxel_ml), notes)


def _positions(header: TextHeader) -> list[int]:
    """Numbers N of the keys `SegmentN_…`."""
    found = {int(match[1]) for key in header.fields if (match := _KEY.fullmatch(key))}
    if len(found) > _MOST_SEGMENTS:
        raise ValueError(f"it has {len(found)} segments")
    return sorted(found)


def _in_space(header: TextHeader) -> tuple[TextHeader, int | None]:
    """The header of one layer, and the axis along which layers lie; None where there is one."""
    fields = dict(header.fields)
    directions = re.findall(r"\([^()]*\)|[^\s()]+", fields.get("space directions", ""))
    sizes = fields.get("sizes", "").split()
    if len(directions) != len(sizes) or directions.count("none") != 1 or len(sizes) != 4:
        return header, None
    axis = directions.index("none")
    fields["space directions"] = " ".join(d for n, d in enumerate(directions) if n != axis)
    fields["sizes"] = " ".join(size for n, size in enumerate(sizes) if n != axis)
    fields["dimension"] = "3"
    return replace(header, fields=fields), axis
