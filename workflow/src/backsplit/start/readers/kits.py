"""The KiTS challenges: `case_00000/imaging.nii.gz` with `segmentation.nii.gz`, or KiTS21's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from backsplit.errors import CaseError
from backsplit.start.found import Found, FoundCase
from backsplit.start.readers.files import there
from backsplit.volume import read_labels

KIDNEY, TUMOR, CYST = 1, 2, 3
"""Values of the label files; KiTS19 has no cysts."""

LESIONS = ("segmentation.nii.gz", "aggregated_MAJ_seg.nii.gz")

FOLDERS = ("", "dataset", "data", "*/dataset", "*/data")
"""Where the cases lie: in what was named, or below as they are cloned (`kits21/data`)."""

TEST_CASES = range(210, 300)
"""Cases of KiTS19 that were published without labels."""

LOOKED_AT = 20

UNUSED = [
    ("*/instances/*", "single annotations and instances: the aggregate is used"),
    ("*/segmentations/*", "single annotations and instances: the aggregate is used"),
    ("*/raw/*", "raw annotations: the aggregate is used"),
    ("*/aggregated_*_seg.nii.gz", "another aggregate: the majority of annotators is used"),
    ("*/imaging.nii.gz", "cases 210 to 299 were published without labels"),
]


def find_kits(root: Path) -> Found | None:
    """KiTS19, KiTS21 or KiTS23, wherever they lie below the folder."""
    folder = next(_folders(root), None)
    if folder is None:
        return None
    cases = []
    for path in sorted(p for p in folder.glob("case_*") if p.is_dir()):
        lesion = next((found for n in LESIONS if (found := there(path / n)) is not None), None)
        number = path.name.removeprefix("case_")
        if lesion is None and number.isdigit() and int(number) in TEST_CASES:
            continue
        images = {"ct": path / "imaging.nii.gz"}
        cases.append(FoundCase(path.name, images, lesion, patient=path.name))
    labels = {"kidney": KIDNEY, "tumor": TUMOR}
    years = {"kits19", "kits21", "kits23"} & {p.name.lower() for p in [folder, *folder.parents]}
    first = {case.lesion.name for case in cases if case.lesion is not None}
    old = "kits19" in years or (not years and folder.name == "data" and first == {LESIONS[0]})
    if not old or _has_cysts(cases):
        labels["cyst"] = CYST
    return Found(
        "kits",
        cases,
        ["ct"],
        labels,
        unused=UNUSED,
        part="abdomen",
        title="KiTS19" if old else "KiTS",
        patients_known=True,
        licence="CC-BY-NC-SA-4.0",
    )


def _folders(root: Path) -> Iterator[Path]:
    """Folders that hold cases."""
    for pattern in FOLDERS:
        for folder in sorted(root.glob(pattern)) if pattern else [root]:
            if next(folder.glob("case_*/imaging.nii.gz"), None) is not None:
                yield folder


def _has_cysts(cases: list[FoundCase]) -> bool:
    """Whether a label file holds the value of cysts."""
    for case in cases[:LOOKED_AT]:
        try:
            if case.lesion is not None and np.any(read_labels(case.lesion).array == CYST):
                return True
        except CaseError:  # `check` says what is wrong with it
            continue
    return False
