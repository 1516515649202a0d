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
from backsplit.cases.table import Case, Checked
from backsplit.config.file import ConfigError, located, read_yaml
from backsplit.config.model import Config, Dataset
from backsplit.config.segmenters import SegmenterConfig
from backsplit.config.slices import checking
from backsplit.errors import BacksplitError, Problem, RunError
from backsplit.export.folds import FOLD_COLUMN, given_folds
from backsplit.flow.lacking import lacking
from backsplit.flow.plan import Plan
from backsplit.flow.project import Project, open_project
from backsplit.flow.ready import not_ready


@dataclass(frozen=True)
class CheckReport:
    """What `check` found.

    Attributes
    ----------
    fatal : problems that make every case fail: the configuration, the table's form, weights
    lacking : what the configuration names and no case has
    problems : problems of single cases
    checked : every row of the table with its status; empty when the table cannot be read
    project : what was checked, where the configuration is sound
    keys : batch to its key, made before a file was read: one that changes meanwhile is rerun
    cpu_seconds : what looking into the files of the cases took
    """

    fatal: tuple[Problem, ...]
    lacking: tuple[Problem, ...] = ()
    problems: tuple[Problem, ...] = ()
    checked: tuple[Checked, ...] = ()
    project: Project | None = None
    keys: Mapping[str, str] | None = None
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
    sound: Project | None = None
    try:
        sound = open_project(path)
    except ConfigError as error:
        fatal += error.problems
    else:
        fatal += sound.resolved.problems
    project = sound or _salvage(path)
    if project is None:
        return CheckReport(tuple(fatal))
    try:
        table = project.table
        members = table.cases(range(len(table))) if batch is None else table.batch(batch)
        if FOLD_COLUMN in table.columns:
            given_folds(table.cases(range(len(table))))
    except RunError as error:
        fatal.append(
            Problem(error.code, str(project.config.dataset.cases), error.what, error.remedy)
        )
        return CheckReport(tuple(fatal), project=sound)
    unfilled = _unfilled_paths(project, members[0])
    fatal += unfilled
    if sound is not None and batch is None:  # the jobs do not repeat what a run's start has done
        fatal += not_ready(sound, local=False)
    keys = None if sound is None or unfilled else _keys(sound, batch)
    namesakes = members if batch is None else table.with_ids({case.id for case in members})
    before, inputs = time.process_time(), checking(project.config)
    problems, checked = check_cases(
        members, namesakes, inputs, project.config.dataset.cases, threads
    )
    spent = time.process_time() - before
    absent: list[Problem] = []
    if sound is not None and batch is None and not sound.resolved.problems:
        absent = located([*lacking(sound, checked)], path)
    return CheckReport(
        tuple(fatal), tuple(absent), tuple(problems), tuple(checked), sound, keys, spent
    )


def _keys(project: Project, batch: str | None) -> dict[str, str]:
    plan = Plan(project)
    return {name: plan.check_key(name) for name in plan.batches if batch in (None, name)}


def _unfilled_paths(project: Project, case: Case) -> list[Problem]:
    """Paths of label files that name a column which the table does not have."""
    problems = []
    for name, section in project.config.segmenters.items():
        try:
            label_files(section.label_paths, case)
        except BacksplitError as error:
            problems.append(project.problem(error, name))
    return problems


def _salvage(path: Path) -> Project | None:
    """Make what is sound of a broken configuration usable, so that the table is checked too."""
    try:
        data: Any = read_yaml(path)[0]
        dataset = Dataset.model_validate(data["dataset"])
        lesions = {key: data[key] for key in ("targets", "ignore") if key in data}
        sound = _sound_segmenters(data.get("segmenters"))
    except (ConfigError, ValueError, TypeError, KeyError, AttributeError):
        return None
    stand_in = {"kind": "threshold", "bands": {"any": [None, None]}}
    try:
        config = Config.model_validate(
            {
                "dataset": dataset.model_dump(),
                **lesions,
                "segmenters": {**sound, "stand_in": stand_in},
                "structures": {"stand_in.any": "stand_in/any"},
            }
        )
    except ValueError:
        return None
    return Project(path, config)


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
