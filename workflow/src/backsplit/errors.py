"""What can be wrong with a case, a table or a configuration: stable codes and clear messages."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Stable names of everything that can be wrong; tables and scripts may rely on them."""

    # the start
    LAYOUT_UNKNOWN = "LAYOUT_UNKNOWN"
    WOULD_OVERWRITE = "WOULD_OVERWRITE"
    # the configuration
    CONFIG_INVALID = "CONFIG_INVALID"
    PATTERN_UNMATCHED = "PATTERN_UNMATCHED"
    LABEL_ABSENT = "LABEL_ABSENT"
    CLASS_AMBIGUOUS = "CLASS_AMBIGUOUS"
    LESION_CLASS_UNRULED = "LESION_CLASS_UNRULED"
    MODEL_INVALID = "MODEL_INVALID"
    WEIGHTS_MISSING = "WEIGHTS_MISSING"
    WEIGHTS_UNKNOWN = "WEIGHTS_UNKNOWN"
    WEIGHTS_CHANGED = "WEIGHTS_CHANGED"
    LICENCE_MISSING = "LICENCE_MISSING"
    LICENCE_RESTRICTED = "LICENCE_RESTRICTED"
    DEVICE_MISSING = "DEVICE_MISSING"
    PROGRAM_MISSING = "PROGRAM_MISSING"
    PROGRAM_CHANGED = "PROGRAM_CHANGED"
    PACKAGE_MISSING = "PACKAGE_MISSING"
    # the case table
    TABLE_INVALID = "TABLE_INVALID"
    CASE_ID_INVALID = "CASE_ID_INVALID"
    CASE_ID_DUPLICATE = "CASE_ID_DUPLICATE"
    FOLD_INVALID = "FOLD_INVALID"
    # the inputs of a case
    FILE_MISSING = "FILE_MISSING"
    FILE_UNREADABLE = "FILE_UNREADABLE"
    NOT_3D = "NOT_3D"
    SPACING_INVALID = "SPACING_INVALID"
    ORIENTATION_UNKNOWN = "ORIENTATION_UNKNOWN"
    ORIENTATION_AMBIGUOUS = "ORIENTATION_AMBIGUOUS"
    DIRECTION_SHEARED = "DIRECTION_SHEARED"
    SERIES_AMBIGUOUS = "SERIES_AMBIGUOUS"
    SLICES_UNEVEN = "SLICES_UNEVEN"
    GRID_MISMATCH = "GRID_MISMATCH"
    GRID_NO_OVERLAP = "GRID_NO_OVERLAP"
    CONTOUR_UNUSABLE = "CONTOUR_UNUSABLE"
    LABEL_NOT_INTEGER = "LABEL_NOT_INTEGER"
    LABEL_UNDECLARED = "LABEL_UNDECLARED"
    LESION_LOST = "LESION_LOST"
    LESION_CHANGED = "LESION_CHANGED"
    IMAGE_NOT_FINITE = "IMAGE_NOT_FINITE"
    IMAGE_CONSTANT = "IMAGE_CONSTANT"
    # the work on a case
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    TIME_LIMIT = "TIME_LIMIT"
    PROGRAM_FAILED = "PROGRAM_FAILED"
    PROGRAM_CRASHED = "PROGRAM_CRASHED"
    OUTPUT_MISSING = "OUTPUT_MISSING"
    NOTHING_LABELLED = "NOTHING_LABELLED"
    STRUCTURE_UNKNOWN = "STRUCTURE_UNKNOWN"
    PROMISE_BROKEN = "PROMISE_BROKEN"
    DICOM_MISSING = "DICOM_MISSING"
    INPUT_CHANGED = "INPUT_CHANGED"
    RESULT_CHANGED = "RESULT_CHANGED"
    MANIFEST_INVALID = "MANIFEST_INVALID"
    INTERNAL = "INTERNAL"
    # training
    PLANNING_FAILED = "PLANNING_FAILED"
    TRAINING_UNSUITED = "TRAINING_UNSUITED"
    EXTENSION_MISMATCH = "EXTENSION_MISMATCH"
    # where the results lie
    DISK_FULL = "DISK_FULL"
    RESULTS_READ_ONLY = "RESULTS_READ_ONLY"
    LINKS_UNSUPPORTED = "LINKS_UNSUPPORTED"
    RESULTS_BUSY = "RESULTS_BUSY"


class BacksplitError(Exception):
    """Something is wrong that a person can put right.

    Parameters
    ----------
    code
        Stable name of what is wrong.
    what
        What is wrong: which file, what was found, what was expected.
    remedy
        What to do about it.
    """

    def __init__(self, code: Code, what: str, remedy: str) -> None:
        super().__init__(code, what, remedy)
        self.code = code
        self.what = what
        self.remedy = remedy

    @property
    def message(self) -> str:
        """What is wrong and what to do, on one line, as tables hold it beside the code."""
        return f"{self.what}; {self.remedy}"

    def __str__(self) -> str:
        return f"{self.message} (code {self.code})"


class RunError(BacksplitError):
    """Makes the whole run impossible: a bad configuration or table, no weights, no device."""


class CaseError(BacksplitError):
    """Makes one case impossible; the others go on."""


LONGEST_SHOWN = 400
"""A longer value says no more to a person."""
LONGEST_MESSAGE = 2000


def shown(value: object, longest: int = LONGEST_SHOWN) -> str:
    """A value or path for a message: all of it, unless it is absurdly long."""
    try:
        text = str(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        return "a number of very many digits"
    return text if len(text) <= longest else f"{text[:60]}… ({len(text)} characters)"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a configuration or a case table, and what to do about it.

    Attributes
    ----------
    row
        Line of the file as an editor counts it (1 = header), or None.
    column
        Column of a table, or the dotted key of a configuration.
    """

    code: Code
    file: str
    what: str
    remedy: str
    row: int | None = None
    column: str | None = None
    value: str | None = None
    case: str | None = None

    def __str__(self) -> str:
        place = ", ".join(
            part
            for part in (
                shown(self.file),
                f"row {self.row}" if self.row is not None else "",
                f"`{self.column}`" if self.column else "",
                f"value {self.value!r}" if self.value is not None else "",
            )
            if part
        )
        what = shown(self.what, LONGEST_MESSAGE)
        return f"{place}: {what}; {self.remedy} (code {self.code})"
