"""Everything that can be known to be wrong before any work is done, all at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from backsplit.cases import Checked, check_cases, judge_cases, read_cases
from backsplit.config import Config, ConfigError, Dataset, SegmenterConfig, load_config
from backsplit.errors import BacksplitError, CaseError, Problem
from backsplit.scheme import Classes, Scheme, resolve
from backsplit.segment import build
from backsplit.segment.weights import require_accepted


@dataclass(frozen=True)
class CheckReport:
    """What `check` found.

    Attributes
    ----------
    fatal : problems that make every case fail: the configuration, the table's form, weights
    problems : problems of single cases
    checked : every row of the table with its status; empty when the table can not be read
    scheme : names and ids, where the configuration is sound
    """

    fatal: tuple[Problem, ...]
    problems: tuple[Problem, ...]
    checked: tuple[Checked, ...]
    scheme: Scheme | None


def check(
    path: Path, threads: int = 4, progress: Callable[[int], Callable[[], None]] | None = None
) -> CheckReport:
    """Check a configuration and its case table; finds all problems of both.

    Parameters
    ----------
    path : configuration file
    threads : files read at the same time
    progress : given the number of cases, returns what is called once a case
    """
    fatal: list[Problem] = []
    scheme = None
    try:
        config: Config | None = load_config(path)
    except ConfigError as error:
        fatal += error.problems
        config = _salvage(path)
    else:
        assert config is not None
        scheme, found = resolve_scheme(config, path, weights=True)
        fatal += found
    if config is None:
        return CheckReport(tuple(fatal), (), (), None)
    try:
        cases = read_cases(config)
    except CaseError as error:
        message, _, remedy = error.message.rpartition("; ")
        fatal.append(Problem(error.code, str(config.dataset.cases), message, remedy))
        return CheckReport(tuple(fatal), (), (), scheme)
    done = progress(len(cases)) if progress else lambda: None
    problems = check_cases(cases, config, threads, done)
    checked = judge_cases(cases, problems)
    return CheckReport(tuple(fatal), tuple(problems), tuple(checked), scheme)


def resolve_scheme(
    config: Config, path: Path, *, weights: bool = False
) -> tuple[Scheme, list[Problem]]:
    """Resolve names against what the segmenters can label.

    Parameters
    ----------
    config : the configuration
    path : its file, for messages
    weights : also look whether weights, licences and models are there
    """
    problems: list[Problem] = []
    classes: dict[str, Classes] = {}
    for name in config.used_segmenters:
        try:
            segmenter = build(config, name)
            classes[name] = segmenter.classes()
            if weights:
                require_accepted(segmenter.weights())
        except BacksplitError as error:
            message, _, remedy = error.message.rpartition("; ")
            column = f"segmenters.{name}"
            problems.append(Problem(error.code, str(path), message, remedy, column=column))
    scheme, unmatched = resolve(config, classes, path)
    return scheme, [*problems, *unmatched]


def load_scheme(config: Config, path: Path) -> tuple[Scheme, dict[str, Classes]]:
    """Names and ids of a sound configuration, and what each used segmenter can label.

    Raises
    ------
    ConfigError
        When names do not resolve.
    """
    scheme, problems = resolve_scheme(config, path)
    if problems:
        raise ConfigError(problems)
    classes: dict[str, Classes] = {
        name: build(config, name).classes() for name in config.used_segmenters
    }
    return scheme, classes


def _salvage(path: Path) -> Config | None:
    """Make what is sound of a broken configuration usable, so that the table is checked too."""
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
        dataset = Dataset.model_validate(data["dataset"])
        targets = data["targets"]
        sound = _sound_segmenters(data.get("segmenters"))
    except (OSError, yaml.YAMLError, ValidationError, TypeError, KeyError, AttributeError):
        return None
    stand_in = {"kind": "threshold", "bands": {"any": [None, None]}}
    try:
        return Config.model_validate(
            {
                "dataset": dataset.model_dump(),
                "targets": targets,
                "segmenters": {**sound, "stand_in": stand_in},
                "structures": {"stand_in.any": "stand_in/any"},
            }
        )
    except ValidationError:
        return None


def _sound_segmenters(section: object) -> dict[str, Any]:
    """Segmenters whose own section is valid."""
    adapter: TypeAdapter[Any] = TypeAdapter(SegmenterConfig)
    sound = {}
    for name, value in section.items() if isinstance(section, Mapping) else ():
        try:
            adapter.validate_python(value)
        except ValidationError:
            continue
        sound[name] = value
    return sound
