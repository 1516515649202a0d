"""Hostile DICOM objects: sound ones in which one thing is missing, odd or impossible."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, RLELossless

ABSENT = object()

NUMBERS = (ABSENT, "", 0, -1, 1, 7, 65_535, 65_536)
REALS = (ABSENT, "", "0", "-1", "nan", "inf", "-inf", "1e308", "1e-300", "x", "1\\2", "0x1", "1,5")
TEXTS = (ABSENT, "", "x", "\0", "CT\\MR", "../../x", "ä" * 70)

Object = tuple[str, Dataset]
"""What is odd, and the object."""


def slices(sound: Dataset) -> Iterator[Object]:
    """Single slices."""
    for name in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
                 "PixelRepresentation", "SamplesPerPixel"):  # fmt: skip
        yield from _each(sound, (), name, "US", NUMBERS)
    for name in ("RescaleSlope", "RescaleIntercept"):
        yield from _each(sound, (), name, "DS", REALS)
    yield from _each(sound, (), "NumberOfFrames", "IS", ("", "0", "-1", "2", "x", "1000000000"))
    yield from _each(sound, (), "InstanceNumber", "IS", (ABSENT, "", "x", "1\\2", "-7"))
    uids = ("SOPClassUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    for name in ("Modality", "PhotometricInterpretation", *uids):
        vr = "UI" if name in uids else "CS"
        yield from _each(sound, (), name, vr, TEXTS)
    for name, count in (
        ("ImagePositionPatient", 3),
        ("ImageOrientationPatient", 6),
        ("PixelSpacing", 2),
    ):
        yield from _vectors(sound, (), name, count)
    yield from _pixels(sound)
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [3, 0, 16], [9, 8, 7]
    yield "a table of values", _with(sound, (), "ModalityLUTSequence", "SQ", [table])


def frames(sound: Dataset) -> Iterator[Object]:
    """Enhanced multi-frame images."""
    yield from _each(sound, (), "NumberOfFrames", "IS", (ABSENT, "", "0", "-1", "3", "99", "x"))
    for name in ("Rows", "Columns", "BitsAllocated"):
        yield from _each(sound, (), name, "US", NUMBERS)
    yield from _groups(sound)
    for where in _holders(sound, "PixelValueTransformationSequence"):
        path = (*where, "PixelValueTransformationSequence", 0)
        for name in ("RescaleSlope", "RescaleIntercept"):
            yield from _each(sound, path, name, "DS", REALS)
    yield from _pixels(sound)


def segmentations(sound: Dataset) -> Iterator[Object]:
    """DICOM-SEG."""
    yield from _each(sound, (), "NumberOfFrames", "IS", (ABSENT, "", "0", "-1", "3", "99", "x"))
    for name in ("Rows", "Columns", "BitsAllocated"):
        yield from _each(sound, (), name, "US", NUMBERS)
    for name, vr in (("SegmentationType", "CS"), ("Modality", "CS"), ("FrameOfReferenceUID", "UI")):
        yield from _each(sound, (), name, vr, TEXTS)
    yield from _each(sound, (), "SegmentSequence", "SQ", (ABSENT, [], [Dataset()]))
    yield from _each(sound, ("SegmentSequence", 0), "SegmentNumber", "US", NUMBERS)
    yield from _each(sound, ("SegmentSequence", 0), "SegmentLabel", "LO", TEXTS)
    yield from _groups(sound)
    for where in _holders(sound, "SegmentIdentificationSequence"):
        path = (*where, "SegmentIdentificationSequence", 0)
        yield from _each(sound, path, "ReferencedSegmentNumber", "US", NUMBERS)
    yield from _pixels(sound)


def structures(sound: Dataset) -> Iterator[Object]:
    """RTSTRUCT; the first region is the wanted one."""
    yield from _each(sound, (), "Modality", "CS", TEXTS)
    for name in ("StructureSetROISequence", "ROIContourSequence"):
        yield from _each(sound, (), name, "SQ", (ABSENT, [], [Dataset()]))
    region, item = ("StructureSetROISequence", 0), ("ROIContourSequence", 0)
    yield from _each(sound, region, "ROINumber", "IS", (ABSENT, "", "0", "-1", "99", "x", "1\\2"))
    yield from _each(sound, region, "ROIName", "LO", TEXTS)
    yield from _each(sound, region, "ReferencedFrameOfReferenceUID", "UI", (ABSENT, "", "1.9"))
    yield from _each(sound, item, "ReferencedROINumber", "IS", (ABSENT, "", "0", "-1", "99", "x"))
    yield from _each(sound, item, "ContourSequence", "SQ", (ABSENT, [], [Dataset()]))
    contour = (*item, "ContourSequence", 0)
    kinds = (*TEXTS, "POINT", "OPEN_PLANAR", "OPEN_NONPLANAR", "closed_planar")
    yield from _each(sound, contour, "ContourGeometricType", "CS", kinds)
    yield from _each(sound, contour, "NumberOfContourPoints", "IS",
                     (ABSENT, "", "0", "-1", "3", "x", "99999999"))  # fmt: skip
    data = [str(v) for v in _at(sound, contour).ContourData]
    for text in ("", "nan", "inf", "-inf", "1e308", "-1e20", "x", "1\\2", "0x1", "1,5"):
        odd = "\\".join([*data[:4], text, *data[5:]])
        yield f"a coordinate {text!r}", _with(sound, contour, "ContourData", "DS", odd)
    for count in (0, 1, 2, 4, len(data) - 1):
        yield (
            f"{count} coordinates",
            _with(sound, contour, "ContourData", "DS", "\\".join(data[:count])),
        )
    yield "no coordinates", _with(sound, contour, "ContourData", "DS", ABSENT)


def _groups(sound: Dataset) -> Iterator[Object]:
    """Functional groups, which say of each frame where it lies."""
    for name in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        yield from _each(sound, (), name, "SQ", (ABSENT, [], [Dataset()]))
    for sequence, name, count in (
        ("PlanePositionSequence", "ImagePositionPatient", 3),
        ("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        ("PixelMeasuresSequence", "PixelSpacing", 2),
    ):
        for where in _holders(sound, sequence):
            yield from _each(sound, where, sequence, "SQ", (ABSENT, [], [Dataset()]))
            yield from _vectors(sound, (*where, sequence, 0), name, count)


def _holders(sound: Dataset, sequence: str) -> list[tuple[Any, ...]]:
    """Where a functional group is: of the second frame, or shared."""
    places = [("PerFrameFunctionalGroupsSequence", 1), ("SharedFunctionalGroupsSequence", 0)]
    return [where for where in places if _at(sound, where).get(sequence)]


def _vectors(sound: Dataset, where: tuple[Any, ...], name: str, count: int) -> Iterator[Object]:
    given = [str(v) for v in _at(sound, where)[name].value]
    values = [ABSENT, "", *("\\".join(["0"] * n) for n in (1, count - 1, count, count + 1))]
    values += ["\\".join([odd, *given[1:]]) for odd in ("nan", "inf", "1e300", "-1e300", "x", "")]
    yield from _each(sound, where, name, "DS", values)


def _pixels(sound: Dataset) -> Iterator[Object]:
    data = sound.PixelData
    for what, value in (
        ("no pixels", ABSENT),
        ("empty pixels", b""),
        ("a byte", data[:1]),
        ("half the pixels", data[: len(data) // 2]),
        ("two bytes too few", data[:-2]),
        ("twice the pixels", data * 2),
    ):
        yield what, _with(sound, (), "PixelData", "OW", value)
    for syntax in (JPEG2000Lossless, RLELossless, "1.2.3", ""):
        odd = copy.deepcopy(sound)
        odd.file_meta.TransferSyntaxUID = syntax
        yield f"said to be packed as {syntax!r}", odd


def _each(
    sound: Dataset, where: tuple[Any, ...], name: str, vr: str, values: Any
) -> Iterator[Object]:
    for value in values:
        shown = "absent" if value is ABSENT else repr(value)[:40]
        yield f"{name} {shown}", _with(sound, where, name, vr, value)


def _with(sound: Dataset, where: tuple[Any, ...], name: str, vr: str, value: Any) -> Dataset:
    """A copy of an object with one element as it is written, whether it may be so or not."""
    odd = copy.deepcopy(sound)
    holder = _at(odd, where)
    tag = tag_for_keyword(name)
    if value is ABSENT:
        if name in holder:
            del holder[name]
        return odd
    written = vr
    if vr in ("DS", "IS") or (vr == "US" and isinstance(value, str)):
        written, value = "LO", value.split("\\") if "\\" in value else value
    elif vr == "US" and not 0 <= value < 65_536:
        written = "SL"
    holder[tag] = DataElement(tag, written, value)
    if written != vr:  # pydicom would not write it as what it is said to be
        start = tag.to_bytes(4, "big")
        start = bytes([start[1], start[0], start[3], start[2]])
        odd.disguised = (start + written.encode(), start + vr.encode())
    return odd


def _at(data: Dataset, where: tuple[Any, ...]) -> Any:
    for step in where:
        data = data[step] if isinstance(step, int) else getattr(data, step)
    return data


def saved(data: Dataset, path: Path) -> bool:
    """Write an object; whether that could be done at all."""
    try:
        data.save_as(path, enforce_file_format=False)
    except Exception:  # pydicom does not write everything
        return False
    if disguised := getattr(data, "disguised", None):
        path.write_bytes(path.read_bytes().replace(*disguised))
    return True


def damaged(content: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Files with bytes that are changed, missing or doubled."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        data = bytearray(content)
        if rng.random() < 0.3:
            data = data[: rng.integers(133, len(data))]  # the preamble and a byte
        for _ in range(rng.integers(1, 30)):
            data[rng.integers(132, len(data))] = rng.integers(0, 256)
        yield bytes(data)
