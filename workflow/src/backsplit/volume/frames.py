"""Pixels of DICOM frames, held against what the header says of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom.pixels import pixel_array

from backsplit.volume.grid import Array
from backsplit.volume.planes import frame_count


def frame_pixels(data: Any, frame: int | None) -> Array:  # noqa: ANN401 (a pydicom Dataset)
    """Stored values of a frame (from 0), or of an object that is one slice (None); (rows, columns).

    Raises
    ------
    ValueError
        More or fewer pixels than the header says.
    Exception
        Whatever pydicom and its decoders raise.
    """
    rows, columns, bits = int(data.Rows), int(data.Columns), int(data.BitsAllocated)
    if not data.file_meta.TransferSyntaxUID.is_compressed and "PixelData" in data:
        _require_whole(data, rows, columns, bits)
        if bits == 1:  # pydicom 3.0 decodes no single frame that does not begin with a byte
            first = (frame or 0) * rows * columns
            part = np.frombuffer(data.PixelData, np.uint8)
            part = part[first // 8 : (first + rows * columns + 7) // 8]
            found = np.unpackbits(part, bitorder="little")[first % 8 :][: rows * columns]
            return found.reshape(rows, columns)
    pixels = np.asarray(pixel_array(data, index=frame))
    if pixels.shape != (rows, columns):
        raise ValueError(f"its pixels have the shape {pixels.shape}")
    return pixels


def _require_whole(data: Any, rows: int, columns: int, bits: int) -> None:  # noqa: ANN401
    """Refuse pixels that are not as many as the header says, but for padding within a row."""
    samples = int(data.get("SamplesPerPixel", 1))
    expected = (frame_count(data) * rows * columns * samples * bits + 7) // 8
    padding = max(1, min(rows, columns) * bits // 8 - 1)
    if not expected <= len(data.PixelData) <= expected + padding:
        raise ValueError(
            f"it has {len(data.PixelData)} bytes of pixels, but its header says {expected}"
        )
