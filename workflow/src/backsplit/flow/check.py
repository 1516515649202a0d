"""Everything that can be known to be wrong before any work is done, all at once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from backsplit.cases.check import check_cases
from backsplit.cases.labels import label_files
from backsplit.cases.table import Case, Checked, open_table
from backsplit.config.file import ConfigError, load_config, read_yaml
from backsplit.config.model import Config, Dataset
from backsplit.config.segmenters import Files, SegmenterConfig
from backsplit.errors import Code, Problem, RunError
from backsplit.flow.project import problem_of, resolve_scheme
from backsplit.scheme.scheme import Scheme
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
    cpu_seconds : what looking into the files of the cases took
    """

    fatal: tuple[Problem, ...]
    problems: tuple[Problem, ...]
    checked: tuple[Checked, ...]
    scheme: Scheme | None
    cpu_seconds: float = 0.0


def check(path: Path, batch: str | None = None, threads: int = 4) -> CheckReport:
    """Check a configuration and its case table; finds all problems of both.

    Parameters
    ----------
    path : configuration file
    batch : check only the cases of this batch
    threads : files read at the same time
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
        scheme, unmatched = resolve_scheme(config, path)
        fatal += unmatched
        if batch is None:  # hashing weights once is enough: the jobs that use them do it again
            fatal += check_segmenters(config, path, hash_weights=True)
    if config is None:
        return CheckReport(tuple(fatal), (), (), None)
    try:
        table = open_table(config)
        members = table.cases(range(len(table))) if batch is None else table.batch(batch)
    except RunError as error:
        fatal.append(Problem(error.code, str(config.dataset.cases), error.what, error.remedy))
        return CheckReport(tuple(fatal), (), (), scheme)
    fatal += _unfilled_paths(config, members[0], path)
    namesakes = members if batch is None else table.with_ids({case.id for case in members})
    before = time.process_time()
    problems, checked = check_cases(members, namesakes, config, threads)
    spent = time.process_time() - before
    return CheckReport(tuple(fatal), tuple(problems), tuple(checked), scheme, spent)


def _unfilled_paths(config: Config, case: Case, path: Path) -> list[Problem]:
    """Paths of label files that name a column which the table does not have."""
    problems = []
    for name, section in config.segmenters.items():
        try:
            if isinstance(section, Files):
                label_files(section, case)
        except RunError as error:
            problems.append(problem_of(error, name, path))
    return problems


def check_segmenters(config: Config, path: Path, *, hash_weights: bool) -> list[Problem]:
    """Look whether weights, models and licences are there, and accepted (which reads them)."""
    problems = []
    for name in config.used_segmenters:
        try:
            weights = build(config, name).weights()
            if hash_weights:
                require_accepted(weights)
        except RunError as error:
            problem = problem_of(error, name, path)
            if error.code is not Code.MODEL_INVALID:  # that one is said when names are resolved
                problems.append(problem)
    return problems


def _salvage(path: Path) -> Config | None:
    """Make what is sound of a broken configuration usable, so that the table is checked too."""
    try:
        data: Any = read_yaml(path)[0]
        dataset = Dataset.model_validate(data["dataset"])
        targets = data["targets"]
        sound = _sound_segmenters(data.get("segmenters"))
    except (ConfigError, ValueError, TypeError, KeyError, AttributeError):
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
    except ValueError:
        return None


def _sound_segmenters(section: object) -> dict[str, Any]:
    """Segmenters whose own section is valid."""
    adapter: TypeAdapter[Any] = TypeAdapter(SegmenterConfig)
    sound = {}
    for name, value in section.items() if isinstance(section, Mapping) else ():
        try:
            adapter.validate_python(value)
        except ValueError:  # pydantic's own, or of a number too long to be written out
            continue
        sound[name] = value
    return sound
