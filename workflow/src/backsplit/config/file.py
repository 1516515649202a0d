"""Configuration files: read, validate, write; every problem with its row, key, value, remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from backsplit.config.faults import Fault, faults
from backsplit.config.model import Config
from backsplit.errors import Code, Problem, RunError, shown

TOP_LEVEL_OF_SNAKEMAKE = frozenset({"pathvars"})
"""Keys that Snakemake itself reads from the same file; they are not ours to judge."""

MOST_VALUES = 1_000_000
"""A configuration of the largest data sets has some thousands."""
MOST_LEVELS = 200
"""A configuration has six."""


FAST_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""LibYAML's, a tenth of the time of PyYAML's own: every job reads the configuration."""

DISPUTED = re.compile("[\t?|>\ufeff]")
"""LibYAML accepts a few documents that PyYAML refuses; each has one of these characters."""


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
        _problem(path, f"key `{key}` is defined twice", "keep one of them", row=row, column=key)
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
            [_problem(path, f"cannot be read ({error})", "give a YAML file with --config")]
        ) from None
    try:
        return _parsed(path, text)
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


def _parsed(path: Path, text: str) -> tuple[object, yaml.Node | None]:
    """Data and nodes of a text; PyYAML's own parser, which Snakemake uses, has the last word."""
    if not DISPUTED.search(text):
        with suppress(yaml.YAMLError):
            return _parsed_by(FAST_LOADER, path, text)
    return _parsed_by(yaml.SafeLoader, path, text)


def _parsed_by(loader: Any, path: Path, text: str) -> tuple[object, yaml.Node | None]:  # noqa: ANN401 (a class of PyYAML)
    _refuse_deep(text, loader)
    root = yaml.compose(text, Loader=loader)
    if root is not None and _unfolded(root, {}) > MOST_VALUES:
        remedy = "write out what is meant, without aliases"
        raise ConfigError([_problem(path, "unfolds to far too many values", remedy)])
    return yaml.load(text, Loader=loader), root  # noqa: S506 (both are safe)


def _refuse_deep(text: str, loader: Any) -> None:  # noqa: ANN401
    """Refuse what is nested too deeply (RecursionError) before a recursive parser meets it."""
    level = 0
    for event in yaml.parse(text, Loader=loader):
        level += isinstance(event, yaml.CollectionStartEvent)
        level -= isinstance(event, yaml.CollectionEndEvent)
        if level > MOST_LEVELS:
            raise RecursionError


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
            [_problem(path, "is not a mapping of keys", "start from config/config.yaml")]
        )
    own = {key: value for key, value in data.items() if key not in TOP_LEVEL_OF_SNAKEMAKE}
    try:
        return Config.model_validate(own)
    except ValidationError as error:
        found = faults(error.errors(), own)
        raise ConfigError([_translate(fault, path, root) for fault in found]) from None
    except ValueError as error:  # pydantic can not say what is wrong with a number so long
        remedy = "use a shorter number"
        raise ConfigError([_problem(path, f"cannot be checked ({error})", remedy)]) from None


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


def _translate(fault: Fault, path: Path, root: yaml.Node | None) -> Problem:
    """One of our problems, with the row of the key in the file."""
    row = _row_of(root, fault.key) if root is not None else None
    key = ".".join(map(str, fault.key))
    place = shown(key) if key else None
    given = None if fault.value is None else shown(fault.value)
    return _problem(path, shown(fault.what), fault.remedy, row, place, given)


def located(problems: Sequence[Problem], path: Path) -> list[Problem]:
    """Problems of a configuration with the row of the key, or value in a list, that each names.

    Parameters
    ----------
    problems : those of which the key is known
    path : the file; where it cannot be read they stay as they are
    """
    if not any(problem.column for problem in problems):
        return list(problems)
    try:
        root = read_yaml(path)[1]
    except ConfigError:
        return list(problems)
    if root is None:
        return list(problems)
    return [
        replace(p, row=_row_of(root, _parts(root, p.column), p.value)) if p.column else p
        for p in problems
    ]


def _parts(node: yaml.Node | None, key: str) -> tuple[object, ...]:
    """A dotted key in parts; names may hold dots themselves."""
    if not isinstance(node, yaml.MappingNode):
        return ()
    fits = [(k, v) for k, v in node.value if key == k.value or key.startswith(f"{k.value}.")]
    if not fits:
        return ()
    name, value = max(fits, key=lambda fit: len(fit[0].value))
    return (name.value, *_parts(value, key[len(name.value) + 1 :]))


def _row_of(node: yaml.Node, location: Sequence[object], value: str | None = None) -> int:
    """Line (1-based) of the deepest part of a key's path that the file has; of a value there."""
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
    for item in node.value if isinstance(node, yaml.SequenceNode) else ():
        if value is not None and item.value == value:
            return int(item.start_mark.line) + 1
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
