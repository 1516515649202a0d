"""Pictures and label maps as text, so that a page holds all that it shows."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path

import numpy as np
from isal import igzip
from PIL import Image, features

from backsplit.volume import Array

STRIP = "backsplit planes"
"""Text in a picture's file: left, top, right, bottom of the labelled planes, and their mm."""
QUALITY = 75
"""Of lossy WebP: a third of the bytes of a PNG."""
SLICE_QUALITY = 60
"""Of the slices of a volume, of which only a part of the levels is shown at a time."""
PACKED_LEVEL = 3
"""Highest of ISA-L: the same bytes everywhere, within a tenth of zlib's, in a third of its time."""


def data_address(picture: Image.Image, *, quality: int = QUALITY) -> str:
    """Encode a picture for the eye: WebP where Pillow can, else PNG."""
    picture = picture.convert("RGB")
    if features.check("webp"):
        return _address(picture, "webp", quality=quality, method=2)
    return _address(picture, "png")


def slices_address(levels: Array) -> tuple[str, int]:
    """Encode the slices of a volume (slices, rows, columns) as one grey picture.

    Returns
    -------
    address, columns
        Of the picture, and how many slices lie beside each other in it.
    """
    count, height, width = levels.shape
    columns = max(1, min(count, round(math.sqrt(count * height / width))))
    rows = -(-count // columns)
    tiles = np.zeros((rows, columns, height, width), np.uint8)
    tiles.reshape(-1, height, width)[:count] = levels
    mosaic = tiles.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
    picture = Image.fromarray(mosaic)
    if features.check("webp"):
        return _address(picture.convert("RGB"), "webp", quality=SLICE_QUALITY, method=0), columns
    return _address(picture, "png"), columns


def packed(values: Array) -> str:
    """Integers of any shape as gzip in base64, the lowest byte first."""
    raw = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return base64.b64encode(igzip.compress(raw, PACKED_LEVEL, mtime=0)).decode()


def file_address(path: Path, width: int | None = None, quality: int = QUALITY) -> str:
    """Encode a picture file anew, no wider than `width` px.

    Raises
    ------
    OSError
        When it cannot be read.
    """
    with Image.open(path) as picture:
        if width is not None and picture.width > width:
            height = max(1, round(picture.height * width / picture.width))
            shown = picture.convert("RGB").resize((width, height), Image.Resampling.BOX)
            return data_address(shown, quality=quality)
        return data_address(picture, quality=quality)


def _address(picture: Image.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
