"""The reference of the configuration, as Markdown, from the models that read it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Node = Mapping[str, Any]
"""A part of a JSON schema."""

HEAD = """\
# Configuration keys
Generated from the models that read the configuration; `backsplit schema reference` prints it.
[Configuration](../config/README.md) explains how the keys work together. `*` is a name that you
choose, `[]` an entry of a list. A key is required if it has no default and is not a section.
"""

NOUNS = {
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "string": "text",
    "null": "null",
}

BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes
    ----------
    path : with its sections, by dots
    takes : what kind of value, in words
    default : as YAML; empty where the key is required
    text : what it is for
    """

    path: str
    takes: str
    default: str
    text: str


def reference(schema: Node) -> str:
    """Write the reference: a table for each section, and one for each kind of segmenter.

    Parameters
    ----------
    schema : the JSON schema of a configuration
    """
    tables: dict[str, list[Key]] = {}
    for key in keys(schema):
        tables.setdefault(_section(key.path), []).append(key)
    parts = [HEAD]
    for section, found in tables.items():
        rows = (f"| `{k.path}` | {k.takes} | {_code(k.default)} | {k.text} |\n" for k in found)
        parts.append(f"\n## `{section}`\n| key | value | default | |\n|---|---|---|---|\n")
        parts += rows
    return "".join(parts)


def keys(schema: Node) -> Iterator[Key]:
    """Every key that holds a value, in the order of the schema."""
    yield from _keys(schema, schema, "")


def _keys(schema: Node, node: Node, path: str) -> Iterator[Key]:
    required = node.get("required", ())
    for name, value in node.get("properties", {}).items():
        place = f"{path}.{name}".lstrip(".")
        inner = list(_sections(schema, value))
        text = node.get("description", "") if name == "kind" else _text(value, inner)
        default = "" if name in required else _default(value, inner)
        yield Key(place, _takes(schema, value), default, _cell(text))
        for below, section in inner:
            yield from _keys(schema, section, f"{place}{below}")


def _sections(schema: Node, value: Node) -> Iterator[tuple[str, Node]]:
    """Sections that a key holds, with what follows the key in their path."""
    for node in (value, *value.get("anyOf", ())):
        named = [("", node), ("[]", node.get("items", {}))]
        for kinds in node.get("patternProperties", {}).values():
            mapping = kinds.get("discriminator", {}).get("mapping", {})
            named += [(f".{kind}", {"$ref": reference}) for kind, reference in mapping.items()]
            named += [(".*", held) for held in (kinds, *kinds.get("anyOf", ()))]
        for below, held in named:
            if "properties" in (section := _resolved(schema, held)):
                yield below, section


def _default(value: Node, inner: Sequence[object]) -> str:
    """The default as YAML; a section's is that of its keys."""
    default = value.get("default", [] if value.get("type") == "array" else {})
    if inner and default:
        return ""
    return json.dumps(default, ensure_ascii=False)


def _resolved(schema: Node, node: Node) -> Node:
    """A node, or the definition that it refers to."""
    found: Node = node
    if "$ref" in node:
        found = schema["$defs"][node["$ref"].rpartition("/")[2]]
    return found


def _section(path: str) -> str:
    """The heading that a key belongs under: its first part, of segmenters with the kind."""
    parts = path.split(".")
    return ".".join(parts[:2]) if parts[0] == "segmenters" and len(parts) > 2 else parts[0]


def _takes(schema: Node, value: Node) -> str:
    """What kind of value a key takes."""
    node = _resolved(schema, value)
    choices = node.get("enum", [node["const"]] if "const" in node else [])
    kinds = node.get("anyOf", node.get("oneOf", ()))
    if kinds or choices:
        words = [f"`{choice}`" for choice in choices] + [_takes(schema, kind) for kind in kinds]
        return " or ".join(dict.fromkeys(words))
    if node.get("type") in ("array", "object"):
        return _holds(schema, node)
    bounds = [f"{words} {node[bound]:g}" for bound, words in BOUNDS.items() if bound in node]
    return ", ".join([NOUNS.get(node.get("type", ""), "any value"), *bounds])


def _holds(schema: Node, node: Node) -> str:
    """What a list or a mapping holds."""
    if "properties" in node:
        return "section"
    if "prefixItems" in node:
        return f"[{', '.join(_takes(schema, item) for item in node['prefixItems'])}]"
    if node["type"] == "array":
        return f"list of {_takes(schema, node.get('items', {}))}"
    values = [*node.get("patternProperties", {}).values(), node.get("additionalProperties")]
    (held,) = (value for value in values if isinstance(value, Mapping))
    return f"{{name: {_takes(schema, held)}}}"


def _text(value: Node, inner: Sequence[tuple[str, Node]]) -> str:
    """What a key is for: its own description, else that of the section that it holds."""
    described = [value, *(section for _, section in inner[:1])]
    return next((node["description"] for node in described if node.get("description")), "")


def _cell(text: str) -> str:
    """Text as Markdown takes it in a table: nothing in it is a tag or the end of a cell."""
    return " ".join(text.split()).replace("<", "&lt;").replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text}`" if text else ""
