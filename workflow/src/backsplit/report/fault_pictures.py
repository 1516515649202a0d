"""Pictures for faults of the data set: the structure concerned, in a typical case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from backsplit.cases.table import Case
from backsplit.config.model import Config
from backsplit.errors import CaseError
from backsplit.report.facts import Flag
from backsplit.report.pictures.encode import data_address
from backsplit.report.pictures.key import Key
from backsplit.report.pictures.panels import Slice, body_box, choose_window, cut, labelled
from backsplit.report.pictures.planes import AXIAL, CORONAL, Plane, focus_on, oriented_slice
from backsplit.scheme.scheme import Scheme
from backsplit.volume import Array, Grid, read_labels, read_volume, require_same_grid

PICTURES_MOST = 12
"""Most faults with a picture; each needs an image to be read."""
HEIGHT = 320
"""Height of a picture, px."""
WIDTH_MOST = 420
"""Largest width of a panel, px."""
GAP = 6


@dataclass(frozen=True)
class FaultPicture:
    """A picture of a structure in a case: its `data:` URL, and its size in px."""

    address: str
    width: int
    height: int
    structure: str
    case: str


def examples(flags: Sequence[Flag]) -> list[Flag]:
    """The first faults of the data set that have an example case, at most `PICTURES_MOST`."""
    return [flag for flag in flags if not flag.case and flag.example][:PICTURES_MOST]


def draw_faults(
    config: Config, scheme: Scheme, cases: Sequence[Case], flags: Sequence[Flag]
) -> dict[Flag, FaultPicture]:
    """Draw the structure of each fault in its example case.

    A fault gets no picture if the volumes of the case can no longer be read, or do not hold the
    structure.

    Parameters
    ----------
    config : the configuration
    scheme : names and ids
    cases : cases of the table; only examples are read
    flags : faults, see `examples`
    """
    known = {case.id: case for case in cases}
    key = Key.of(scheme.all_names, len(scheme.targets))
    found: dict[Flag, FaultPicture] = {}
    for name in dict.fromkeys(flag.example for flag in flags):
        asked = {f: _structure(f.subject, scheme) for f in flags if f.example == name}
        mine = {f: structure for f, structure in asked.items() if structure in scheme.ids}
        if name not in known or not mine:
            continue
        try:
            for flag, picture in _draw(config, scheme.ids, known[name], mine, key):
                found[flag] = picture
        except (CaseError, OSError):
            continue
    return found


def _structure(subject: str, scheme: Scheme) -> str:
    """The structure that a subject names; the subject may be a segmenter's class."""
    segmenter, _, name = subject.rpartition("/")
    return scheme.sources.get(segmenter, {}).get(name, "") if segmenter else name


def _draw(
    config: Config,
    ids: Mapping[str, int],
    case: Case,
    wanted: Mapping[Flag, str],
    key: Key,
) -> Iterator[tuple[Flag, FaultPicture]]:
    image = read_volume(case.images[config.dataset.grid_channel])
    path = config.results.labels.output(case.id)
    labels = read_labels(path)
    require_same_grid(str(path), labels.grid, image.grid, "its image")
    for flag, structure in wanted.items():
        mask = labels.array == ids[structure]
        if mask.any():
            picture = picture_of(image.array, mask, image.grid, ids[structure], key)
            address = data_address(picture)
            yield flag, FaultPicture(address, picture.width, picture.height, structure, case.id)


def picture_of(image: Array, mask: Array, grid: Grid, label: int, key: Key) -> Image.Image:
    """Draw a structure from the front and from below, its depth projected onto one slice.

    Parameters
    ----------
    image : intensities (z, y, x)
    mask : the structure, (z, y, x), with at least one voxel
    grid : grid of both
    label : id of the structure
    key : colours of the ids
    """
    focus = focus_on(mask)
    window = choose_window(image, focus)
    panels = []
    for plane in (CORONAL, AXIAL):
        part = cut(image, mask.astype(np.uint8), grid, plane, focus, window)
        whole = Slice(part.grey, _projected(mask, grid, plane) * np.uint16(label), part.spacing)
        shown = whole.crop(*body_box(whole, None))
        rows, columns = shown.size_mm()
        scale = min(HEIGHT / rows, WIDTH_MOST / columns)
        box = max(1, round(rows * scale)), max(1, round(columns * scale))
        panels.append((plane, labelled(shown, box, key)))
    width = sum(panel.shape[1] for _, panel in panels) + GAP
    picture = Image.new("RGB", (width, max(panel.shape[0] for _, panel in panels)))
    left = 0
    for plane, panel in panels:
        picture.paste(Image.fromarray(panel), (left, (picture.height - panel.shape[0]) // 2))
        _mark(picture, plane, left, panel.shape[1])
        left += panel.shape[1] + GAP
    return picture


def _projected(mask: Array, grid: Grid, plane: Plane) -> Array:
    """Projection of a mask along the normal of a plane, oriented as its slices."""
    normal, _ = grid.array_axis(plane.normal)
    flat = np.asarray(mask.any(axis=normal, keepdims=True))
    return oriented_slice(flat, grid, plane, (0, 0, 0)).astype(np.uint16)


def _mark(picture: Image.Image, plane: Plane, left: int, width: int) -> None:
    """Write the patient's sides at the edges of a panel."""
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    middle, bottom = left + width // 2, picture.height
    places = [
        ((middle, 4), "ma"), ((middle, bottom - 4), "md"), ((left + 4, bottom // 2), "lm"),
        ((left + width - 4, bottom // 2), "rm"),
    ]  # fmt: skip
    for (at, anchor), mark in zip(places, plane.marks, strict=True):
        pen.text(at, mark, "#ffffff", font, anchor=anchor, stroke_width=2, stroke_fill="#000000")
