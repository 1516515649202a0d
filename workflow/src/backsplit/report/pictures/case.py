"""What the page of a case lets a reader move through: the image, and every label map on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backsplit.cases.table import Case
from backsplit.config.model import Config
from backsplit.report.facts import LesionFacts
from backsplit.report.pictures.encode import packed, slices_address
from backsplit.report.pictures.key import Key
from backsplit.report.pictures.panels import present
from backsplit.report.pictures.thin import (
    RARE,
    Frame,
    frame_of,
    read_image,
    thin_image,
    thin_labels,
    widened,
)
from backsplit.scheme.colours import IGNORE, as_hex, is_outlined
from backsplit.scheme.scheme import Classes, Scheme
from backsplit.store.results import StageFolder
from backsplit.store.sidecars import ComposeSidecar, LesionEntry, SegmentSidecar, require_sidecar
from backsplit.volume import Array

COMPOSED = "label map"
"""Name of what was composed, beside the names of the segmenters."""


@dataclass(frozen=True)
class Shown:
    """A value of a label map as the viewer shows it.

    Attributes
    ----------
    kind : target, structure, outline or ignore
    subjects : what flags call it; several where classes overlap
    """

    id: int
    name: str
    colour: str
    kind: str
    subjects: tuple[str, ...]


@dataclass(frozen=True)
class Layer:
    """A label map on the page: what its values mean, and its voxels as text."""

    name: str
    bytes: int
    values: Sequence[Shown]
    voxels: str

    def values_of(self, subject: str) -> list[int]:
        """Values that hold what a flag speaks of."""
        return [value.id for value in self.values if subject in value.subjects]


@dataclass(frozen=True)
class CaseView:
    """All that the viewer of a page shows.

    Attributes
    ----------
    frame : which part of the volume, and how coarse
    image, columns : address of the slices in one picture, and how many lie beside each other
    levels, unit, windows : what the image's 256 levels mean
    layers : what was composed, then each segmenter, the strongest first
    lesions : instance to the place (slice, row, column) of its middle
    """

    frame: Frame
    image: str
    columns: int
    levels: Sequence[tuple[int, float]]
    unit: str
    windows: Sequence[tuple[str, float, float]]
    layers: Sequence[Layer]
    lesions: Mapping[int, tuple[float, ...]]

    @property
    def whole(self) -> bool:
        """Whether every voxel is there."""
        return self.frame.steps == (1, 1, 1)

    @property
    def legend(self) -> Sequence[Shown]:
        """What the composed label map holds."""
        return self.layers[0].values

    @property
    def spacing(self) -> str:
        """Distance between slices, rows and columns in words."""
        slices, rows, columns = self.frame.spacing_mm
        return f"{columns:.2g} x {rows:.2g} x {slices:.2g} mm"

    def facts(self) -> dict[str, Any]:
        """What the script reads, but for the voxels."""
        return {
            "size": self.frame.shape,
            "mm": self.frame.spacing_mm,
            "numbers": self.frame.numbers,
            "columns": self.columns,
            "levels": self.levels,
            "unit": self.unit,
            "windows": self.windows,
            "layers": [
                {
                    "name": layer.name,
                    "bytes": layer.bytes,
                    "values": [[v.id, v.name, v.colour, v.kind] for v in layer.values],
                }
                for layer in self.layers
            ],
            "lesions": self.lesions,
        }


class CaseArtist:
    """Makes what the pages of cases show.

    Parameters
    ----------
    config : the configuration
    scheme : names and ids
    classes : what each segmenter can label
    """

    def __init__(self, config: Config, scheme: Scheme, classes: Mapping[str, Classes]) -> None:
        self.config = config
        self.scheme = scheme
        self.classes = classes
        self.targets = len(scheme.targets)
        self.key = Key.of(scheme.all_names, self.targets)

    def draw(self, case: Case, lesions: Sequence[LesionFacts]) -> CaseView:
        """Make a case small enough for a page, from its image and its label maps.

        Parameters
        ----------
        case : the case
        lesions : of the case

        Raises
        ------
        CaseError
            When a volume is gone, cannot be read, or lies on another grid.
        """
        results = self.config.results
        levels, grid, meaning = read_image(case.images[self.config.dataset.grid_channel])
        frame = frame_of(levels, grid, meaning)
        image = thin_image(levels, frame.steps)
        del levels
        composed = require_sidecar(results.labels.sidecar(case.id), ComposeSidecar, "compose")
        ranks = self._ranks(composed, int(np.prod(frame.steps)))
        labels = thin_labels(results.labels.output(case.id), grid, frame.steps, ranks)
        frame = widened(frame, labels)
        layers = [_layer(COMPOSED, frame.oriented(labels), self._composed_values())]
        del labels
        for name, folder in self._segmented(composed).items():
            thin = thin_labels(folder.output(case.id), grid, frame.steps, {})
            values = self._segmenter_values(name, folder.sidecar(case.id))
            layers.append(_layer(name, frame.oriented(thin), values))
        address, columns = slices_address(frame.oriented(image))
        return CaseView(
            frame=frame,
            image=address,
            columns=columns,
            levels=meaning.stops,
            unit=meaning.unit,
            windows=meaning.windows,
            layers=layers,
            lesions=_middles(frame, lesions, composed.lesions),
        )

    def _ranks(self, composed: ComposeSidecar, block: int) -> dict[int, int]:
        """Labels of which no voxel is left out, the smaller the higher; targets above all."""
        ids = self.scheme.ids
        sizes = {ids[name]: voxels for name, voxels in composed.voxels.items() if name in ids}
        sizes.pop(0, None)
        small = [i for i, n in sizes.items() if i > self.targets and 0 < n < RARE * block]
        targets = [i for i in sizes if 0 < i <= self.targets]
        order = [sorted(group, key=lambda i: -sizes[i]) for group in (small, targets)]
        return {label: rank for rank, label in enumerate([*order[0], *order[1]][-255:], start=1)}

    def _segmented(self, composed: ComposeSidecar) -> dict[str, StageFolder]:
        """Results of the segmenters that a case was composed of, the strongest first."""
        used = [name for name in self.config.layers if name not in composed.failed_segmenters]
        return {name: self.config.results.segment(name) for name in used}

    def _composed_values(self) -> list[Shown]:
        key = self.key
        return [
            Shown(i, name, as_hex(key.colours[i]), key.kind(i), (name,))
            for i, name in enumerate(key.names)
            if i
        ]

    def _segmenter_values(self, segmenter: str, sidecar: Path) -> list[Shown]:
        """A segmenter's classes in the colours of their structures; grey what no structure takes.

        Where classes overlap the first one is shown, and all are named.
        """
        classes, structures = self.classes[segmenter], self.scheme.sources[segmenter]
        written = require_sidecar(sidecar, SegmentSidecar, f"segment {segmenter}")
        written.require_classes(classes)
        names = {value: name for name, value in classes.items()}
        held = {value: [name] for value, name in names.items()}
        held |= {value: [names[m] for m in members] for value, members in written.overlaps.items()}
        shown = []
        for value, mine in held.items():
            label = self.scheme.ids.get(structures.get(mine[0], ""))
            colour = IGNORE if label is None else self.key.colours[label]
            kind = "outline" if is_outlined(mine[0]) else "structure"
            subjects = tuple(f"{segmenter}/{name}" for name in mine)
            shown.append(Shown(value, " + ".join(mine), as_hex(colour), kind, subjects))
        return shown


def _layer(name: str, labels: Array, meanings: Sequence[Shown]) -> Layer:
    held = present(labels, 1 + max((m.id for m in meanings), default=0))
    values = [meaning for meaning in meanings if held[meaning.id]]
    return Layer(name, labels.dtype.itemsize, values, packed(labels))


def _middles(
    frame: Frame, lesions: Sequence[LesionFacts], noted: Sequence[LesionEntry]
) -> dict[int, tuple[float, ...]]:
    """Where the middle of each lesion lies on the page."""
    known = {lesion.instance for lesion in lesions}
    return {
        entry.instance: frame.place(tuple(frame.grid.to_index(np.array(entry.centroid_mm))))
        for entry in noted
        if entry.instance in known
    }
