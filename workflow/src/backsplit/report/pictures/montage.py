"""The picture of a case: three planes through the lesion, without and with the label map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from backsplit.report.pictures.encode import STRIP
from backsplit.report.pictures.key import Key
from backsplit.report.pictures.panels import (
    CT_WINDOW,
    LUNG_WINDOW,
    Slice,
    body_box,
    choose_window,
    cut,
    enlarged,
    labelled,
    plain,
    present,
)
from backsplit.report.pictures.planes import AXIAL, PLANES, Focus, Plane, find_focus, oriented_box
from backsplit.scheme.colours import Colour
from backsplit.volume import Array, Grid

WIDTH = 1200
MARGIN = 10
GAP = 8
TITLE = 44
ROW = 480
"""Height of a row of planes at most; px, like all lengths of the layout."""
BOX = (WIDTH - 2 * MARGIN - 2 * GAP) // 3
"""Width of a panel of the lowest row."""
ZOOM_HEIGHT = 330
ZOOM_LARGEST_SHARE = 0.7
LEGEND_ROW = 22
LEGEND_MOST = 24
DPI = 100
TICK = 14
CROSS = (120, 220, 255)
BAR = 120
"""Longest bar."""


@dataclass(frozen=True)
class Text:
    """A line of text; `x`, `y` in px from the top left."""

    x: float
    y: float
    text: str
    size: float = 8.5
    colour: str = "#e8e8e8"
    align: str = "left"
    outlined: bool = False


@dataclass
class Page:
    """A picture in the making.

    Attributes
    ----------
    pixels : (y, x, 3)
    texts : on them
    swatches : colours that the legend shows
    strip, strip_mm : where the labelled planes are (left, top, right, bottom), and their width
    """

    pixels: Array
    texts: list[Text] = field(default_factory=list)
    swatches: list[Colour] = field(default_factory=list)
    strip: tuple[int, int, int, int] = (0, 0, 0, 0)
    strip_mm: float = 0.0


def draw_montage(
    image: Array,
    labels: Array,
    grid: Grid,
    path: Path,
    *,
    names: Sequence[str],
    target_count: int,
    title: str = "",
) -> None:
    """Draw a case to a PNG: the same case gives the same bytes.

    Parameters
    ----------
    image : intensities (z, y, x)
    labels : ids (z, y, x)
    grid : where both lie
    path : PNG file
    names : name of each id, beginning with background; the last may be `ignore`
    target_count : ids 1..T are targets
    title : words on top
    """
    key = Key.of(names, target_count)
    focus = find_focus(labels, target_count, key.ignore_id)
    window = choose_window(image, focus)
    slices = [cut(image, labels, grid, plane, focus, window) for plane in PLANES]
    page = _lay_out(slices, grid, focus, key, present(labels, len(names)))
    page.texts += _headline(title, focus, window)
    _save(page, path)


def _lay_out(whole: Sequence[Slice], grid: Grid, focus: Focus, key: Key, present: Array) -> Page:
    """Put two rows of three planes, the enlarged lesion and the legend on one page."""
    crops = [body_box(part, key.ignore_id) for part in whole]
    slices = [part.crop(*crop) for part, crop in zip(whole, crops, strict=True)]
    sizes = [part.size_mm() for part in slices]
    room = WIDTH - 2 * MARGIN - 2 * GAP
    scale = min(room / sum(w for _, w in sizes), ROW / max(h for h, _ in sizes))
    boxes = [(max(1, int(h * scale)), max(1, int(w * scale))) for h, w in sizes]
    row = max(height for height, _ in boxes)
    zoom = enlarged(whole[0], grid, focus, BOX / ZOOM_HEIGHT)
    if zoom and max(zoom.size_mm()) > ZOOM_LARGEST_SHARE * max(slices[0].size_mm()):
        zoom = None  # the lesion fills the slice: enlarging it shows nothing new
    in_slices = np.zeros_like(present)
    for part in slices:
        in_slices[part.labels] = True
    legend = _legend_entries(present, in_slices, key)
    columns = 2 if zoom else 4
    bottom = ZOOM_HEIGHT if zoom else LEGEND_ROW * _legend_rows(legend, columns) + GAP
    page = Page(np.zeros((TITLE + 2 * (row + GAP) + bottom + MARGIN, WIDTH, 3), np.uint8))
    left, below = MARGIN, TITLE + row + GAP
    for plane, part, crop, box in zip(PLANES, slices, crops, boxes, strict=True):
        axis, _ = grid.array_axis(plane.normal)
        caption = f"{plane.name} {focus.index[axis] + 1}/{grid.shape[axis]}"
        _place(page, plain(part, box), left, TITLE, (row, box[1]), plane, caption)
        corner = _place(page, labelled(part, box, key), left, below, (row, box[1]), plane, "")
        middle = oriented_box(grid, plane, focus.index, focus.index)
        at = [
            (voxel.start - (side.start or 0) + 0.5) / size
            for voxel, side, size in zip(middle, crop, part.grey.shape, strict=True)
        ]
        _ticks(page, corner, box, (at[0], at[1]))
        left += box[1] + GAP
    page.strip = (MARGIN, below, left - GAP, below + row)
    page.strip_mm = (left - GAP - MARGIN) / scale
    _bar(page, scale, left - GAP - 8, below + row - 8)
    top = TITLE + 2 * (row + GAP)
    left = MARGIN
    if zoom:
        box = (ZOOM_HEIGHT, BOX)
        _place(page, plain(zoom, box), MARGIN, top, box, AXIAL, "axial, enlarged")
        _place(page, labelled(zoom, box, key), MARGIN + BOX + GAP, top, box, AXIAL, "")
        left = MARGIN + 2 * (BOX + GAP)
    _draw_legend(page, legend, left, top, columns, key)
    return page


def _place(
    page: Page, panel: Array, left: int, top: int, box: tuple[int, int], plane: Plane, caption: str
) -> tuple[int, int]:
    """Put a panel into the middle of its box, the patient's sides round it; gives its corner."""
    height, width = panel.shape[:2]
    y, x = top + (box[0] - height) // 2, left + (box[1] - width) // 2
    page.pixels[y : y + height, x : x + width] = panel
    bottom, middle_x, middle_y = top + box[0], left + box[1] / 2, top + box[0] / 2
    places = [
        (middle_x, top + 9, "center"),
        (middle_x, bottom - 9, "center"),
        (left + 5, middle_y, "left"),
        (left + box[1] - 5, middle_y, "right"),
    ]
    for (mark_x, mark_y, align), mark in zip(places, plane.marks, strict=True):
        page.texts.append(Text(mark_x, mark_y, mark, 9, "#ffffff", align, outlined=True))
    page.texts.append(Text(left + 5, top + 9, caption, 8, "#d0d0d0", outlined=True))
    return y, x


