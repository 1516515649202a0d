"""`backsplit init`: look at a folder, write a case table and a configuration."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from backsplit.config.file import load_config
from backsplit.config.segmenters import TotalSegmentator
from backsplit.errors import CaseError, Code, RunError
from backsplit.start.found import Found, case_ids, name_of
from backsplit.start.layouts import LAYOUTS
from backsplit.start.patterns import find_by_patterns
from backsplit.start.proposal import config_text
from backsplit.store.disk import atomic_path
from backsplit.volume import read_labels

PATIENTS = "whose the cases are is not known: if a patient has several, add a column `patient`"

LOOKED_AT = 20
"""So many lesion files are read for their values, where nothing names them."""

TABLE, CONFIG, RESULTS = "cases.tsv", "config.yaml", "results"


def find(root: Path, layout: str | None, images: Mapping[str, str], lesion: str | None) -> Found:
    """Find the cases of a folder.

    Parameters
    ----------
    root : the folder
    layout : one of `LAYOUTS`; None takes the first that fits
    images, lesion : patterns, for a folder of no known layout

    Raises
    ------
    RunError
        LAYOUT_UNKNOWN when nothing fits, or no case is found.
    """
    if not root.is_dir():
        raise RunError(Code.LAYOUT_UNKNOWN, f"{root} is no folder", "name the data set's")
    if images:
        found: Found | None = find_by_patterns(root, images, lesion)
    else:
        names = LAYOUTS if layout is None else [layout]
        found = next((f for name in names if (f := _read(name, root)) is not None), None)
    if found is None or not found.cases:
        wanted = "--image patterns" if images else layout or ", ".join(LAYOUTS)
        raise RunError(
            Code.LAYOUT_UNKNOWN,
            f"no case was found in {root} (looked for: {wanted})",
            "name the folder that holds "
            "dataset.json, case_*, PETCT_* or sub-*, or the files by patterns: "
            "--image ct='{case}/ct.nii.gz' --lesion '{case}/lesion.nii.gz'",
        )
    return found


def _read(layout: str, root: Path) -> Found | None:
    """What a reader finds; a description of another shape than the layout's has a code."""
    try:
        return LAYOUTS[layout](root)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            Code.LAYOUT_UNKNOWN,
            f"{root / 'dataset.json'} is not as the layout {layout} has it ({error!r})",
            "mend it, or name the files by patterns (--image, --lesion)",
        ) from None


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
    RunError
        WOULD_OVERWRITE.
    """
    for path in (into / TABLE, into / CONFIG):
        if path.exists():
            raise RunError(
                Code.WOULD_OVERWRITE,
                f"{path} exists",
                "remove it, or name another folder with --into",
            )
    if not found.labels:
        labels, notes = _values(found)
        found = replace(found, labels=labels, notes=[*found.notes, *notes])
    if not any(case.patient for case in found.cases):
        found = replace(found, notes=[*found.notes, PATIENTS])
    into.mkdir(parents=True, exist_ok=True)
    ids = case_ids([case.id for case in found.cases])
    _write_table(into / TABLE, found, ids)
    name = name or name_of(root.resolve().name).replace(".", "_")
    places = [(into / path).as_posix() for path in (TABLE, RESULTS)]
    text = config_text(found, name, number, *places)
    with atomic_path(into / CONFIG) as temporary:
        temporary.write_text(text, "utf-8")
    for line in (*found.notes, *_remarks(found, ids)):
        say(f"[backsplit] init: {line}")
    say(f"[backsplit] init: {len(ids)} cases ({found.layout}) in {into / TABLE}")
    config = into / CONFIG
    segmenters = load_config(config).segmenters.values()
    tasks = " ".join(s.task for s in segmenters if isinstance(s, TotalSegmentator))
    say(
        f"[backsplit] init: next: read {config}, then `backsplit weights get {tasks}` and "
        f"`backsplit check -c {config}`"
    )
    return config


def _write_table(path: Path, found: Found, ids: Sequence[str]) -> None:
    """Write the case table; paths stand in it to the letter, double spaces and all."""
    columns = ["case", *(f"image_{channel}" for channel in found.channels), "lesion"]
    patients = any(case.patient for case in found.cases)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, delimiter="\t", lineterminator="\n")
        writer.writerow([*columns, *(["patient"] if patients else [])])
        for name, case in zip(ids, found.cases, strict=True):
            files = [*(case.images.get(channel) for channel in found.channels), case.lesion]
            cells = [_shown(file, path.parent) for file in files]
            writer.writerow([name, *cells, *([case.patient] if patients else [])])


def _remarks(found: Found, ids: Sequence[str]) -> Iterator[str]:
    """What a person should know of the table."""
    renamed = [(c.id, i) for c, i in zip(found.cases, ids, strict=True) if c.id != i]
    if renamed:
        old, new = renamed[0]
        yield f"{len(renamed)} cases have other names in the table, as {new} for {old!r}"
    bare = [i for c, i in zip(found.cases, ids, strict=True) if c.lesion is None]
    if bare:
        yield (
            f"{len(bare)} of {len(ids)} cases have no lesion file ({bare[0]}, …): write `none` in "
            "the table where the patient has no lesion, or remove the row"
        )


def _values(found: Found) -> tuple[dict[str, int], list[str]]:
    """Labels for the values of the first lesion files, which nothing names, and what to know."""
    values: set[int] = set()
    paths = [case.lesion for case in found.cases if case.lesion is not None][:LOOKED_AT]
    for path in paths:
        with suppress(CaseError):  # DICOM has names; what is wrong with a file `check` says
            values.update(np.unique(read_labels(path).array).tolist())
    above = sorted(values - {0})
    labels = {"lesion" if len(above) == 1 else f"lesion_{value}": value for value in above}
    read = f"the first {len(paths)} lesion files"
    if not above:
        return labels, [f"no value could be read from {read}: `lesion: 1` is a guess"]
    note = f"values {', '.join(map(str, above))} stand in {read}; nothing says what they mean"
    if len(above) > 1:
        note += '; if they number the lesions of a patient, write `lesion: "*"` instead'
    return labels, [note]


def _shown(path: Path | None, into: Path) -> str:
    """A path as the table has it: from its own folder where it lies below that."""
    if path is None:
        return ""
    whole, start = path.absolute(), into.absolute()
    return (whole.relative_to(start) if whole.is_relative_to(start) else whole).as_posix()
