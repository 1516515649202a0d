"""DICOM objects that hold segments or regions."""

from __future__ import annotations

from pathlib import Path

from pydicom import dcmread

from backsplit.errors import shown
from backsplit.volume.contours import Regions
from backsplit.volume.seg_frames import SegFrames
from backsplit.volume.segments import SegmentFile, unreadable

_KINDS: dict[str, type[Regions] | type[SegFrames]] = {"RTSTRUCT": Regions, "SEG": SegFrames}
"""By modality."""


def is_segments(path: Path) -> bool:
    """Whether a DICOM file is a DICOM-SEG or RTSTRUCT."""
    try:
        modality = dcmread(path, stop_before_pixels=True, specific_tags=["Modality"]).Modality
    except Exception:  # whoever reads it as an image says what is wrong
        return False
    return str(modality) in _KINDS


def open_segments(path: Path) -> SegmentFile:
    """Open a DICOM-SEG or RTSTRUCT.

    Raises
    ------
    CaseError
        FILE_UNREADABLE for anything else.
    """
    try:
        data = dcmread(path)
        if (modality := str(data.Modality)) not in _KINDS:
            raise ValueError(f"its modality is {shown(modality, 40)}")
        return _KINDS[modality](path, data)
    except Exception as error:  # pydicom raises all sorts of things
        raise unreadable(path, error) from None
