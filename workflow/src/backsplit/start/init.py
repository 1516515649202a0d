"""`backsplit init`: look at a folder, write a case table and a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from backsplit.cases import write_rows
from backsplit.disk import atomic_path
from backsplit.errors import BacksplitError, CaseError, Code
from backsplit.start.found import Found, FoundCase, name_of
from backsplit.start.layouts import LAYOUTS
from backsplit.start.patterns import find_by_patterns
from backsplit.start.proposal import config_text
from backsplit.volume import read_labels

LOOKED_AT = 20
"""So many lesion files are read for their values, where nothing names them."""

TABLE, CONFIG = "cases.tsv", "config.yaml"


def find(root: Path, layout: str | None, images: Mapping[str, str], lesion: str | None) -> Found:
    """Find the cases of a folder.

    Parameters
    ----------
    root : the folder
    layout : one of `LAYOUTS`; None takes the first that fits
    images, lesion : patterns, for a folder of no known layout

    Raises
    ------
    BacksplitError
        LAYOUT_UNKNOWN when nothing fits, or no case is found.
    """
    if not root.is_dir():
        raise BacksplitError(Code.LAYOUT_UNKNOWN, f"{root} is no folder; name the data set's")
    if images:
        found: Found | None = find_by_patterns(root, images, lesion)
    else:
        readers = LAYOUTS if layout is None else {layout: LAYOUTS[layout]}
        found = next((f for reader in readers.values() if (f := reader(root)) is not None), None)
    if found is None or not found.cases:
        wanted = "--image patterns" if images else layout or ", ".join(LAYOUTS)
        raise BacksplitError(
            Code.LAYOUT_UNKNOWN,
            f"no case was found in {root} (looked for: {wanted}); name the files by patterns: "
            "--image ct='{case}/ct.nii.gz' --lesion '{case}/lesion.nii.gz'",
        )
    return found


def init(
    root: Path,
    into: Path,
    name: str,
    number: int,
    found: Found,
    say: Callable[[str], None],
) -> Path:
    """Write `cases.tsv` and `config.yaml`; nothing that is there is overwritten.

    Parameters
    ----------
    root : the data set's folder
    into : where both files go
    name, number : of the data set; an empty name is made of the folder's
    found : what `find` gave
    say : prints a line where people read it

    Returns
    -------
    config
        The configuration's path.

    Raises
    ------
    BacksplitError
        WOULD_OVERWRITE.
    """
    for path in (into / TABLE, into / CONFIG):
        if path.exists():
            raise BacksplitError(
                Code.WOULD_OVERWRITE,
                f"{path} exists; remove it, or name another folder with --into",
            )
    if not found.labels:
        found = replace(found, labels=_values(found))
    into.mkdir(parents=True, exist_ok=True)
    patients = any(case.patient for case in found.cases)
    columns = ["case", *(f"image_{c}" for c in found.channels), "lesion"]
    rows = [_row(case, found, into, patient=patients) for case in found.cases]
    write_rows([*columns, *(["patient"] if patients else [])], rows, into / TABLE)
    text = config_text(
        found, name or name_of(root.resolve().name).replace(".", "_"), number, str(into / TABLE)
    )
    with atomic_path(into / CONFIG) as temporary:
        temporary.write_text(text, "utf-8")
    bare = [case.id for case in found.cases if case.lesion is None]
    for note in found.notes:
        say(f"[backsplit] init: {note}")
    if bare:
        say(
            f"[backsplit] init: {len(bare)} of {len(rows)} cases have no lesion file ({bare[0]}, "
            "…): write `none` in the table where the patient has no lesion, or remove the row"
        )
    say(f"[backsplit] init: {len(rows)} cases ({found.layout}) in {into / TABLE}")
    say(f"[backsplit] init: next: read {into / CONFIG}, then backsplit check -c {into / CONFIG}")
    return into / CONFIG


def _values(found: Found) -> dict[str, int]:
    """Labels for the values of the first lesion files; nothing names them."""
    values: set[int] = set()
    for path in [case.lesion for case in found.cases if case.lesion is not None][:LOOKED_AT]:
        with suppress(CaseError):  # DICOM has names; what is wrong with a file `check` says
            values.update(np.unique(read_labels(path).array).tolist())
    above = sorted(values - {0})
    return {"lesion" if len(above) == 1 else f"lesion_{value}": value for value in above}


def _row(case: FoundCase, found: Found, into: Path, *, patient: bool) -> list[str]:
    images = [_shown(case.images.get(channel), into) for channel in found.channels]
    row = [case.id, *images, _shown(case.lesion, into)]
    return [*row, case.patient] if patient else row


def _shown(path: Path | None, into: Path) -> str:
    """A path as the table has it: from its own folder where it lies below that."""
    if path is None:
        return ""
    whole, start = path.absolute(), into.absolute()
    return (whole.relative_to(start) if whole.is_relative_to(start) else whole).as_posix()
