"""A project: its configuration, case table, names and segmenters, opened once and handed on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from backsplit.cases.table import CaseTable, open_table
from backsplit.config.file import ConfigError, load_config, located
from backsplit.config.model import Config
from backsplit.errors import BacksplitError, Code, Problem, RunError
from backsplit.scheme.resolve import resolve
from backsplit.scheme.scheme import Classes, Scheme
from backsplit.segment import build
from backsplit.segment.base import Segmenter
from backsplit.segment.weights import require_accepted
from backsplit.store.results import Results


@dataclass(frozen=True)
class Resolved:
    """Names and ids, what each used segmenter can label, and what is wrong with either."""

    scheme: Scheme
    classes: Mapping[str, Classes]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Project:
    """What all verbs work on. Whatever takes time is made when it is first asked for, once.

    Attributes
    ----------
    path : the configuration file, for messages
    config : what it says
    """

    path: Path
    config: Config
    _segmenters: dict[str, Segmenter] = field(default_factory=dict, repr=False, compare=False)

    @property
    def results(self) -> Results:
        """Where the results lie."""
        return self.config.results

    @cached_property
    def table(self) -> CaseTable:
        """The case table.

        Raises
        ------
        RunError
            TABLE_INVALID when it cannot be read or lacks a column.
        """
        return open_table(self.config)

    def segmenter(self, name: str) -> Segmenter:
        """A segmenter of the configuration; opens no weights.

        Raises
        ------
        RunError
            CONFIG_INVALID when there is none of that name.
        """
        if name not in self.config.segmenters:
            raise RunError(
                Code.CONFIG_INVALID,
                f"{self.path} has no segmenter {name!r}",
                f"name one of {', '.join(self.config.segmenters)}",
            )
        if name not in self._segmenters:
            self._segmenters[name] = build(self.config, name)
        return self._segmenters[name]

    @cached_property
    def resolved(self) -> Resolved:
        """Names resolved against what the segmenters can label, problems and all."""
        problems: list[Problem] = []
        classes: dict[str, Classes] = {}
        for name in self.config.used_segmenters:
            try:
                classes[name] = self.segmenter(name).classes()
            except RunError as error:
                problems.append(self.problem(error, name))
        scheme, unmatched = resolve(self.config, classes, self.path)
        return Resolved(scheme, classes, (*located([*problems, *unmatched], self.path),))

    @property
    def scheme(self) -> Scheme:
        """Names and ids.

        Raises
        ------
        ConfigError
            When names do not resolve.
        """
        if self.resolved.problems:
            raise ConfigError(self.resolved.problems)
        return self.resolved.scheme

    def command(self, words: str) -> str:
        """A command of ours on this configuration, quoted for a message."""
        return f"`backsplit {words} -c {shlex.quote(str(self.path))}`"

    @property
    def classes(self) -> Mapping[str, Classes]:
        """What each used segmenter can label; raises as `scheme`."""
        if self.resolved.problems:
            raise ConfigError(self.resolved.problems)
        return self.resolved.classes

    def weight_problems(self, *, hash_weights: bool) -> list[Problem]:
        """Look whether weights, models and licences are there, and accepted (which reads them)."""
        problems = []
        known = {problem.what for problem in self.resolved.problems}
        unsound = {problem.column for problem in self.resolved.problems}
        for name in self.config.used_segmenters:
            try:
                weights = self.segmenter(name).weights()
                if hash_weights:
                    require_accepted(weights, f"{name} -c {shlex.quote(str(self.path))}")
            except RunError as error:
                follows = error.code is Code.WEIGHTS_MISSING and f"segmenters.{name}" in unsound
                if error.what not in known and not follows:
                    problems.append(self.problem(error, name))
        return problems

    def problem(self, error: BacksplitError, segmenter: str) -> Problem:
        """A segmenter's error as a problem of the configuration."""
        where = f"segmenters.{segmenter}"
        return Problem(error.code, str(self.path), error.what, error.remedy, column=where)


def open_project(path: Path) -> Project:
    """Open a project by its configuration file.

    Raises
    ------
    ConfigError
        With one problem for each thing that is wrong.
    """
    return Project(path, load_config(path))
