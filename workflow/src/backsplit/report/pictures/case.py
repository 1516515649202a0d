"""Pictures for the page of a case: slices to move through, close-ups of what is to be looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from backsplit.cases.table import Case
from backsplit.config.model import Config
from backsplit.report.facts import LesionFacts
from backsplit.report.pictures.closeup import close_up, lesion_focus, structure_focus
from backsplit.report.pictures.colours import BACKGROUND, IGNORE, as_hex, label_colours
from backsplit.report.pictures.encode import data_address, exact_address, file_address
from backsplit.report.pictures.panels import CT_WINDOW, LUNG_WINDOW, Key, choose_window, present
from backsplit.report.pictures.planes import Focus, find_focus
from backsplit.report.pictures.stack import (
    Frame,
    composed_paint,
    frame_of,
    image_tiles,
    label_tiles,
    largest_in,
    layer_paint,
)
from backsplit.scheme.scheme import Classes, Scheme
from backsplit.store.results import StageFolder
from backsplit.store.sidecars import ComposeSidecar, LesionEntry, SegmentSidecar, read_sidecar
from backsplit.volume import Array, Grid, Volume, read_labels, read_volume, require_same_grid

IMAGE_QUALITY = 55
LESIONS_MOST = 8
STRUCTURES_MOST = 12
"""Close-ups on a page: about 50 kB each."""

COMPOSED = "label map"
"""Heading of what was composed, beside the names of the segmenters."""


@dataclass(frozen=True)
class LegendEntry:
    """A label of the case: its colour, and which of the slices shows most of it (-1: none)."""

    id: int
    name: str
    kind: str
    colour: str
    place: int


@dataclass(frozen=True)
class CasePictures:
    """All that is drawn of a case; pictures are `data:` addresses.

    Attributes
    ----------
    slices : number in the volume, from 1, and height in mm, from head to feet
    total : slices of the volume
    start : which slice is shown first: through a flagged structure, else through a lesion
    size : rows and columns of a slice, px
    rows : rows of slices in a picture
    image : the slices of the image
    layers : name to the slices of a label map: what was composed, then each segmenter
    legend : what the composed label map holds
    overview : the picture of the whole case; empty where none was wanted
    lesions, structures : close-ups by instance and by subject of the flags; what is not to be
        seen in the case has none
    window : intensities that are shown, in words
    """

    slices: Sequence[tuple[int, float]]
    total: int
    start: int
    size: tuple[int, int]
    rows: int
    image: str
    layers: Mapping[str, str]
    legend: Sequence[LegendEntry]
    overview: str
    lesions: Mapping[int, str]
    structures: Mapping[str, str]
    window: str


class CaseArtist:
    """Draws the pictures of cases.

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
        names, targets = scheme.all_names, len(scheme.targets)
        colours = label_colours(len(names), targets, has_ignore=True)
        self.key = Key(names, targets, colours, scheme.ignore_id)

    def draw(
        self, case: Case, lesions: Sequence[LesionFacts], subjects: Sequence[str]
    ) -> CasePictures:
        """Draw a case from its image, its label map and those of the segmenters.

        Parameters
        ----------
        case : the case
        lesions : of the case; the first `LESIONS_MOST` get a close-up
        subjects : structures and `segmenter/class`es to look at; the first `STRUCTURES_MOST` get a
            close-up where the case has a voxel of them

        Raises
        ------
        CaseError
            When a volume is gone, can not be read, or lies on another grid.
        """
        results, grid_channel = self.config.results, self.config.dataset.grid_channel
        picture = results.picture(case.id)
        image = read_volume(case.images[grid_channel])
        grid = image.grid
        labels = _read_on(results.labels.output(case.id), grid)
        focus = find_focus(labels, self.key.target_count, self.key.ignore_id)
        window = choose_window(image.array, focus)
        subjects = subjects[:STRUCTURES_MOST]
        ids = {name: [i] for name, i in self.scheme.ids.items() if i}
        composed = read_sidecar(results.labels.sidecar(case.id), ComposeSidecar)
        found = dict(self._lesions(image, labels, lesions[:LESIONS_MOST], composed.lesions))
        seen = dict(_structures(image, labels, ids, subjects, window, self.key))
        axis, _ = grid.array_axis(2)
        looks = [look for look, _ in (*seen.values(), *found.values())] + [focus]
        places = [look.index[axis] for look in looks]
        frame = frame_of(image.array, grid, window, places)
        layers = {COMPOSED: exact_address(label_tiles(labels, frame, composed_paint(self.key)))}
        for segmenter, folder in self._layers(composed).items():
            classes = self.classes[segmenter]
            layer = _read_on(folder.output(case.id), grid)
            sidecar = read_sidecar(folder.sidecar(case.id), SegmentSidecar)
            sidecar.require_classes(classes)
            overlaps = sidecar.overlaps
            paint = layer_paint(classes, self.scheme.sources[segmenter], self.key, overlaps)
            layers[segmenter] = exact_address(label_tiles(layer, frame, paint))
            values = {f"{segmenter}/{name}": _values(v, overlaps) for name, v in classes.items()}
            seen |= dict(_structures(image, layer, values, subjects, window, None))
        return CasePictures(
            slices=frame.slices(),
            total=grid.shape[axis],
            start=frame.place_of(places[0]),
            size=frame.size,
            rows=frame.rows,
            image=data_address(image_tiles(image.array, frame, window), quality=IMAGE_QUALITY),
            layers=layers,
            legend=self._legend(labels, frame),
            overview=file_address(picture) if picture.exists() else "",
            lesions={instance: address for instance, (_, address) in found.items()},
            structures={subject: seen[subject][1] for subject in subjects if subject in seen},
            window=_in_words(window),
        )

    def _lesions(
        self,
        image: Volume,
        labels: Array,
        lesions: Sequence[LesionFacts],
        noted: Sequence[LesionEntry],
    ) -> Iterator[tuple[int, tuple[Focus, str]]]:
        """Where each lesion is seen, and its close-up."""
        entries = {entry.instance: entry for entry in noted}
        for lesion in lesions:
            if lesion.instance not in entries:
                continue
            target = self.scheme.ids[lesion.target]
            size_mm = lesion.max_diameter_mm
            entry = entries[lesion.instance]
            focus = lesion_focus(labels, image.grid, target, entry, size_mm)
            if focus is None:
                continue
            window = choose_window(image.array, focus)
            pixels = close_up(image.array, labels, image.grid, focus, size_mm, window, self.key)
            yield lesion.instance, (focus, data_address(Image.fromarray(pixels)))

    def _layers(self, composed: ComposeSidecar) -> dict[str, StageFolder]:
        """Results of the segmenters that a case was composed of, the strongest first."""
        used = [name for name in self.config.layers if name not in composed.failed_segmenters]
        return {name: self.config.results.segment(name) for name in used}

    def _legend(self, labels: Array, frame: Frame) -> list[LegendEntry]:
        """What the label map holds, and where to see it."""
        count = len(self.key.names)
        shown = largest_in(labels, frame, count)
        return [
            LegendEntry(
                id=label,
                name=self.key.names[label],
                kind=self._kind(label),
                colour=as_hex(self.key.colours[label]),
                place=shown.get(int(label), -1),
            )
            for label in np.flatnonzero(present(labels, count)).tolist()
            if label
        ]

    def _kind(self, label: int) -> str:
        if label == self.key.ignore_id:
            return "ignore"
        return "target" if label <= self.key.target_count else "structure"