def _ticks(
    page: Page, corner: tuple[int, int], box: tuple[int, int], at: tuple[float, float]
) -> None:
    """Mark at the edges of a panel where the other planes cut it; `at` is a share of its sides."""
    panel = page.pixels[corner[0] : corner[0] + box[0], corner[1] : corner[1] + box[1]]
    row, column = (min(int(a * n), n - 2) for a, n in zip(at, panel.shape, strict=False))
    for ends in (slice(None, TICK), slice(-TICK, None)):
        panel[row : row + 2, ends] = CROSS
        panel[ends, column : column + 2] = CROSS


def _bar(page: Page, scale: float, right: int, bottom: int) -> None:
    """Draw a bar of a round length, for all planes; `scale` is px per mm."""
    mm = next((mm for mm in (100, 50, 20, 10, 5, 2) if mm * scale < BAR), 1)
    page.pixels[bottom : bottom + 3, right - round(mm * scale) : right] = 255
    page.texts.append(Text(right, bottom - 8, f"{mm} mm", 8, "#ffffff", "right", outlined=True))


def _legend_entries(present: Array, in_slices: Array, key: Key) -> list[tuple[int, bool]]:
    """Ids to explain, and whether the slices show them; those that they show go first in need."""
    ids = [int(i) for i in np.flatnonzero(present) if i > 0]
    by_need = sorted(ids, key=lambda i: (i > key.target_count, not in_slices[i], i))
    return [(i, bool(in_slices[i])) for i in sorted(by_need[:LEGEND_MOST])] + [
        (0, False) for _ in by_need[LEGEND_MOST:]
    ]


