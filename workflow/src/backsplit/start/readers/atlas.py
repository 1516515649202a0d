"""AbdomenAtlas and PanTS: `CASE/ct.nii.gz` with a binary file for each structure.

The structures lie in `CASE/segmentations`, or in a folder of labels of the same shape.
"""

from __future__ import annotations

from pathlib import Path

from backsplit.config.lesion_words import is_lesion
from backsplit.start.found import Found, FoundCase, Given
from backsplit.start.names import is_config_name, name_of
from backsplit.start.readers.files import volumes

IMAGES = ("*/ct.nii.gz", "*/*/ct.nii.gz")
SEGMENTATIONS = "segmentations"
LABELS = "anatomy"
"""Column of the table that holds the folder of a case's structures."""

NO_LESION = (
    "this data set has no lesions (its files are organs): add yours to the column `lesion`, and "
    "their values to targets"
)


def find_atlas(root: Path) -> Found | None:
    """A folder a case with its CT, and a file a structure: organs are anatomy, lesions targets."""
    images = sorted({path for pattern in IMAGES for path in root.glob(pattern)})
    cases: list[FoundCase] = []
    names: set[str] = set()
    for image in images:
        folder = _segmentations(image, root)
        if folder is None:
            continue
        files = {name: path for name, path in volumes(folder) if is_config_name(name)}
        names |= files.keys()
        lesions = {name_of(n): path for n, path in files.items() if is_lesion(n)}
        case = image.parent.name
        cases.append(FoundCase(case, {"ct": image}, None, case, lesions, columns={LABELS: folder}))
    if not cases:
        return None
    organs = sorted(name for name in names if not is_lesion(name))
    path = f"{{{LABELS}}}/{{name}}.nii.gz"
    return Found(
        "atlas",
        cases,
        ["ct"],
        given={"given": Given(path, organs)} if organs else {},
        decide=[] if any(case.lesions for case in cases) else [NO_LESION],
        unused=[("*combined_labels*", "the files in `segmentations` say the same by name")],
        part="abdomen",
        patients_known=True,
    )


def _segmentations(image: Path, root: Path) -> Path | None:
    """The folder of the structures of an image: beside it, or in a sister folder of labels."""
    near = image.parent / SEGMENTATIONS
    if near.is_dir():
        return near
    sisters = image.parent.parent.parent.glob(f"[Ll]abel*/{image.parent.name}/{SEGMENTATIONS}")
    inside = [path for path in sisters if path.is_relative_to(root)]
    return inside[0] if len(inside) == 1 else None
