"""NSCLC-Radiomics as the download tool lays it out: CT, RTSTRUCT and DICOM-SEG."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from support.dicom import write_rtstruct, write_seg, write_series
from support.scans import ORIGIN, SPACING, Scan, ct, scan

NSCLC = {
    # patient: names of regions and of segments, each with what it covers
    "LUNG1-001": ({"GTV-1": "gtv", "Lung-Left": "lung_left", "Spinal-Cord": "heart"},
                  {"Neoplasm, Primary": "gtv", "Lung": "lung_left", "Lung ": "lung_right"}),
    "LUNG1-002": ({"GTV-1": "gtv", "gtv-2": "nodal", "Heart": "heart"},
                  {"Neoplasm, Primary": "gtv", "Heart": "heart"}),
    "LUNG1-128": ({"gtv-pre-op": "gtv"}, {}),
}  # fmt: skip
HEAD = ("Series UID", "Collection", "Subject ID", "Study UID", "Modality", "File Location")


def nsclc(root: Path, *, listed: bool = True) -> dict[str, Scan]:
    """A CT, an RTSTRUCT and mostly a DICOM-SEG of each patient, in the download tool's folders."""
    top = root / "manifest-1603198545583"
    rows, scans = [HEAD], {}
    for number, (patient, (regions, segments)) in enumerate(NSCLC.items(), start=1):
        found = scan(number, {"gtv": "lung_right", "nodal": "heart"})
        scans[patient] = Scan(found.organs, {n: found.lesions[n] for n in sorted({*regions.values()}
                                             & set(found.lesions))})  # fmt: skip
        study = top / "NSCLC-Radiomics" / patient / f"0{number}-18-2008-StudyID-NA-6933{number}"
        uids = {
            kind: f"1.2.826.{number}.{n}"
            for n, kind in enumerate(("study", "CT", "RTSTRUCT", "SEG"))
        }
        folders = {"CT": study / "0.000000-NA-82046", "RTSTRUCT": study / "3.000000-NA-78236",
                   "SEG": study / "300.000000-Segmentation-9.554"}  # fmt: skip
        write_series(folders["CT"], ct(found, number), origin=ORIGIN, uid=uids["CT"],
                     spacing=SPACING)  # fmt: skip
        for path in folders["CT"].iterdir():
            edit(path, PatientID=patient, StudyInstanceUID=uids["study"])
        masks = {**found.organs, **found.lesions}
        _contours(
            folders["RTSTRUCT"], {n: masks[part] for n, part in regions.items()}, patient, uids
        )
        kinds = ["CT", "RTSTRUCT"]
        if segments:
            kinds.append("SEG")
            _segments(folders, {n: masks[part] for n, part in segments.items()}, patient, uids)
        for kind in kinds:
            where = folders[kind].relative_to(top).as_posix()
            row = (uids[kind], "NSCLC-Radiomics", patient, uids["study"], kind, f"./{where}")
            rows.append(row)
    if listed:
        with (top / "metadata.csv").open("w", newline="") as out:
            csv.writer(out).writerows(rows)
    return scans


def edit(path: Path, **fields: object) -> None:
    data = pydicom.dcmread(path)
    for name, value in fields.items():
        setattr(data, name, value)
    data.save_as(path)


def _contours(
    folder: Path, masks: Mapping[str, np.ndarray], patient: str, uids: Mapping[str, str]
) -> None:
    """Outlines half a voxel outside the outermost voxels of boxes."""
    folder.mkdir(parents=True)
    path = write_rtstruct(folder / "1-1.dcm", {n: outlines(mask) for n, mask in masks.items()})
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = uids["CT"]
    study.RTReferencedSeriesSequence = [series]
    frame.RTReferencedStudySequence = [study]
    frame.FrameOfReferenceUID = "1.2.3.5"
    mine = {"PatientID": patient, "StudyInstanceUID": uids["study"]}
    own = {"SeriesInstanceUID": uids["RTSTRUCT"], "ReferencedFrameOfReferenceSequence": [frame]}
    edit(path, **mine, **own)


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """A rectangle in each slice of a box, in mm."""
    found = []
    for z in np.flatnonzero(mask.any(axis=(1, 2))):
        rows, columns = (np.flatnonzero(mask[z].any(axis=axis)) for axis in (1, 0))
        y, x = (rows[0] - 0.5, rows[-1] + 0.5), (columns[0] - 0.5, columns[-1] + 0.5)
        corners = np.array([(x[0], y[0], z), (x[1], y[0], z), (x[1], y[1], z), (x[0], y[1], z)])
        found.append(np.array(ORIGIN) + corners * SPACING)
    return found


def _segments(
    folders: Mapping[str, Path], masks: Mapping[str, np.ndarray], patient: str,
    uids: Mapping[str, str],
) -> None:  # fmt: skip
    folders["SEG"].mkdir(parents=True)
    path = write_seg(folders["SEG"] / "1-1.dcm", folders["CT"], list(masks.values()))
    data = pydicom.dcmread(path)
    for item, name in zip(data.SegmentSequence, masks, strict=True):
        item.SegmentLabel = name.strip()
    data.PatientID, data.SeriesInstanceUID = patient, uids["SEG"]
    data.save_as(path)
