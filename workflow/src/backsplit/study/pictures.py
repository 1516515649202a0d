"""Side by side: image, reference lesions, and what two arms made of a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from backsplit.cases.lesion import read_lesion
from backsplit.cases.table import Case
from backsplit.config.slices import LesionValues
from backsplit.report.pictures.encode import data_address
from backsplit.report.pictures.key import Key
from backsplit.report.pictures.panels import around, choose_window, cut, labelled, plain
from backsplit.report.pictures.planes import AXIAL, Focus, focus_on, oriented_box
from backsplit.scheme.colours import as_hex
from backsplit.volume import Array, Grid, read_labels, read_volume, require_same_grid

SIDE = 250
"""Side of a panel, px."""
GAP = 4
LEAST_MM = 70.0
ROOM = 1.6
"""Side of what is shown as a multiple of the lesion and its predictions."""


@dataclass(frozen=True)
class Shown:
    """A picture of a case and where it was cut.

    Attributes
    ----------
    address : `data:` address; four panels of one axial slice
    slice_number : in the volume, from 1
    """

    address: str
    slice_number: int


@dataclass(frozen=True)
class LegendEntry:
    """A target and the colour of its outline."""

    id: int
    name: str
    colour: str
    kind: str = "target"


@dataclass(frozen=True)
class Artist:
    """Draws cases with the predictions of two arms.

    Attributes
    ----------
    cases : by id
    values : what the values of lesion files mean
    predicted : folder of predictions: `ARM/fold_F_seed_S/DECISION/CASE.nii.gz`
    """

    cases: Mapping[str, Case]
    values: LesionValues
    predicted: Path

    @property
    def legend(self) -> list[LegendEntry]:
        """The targets as they are outlined."""
        colours = _key(len(self.values.targets)).colours
        names = enumerate(self.values.targets, start=1)
        return [LegendEntry(number, name, as_hex(colours[number])) for number, name in names]

    def prediction(self, arm: str, fold: int, seed: int, decision: str, case: str) -> Path:
        """Where a prediction lies."""
        return self.predicted / arm / f"fold_{fold}_seed_{seed}" / decision / f"{case}.nii.gz"

    def draw(self, case: str, first: Path, second: Path) -> Shown:
        """Draw the axial slice in which the predictions of two arms differ most.

        Parameters
        ----------
        case : its id
        first, second : predictions, the ids 1 … T are targets

        Raises
        ------
        CaseError
            When a volume is gone, cannot be read, or lies on another grid.
        """
        image = read_volume(self.cases[case].images[self.values.placing.grid_channel])
        maps = [self._drawn(self.cases[case], image.grid)]
        maps += [self._predicted(path, image.grid) for path in (first, second)]
        return side_by_side(image.array, maps, image.grid, len(self.values.targets))

    def _drawn(self, case: Case, grid: Grid) -> Array:
        """Targets as they were drawn; where several lie, the first one."""
        shown = np.zeros(grid.shape, np.uint8)
        lesion = read_lesion(case, self.values, grid)
        if lesion is None:
            return shown
        for target in range(len(self.values.targets), 0, -1):
            claimed = [value for value, targets in lesion.claims.items() if target in targets]
            shown[np.isin(lesion.map.array, claimed)] = target
        return shown

    def _predicted(self, path: Path, grid: Grid) -> Array:
        volume = read_labels(path)
        require_same_grid(str(path), volume.grid, grid, "its image")
        return np.where(volume.array <= len(self.values.targets), volume.array, 0)


def side_by_side(image: Array, maps: Sequence[Array], grid: Grid, targets: int) -> Shown:
    """Draw an image, and beside it each map of targets over it.

    Parameters
    ----------
    image : intensities, (z, y, x)
    maps : ids of targets, 0 elsewhere: as they were drawn, and by each of two arms
    grid : where all lie
    targets : how many there are
    """
    focus = _focus(maps)
    window = choose_window(image, focus)
    key = _key(targets)
    axis, _ = grid.array_axis(AXIAL.normal)
    low, high = _extent(maps, focus, axis)
    box = oriented_box(grid, AXIAL, low, high)
    pixels = np.zeros((SIDE, 4 * SIDE + 3 * GAP, 3), np.uint8)
    for place, labels in enumerate([np.zeros(image.shape, np.uint8), *maps]):
        part = cut(image, labels, grid, AXIAL, focus, window)
        sides = [(s.stop - s.start) * mm for s, mm in zip(box, part.spacing, strict=True)]
        wanted = max(LEAST_MM, ROOM * max(sides))
        shown = part.crop(*around(part, box, (wanted, wanted)))
        panel = labelled(shown, (SIDE, SIDE), key) if place else plain(shown, (SIDE, SIDE))
        left = place * (SIDE + GAP)
        top, aside = ((SIDE - size) // 2 for size in panel.shape[:2])
        pixels[top : top + panel.shape[0], left + aside : left + aside + panel.shape[1]] = panel
    return Shown(data_address(Image.fromarray(pixels)), focus.index[axis] + 1)


def _key(targets: int) -> Key:
    """Colours of background and targets; nothing else is drawn."""
    return Key.of([""] * (targets + 1), targets)


def _focus(maps: Sequence[Array]) -> Focus:
    """Where both arms differ most; else the reference lesion; else the middle."""
    drawn, first, second = maps
    for mask in (first != second, drawn > 0):
        if mask.any():
            return focus_on(mask)
    z, y, x = (size // 2 for size in drawn.shape)
    return Focus((z, y, x))


def _extent(
    maps: Sequence[Array], focus: Focus, axis: int
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """First and last voxel of the lesions in the slice, drawn or predicted."""
    any_target = np.logical_or.reduce([np.take(m, focus.index[axis], axis=axis) for m in maps])
    low, high = list(focus.index), list(focus.index)
    rest = [other for other in range(3) if other != axis]
    for place, other in enumerate(rest):
        held = np.flatnonzero(any_target.any(axis=1 - place))
        if len(held):
            low[other], high[other] = int(held[0]), int(held[-1])
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])