def _legend_rows(entries: Sequence[tuple[int, bool]], columns: int) -> int:
    """Rows of the legend, with one place left for how many more there are."""
    return 1 + sum(label > 0 for label, _ in entries) // columns


def _draw_legend(
    page: Page, entries: Sequence[tuple[int, bool]], left: int, top: int, columns: int, key: Key
) -> None:
    """Write the names of what the case holds beside their colours; grey where no slice shows it."""
    named = [entry for entry in entries if entry[0]]
    wide = (WIDTH - MARGIN - left) // columns
    rows = _legend_rows(entries, columns)
    room = int(wide / 6.6) - 4
    for number, (label, shown) in enumerate(named):
        x, y = left + number // rows * wide, top + GAP + number % rows * LEGEND_ROW
        _swatch(page.pixels[y : y + 13, x : x + 13], label, key)
        page.swatches.append(key.colours[label])
        name = key.names[label]
        name = name if len(name) <= room else f"{name[: room - 1]}…"
        colour = "#f0f0f0" if shown else "#909090"
        page.texts.append(Text(x + 20, y + 6, name, 8.5, colour))
    x, y = left + len(named) // rows * wide, top + GAP + len(named) % rows * LEGEND_ROW + 6
    if not named:
        page.texts.append(Text(left, y, "The label map is empty.", 8.5, "#c0c0c0"))
    elif len(entries) > len(named):
        page.texts.append(Text(x, y, f"+ {len(entries) - len(named)} more", 8.5, "#c0c0c0"))


def _swatch(pixels: Array, label: int, key: Key) -> None:
    """Draw a sample of a label as the panels draw it: targets as a frame, `ignore` hatched."""
    colour = key.colours[label]
    if label == key.ignore_id:
        pixels[np.add.outer(np.arange(13), np.arange(13)) % 8 < 2] = colour
        return
    pixels[:] = colour
    if key.kind(label) in ("target", "outline"):
        pixels[3:-3, 3:-3] = 40


def _headline(title: str, focus: Focus, window: tuple[float, float]) -> list[Text]:
    if focus.lesions == 0:
        where = "no lesion; slices through most structures"
    elif focus.lesions == 1:
        where = "slices through the lesion"
    else:
        where = f"slices through the largest of {focus.lesions} lesion components"
    unit = " HU" if window in (CT_WINDOW, LUNG_WINDOW) else ""
    shown = f"window {window[0]:.4g} to {window[1]:.4g}{unit}"
    return [
        Text(MARGIN, TITLE / 2, title if len(title) <= 60 else f"{title[:59]}…", 12, "#ffffff"),
        Text(WIDTH - MARGIN, TITLE / 2, f"{where} · {shown}", 8.5, "#c0c0c0", "right"),
    ]


def _save(page: Page, path: Path) -> None:
    """Write pixels and text as PNG, without a time stamp or a program's name."""
    height, width = page.pixels.shape[:2]
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="black")
    canvas = FigureCanvasAgg(figure)
    figure.figimage(page.pixels, 0, 0, origin="upper")
    stroke = [withStroke(linewidth=2, foreground="black")]
    for text in page.texts:
        figure.text(
            text.x / width,
            1 - text.y / height,
            text.text,
            fontsize=text.size,
            color=text.colour,
            horizontalalignment=text.align,
            verticalalignment="center",
            path_effects=stroke if text.outlined else None,
            parse_math=False,  # a name may hold a dollar sign
        )
    canvas.draw()  # type: ignore[no-untyped-call]
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3])  # type: ignore[no-untyped-call]
    noted = PngInfo()
    noted.add_text(STRIP, " ".join(map(str, (*page.strip, round(page.strip_mm, 2)))))
    reduced = _few_colours(drawn, page.swatches)
    reduced.save(path, format="PNG", optimize=True, pnginfo=noted)


def _few_colours(picture: Image.Image, exact: Sequence[Colour]) -> Image.Image:
    """Reduce to 256 colours, a third fewer bytes; the colours that have a meaning stay exact."""
    kept = list(dict.fromkeys(exact))[: 2 * LEGEND_MOST]
    reduced = picture.quantize(256 - len(kept), Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    palette = Image.new("P", (1, 1))
    found = (reduced.getpalette() or [])[: 3 * (256 - len(kept))]
    palette.putpalette([*found, *(level for colour in kept for level in colour)])
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)
