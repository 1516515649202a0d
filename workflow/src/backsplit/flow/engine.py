"""What a workflow engine asks before it starts: the configuration, and what is out of date.

The engine is Snakemake; nothing else in the package knows of it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from backsplit.config.file import ConfigError, dump_config, load_config, parse_config
from backsplit.config.model import Config
from backsplit.errors import RunError
from backsplit.export.bids import is_whole_bids
from backsplit.export.monai import UNRESTRICTED, data_lists
from backsplit.export.nnunet import NnUNetDataset, datasets
from backsplit.export.segmentations import is_whole_segmentations
from backsplit.flow.plan import Plan, forget_others, note_of
from backsplit.flow.project import Project
from backsplit.flow.upgraded import upgraded
from backsplit.store.disk import atomic_path, remove_leftovers
from backsplit.store.locks import claim_run
from backsplit.store.provenance import read_json
from backsplit.store.results import VOLUME_ENDING, Results, StageFolder, key_path, names_in
from backsplit.store.source import source_folder
from backsplit.store.status import Status, outcomes_in

MEASURED = ("measures", "lesions", "agreement", "drawn", "parts")
"""Tables of every case's measures, by the names that `measure` gives them."""

OF_MODULE = Path("config of the module")
"""Where messages place a configuration that another workflow gives us."""

LOCKS = Path(".snakemake") / "locks"
"""Where the engine keeps its locks, in the working folder."""


def snakefile() -> Path:
    """The Snakefile that belongs to this package, in a checkout or in an installed wheel."""
    return source_folder() / "Snakefile"


def profile(name: str) -> Path:
    """One of our own profiles: `default` or `slurm`."""
    return source_folder() / "profiles" / name


@dataclass(frozen=True)
class Start:
    """Whether a run may start.

    Attributes
    ----------
    problem : why not; None where it may
    notes : what was put in order before
    """

    problem: RunError | None
    notes: tuple[str, ...] = ()


def start(plan: Plan) -> Start:
    """Claim the results for a run until this process ends, and put them in order.

    Raises
    ------
    RunError
        DISK_FULL or RESULTS_READ_ONLY.
    """
    results = plan.project.results
    claim = claim_run(results)
    if claim.problem is not None:
        return Start(claim.problem)
    if claim.certain:
        release_lock_of_a_killed_run(results)
    write_config(plan.config, results.config)
    left = remove_leftovers(results.root)
    dated = date_back(results)
    forgotten = forget_incomplete(plan)
    return Start(
        None,
        (
            *upgraded(plan.project),
            *_told(left, "left by a killed job: removed"),
            *_told(dated, "dated in the future: date set to now"),
            *_told(forgotten, "out of date, or listing missing results: to be rebuilt"),
        ),
    )


def _told(paths: Sequence[Path], what: str) -> Iterator[str]:
    """A line for some files, whatever their number."""
    if paths:
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        yield f"{paths[0]}{more}, {what}"


def release_lock_of_a_killed_run(results: Results) -> None:
    """Remove the lock that Snakemake keeps when it is killed, where that is known to be so.

    No other run is at work on the results: they are claimed. Only a lock made on this machine is
    judged, because a disk may be shared and not share its locks; of any other one Snakemake says
    what to do. Locks of other workflows name files that are not ours.
    """
    machine = LOCKS / "machine"
    root = f"{results.root.as_posix()}/"
    locks = [
        lock
        for lock in LOCKS.glob("*.lock")
        if all(name.startswith(root) for name in lock.read_text("utf-8").splitlines())
    ]
    if locks and (not machine.exists() or machine.read_text("utf-8") != socket.gethostname()):
        return
    for lock in locks:
        lock.unlink()
    LOCKS.mkdir(parents=True, exist_ok=True)
    machine.write_text(socket.gethostname(), "utf-8")


