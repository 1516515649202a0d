"""What does not fit in a configuration, in plain words and at the key that the file has."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backsplit.config.base import NAME_PATTERN, MisfitError, in_yaml

NOUNS: Mapping[str, str] = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a shorter whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "string_unicode": "text",
    "path_type": "a path",
    "dict_type": "a mapping of keys to values",
    "mapping_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "tuple_type": "a list",
    "list_type": "a list",
    "none_required": "left out",
}
"""Kind of fault to what is expected: `must be …`."""

BOUNDS: Mapping[str, str] = {
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "string_pattern_mismatch": "of the form {pattern}",
    "string_too_short": "text of at least {min_length} letter(s)",
    "string_too_long": "text of at most {max_length} letters",
    "too_short": "a list of at least {min_length} entries",
    "too_long": "a list of at most {max_length} entries",
}
"""The same with what bounds the value."""

MOST_SHOWN = 3
"""Entries of a mapping that a message has."""


@dataclass(frozen=True)
class Fault:
    """One thing that does not fit.

    Attributes
    ----------
    key : parts of the key's path, as far as the file has them
    what, remedy : for a person
    value : what was given, unless it is a mapping or a list; a set cannot be hashed
    """

    key: tuple[object, ...]
    what: str
    remedy: str = "change it"
    value: object = field(default=None, hash=False)


def faults(errors: Sequence[Mapping[str, Any]], data: object) -> list[Fault]:
    """Say what pydantic's errors mean, one fault for each place of the file.

    Where a key takes several kinds of values, each kind that does not fit is an error of its own:
    they are put together, and those that ask for another type are left out where a part of the
    value is to blame.
    """
    places: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for error in errors:
        places.setdefault(_key(error, data), []).append(error)
    found = []
    for key, here in places.items():
        deeper = any(other[: len(key)] == key and other != key for other in places)
        wrong = [e for e in here if not (deeper and e["type"] in NOUNS)]
        if wrong:
            found.append(_fault(key, wrong, data))
    return list(dict.fromkeys(found))


def _key(error: Mapping[str, Any], data: object) -> tuple[object, ...]:
    """An error's path without parts that are names of types and no keys of the file."""
    misfit = error.get("ctx", {}).get("error")
    parts = (*error["loc"], *(misfit.key if isinstance(misfit, MisfitError) else ()))
    missing = parts[-1:] if error["type"] == "missing" else ()
    kept: list[object] = []
    node: Any = data
    tag = _tag(node)
    for part in parts[: len(parts) - len(missing)]:
        if part == tag:  # the section's kind, once: `command` is also the name of a key
            tag = None
        elif _holds(node, part):
            node, tag = node[part], _tag(node[part])
            kept.append(part)
    return (*kept, *missing)


def _tag(node: object) -> object:
    """The kind that a section names; pydantic puts it into the paths of its keys."""
    return node.get("kind") if isinstance(node, Mapping) else None


def _holds(node: object, part: object) -> bool:
    if isinstance(node, list | tuple):
        return isinstance(part, int) and part < len(node)
    return isinstance(node, Mapping) and part in node


def _fault(key: tuple[object, ...], errors: Sequence[Mapping[str, Any]], data: object) -> Fault:
    first = errors[0]
    kind, given = first["type"], first.get("input")
    value = None if isinstance(given, Mapping | list | tuple) else given
    if first["loc"][-1:] == ("[key]",):
        mapping = key[:-1] if key[-1:] == (given,) else key
        if (meant := _turned_round(_at(mapping, data))) is not None:
            return Fault(mapping, "has values before names", f"write {meant}")
        if kind == "string_type":
            what = f"a name is text, but YAML reads it as {in_yaml(given)}"
            return Fault(mapping, what, "put it in quotes")
    if kind == "string_type" and isinstance(given, Mapping) and [*given.values()] == [None]:
        braces = f"{{{next(iter(given))}}}"
        what = f"must be text, but YAML reads {braces} as a mapping"
        return Fault(key, what, f'put it in quotes: "{braces}"')
    if (said := SAID.get(kind)) is not None:
        return said(key, first)
    expected = list(dict.fromkeys(_expected(error) for error in errors))
    is_single = expected == ["a list"] and value is not None
    remedy = "write a list: [first, second]" if is_single else "change it"
    return Fault(key, f"must be {' or '.join(expected)}", remedy, value)


def _at(key: tuple[object, ...], data: object) -> object:
    """What the file has at a key."""
    node: Any = data
    for part in key:
        node = node[part]
    return node


def _turned_round(node: object) -> str | None:
    """{1: liver} as {liver: 1}, for a message; None where the values are not names."""
    if not isinstance(node, Mapping):
        return None
    pairs = [(str(value), name) for value, name in node.items() if str(value) != "0"]
    if not pairs or not all(value.isdecimal() and _is_name(name) for value, name in pairs):
        return None
    more = ", …" if len(pairs) > MOST_SHOWN else ""
    return f"{{{', '.join(f'{name}: {value}' for value, name in pairs[:MOST_SHOWN])}{more}}}"


def _is_name(text: object) -> bool:
    return isinstance(text, str) and re.match(NAME_PATTERN, text) is not None


def _expected(error: Mapping[str, Any]) -> str:
    """What one error asks for, after `must be`."""
    kind, facts = error["type"], error.get("ctx", {})
    if facts.get("pattern") == NAME_PATTERN:
        return "a letter, followed by letters, digits and any of _ . -"
    bound = BOUNDS.get(kind, "a value of this key; see `backsplit schema reference`")
    return NOUNS.get(kind) or bound.format_map(facts).replace("'", "")


def _unknown(key: tuple[object, ...], _: Mapping[str, Any]) -> Fault:
    return Fault(key, "is an unknown key", "remove it or correct its spelling")


def _missing(key: tuple[object, ...], _: Mapping[str, Any]) -> Fault:
    return Fault(key, "is missing", "add it")


def _own(key: tuple[object, ...], error: Mapping[str, Any]) -> Fault:
    value = error.get("input")
    shown = None if isinstance(value, Mapping | list | tuple) else value
    what, _, remedy = str(error["ctx"]["error"]).partition("; ")
    return Fault(key, what, remedy or "change it", shown)


def _no_kind(key: tuple[object, ...], _: Mapping[str, Any]) -> Fault:
    return Fault(key, "has no `kind`", "add it; `backsplit schema reference` lists the kinds")


def _wrong_kind(key: tuple[object, ...], error: Mapping[str, Any]) -> Fault:
    kinds = error["ctx"]["expected_tags"].replace("'", "")
    return Fault(key, f"`kind` must be one of {kinds}", value=error["ctx"]["tag"])


SAID: Mapping[str, Callable[[tuple[object, ...], Mapping[str, Any]], Fault]] = {
    "extra_forbidden": _unknown,
    "missing": _missing,
    "value_error": _own,
    "union_tag_not_found": _no_kind,
    "union_tag_invalid": _wrong_kind,
}
"""Kind of fault to what says it, where that is no `must be …`."""
