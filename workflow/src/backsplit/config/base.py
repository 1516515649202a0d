"""What every section of the configuration has in common."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_.-]*$"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, min_length=1, max_length=80)]
MOST_LABEL = 65535
"""The largest value that a label map can hold: the largest of 16 bits."""

TISSUE_ABOVE_HU = -500.0
"""What is brighter than this in a CT is tissue rather than air: halfway between air (-1000 HU) and
water (0 HU). What tells a CT from other images is `volume.intensity.is_ct`."""

RESERVED_NAMES = frozenset({"background", "ignore", "targets"})


class MisfitError(ValueError):
    """Parts of a section do not fit together.

    Parameters
    ----------
    key : of the part that is to blame, from the section
    what : what is wrong
    """

    def __init__(self, key: tuple[str, ...], what: str) -> None:
        super().__init__(what)
        self.key = key


def _as_tuple(value: Any) -> Any:  # noqa: ANN401 (a validator sees what the file holds)
    return (value,) if isinstance(value, str) else value


OneOrMore = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class Section(BaseModel):
    """A mapping of known keys; unknown ones are errors."""

    model_config = ConfigDict(
        defer_build=True, frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )


def in_yaml(value: object) -> str:
    """A value for a message, as YAML has it."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return json.dumps(value, ensure_ascii=False, default=str)[:80]


def _label_value(value: object) -> int | str:
    """A union of constrained types would report one fault three times."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_LABEL:
        return value
    if value == 0 and isinstance(value, int):
        raise ValueError(f"0 is the background; use a value in 1..{MOST_LABEL}, or leave it out")
    raise ValueError(
        f"{in_yaml(value)} is neither a label value in 1..{MOST_LABEL} nor the name of a DICOM "
        "segment"
    )


def _target_value(value: object) -> tuple[int | str, ...]:
    several = value if isinstance(value, list | tuple) and value else [value]
    return tuple(_label_value(item) for item in several)


LabelValue = Annotated[int | str, BeforeValidator(_label_value, json_schema_input_type=int | str)]
"""A value of a label file, or the name of a DICOM segment or region of interest; a name may hold
the wildcards * and ?."""

TargetValue = Annotated[
    tuple[int | str, ...],
    BeforeValidator(_target_value, json_schema_input_type=int | str | list[int | str]),
]
"""One or more values of a lesion file."""


BACKGROUND = "background"


IGNORE = "ignore"


def words(name: str) -> list[str]:
    """Words of a name, in lower case: `LeftKidney`, `kidney-left2` and `left kidney`.

    A new word begins after anything but a letter, and with a capital after a small letter.
    """
    parts = re.split(r"[^A-Za-z\u00c0-\u024f]+|(?<=[a-z])(?=[A-Z][a-z])", name)
    return [part.lower() for part in parts if part]


CASE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""No file name of ours is longer than an id by so much that it does not fit into 255 bytes."""

RESERVED_IDS = re.compile(r"labels|(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""`results/labels/labels.json` is the label table: a case of that name would overwrite it. On
Windows no file can be called `con.nii.gz`."""


def is_case_id(name: str) -> bool:
    """Whether a case may have this name: it becomes the name of files."""
    return bool(CASE_ID.fullmatch(name)) and ".." not in name and not RESERVED_IDS.fullmatch(name)
