"""The layouts that public data sets come in; each reader gives None for a folder of another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from backsplit.errors import Code, RunError, shown
from backsplit.start.found import Found
from backsplit.start.readers.atlas import find_atlas
from backsplit.start.readers.autopet import find_autopet, find_longitudinal
from backsplit.start.readers.bids import find_bids
from backsplit.start.readers.decathlon import find_msd
from backsplit.start.readers.kits import find_kits
from backsplit.start.readers.lits import find_lits
from backsplit.start.readers.nbia import find_nbia
from backsplit.start.readers.nnunet import find_nnunet, find_undescribed
from backsplit.start.suggest import suggestion

Reader = Callable[[Path], Found | None]

LAYOUTS: Mapping[str, Reader] = {
    "nnunet": find_nnunet,
    "msd": find_msd,
    "undescribed": find_undescribed,
    "kits": find_kits,
    "autopet": find_autopet,
    "longitudinal": find_longitudinal,
    "lits": find_lits,
    "atlas": find_atlas,
    "bids": find_bids,
    "nbia": find_nbia,
}
"""Readers in the order in which they are asked; config/README.md says what each looks for."""

MOST_CHILDREN = 50
"""A folder with more folders is no parent of a few data sets."""


def find_by_layout(
    root: Path, layouts: Sequence[str] = tuple(LAYOUTS), drawn: str | None = None
) -> tuple[Found, Path] | None:
    """What the first reader that fits finds, and in which folder: the one named, or one in it.

    Parameters
    ----------
    root : the folder
    layouts : some of `LAYOUTS`; the first that fits is taken
    drawn : of the layout `nbia`, which objects are the lesions

    Raises
    ------
    RunError
        LAYOUT_UNKNOWN where several folders within hold data sets.
    """
    readers = dict(LAYOUTS)
    if drawn is not None:
        readers["nbia"] = lambda folder: find_nbia(folder, drawn)
    if (found := _first(root, readers, layouts)) is not None:
        return found, root
    children = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(children) > MOST_CHILDREN:
        return None
    inside = [
        (f, child) for child in children if (f := _first(child, readers, layouts)) is not None
    ]
    if len(inside) > 1:
        paths = ", ".join(str(child) for _, child in inside)
        raise RunError(
            Code.LAYOUT_UNKNOWN,
            f"{root} holds several data sets ({shown(paths)})",
            "give the folder of one, or name the files of all by patterns: " + suggestion(root),
        )
    return inside[0] if inside else None


def _first(root: Path, readers: Mapping[str, Reader], names: Sequence[str]) -> Found | None:
    for name in names:
        found = _read(name, readers[name], root)
        if found is not None and found.cases:
            return found
    return None


def _read(name: str, reader: Reader, root: Path) -> Found | None:
    """What a reader finds; a description of another shape than the layout's has a code."""
    try:
        return reader(root)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            Code.LAYOUT_UNKNOWN,
            f"{root / 'dataset.json'} does not have the form of the layout {name} ({error!r})",
            "correct it, or name the files by patterns (--image, --lesion)",
        ) from None
