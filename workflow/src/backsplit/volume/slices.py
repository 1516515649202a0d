"""Slices in a folder of DICOM files, by their headers; and what in it is no slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread

from backsplit.errors import CaseError, Code, shown
from backsplit.volume.planes import Plane, frame_count, group, is_dicom_file, plane_of

NOT_IMAGES = ("SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "RTRECORD", "SR", "PR", "KO", "REG", "DOC")
"""Modalities of objects that lie beside images, and are none."""

DIRECTORY = "1.2.840.10008.1.3.10"
"""Media Storage Directory: a DICOMDIR."""

SLICE_ENDINGS = (".dcm", ".dicom", ".ima")

SCALES = 1e-20, 1e20
"""Slopes below or above make nothing, or infinity, of the values in float32."""

TELLING = (
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "EchoNumbers",
    "EchoTime",
    "DiffusionBValue",
    "TriggerTime",
    "InversionTime",
    "FlipAngle",
    "FrameReferenceTime",
    "ConvolutionKernel",
    "ImageType",
    "AcquisitionTime",
)
"""Tags by which several volumes of one series are told apart."""


@dataclass(frozen=True)
class Slice:
    """One slice of a series, from its header.

    Attributes
    ----------
    path, frame : the file, and the frame in it (from 0) where it is a multi-frame object
    series, description : of its series
    frame_of_reference : UID, or empty
    uid : of the object itself
    plane : where it lies
    slope, intercept : value = stored value x slope + intercept
    instance : InstanceNumber; 0 where it has none
    tags : values of `TELLING` that it has
    """

    path: Path
    frame: int | None
    series: str
    description: str
    frame_of_reference: str
    uid: str
    plane: Plane
    slope: float
    intercept: float
    instance: int
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class _Folder:
    """What a folder holds."""

    slices: list[Slice]
    localizers: list[Slice]
    nowhere: list[tuple[Path, str, str]]
    """Images without a position: file, series, and what is missing."""
    aside: list[Path]
    """Anything else."""


def find_slices(path: Path) -> tuple[list[Slice], list[str]]:
    """Slices of a folder, or of one file.

    Returns
    -------
    slices, notes
        At least one slice; and which files were left aside. Localizers are, beside other slices.

    Raises
    ------
    CaseError
        FILE_UNREADABLE: no image, or a damaged one; ORIENTATION_UNKNOWN: it says nowhere where
        it lies; SLICES_UNEVEN: some slices of a series do not.
    """
    found = _Folder([], [], [], [])
    for file in [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file()):
        _sort_in(file, found)
    slices = found.slices or found.localizers
    if not slices:
        raise _without_slices(path, found)
    series = {s.series for s in slices}
    for file, uid, missing in found.nowhere:
        if uid in series:
            raise CaseError(
                Code.SLICES_UNEVEN,
                f"{path}: {file.name} belongs to the series, but {missing}",
                "complete the series, or remove what does not belong to it",
            )
    aside = [*found.aside, *(file for file, _, _ in found.nowhere)]
    if slices is found.slices:
        aside += [s.path for s in found.localizers if s.frame in (None, 0)]
    return slices, [f"ignored, not slices of the series: {names(aside)}"] if aside else []


def names(paths: Sequence[Path]) -> str:
    """Names of the first files, and how many more there are."""
    rest = f" and {len(paths) - 3} more" if len(paths) > 4 else ""
    return ", ".join(shown(p.name, 80) for p in paths[: 3 if rest else 4]) + rest


def _sort_in(file: Path, found: _Folder) -> None:
    """Put a file where it belongs."""
    if not is_dicom_file(file):
        if file.suffix.lower() in SLICE_ENDINGS and not file.name.startswith("._"):
            raise _damaged(file, "it does not begin as DICOM does")
        if file.name.lower() not in ("thumbs.db", ".ds_store", "desktop.ini"):
            found.aside.append(file)
        return
    try:
        data = dcmread(file, stop_before_pixels=True)
        if data.file_meta.get("MediaStorageSOPClassUID") == DIRECTORY:
            return
        if "Modality" not in data:
            raise ValueError("it has no Modality")
        if str(data.Modality) in NOT_IMAGES:
            found.aside.append(file)
            return
        series = str(data.get("SeriesInstanceUID", ""))
    except Exception as error:  # pydicom raises all sorts of things
        raise _damaged(file, str(error) or type(error).__name__) from None
    try:
        slices = _slices(file, data, series)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        found.nowhere.append((file, series, str(error)[:200]))
        return
    except CaseError:
        raise
    except Exception as error:
        raise _damaged(file, str(error) or type(error).__name__) from None
    is_localizer = "LOCALIZER" in [str(v) for v in np.atleast_1d(data.get("ImageType") or "")]
    (found.localizers if is_localizer else found.slices).extend(slices)


def _slices(file: Path, data: Any, series: str) -> list[Slice]:  # noqa: ANN401 (a Dataset)
    """Slices of an image object.

    Raises
    ------
    ValueError
        It does not say where they lie.
    CaseError
        FILE_UNREADABLE: it does not say how their values are scaled.
    """
    if (samples := int(data.get("SamplesPerPixel", 1))) != 1:
        raise ValueError(f"it has {samples} values a pixel, as colours do")
    frames = frame_count(data)
    several = data.get("PerFrameFunctionalGroupsSequence") is not None or frames > 1
    planes = [plane_of(data, frame) for frame in range(frames)]
    if data.get("ModalityLUTSequence"):
        raise _damaged(file, "its values go through a table, ModalityLUTSequence")
    return [
        Slice(
            file,
            frame if several else None,
            series,
            str(data.get("SeriesDescription", "")),
            str(data.get("FrameOfReferenceUID") or ""),
            str(data.get("SOPInstanceUID", "")),
            plane,
            *_scale(file, data, frame),
            _instance(data),
            _tags(data, frame),
        )
        for frame, plane in enumerate(planes)
    ]


def _scale(file: Path, data: Any, frame: int) -> tuple[float, float]:  # noqa: ANN401
    """Rescale slope and intercept of a frame: its own, the object's, or 1 and 0."""
    own = group(data, frame, "PixelValueTransformationSequence")
    source = data if own is None else own
    slope, intercept = source.get("RescaleSlope"), source.get("RescaleIntercept")
    try:
        values = float(1 if slope is None else slope), float(0 if intercept is None else intercept)
        if SCALES[0] <= abs(values[0]) <= SCALES[1] and abs(values[1]) <= SCALES[1]:  # nor NaN
            return values
    except (TypeError, ValueError):  # several numbers, or none
        pass
    raise _damaged(file, f"its RescaleSlope is {slope}, its RescaleIntercept {intercept}")


