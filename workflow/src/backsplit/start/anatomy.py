"""Which structures of TotalSegmentator are proposed for a part of the body, on CT and on MR."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from backsplit.start.names import sideless, structure_name
from backsplit.start.region import Part

EVERYWHERE = "head_neck breast thorax abdomen pelvis whole_body trunk"


@dataclass(frozen=True)
class Structure:
    """A structure: its classes in the tasks `total` and `total_mr`, and where it is proposed.

    Attributes
    ----------
    name : in the configuration
    ct, mr : classes or wildcards of them; none where the task has no such class
    parts : of the body whose images show it, whole and in nearly all patients
    """

    name: str
    ct: Sequence[str]
    mr: Sequence[str]
    parts: str


def _sided(name: str) -> tuple[str, str]:
    return f"{name}_right", f"{name}_left"


def _both(name: str, parts: str, *classes: str) -> Structure:
    return Structure(name, classes, classes, parts)


STRUCTURES = (
    _both("brain", "head head_neck whole_body", "brain"),
    Structure("skull", ["skull"], [], "head head_neck"),
    _both("spinal_cord", "head_neck thorax", "spinal_cord"),
    Structure("thyroid", ["thyroid_gland"], [], "head_neck"),
    Structure("trachea", ["trachea"], [], "head_neck thorax"),
    _both("esophagus", "head_neck thorax", "esophagus"),
    Structure("carotids", _sided("common_carotid_artery"), [], "head_neck"),
    Structure(
        "lungs", _sided("lung_*"), _sided("lung"), "head_neck breast thorax whole_body trunk"
    ),
    _both("heart", "breast thorax whole_body trunk", "heart"),
    _both("liver", "breast thorax abdomen whole_body trunk", "liver"),
    _both("gallbladder", "abdomen", "gallbladder"),
    _both("spleen", "abdomen whole_body trunk", "spleen"),
    _both("kidneys", "abdomen whole_body trunk", *_sided("kidney")),
    _both("adrenals", "abdomen", *_sided("adrenal_gland")),
    _both("pancreas", "abdomen trunk", "pancreas"),
    _both("stomach", "abdomen whole_body trunk", "stomach"),
    _both("bowel", "abdomen whole_body trunk", "small_bowel", "duodenum", "colon"),
    _both("bladder", "pelvis whole_body trunk", "urinary_bladder"),
    _both("prostate", "pelvis", "prostate"),
    _both("aorta", "breast thorax abdomen whole_body trunk", "aorta"),
    _both("vena_cava", "abdomen", "inferior_vena_cava"),
    _both("portal_vein", "abdomen", "portal_vein_and_splenic_vein"),
    _both("sacrum", "pelvis", "sacrum"),
    _both("hips", "pelvis whole_body", *_sided("hip")),
    _both("femurs", "pelvis whole_body", *_sided("femur")),
    Structure(
        "vertebrae", ["vertebrae_*"], ["vertebrae"],
        "head_neck breast thorax abdomen whole_body trunk",
    ),
    Structure("ribs", ["rib_*", "sternum", "costal_cartilages"], [], "breast thorax whole_body"),
    _both("clavicles", "head_neck", *_sided("clavicula")),
    _both("scapulae", "breast", *_sided("scapula")),
    _both("muscles", "abdomen trunk", *_sided("autochthon"), *_sided("iliopsoas")),
    _both("gluteal_muscles", "pelvis", *_sided("gluteus_*")),
)  # fmt: skip
"""Few enough to be learnt, large enough to be labelled well. On MR TotalSegmentator has no skull,
trachea, thyroid, carotids or ribs; of a head it has the brain alone."""


def structures_for(
    parts: Iterable[Part], *, mr: bool, taken: Iterable[str]
) -> dict[str, Sequence[str]]:
    """Structures for parts of the body: name to classes of the segmenter `organs`.

    Parameters
    ----------
    parts : of the body
    mr : whether the task is `total_mr`
    taken : names of targets and of anatomy that somebody drew: what is the same structure,
        whatever its spelling, is left out, or the side of it that they name
    """
    wanted = set(parts)
    given = [structure_name(name) for name in taken]
    found: dict[str, Sequence[str]] = {}
    for structure in STRUCTURES:
        whole = structure.mr if mr else structure.ct
        if not (whole and wanted & set(structure.parts.split())):
            continue
        if structure_name(structure.name) in given:
            continue
        left = [name for name in whole if not _is_taken(name, given)]
        if left:
            found[structure.name if len(left) == len(whole) else _name_of(left)] = left
    return found


def holder(structures: Mapping[str, Sequence[str]], source: str) -> str | None:
    """The structure that a class goes to."""
    return next((name for name, sources in structures.items() if source in sources), None)


def _is_taken(source: str, given: Sequence[str]) -> bool:
    own = structure_name(source.replace("_*", ""))
    return own in given or sideless(own) in given


def _name_of(classes: Sequence[str]) -> str:
    """Name of a structure of which some classes are left: that of a single one."""
    return "_and_".join(name.replace("_*", "") for name in classes)
