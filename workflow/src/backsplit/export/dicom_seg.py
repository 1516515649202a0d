"""Write a label map as a DICOM segmentation of its image's series, with highdicom."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from backsplit import __version__
from backsplit.errors import CaseError, Code, RunError
from backsplit.export.meanings import LONGEST, PRIVATE, Concept, Meaning
from backsplit.volume import Array, LabelNames

PACKAGE = "highdicom"
INSTALL = f"pip install '{PACKAGE}>=0.26'"

SERIES_NUMBER = 900
"""Higher than those of a scanner, so that viewers list the segmentation last."""

NETWORK = Concept("DCM", "123110", "Artificial Intelligence")
THRESHOLD = Concept(PRIVATE, "threshold", "Intensity threshold")
RULES = Concept(PRIVATE, "rules", "Rules of composing")
"""Families of algorithms; the first is from CID 7162 of DICOM PS3.16."""

_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime"),
)
"""Type 2 attributes that highdicom copies, and that anonymised files may lack."""

_NO_DATE, _NO_TIME = "19700101", "000000"


def require_highdicom() -> None:
    """Raise an error if highdicom is not installed.

    Raises
    ------
    RunError
        PACKAGE_MISSING.
    """
    if find_spec(PACKAGE) is None:
        raise RunError(
            Code.PACKAGE_MISSING,
            f"export.segmentations asks for dicom_seg, which needs {PACKAGE}, and that is not "
            "installed",
            f"run {INSTALL}",
        )


def save_dicom_seg(
    path: Path,
    image: Path,
    array: Array,
    names: LabelNames,
    meanings: Mapping[str, Meaning],
    made_by: Mapping[str, Concept | None],
    mark: str,
) -> None:
    """Write a segmentation: one segment per label, numbered as the label.

    It has the series' patient, study and frame of reference, and refers to each slice. Times are
    those of the series, and UIDs follow from `mark`: the same inputs give the same bytes.

    Parameters
    ----------
    path : the file
    image : folder of the series, or a multi-frame object
    array : the label map on its grid, (z, y, x)
    names : label to name and colour, without a gap from 1 on
    meanings : what each name means
    made_by : name to the family of algorithms that made it; None for labels drawn by hand
    mark : digest of what it is made from

    Raises
    ------
    CaseError
        DICOM_MISSING: the series lacks what the standard requires.
    """
    import highdicom

    from backsplit.volume.series import series_headers

    headers, frames = series_headers(image)
    for header in headers:
        for keyword in _MAY_BE_EMPTY:
            if keyword not in header:
                setattr(header, keyword, "")
    planes = np.zeros((max(len(headers), max(frames) + 1), *array.shape[1:]), array.dtype)
    planes[frames] = array
    try:
        with warnings.catch_warnings():  # of the series' own headers, which are taken over
            warnings.simplefilter("ignore")
            made = highdicom.seg.Segmentation(
                source_images=headers,
                pixel_array=planes,
                segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=[
                    _described(label, name, colour, meanings[name], made_by[name])
                    for label, (name, colour) in names.items()
                ],
                series_instance_uid=_uid(mark, "series"),
                series_number=SERIES_NUMBER,
                sop_instance_uid=_uid(mark, "instance"),
                instance_number=1,
                manufacturer="backsplit",
                manufacturer_model_name="backsplit",
                software_versions=__version__,
                device_serial_number="none",
                content_label="BACKSPLIT",
                content_description="Lesions and anatomy",
                series_description="backsplit: lesions and anatomy",
            )
            _without_now(made, headers[0], mark)
            made.save_as(path, enforce_file_format=True)
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        raise CaseError(
            Code.DICOM_MISSING,
            f"{image} cannot be referred to by a DICOM-SEG ({type(error).__name__}: {error})",
            "complete the headers of the series, or use the .seg.nrrd or the label map",
        ) from None


def _described(
    label: int,
    name: str,
    colour: tuple[int, int, int],
    meaning: Meaning,
    made_by: Concept | None,
) -> Any:  # noqa: ANN401 (highdicom is optional)
    import highdicom

    kinds = highdicom.seg.SegmentAlgorithmTypeValues
    algorithm = None
    if made_by is not None:
        algorithm = highdicom.AlgorithmIdentificationSequence(
            name="backsplit", family=_coded(made_by), version=__version__
        )
    described = highdicom.seg.SegmentDescription(
        segment_number=label,
        segment_label=name[:LONGEST],
        segmented_property_category=_coded(meaning.category),
        segmented_property_type=_coded(meaning.kind),
        algorithm_type=kinds.MANUAL if made_by is None else kinds.AUTOMATIC,
        algorithm_identification=algorithm,
        anatomic_regions=None if meaning.region is None else [_coded(meaning.region)],
        display_color=highdicom.color.CIELabColor.from_rgb(*colour),
    )
    if meaning.modifier is not None:
        (kind,) = described.SegmentedPropertyTypeCodeSequence
        kind.SegmentedPropertyTypeModifierCodeSequence = [_coded(meaning.modifier)]
    if meaning.region is not None and meaning.region_modifier is not None:
        (region,) = described.AnatomicRegionSequence
        region.AnatomicRegionModifierSequence = [_coded(meaning.region_modifier)]
    return described


def _coded(concept: Concept) -> Any:  # noqa: ANN401
    import highdicom

    return highdicom.sr.CodedConcept(concept.value, concept.scheme, concept.meaning)


def _without_now(made: Any, source: Any, mark: str) -> None:  # noqa: ANN401
    """Replace times and random UIDs with values derived from the inputs."""
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        if keyword in made:
            delattr(made, keyword)
    made.ContentDate = _first(source, ("ContentDate", "SeriesDate", "StudyDate"), _NO_DATE)
    made.ContentTime = _first(source, ("ContentTime", "SeriesTime", "StudyTime"), _NO_TIME)
    for item in made.get("ContributingEquipmentSequence", ()):
        if "ContributionDateTime" in item:
            del item.ContributionDateTime
    dimensions = _uid(mark, "dimensions")
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions


def _first(source: Any, keywords: tuple[str, ...], otherwise: str) -> str:  # noqa: ANN401
    return next((str(found) for key in keywords if (found := source.get(key))), otherwise)


def _uid(mark: str, part: str) -> str:
    """UID as in PS3.5 B.2, from a name-based UUID (RFC 4122, version 5)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'backsplit {mark} {part}').int}"
