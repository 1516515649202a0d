"""A project: its configuration, opened once."""

from __future__ import annotations

from pathlib import Path

from backsplit.config.file import ConfigError
from backsplit.config.model import Config
from backsplit.errors import Problem, RunError
from backsplit.scheme.resolve import resolve
from backsplit.scheme.scheme import Classes, Scheme
from backsplit.segment import build


def resolve_scheme(config: Config, path: Path) -> tuple[Scheme, list[Problem]]:
    """Resolve names against what the segmenters can label; `path` is for messages."""
    problems: list[Problem] = []
    classes: dict[str, Classes] = {}
    for name in config.used_segmenters:
        try:
            classes[name] = build(config, name).classes()
        except RunError as error:
            problems.append(problem_of(error, name, path))
    scheme, unmatched = resolve(config, classes, path)
    return scheme, [*problems, *unmatched]


def problem_of(error: RunError, segmenter: str, path: Path) -> Problem:
    """A segmenter's error as a problem of the configuration."""
    remedy = error.remedy.replace("SEGMENTER", segmenter)
    return Problem(error.code, str(path), error.what, remedy, column=f"segmenters.{segmenter}")


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