def _structures(
    image: Volume,
    labels: Array,
    values: Mapping[str, Sequence[int]],
    subjects: Sequence[str],
    window: tuple[float, float],
    key: Key | None,
) -> Iterator[tuple[str, tuple[Focus, str]]]:
    """Where each subject is seen in a label map, and its close-up; without `key` on its own."""
    for subject in subjects:
        if subject not in values:
            continue
        mask = np.isin(labels, values[subject])
        look = structure_focus(mask, image.grid)
        if look is None:
            continue
        shown, names = (labels, key) if key else (mask.view(np.uint8), _key_of_one(subject))
        pixels = close_up(image.array, shown, image.grid, *look, window, names, mask)
        yield subject, (look[0], data_address(Image.fromarray(pixels)))


def _key_of_one(name: str) -> Key:
    return Key(("background", name), 0, [BACKGROUND, IGNORE], None)


def _values(value: int, overlaps: Mapping[int, tuple[int, ...]]) -> list[int]:
    """Values of a layer that hold a class: its own, and those of overlaps with others."""
    return [value, *(combined for combined, members in overlaps.items() if value in members)]


def _read_on(path: Path, grid: Grid) -> Array:
    """Read a label map of ours, which must lie on the image's grid."""
    volume = read_labels(path)
    require_same_grid(str(path), volume.grid, grid, "its image")
    return volume.array


def _in_words(window: tuple[float, float]) -> str:
    unit = " HU" if window in (CT_WINDOW, LUNG_WINDOW) else ""
    return f"{window[0]:.4g} to {window[1]:.4g}{unit}".replace("-", "−")
