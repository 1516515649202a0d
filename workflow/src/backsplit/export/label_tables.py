"""Names and colours of labels for viewers, beside a data set: its label maps open with names.

The formats are those of ITK-SNAP (`labels.label`: Segmentation > Import Label Descriptions), of 3D
Slicer (`labels.ctbl`: drop it on Slicer before the label maps) and of NiiVue (`labels.niivue.json`:
`setColormapLabel`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from backsplit.scheme.colours import Colour, colours_of
from backsplit.scheme.scheme import Scheme
from backsplit.store.disk import atomic_path

TABLES = ("labels.label", "labels.ctbl", "labels.niivue.json")

_SNAP_HEAD = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
# Fields:
#    IDX:   Zero-based index
#    -R-:   Red color component (0..255)
#    -G-:   Green color component (0..255)
#    -B-:   Blue color component (0..255)
#    -A-:   Label transparency (0.00 .. 1.00)
#    VIS:   Label visibility (0 or 1)
#    MSH:   Label mesh visibility (0 or 1)
#  LABEL:   Label description
################################################
    0     0    0    0        0  0  0    "Clear Label"
"""


def write_label_tables(folder: Path, names: Sequence[str], scheme: Scheme) -> None:
    """Write names and colours of a data set's labels for ITK-SNAP, 3D Slicer and NiiVue."""
    colours = colours_of(names, scheme)
    texts = (_snap(names, colours), _slicer(names, colours), _niivue(names, colours))
    for name, text in zip(TABLES, texts, strict=True):
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, "utf-8")


def _snap(names: Sequence[str], colours: Sequence[Colour]) -> str:
    rows = [
        f'{i:5d} {red:5d} {green:4d} {blue:4d}        1  1  1    "{name}"\n'
        for i, (name, (red, green, blue)) in enumerate(zip(names, colours, strict=True))
        if i
    ]
    return _SNAP_HEAD + "".join(rows)


def _slicer(names: Sequence[str], colours: Sequence[Colour]) -> str:
    rows = [
        f"{i} {name} {red} {green} {blue} {255 if i else 0}\n"
        for i, (name, (red, green, blue)) in enumerate(zip(names, colours, strict=True))
    ]
    return f"# Color table file {TABLES[1]}\n# {len(names)} values\n" + "".join(rows)


def _niivue(names: Sequence[str], colours: Sequence[Colour]) -> str:
    red, green, blue = zip(*colours, strict=True)
    table = {
        **{"R": red, "G": green, "B": blue, "A": [0] + [255] * (len(names) - 1)},
        **{"I": list(range(len(names))), "labels": list(names)},
    }
    return json.dumps(table, indent=1) + "\n"
