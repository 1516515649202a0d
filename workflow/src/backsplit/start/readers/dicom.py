"""Series of DICOM files in folders, by the download tool's list or by their headers."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom

from backsplit.start.written import CONTOURS, NAMES, SEGMENTS, object_names
from backsplit.volume.planes import is_dicom_file

LIST = "metadata.csv"
"""What the download tool of the NBIA writes beside the folders."""

DRAWN = (CONTOURS, SEGMENTS)

TAGS = ["PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality"]
REFERENCES = [
    *TAGS,
    *NAMES,
    "ReferencedFrameOfReferenceSequence",
    "ReferencedSeriesSequence",
]


@dataclass(frozen=True)
class Series:
    """A series in a folder of its own."""

    folder: Path
    modality: str
    patient: str
    study: str
    uid: str


@dataclass(frozen=True)
class Drawn:
    """An RTSTRUCT or a DICOM-SEG.

    Attributes
    ----------
    path, kind : of the file
    series : what it belongs to
    of : the series that it was drawn on, as far as the file says
    names : of its regions or segments, as the file has them
    """

    path: Path
    kind: str
    series: Series
    of: frozenset[str]
    names: Sequence[str]


def series_below(root: Path) -> tuple[list[Series], list[str]]:
    """Series of a folder, and what to know of them.

    Where a list of the download tool lies there it says what the folders hold; else the first
    file of each folder does.
    """
    lists = sorted({*root.glob(LIST), *root.glob(f"*/{LIST}")})
    listed = [series for path in lists for series in _listed(path)]
    if listed:
        here = [series for series in listed if series.folder.is_dir()]
        gone = len(listed) - len(here)
        notes = [f"{gone} of {len(listed)} series in {LIST} are not on the disk"] if gone else []
        return here, notes
    return list(_by_headers(root)), []


def drawn_in(series: Series) -> Iterator[Drawn]:
    """RTSTRUCT or DICOM-SEG files of a series; a file that is none is passed over."""
    for path in sorted(path for path in series.folder.iterdir() if path.is_file()):
        try:
            data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=REFERENCES)
            kind = str(data.Modality)
            yield Drawn(path, kind, series, frozenset(_referenced(data)), object_names(data))
        except Exception:  # noqa: S112 (damaged in whatever way: `check` reads it)
            continue


def _listed(path: Path) -> Iterator[Series]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        for row in csv.DictReader(stream):
            where = (row.get("File Location") or "").replace("\\", "/")
            modality = (row.get("Modality") or "").strip()
            inside = (path.parent / where).resolve().is_relative_to(path.parent.resolve())
            if where and modality and inside:
                yield Series(
                    path.parent / where.removeprefix("./"),
                    modality,
                    row.get("Subject ID") or "",
                    row.get("Study UID") or "",
                    row.get("Series UID") or "",
                )


def _by_headers(root: Path) -> Iterator[Series]:
    for folder, folders, files in os.walk(root):
        folders.sort()
        first = min((name for name in files if may_be_dicom(Path(folder) / name)), default=None)
        if first is None:
            continue
        try:
            data: Any = pydicom.dcmread(
                Path(folder) / first, stop_before_pixels=True, specific_tags=TAGS
            )
            said = [str(data[tag].value) for tag in TAGS]
        except Exception:  # noqa: S112 (no DICOM, or without what a series needs)
            continue
        patient, study, uid, modality = said
        yield Series(Path(folder), modality, patient, study, uid)


def may_be_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its ending, or has none and begins as DICOM does."""
    if path.suffix.lower() in (".dcm", ".ima"):
        return not path.name.startswith(".")
    named = path.suffix and not path.suffix[1:].isdigit()  # 1.2.840…: a UID as the name
    return not named and is_dicom_file(path)


def _referenced(data: Any) -> Iterator[str]:  # noqa: ANN401 (a data set of pydicom)
    """Series that an object was drawn on."""
    for item in data.get("ReferencedSeriesSequence", ()):
        yield str(item.SeriesInstanceUID)
    for frame in data.get("ReferencedFrameOfReferenceSequence", ()):
        for study in frame.get("RTReferencedStudySequence", ()):
            for item in study.get("RTReferencedSeriesSequence", ()):
                yield str(item.SeriesInstanceUID)
