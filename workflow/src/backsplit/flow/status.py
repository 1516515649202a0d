"""How far a data set is, from what lies on the disk: while jobs run anywhere, or after them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from backsplit.cases.table import load_checked
from backsplit.config.model import Config
from backsplit.export.nnunet import dataset_folder
from backsplit.flow.leftovers import reminder
from backsplit.flow.plan import Plan, note_of
from backsplit.flow.project import Project
from backsplit.flow.upgraded import upgraded
from backsplit.store.provenance import read_json
from backsplit.store.results import StageFolder, key_path
from backsplit.store.status import Status, outcomes_in
from backsplit.store.tsv import read_rows


def status(project: Project) -> Iterator[str]:
    """A line for each stage: what is done, what failed, what is due again.

    Raises
    ------
    RunError
        TABLE_INVALID when `check` has not seen the table as it is.
    """
    plan, config, results = Plan(project), project.config, project.results
    everyone = load_checked(project.table)
    sound = {checked.case.id for checked in everyone if checked.status is Status.OK}
    refused = len(everyone) - len(sound)
    yield f"check: {len(sound)} ok, {refused} refused, {len(everyone)} in all"
    keys = dict(plan.keyed_tables())
    due = False
    for name, folder in working_folders(config).items():
        done, failed = _counts(plan, folder, sound, keys)
        left = len(sound) - done - failed
        due |= left > 0
        yield f"{name}: {done} done, {failed} failed, {len(sound)} in all"
    measured = [results.measures.table(batch) for batch in plan.batches]
    yield from _of_the_data_set(plan, [path for path in measured if path.exists()], due=due)
    yield from upgraded(project)
    yield from reminder(project)


def working_folders(config: Config) -> dict[str, StageFolder]:
    """Stages with their results, that without restricted segmenters too where it is wanted."""
    folders = config.results.stages(config.used_segmenters)
    if config.export.only_unrestricted:
        folders["compose unrestricted"] = config.results.unrestricted
    return folders


def _counts(
    plan: Plan, folder: StageFolder, sound: set[str], keys: dict[Path, str]
) -> tuple[int, int]:
    """Sound cases with a result, and those that failed, in batches of the configuration as it is.

    Where a batch is not finished, cases with a sidecar count: some of them may be out of date.
    """
    done = failed = 0
    there, ids = sound & folder.sidecars(), plan.table.ids
    for batch, rows in plan.batches.items():
        table = folder.table(batch)
        if note_of(key_path(table)) != keys[table]:
            continue
        if table.exists():
            counts = Counter(row.status for row in outcomes_in(table))
            done += counts[Status.DONE]
            failed += counts[Status.FAILED]
        else:
            done += sum(ids[row] in there for row in rows)
    return done, failed


def _of_the_data_set(plan: Plan, measured: list[Path], *, due: bool) -> Iterator[str]:
    """Lines of judge, export and report: what they say, or that they are due.

    Each is due when the label maps or a person's decisions are newer, or those that export and
    report follow: the verdicts.
    """
    config, results = plan.config, plan.project.results
    decisions = [config.decisions_path] if config.decisions_path.exists() else []
    newest = max((path.stat().st_mtime for path in (*measured, *decisions)), default=0.0)
    exported = note_of(results.export_key) in (None, plan.export_key())
    for name, path in (
        ("judge", results.verdicts),
        ("export", dataset_folder(config) / "dataset.json"),
        ("report", results.report),
    ):
        if not path.exists():
            yield f"{name}: not made yet"
            continue
        written = path.stat().st_mtime
        if due or written < newest or (name == "export" and not exported):
            yield f"{name}: out of date ({path})"
        elif name == "judge":
            verdicts = Counter(row["verdict"] for row in read_rows(path))
            yield f"judge: {', '.join(f'{n} {verdict}' for verdict, n in verdicts.items())}"
        elif name == "export":
            yield f"export: {read_json(path)['numTraining']} cases in {path.parent}"
        else:
            yield f"report: {path}"
        if name == "judge":
            newest = max(newest, written)
