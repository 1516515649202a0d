"""A person's decisions on cases, kept in a table of theirs: case, decision, note."""

from __future__ import annotations

from pathlib import Path

from backsplit.store.tsv import read_table, write_rows

COLUMNS = ("case", "decision", "note")


def read_choices(path: Path) -> dict[str, tuple[str, str]]:
    """Case to decision and note, as far as the table has them.

    Raises
    ------
    RunError
        TABLE_INVALID when it cannot be read.
    """
    if not path.exists():
        return {}
    header, rows = read_table(path)
    records = [dict(zip(header, row, strict=True)) for row in rows]
    return {
        record["case"]: (record.get("decision", ""), record.get("note", ""))
        for record in records
        if "case" in record
    }


def write_choice(path: Path, case: str, decision: str, note: str) -> None:
    """Put a decision into the table, or take it out where it is empty; all else stays as it is.

    Raises
    ------
    RunError
        TABLE_INVALID when the table that is there cannot be read.
    """
    header, rows = read_table(path) if path.exists() else (list(COLUMNS), [])
    header += [name for name in COLUMNS if name not in header]
    records = [dict(zip(header, row, strict=False)) for row in rows]
    mine = next((record for record in records if record.get("case") == case), None)
    if not decision:
        records = [record for record in records if record is not mine]
    elif mine is None:
        records.append({"case": case, "decision": decision, "note": note})
    else:
        mine |= {"decision": decision, "note": note}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rows(header, [[record.get(name, "") for name in header] for record in records], path)
