"""Configuration files: read, validate, write; every problem with its row, key, value, remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from backsplit.config.model import Config
from backsplit.errors import Code, Problem, RunError, shown

TOP_LEVEL_OF_SNAKEMAKE = frozenset({"pathvars"})
"""Keys that Snakemake itself reads from the same file; they are not ours to judge."""

MOST_VALUES = 1_000_000
"""A configuration of the largest data sets has some thousands."""
MOST_LEVELS = 200
"""A configuration has six."""


class ConfigError(RunError):
    """A configuration is invalid; carries every problem found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(Code.CONFIG_INVALID, "\n".join(map(str, problems)), "correct each of them")
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return self.what


def load_config(path: Path) -> Config:
    """Read a configuration from YAML or JSON.

    Raises
    ------
    ConfigError
        With one problem for each thing that is wrong: row, key, value, remedy.
    """
    data, root = read_yaml(path)
    problems = [
        _problem(path, f"key `{key}` stands twice", "keep one of them", row=row, column=key)
        for key, row in _duplicate_keys(root, "")
    ]
    try:
        config = parse_config(data, path, root)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    return config


def read_yaml(path: Path) -> tuple[object, yaml.Node | None]:
    """Read plain data from YAML or JSON, and the nodes that know its rows.

    Raises
    ------
    ConfigError
        When it is no YAML, has tags, or unfolds to more than `MOST_VALUES` values.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            [_problem(path, f"can not be read ({error})", "give a YAML file with --config")]
        ) from None
    try:
        if _deepest(text) > MOST_LEVELS:
            raise RecursionError
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None and _unfolded(root, {}) > MOST_VALUES:
            remedy = "write out what is meant, without aliases"
            raise ConfigError([_problem(path, "unfolds to far too many values", remedy)])
        return yaml.safe_load(text), root
    except ConfigError:
        raise
    except RecursionError:
        raise ConfigError([_problem(path, "is nested too deeply", "write it flatter")]) from None
    except Exception as error:  # a tag or date that is none raises whatever its parser raises
        mark = getattr(error, "problem_mark", None)
        row = mark.line + 1 if mark is not None else None
        reason = shown(getattr(error, "problem", None) or str(error) or type(error).__name__)
        raise ConfigError(
            [_problem(path, f"is not valid YAML ({reason})", "fix the line", row=row)]
        ) from None


def _deepest(text: str) -> int:
    """How deep brackets are nested, at a glance: the parser takes minutes for thousands."""
    steps = [(c in "[{") - (c in "]}") for c in text if c in "[]{}"]
    return max(accumulate(steps), default=0)


def _unfolded(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for when every alias is written out.

    Aliases of aliases grow without bound (a billion laughs), and one that holds itself never ends.
    """
    if id(node) not in known:
        known[id(node)] = MOST_VALUES + 1  # until it is known: what it holds itself
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        flat = [p for part in parts for p in (part if isinstance(part, tuple) else (part,))]
        known[id(node)] = 1 + sum(_unfolded(part, known) for part in flat)
    return known[id(node)]


def parse_config(data: object, path: Path, root: yaml.Node | None = None) -> Config:
    """Validate a configuration that is loaded already; `path` and `root` name places in messages.

    Raises
    ------
    ConfigError
        With one problem for each thing that is wrong.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(
            [_problem(path, "holds no mapping of keys", "start from config/config.yaml")]
        )
    own = {key: value for key, value in data.items() if key not in TOP_LEVEL_OF_SNAKEMAKE}
    try:
        return Config.model_validate(own)
    except ValidationError as error:
        raise ConfigError([_translate(e, path, root) for e in error.errors()]) from None
    except ValueError as error:  # pydantic can not say what is wrong with a number so long
        remedy = "give numbers of a sane length"
        raise ConfigError([_problem(path, f"can not be checked ({error})", remedy)]) from None


def dump_config(config: Config) -> str:
    """JSON of a configuration with every default written out; `load_config` reads it back."""
    return json.dumps(config.model_dump(mode="json", by_alias=True), indent=1) + "\n"


def config_schema() -> str:
    """JSON schema of the configuration, as `config/config.schema.json` holds it for editors."""
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "backsplit configuration"
    return json.dumps(schema, indent=1) + "\n"


def _problem(
    path: Path,
    message: str,
    remedy: str,
    row: int | None = None,
    column: str | None = None,
    value: str | None = None,
) -> Problem:
    return Problem(Code.CONFIG_INVALID, str(path), message, remedy, row, column, value)


def _translate(error: Mapping[str, Any], path: Path, root: yaml.Node | None) -> Problem:
    """Turn pydantic's error into one of ours, with the row of the key in the file."""
    location = list(error["loc"])
    if location[:1] == ["segmenters"] and location[2:] not in ([], ["[key]"]):
        del location[2]  # the kind, by which the section's model was chosen, is no key of the file
    value = error.get("input")
    value = None if isinstance(value, Mapping | Sequence) and not isinstance(value, str) else value
    kind = error["type"]
    if kind == "extra_forbidden":
        message, remedy = "is no key of this section", "remove it or correct its spelling"
        value = None
    elif kind == "string_type" and location[-1:] == ["[key]"]:
        message, remedy = f"a name is text, but YAML takes it for {value}", "put it in quotes"
        location, value = location[:-2], None
    elif kind == "missing":
        message, remedy, value = "is missing", "add it", None
    elif kind == "value_error":
        message, remedy, value = str(error["ctx"]["error"]), "change it", None
    else:
        message, remedy = error["msg"][0].lower() + error["msg"][1:], "change it"
    row = _row_of(root, location) if root is not None else None
    key = ".".join(str(part) for part in location) or None
    place = None if key is None else shown(key)
    given = None if value is None else shown(value)
    return _problem(path, shown(message), remedy, row, place, given)


def _row_of(node: yaml.Node, location: Sequence[object]) -> int:
    """Line (1-based) of the deepest part of a key's path that the file has."""
    row = node.start_mark.line + 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            hit = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if hit is None:
                break
            row = hit[0].start_mark.line + 1
            node = hit[1]
        elif isinstance(node, yaml.SequenceNode) and part in range(len(node.value)):
            node = node.value[part]
            row = node.start_mark.line + 1
        else:
            break
    return row


def _duplicate_keys(node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, int]]:
    """Keys that stand twice in one mapping: YAML keeps the last and says nothing."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = f"{prefix}{key.value if isinstance(key, yaml.ScalarNode) else '?'}"
            if name in seen:
                yield name, key.start_mark.line + 1
            seen.add(name)
            yield from _duplicate_keys(value, f"{name}.")
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _duplicate_keys(item, prefix)
