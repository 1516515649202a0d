"""AutoPET: FDG-PET-CT-Lesions as NIfTI, and the longitudinal CTs of AutoPET IV's task 2.

AutoPET III and IV's task 1 are folders of nnU-Net (`readers.nnunet`).
"""

from __future__ import annotations

import re
from pathlib import Path

from backsplit.start.found import Found, FoundCase
from backsplit.start.readers.files import there, volumes

ROOTS = ("", "*/")
"""The patients' folders lie in what was named, or in the folder that it was unpacked to."""

IMAGE = re.compile(r"(.+)_(BL|FU)_img_(\d+)")


def find_autopet(root: Path) -> Found | None:
    """AutoPET I and II after their own conversion to NIfTI."""
    cases = []
    studies = {
        path.parent
        for start in ROOTS
        for name in ("SUV", "SEG")
        for path in root.glob(f"{start}*/*/{name}.nii.gz")
    }
    for study in sorted(studies):
        images = {"ct": study / "CTres.nii.gz", "pet": study / "SUV.nii.gz"}
        patient = study.parent.name
        case = f"{patient}_{study.name}"
        cases.append(FoundCase(case, images, there(study / "SEG.nii.gz"), patient))
    unused = [
        ("*/CT.nii.gz", "the CT on its own grid; CTres, on the PET's grid, is used"),
        ("*/PET.nii.gz", "activity; SUV, comparable between patients, is used"),
    ]
    return (
        Found(
            "autopet", cases, ["ct", "pet"], {"lesion": 1}, unused=unused, part="whole_body",
            title="AutoPET", patients_known=True,
        )
        if cases
        else None
    )  # fmt: skip


def find_longitudinal(root: Path) -> Found | None:
    """AutoPET IV, task 2: `inputsTr/ID_{BL,FU}_img_00`, masks in `inputsTr` and `targetsTr`."""
    inputs = dict(volumes(root / "inputsTr"))
    masks = {**inputs, **dict(volumes(root / "targetsTr"))}
    matches = [match for name in inputs if (match := IMAGE.fullmatch(name))]
    first = {(m[1], m[2]): 0 for m in matches}
    cases = []
    for match in matches:
        who, time, number = match.groups()
        first[(who, time)] += 1
        several = first[(who, time)] > 1
        case = f"{who}_{time}_{number}" if several else f"{who}_{time}"
        mask = masks.get(f"{who}_{time}_mask_{number}")
        cases.append(FoundCase(case, {"ct": inputs[match[0]]}, mask, patient=who))
    return (
        Found(
            "longitudinal",
            cases,
            ["ct"],
            {"lesion": "*"},
            notes=["values number the lesions of an image: each value is one lesion"],
            title="AutoPET4",
            part="whole_body",
            patients_known=True,
        )
        if cases
        else None
    )