def _instance(data: Any) -> int:  # noqa: ANN401
    """InstanceNumber: only for messages, so that it may be missing or odd."""
    try:
        return int(data.get("InstanceNumber") or 0)
    except (TypeError, ValueError):
        return 0


def _tags(data: Any, frame: int) -> dict[str, str]:  # noqa: ANN401
    """What may tell a slice from others at its position."""
    tags = {tag: str(data.get(tag)) for tag in TELLING if data.get(tag) is not None}
    content = group(data, frame, "FrameContentSequence")
    for tag in ("StackID", "TemporalPositionIndex", "FrameAcquisitionNumber"):
        if content is not None and content.get(tag) is not None:
            tags[tag] = str(content.get(tag))
    for name, tag in (
        ("MREchoSequence", "EffectiveEchoTime"),
        ("MRDiffusionSequence", "DiffusionBValue"),
        ("MRImageFrameTypeSequence", "FrameType"),
        ("CTImageFrameTypeSequence", "FrameType"),
    ):
        item = group(data, frame, name)
        if item is not None and item.get(tag) is not None:
            tags[tag] = str(item.get(tag))
    return tags


def _without_slices(path: Path, found: _Folder) -> CaseError:
    """Say why there is no slice."""
    if found.nowhere:
        file, _, missing = found.nowhere[0]
        return CaseError(
            Code.ORIENTATION_UNKNOWN,
            f"{path} cannot be placed in the patient: {missing} ({file.name})",
            "use the original series; a copy without geometry (a screenshot) cannot be used",
        )
    below = sorted(islice(path.glob("*/**/*"), 1000))  # of `/` there would be millions
    inside = next((p.parent for p in below if is_dicom_file(p)), None)
    held = f"it contains {names(found.aside)}" if found.aside else "it contains no file itself"
    return CaseError(
        Code.FILE_UNREADABLE,
        f"{path} cannot be read as a DICOM series (no file in it is a slice; {held})",
        f"use the folder with the slices{f', such as {shown(inside)}' if inside else ''}",
    )


def _damaged(file: Path, reason: str) -> CaseError:
    return CaseError(
        Code.FILE_UNREADABLE,
        f"{file} cannot be read as a DICOM slice ({reason.splitlines()[-1][:200]})",
        "download it again, or remove it if it does not belong to the series; dcm2niix may "
        "convert non-standard DICOM",
    )
