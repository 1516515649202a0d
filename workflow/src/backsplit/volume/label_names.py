"""Names and colours of labels inside a NIfTI file, in the form that TotalSegmentator writes.

nifti1.h lets extensions stand between header and voxels; who does not know one skips it. This one
is of code 0 and holds a label table of Caret as XML. TotalSegmentator's
`nifti_ext_header.load_multilabel_nifti` reads the names back.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Literal

LabelNames = Mapping[int, tuple[str, tuple[int, int, int]]]
"""Label to its name and its colour: red, green, blue, 0 to 255."""

_CODE = 0
_UNIT = 16
"""Bytes of an extension are a multiple of it."""

_NO_DATE = "1970-01-01T00:00:00"
"""The form asks for a date; the same label map has the same bytes whenever it is written."""

_BEFORE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<CaretExtension>\n'
    f"<Date><![CDATA[{_NO_DATE}]]></Date>\n"
    '<VolumeInformation Index="0">\n<LabelTable>\n'
)
_AFTER = (
    "</LabelTable>\n<StudyMetaDataLinkSet>\n</StudyMetaDataLinkSet>\n"
    "<VolumeType><![CDATA[Label]]></VolumeType>\n</VolumeInformation>\n</CaretExtension>\n"
)


def names_extension(labels: LabelNames, order: Literal["<", ">"]) -> bytes:
    """Bytes of the extension, length and code first.

    Parameters
    ----------
    labels : what to write; names hold letters, digits, `.`, `_` and `-` alone
    order : byte order of the header
    """
    rows = "".join(
        f'<Label Key="{label}" Red="{red / 255:.6g}" Green="{green / 255:.6g}" '
        f'Blue="{blue / 255:.6g}" Alpha="1"><![CDATA[{name}]]></Label>\n'
        for label, (name, (red, green, blue)) in labels.items()
    )
    content = (_BEFORE + rows + _AFTER).encode()
    head = struct.calcsize("ii")
    size = -(-(head + len(content)) // _UNIT) * _UNIT
    return struct.pack(f"{order}ii", size, _CODE) + content.ljust(size - head)
