"""Pictures as `data:` addresses, so that a page holds all that it shows."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image, features

QUALITY = 75
"""Of lossy WebP: a third of the bytes of a PNG."""


def data_address(picture: Image.Image, *, quality: int = QUALITY) -> str:
    """Encode a picture for the eye: WebP where Pillow can, else PNG."""
    picture = picture.convert("RGB")
    if features.check("webp"):
        return _address(picture, "webp", quality=quality, method=2)
    return _address(picture, "png")


def exact_address(picture: Image.Image) -> str:
    """Encode a picture without loss, transparency included."""
    if features.check("webp"):
        return _address(picture, "webp", lossless=True, quality=50, method=3)
    return _address(picture, "png")


def file_address(path: Path, width: int | None = None, quality: int = QUALITY) -> str:
    """Encode a picture file anew, no wider than `width` px.

    Raises
    ------
    OSError
        When it can not be read.
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
