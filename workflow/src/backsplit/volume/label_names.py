"""Names and colours of labels inside a NIfTI file, in the form that TotalSegmentator writes.

nifti1.h allows extensions between header and voxels; readers skip those that they do not know.
This one has code 0 and holds a Caret label table as XML. TotalSegmentator's
`nifti_ext_header.load_multilabel_nifti` reads the names back.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Literal

LabelNames = Mapping[int, tuple[str, tuple[int, int, int]]]
"""Label to name and colour (red, green, blue; 0 to 255)."""

_CODE = 0
_UNIT = 16
"""The size of an extension is a multiple of this many bytes."""

_NO_DATE = "1970-01-01T00:00:00"
"""The form requires a date; a fixed one gives the same bytes whenever a map is written."""

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
    """Bytes of the extension, beginning with its size and code.

    Parameters
    ----------
    labels : what to write; names consist of letters, digits, `.`, `_` and `-`
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