def forget_incomplete(plan: Plan) -> list[Path]:
    """Remove status tables of other keys, and those that name a result which is not there.

    The engine sees tables only: without its table a batch is rerun, and only its missing cases
    are made again.

    Returns
    -------
    removed
        The tables.
    """
    config, results = plan.config, plan.config.results
    folders = [results.segment(name) for name in config.used_segmenters]
    folders += [results.labels, results.unrestricted, results.measures]
    removed = []
    for folder in (results.check, *folders):
        removed += forget_others(folder, plan.batches)
    folders.append(results.pages)
    for folder in folders:
        there = names_in(folder.path)
        removed += [table for table in folder.tables() if not _is_complete(table, folder, there)]
    removed += [
        tables
        for batch in plan.batches
        for tables, made in _gathered(results, batch).items()
        if tables.exists() and not all(path.exists() for path in made)
    ]
    if not results.manifest_files.exists():
        removed += [path for path in [results.manifest] if path.exists()]
    for table, key in plan.keyed_tables():
        if table.exists() and note_of(key_path(table)) not in (None, key):
            removed.append(table)
    every = datasets(config)
    whole = (
        note_of(results.export_key) in (None, plan.export_key())
        and all(_is_whole(dataset, results) for dataset in every)
        and results.left_out(UNRESTRICTED if config.export.only_unrestricted else "").exists()
        and all(path.exists() for path in data_lists(config))
        and is_whole_bids(config)
        and is_whole_segmentations(config)
    )
    if not whole and every[0].json.exists():
        removed.append(every[0].json)
    for path in removed:
        path.unlink(missing_ok=True)
    return removed


def _is_complete(table: Path, folder: StageFolder, there: Collection[str]) -> bool:
    """Whether a status table can be read, and what it says is done is there with its sidecar."""
    try:
        done = [row.case for row in outcomes_in(table) if row.status is Status.DONE]
    except (KeyError, ValueError, TypeError):
        return False  # damaged
    return all(
        path.name in there for case in done for path in (folder.output(case), folder.sidecar(case))
    )


def _gathered(results: Results, batch: str) -> dict[Path, list[Path]]:
    """Status table to the tables that are gathered of a batch's cases before it."""
    measures = [results.batch_quality(name, batch) for name in MEASURED]
    return {
        results.labels.table(batch): [results.batch_structure_status(batch)],
        results.measures.table(batch): measures,
    }


def date_back(results: Results) -> list[Path]:
    """Date files of the future now: a clock was wrong when they were written.

    Snakemake fails every job whose input is younger than its output, until the clock has caught
    up. What is due rests on keys, not on these times.

    Returns
    -------
    dated
        The files, of those that rules declare as outputs.
    """
    now = time.time()
    future = [path for path in results.declared() if path.stat().st_mtime > now]
    for path in future:
        os.utime(path)
    return future


def _is_whole(dataset: NnUNetDataset, results: Results) -> bool:
    """Whether a data set is described, and has as many label maps and images as it says.

    Label maps of nested sets are converted, which is noted.
    """
    noted = dataset.nested is None or results.converted(dataset.folder.name).exists()
    try:
        described = read_json(dataset.json)
        cases = int(described["numTraining"])
        images = cases * len(described["channel_names"])
    except (OSError, ValueError, KeyError, TypeError):
        return False  # not there, or damaged
    beside = [dataset.splits, *dataset.label_tables]
    if not all(path.exists() for path in beside) or (cases and not noted):
        return False
    return all(
        count == sum(fnmatch(name, f"[!.]*{VOLUME_ENDING}") for name in names_in(folder))
        for folder, count in ((dataset.labels, cases), (dataset.images, images))
    )


def settle_project(
    data: Mapping[str, object], files: Sequence[Path], *, is_module: bool = False
) -> Project:
    """Validate what an engine gathered; `start` writes it where every job reads it.

    Parameters
    ----------
    data : the configuration as the engine merged it, from files and command line
    files : the files it came from; a single one is read again, for rows in messages
    is_module : another workflow uses this one, and its files hold more than our configuration

    Raises
    ------
    ConfigError
        With every problem found.
    """
    if is_module:
        origin = OF_MODULE
    else:
        if len(files) == 1:
            load_config(Path(files[0]))
        origin = Path(files[0]) if files else Path("--config")
        if origin.is_relative_to(Path.cwd()):  # the engine makes absolute what people typed
            origin = origin.relative_to(Path.cwd())
    project = Project(origin, parse_config(data, origin))
    problems = [*project.resolved.problems, *project.weight_problems(hash_weights=False)]
    if problems:
        raise ConfigError(problems)
    return project


def write_config(config: Config, path: Path) -> None:
    """Write a configuration for the jobs of a run, only when its content changes."""
    text = dump_config(config)
    if not path.exists() or path.read_text("utf-8") != text:
        with atomic_path(path) as temporary:
            temporary.write_text(text, "utf-8")
