"""Any other layout, by patterns: `{case}/ct.nii.gz` for images, `{case}/gtv.nii.gz` for lesions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from backsplit.errors import Code, RunError
from backsplit.start.found import Found, FoundCase

FIELD = re.compile(r"\{(case|patient)\}")


def find_by_patterns(root: Path, images: Mapping[str, str], lesion: str | None) -> Found:
    """Find cases whose paths from `root` fit patterns.

    Parameters
    ----------
    root : the folder
    images : channel to pattern; `{case}` and `{patient}` stand for a part of a name, `*` for any
    lesion : pattern of the lesion files

    Raises
    ------
    RunError
        LAYOUT_UNKNOWN when a pattern names no case, or two files fit for one case.
    """
    found = {channel: _matching(root, pattern) for channel, pattern in images.items()}
    lesions = _matching(root, lesion) if lesion else {}
    patients: dict[str, str] = {}
    for case, (path, patient) in (item for of in (*found.values(), lesions) for item in of.items()):
        known = patients.setdefault(case, patient) or patient
        if patient and patient != known:
            raise RunError(
                Code.LAYOUT_UNKNOWN,
                f"the case {case} belongs to the patients {known} and {patient} ({path})",
                "make the patterns narrower",
            )
        patients[case] = known
    cases = [
        FoundCase(
            case,
            {channel: paths[case][0] for channel, paths in found.items() if case in paths},
            lesions[case][0] if case in lesions else None,
            patient,
        )
        for case, patient in sorted(patients.items())
    ]
    return Found("patterns", cases, list(images))


def _matching(root: Path, pattern: str) -> dict[str, tuple[Path, str]]:
    """Case to its file and its patient."""
    if Path(pattern).is_absolute():
        raise RunError(
            Code.LAYOUT_UNKNOWN,
            f"the pattern {pattern!r} does not start at {root}",
            "leave that out",
        )
    fields = FIELD.findall(pattern)
    if "case" not in fields:
        raise RunError(
            Code.LAYOUT_UNKNOWN,
            f"the pattern {pattern!r} names no case",
            "put {case} where the case's name stands, as in {case}/ct.nii.gz",
        )
    parts = re.split(r"(\{case\}|\{patient\}|\*)", pattern)
    seen: set[str] = set()
    expression = "".join(_expression(part, seen) for part in parts)
    found: dict[str, tuple[Path, str]] = {}
    for path in sorted(root.glob(FIELD.sub("*", pattern))):
        match = re.fullmatch(expression, path.relative_to(root).as_posix())
        if match is None:
            continue
        case = match["case"]
        if case in found:
            raise RunError(
                Code.LAYOUT_UNKNOWN,
                f"{path} and {found[case][0]} both fit {pattern!r} for the case {case}",
                "make the pattern narrower",
            )
        found[case] = path, match.groupdict().get("patient") or ""
    return found


def _expression(part: str, seen: set[str]) -> str:
    """Regular expression of a part of a pattern; a field that comes again must be the same."""
    if part == "*":
        return "[^/]*"
    if not FIELD.fullmatch(part):
        return re.escape(part)
    name = part[1:-1]
    if name in seen:
        return f"(?P={name})"
    seen.add(name)
    return f"(?P<{name}>[^/]+?)"
