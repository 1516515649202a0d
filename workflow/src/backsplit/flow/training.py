"""Prepare the data sets of a project for training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from backsplit.config.base import IGNORE
from backsplit.errors import Code, RunError
from backsplit.export.nnunet import NnUNetDataset, datasets
from backsplit.flow.project import Project
from backsplit.store.provenance import read_json
from backsplit.train.plans import Planning, by_table, plan, share
from backsplit.work.progress import Say


def plan_all(
    project: Project,
    planner: str,
    configurations: Sequence[str],
    preprocessed: Path | None,
    processes: int,
    say: Say,
) -> list[Path]:
    """Make one plan for all data sets of a project; returns their preprocessed folders.

    Raises
    ------
    RunError
        FILE_MISSING before the export; what `train.plans` raises.
    """
    main, *nested = datasets(project.config)
    _require_exported(project, (main, *nested))
    theirs = os.environ.get("nnUNet_preprocessed")  # noqa: SIM112 (nnU-Net's own)
    folder = preprocessed or (Path(theirs) if theirs else project.results.preprocessed)
    planning = Planning(main.folder.parent, folder, planner, configurations, processes)
    say(f"[backsplit] plan: nnU-Net plans and preprocesses {main.folder.name}")
    plans = plan(main, planning)
    folders = [planning.folder(main)]
    for dataset in nested:
        assert dataset.nested is not None
        keep = IGNORE in read_json(main.json)["labels"]
        table = project.scheme.nested_table(dataset.nested, keep_ignore=keep)
        folders.append(share(plans, main, dataset, by_table(table), planning))
        say(f"[backsplit] plan: {dataset.folder.name} has the same plan and images")
    labels = read_json(main.json)["labels"].values()
    ours = "" if any(isinstance(ids, list) for ids in labels) else " -tr nnUNetTrainerBackSplit"
    for path in folders:
        number = path.name.removeprefix("Dataset")[:3]
        call = f"nnUNetv2_train {number} {configurations[0]} 0 -p {plans.stem}{ours}"
        say(f"[backsplit] plan: next: {call}")
    if ours:
        found = "export nnUNet_extTrainer=$(backsplit train trainers)"
        say(f"[backsplit] plan: nnU-Net finds that trainer after: {found}")
    return folders


def _require_exported(project: Project, wanted: Sequence[NnUNetDataset]) -> None:
    for dataset in wanted:
        if not dataset.json.exists():
            raise RunError(
                Code.FILE_MISSING,
                f"{dataset.json} does not exist",
                f"run the workflow to the end, or {project.command('export')}",
            )
