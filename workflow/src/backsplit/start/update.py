"""`backsplit init --update`: rows for the cases of a folder that the table does not have yet."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

from backsplit.errors import Code, RunError
from backsplit.start.found import Found
from backsplit.start.names import case_ids, counted, few, unlike
from backsplit.start.tables import cell, columns_of
from backsplit.store.disk import atomic_path
from backsplit.store.tsv import read_numbered

Say = Callable[[str], None]


def update_table(path: Path, found: Found, say: Say) -> int:
    """Add rows for new cases to a table; what it holds stays to the letter.

    A case is known by its first image's file, whatever its id is in the table.

    Parameters
    ----------
    path : the table
    found : what the folder holds now
    say : prints a line where people read it

    Returns
    -------
    added
        Number of rows.

    Raises
    ------
    RunError
        TABLE_INVALID when the table cannot be read; LAYOUT_UNKNOWN when new cases need columns
        that it does not have.
    """
    header, rows, _ = read_numbered(path)
    lacking = [name for name in ("case", *columns_of(found)) if name not in header]
    if lacking:
        raise RunError(
            Code.LAYOUT_UNKNOWN,
            f"{path} has no column {', '.join(lacking)}, which the cases of the folder need",
            "add it, or start over in another folder (--into)",
        )
    first = header.index(f"image_{found.channels[0]}")
    known = {(path.parent / row[first]).resolve() for row in rows if row[first]}
    ids = [row[header.index("case")] for row in rows]
    new = [
        case
        for case in found.cases
        if (image := case.images.get(found.channels[0])) is not None
        and image.resolve() not in known
    ]
    names: list[str] = []
    for name in case_ids([case.id for case in new]):
        names.append(unlike(name, [*ids, *names]))
    if new:
        text = path.read_text("utf-8-sig")
        separator = max("\t,;", key=text.splitlines()[0].count)
        out = io.StringIO()
        writer = csv.writer(out, delimiter=separator, lineterminator="\n")
        own = set(columns_of(found))
        for name, case in zip(names, new, strict=True):
            cells = [cell(case, column, path.parent) if column in own else "" for column in header]
            writer.writerow(
                [name if c == "case" else v for c, v in zip(header, cells, strict=True)]
            )
        whole = text if text.endswith("\n") else f"{text}\n"
        with atomic_path(path) as temporary:
            temporary.write_text(whole + out.getvalue(), "utf-8")
    say(
        f"[backsplit] init: {counted(len(new), 'new case')} in {path}"
        + (f" ({few(names)})" if new else "")
    )
    bare = [name for name, case in zip(names, new, strict=True) if not case.has_lesion]
    if bare:
        say(
            f"[backsplit] init:   - {counted(len(bare), 'new case')} without a lesion file "
            f"({few(bare)}): write `none` if the patient has no lesion, or remove the row"
        )
    gone = [
        row[header.index("case")]
        for row in rows
        if row[first] and not (path.parent / row[first]).exists()
    ]
    if gone:
        say(
            f"[backsplit] init:   - images that no longer exist: {few(gone)}; their rows stay, but "
            "`backsplit check` refuses them"
        )
    return len(new)
