"""What does not fit in a configuration, in plain words and at the key that the file has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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

CONTAINERS = frozenset(
    kind for kind, noun in NOUNS.items() if noun in ("a list", "a mapping of keys to values")
)


@dataclass(frozen=True)
class Fault:
    """One thing that does not fit.

    Attributes
    ----------
    key : parts of the key's path, as far as the file has them
    what, remedy : for a person
    value : what was given, where it is no mapping or list
    """

    key: tuple[object, ...]
    what: str
    remedy: str = "change it"
    value: object = None


def faults(errors: Sequence[Mapping[str, Any]], data: object) -> list[Fault]:
    """Say what pydantic's errors mean, one fault for each place of the file.

    Where a key takes several kinds of values, each kind that does not fit is an error of its own:
    they are put together, and those of a list are left out where a mapping was given.
    """
    places: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for error in errors:
        places.setdefault(_key(error, data), []).append(error)
    found = []
    for key, here in places.items():
        deeper = any(other[: len(key)] == key and other != key for other in places)
        wrong = [e for e in here if not (deeper and e["type"] in CONTAINERS)]
        if wrong:
            found.append(_fault(key, wrong))
    return found


def _key(error: Mapping[str, Any], data: object) -> tuple[object, ...]:
    """An error's path without parts that are names of types and no keys of the file."""
    misfit = error.get("ctx", {}).get("error")
    parts = (*error["loc"], *(misfit.key if isinstance(misfit, MisfitError) else ()))
    missing = parts[-1:] if error["type"] == "missing" else ()
    kept: list[object] = []
    node: Any = data
    for part in parts[: len(parts) - len(missing)]:
        if _holds(node, part):
            node = node[part]
            kept.append(part)
    return (*kept, *missing)


def _holds(node: object, part: object) -> bool:
    if isinstance(node, list | tuple):
        return isinstance(part, int) and part < len(node)
    return isinstance(node, Mapping) and part in node


def _fault(key: tuple[object, ...], errors: Sequence[Mapping[str, Any]]) -> Fault:
    first = errors[0]
    kind, value = first["type"], first.get("input")
    if isinstance(value, Mapping | list | tuple):
        value = None
    if first["loc"][-1:] == ("[key]",) and kind == "string_type":
        what = f"a name is text, but YAML reads it as {in_yaml(first.get('input'))}"
        return Fault(tuple(part for part in key if isinstance(part, str)), what, "put it in quotes")
    if (said := SAID.get(kind)) is not None:
        return said(key, first)
    expected = list(dict.fromkeys(_expected(error) for error in errors))
    return Fault(key, f"must be {' or '.join(expected)}", value=value)


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
    return Fault(key, str(error["ctx"]["error"]), value=shown)


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
