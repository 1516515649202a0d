"""Tables of classes that programs ship: JSON, ITK-SNAP, CSV and TSV, as names to values."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from backsplit.config.base import BACKGROUND, MOST_LABEL
from backsplit.errors import Code, RunError, shown

ITK_SNAP = re.compile(r'^\s*(\d+)(?:\s+[\d.]+){6}\s+"(.*)"\s*$')
"""A line of ITK-SNAP's label descriptions: index, red, green, blue, opacity, visible, mesh, name
(http://www.itksnap.org, "Label Description File")."""

NAMES = ("name", "label_name", "structure", "class", "labelname", "region", "label")
VALUES = ("value", "id", "index", "idx", "label_id", "labelid", "number", "label")
"""Columns of tables, and keys of lists, that hold names and values; the first that is there."""

Pair = tuple[object, object]


def read_label_table(path: Path) -> dict[str, int]:
    """Read a table of classes; the background is left out.

    Parameters
    ----------
    path : JSON ({name: value}, {value: name}, the same under `labels`, or a list of entries with
        name and value), ITK-SNAP's label descriptions, or CSV/TSV with a header

    Raises
    ------
    RunError
        CONFIG_INVALID: it cannot be read, or gives a name or a value twice.
    """
    try:
        text = path.read_text("utf-8-sig")
        pairs = [*_pairs(text)]
        return _checked(pairs)
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise RunError(
            Code.CONFIG_INVALID,
            f"{shown(path)} does not exist"
            if isinstance(error, FileNotFoundError)
            else f"{shown(path)} cannot be read as a table of labels ({shown(error)})",
            "give JSON {name: value}, ITK-SNAP's label descriptions, or CSV with the columns "
            "name and value",
        ) from None


def _pairs(text: str) -> Iterable[Pair]:
    """Names and values, whatever the format."""
    if text.lstrip()[:1] in ("{", "["):
        return _of_json(json.loads(text))
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = [ITK_SNAP.match(line) for line in lines]
    if lines and all(found):
        return [(match[2], match[1]) for match in found if match]
    return _of_rows(lines)


def _of_json(data: object) -> Iterable[Pair]:
    if isinstance(data, dict) and isinstance(data.get("labels"), dict | list):
        data = data["labels"]
    if isinstance(data, list):
        if not all(isinstance(entry, dict) for entry in data):
            raise ValueError("its list holds items that are not mappings")
        return [_of_entry(entry) for entry in data]
    if not isinstance(data, dict):
        raise ValueError("it is neither a mapping nor a list")
    if data and all(re.fullmatch(r"\d+", str(key)) for key in data):
        return [(name, value) for value, name in data.items()]
    return [*data.items()]


def _of_entry(entry: Mapping[str, object]) -> Pair:
    known = {str(key).strip().lower(): value for key, value in entry.items()}
    value = next((key for key in VALUES if key in known), None)
    numbers = {key: str(known[key]).strip() for key in VALUES if key in known}
    if len({text for text in numbers.values() if text.isdecimal()}) > 1:
        raise ValueError(f"{' and '.join(numbers)} hold different values; keep the one that counts")
    name = next((key for key in NAMES if key in known and key != value), None)
    if value is None or name is None:
        raise ValueError(f"it has {', '.join(known) or 'no columns'}, not name and value")
    return known[name], known[value]


def _of_rows(lines: list[str]) -> Iterable[Pair]:
    if not lines:
        raise ValueError("it is empty")
    comma = next((mark for mark in ("\t", ";", ",") if mark in lines[0]), ",")
    return [_of_entry(row) for row in csv.DictReader(lines, delimiter=comma)]


def _checked(pairs: Iterable[Pair]) -> dict[str, int]:
    """Names to values, without background.

    Raises
    ------
    ValueError
        A name or value is given twice, or is none.
    """
    found: dict[str, int] = {}
    for name, given in pairs:
        value = _value(given)
        if value == 0 or name == BACKGROUND:
            continue
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise ValueError(f"{shown(name)!r} is not a name")
        if name.strip() in found or value in found.values():
            raise ValueError(f"{shown(name)!r} or its value {value} is given twice")
        found[name.strip()] = value
    if not found:
        raise ValueError("it has no labels")
    return found


def _value(given: object) -> int:
    text = str(given).strip()
    if not re.fullmatch(r"\d{1,6}", text) or int(text) > MOST_LABEL:
        raise ValueError(f"{shown(given)!r} is not a label value in 0..{MOST_LABEL}")
    return int(text)
