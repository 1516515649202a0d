"""One nnU-Net plan for all data sets that are compared, and images preprocessed once.

nnU-Net plans from the labels: it clips a CT to the intensities of what is labelled, so that a data
set of lesions alone and one with anatomy are normalised differently, and a difference between two
networks is no longer that of their labels. Here the data set with every label is planned and
preprocessed by nnU-Net; the others get its plan, its fingerprint, its images (as hard links), and
its resampled label maps by a table from one set of ids to the other. Lesions are the same voxels in
all of them.
"""

from __future__ import annotations

import os
import pickle
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from backsplit.errors import Code, RunError
from backsplit.export.files import image_name
from backsplit.export.nnunet import NnUNetDataset
from backsplit.store.disk import is_there
from backsplit.store.provenance import file_sha256, read_json, write_json
from backsplit.train.settings import FILE as SETTINGS
from backsplit.volume import Array

NOTE = "backsplit_plan.json"
"""In a preprocessed data set that was made here; it names where its plan comes from."""

IMAGE, LABELS, PROPERTIES = ".b2nd", "_seg.b2nd", ".pkl"
"""nnU-Net's files of a preprocessed case."""

Relabel = Callable[[str, Array], Array]
"""From a case and its preprocessed label map (1, z, y, x; -1 where there is no tissue) to the same
voxels with the labels of another data set."""


@dataclass(frozen=True)
class Planning:
    """How nnU-Net plans.

    Attributes
    ----------
    raw, preprocessed : nnU-Net's folders
    planner : class of the planner
    configurations : those that are preprocessed
    processes : of nnU-Net
    adjust : changes the plan before anything is preprocessed; None: it stays nnU-Net's
    """

    raw: Path
    preprocessed: Path
    planner: str
    configurations: Sequence[str]
    processes: int
    adjust: Callable[[dict[str, Any]], dict[str, Any]] | None = None

    def folder(self, dataset: NnUNetDataset) -> Path:
        """Where a data set is preprocessed."""
        return self.preprocessed / dataset.folder.name


def plan(dataset: NnUNetDataset, planning: Planning) -> Path:
    """Let nnU-Net plan and preprocess a data set; returns its plan.

    Raises
    ------
    RunError
        PLANNING_FAILED with nnU-Net's last words.
    """
    _require_images(dataset)
    processes = str(planning.processes)
    prepared = ["-c", *planning.configurations, "-np", processes]
    planned = ["-pl", planning.planner, "-npfp", processes]
    folder = planning.folder(dataset)
    if planning.adjust is None:
        _nnunet("plan_and_preprocess_entry", [*planned, *prepared], dataset, planning)
    else:
        _nnunet("plan_and_preprocess_entry", [*planned, "--no_pp"], dataset, planning)
        plans = newest_plans(folder)
        write_json(plans, planning.adjust(read_json(plans)))
        _nnunet("preprocess_entry", ["-plans_name", plans.stem, *prepared], dataset, planning)
    shutil.copyfile(dataset.splits, folder / dataset.splits.name)
    return newest_plans(folder)


def _nnunet(
    entry: str, arguments: Sequence[str], dataset: NnUNetDataset, planning: Planning
) -> None:
    number = dataset.folder.name.removeprefix("Dataset")[:3]
    call = "from nnunetv2.experiment_planning.plan_and_preprocess_entrypoints import "
    call += f"{entry} as main; main()"
    command = [sys.executable, "-c", call, "-d", number, *arguments]
    folders = {"nnUNet_raw": planning.raw, "nnUNet_preprocessed": planning.preprocessed}
    environment = {**os.environ, **{name: str(path) for name, path in folders.items()}}
    environment.setdefault("nnUNet_results", str(planning.preprocessed.parent))
    done = subprocess.run(  # noqa: S603 (our own interpreter, a number and names)
        command, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
        raise RunError(
            Code.PLANNING_FAILED,
            f"nnU-Net could not plan {dataset.folder} ({words[-1]})",
            "run nnUNetv2_plan_and_preprocess by hand to see all of its output",
        )


def _require_images(dataset: NnUNetDataset) -> None:
    """Every case has all its images: nnU-Net leaves out those that have none, and says nothing."""
    channels = range(len(read_json(dataset.json)["channel_names"]))
    wanted = [image_name(case, number) for case in dataset.cases() for number in channels]
    missing = [name for name in wanted if not is_there(dataset.images / name)]
    if missing:
        raise RunError(
            Code.PLANNING_FAILED,
            f"{dataset.images} lacks {len(missing)} of {len(wanted)} images ({missing[0]}, …)",
            "export the data set again: `backsplit export`",
        )


def newest_plans(folder: Path) -> Path:
    """The plan that was written last."""
    return max(folder.glob("*Plans*.json"), key=lambda path: path.stat().st_mtime_ns)


def share(
    plans: Path,
    source: NnUNetDataset,
    target: NnUNetDataset,
    relabel: Relabel,
    planning: Planning,
    each: Callable[[str], None] = lambda case: None,
) -> Path:
    """Make a preprocessed data set from that of another label set.

    Parameters
    ----------
    plans : plan of `source`
    source : the data set that was preprocessed
    target : one of the same cases with other labels; its targets are the same voxels
    relabel : gives a case's preprocessed label map the labels of `target`
    planning : where they lie
    each : is told of each case of each configuration

    Returns
    -------
    folder
        The preprocessed data set; it appears when it is whole.

    Raises
    ------
    RunError
        WOULD_OVERWRITE: nnU-Net or somebody else preprocessed it.
    """
    of_source, folder = planning.folder(source), planning.folder(target)
    if folder.exists() and not (folder / NOTE).exists():
        raise RunError(
            Code.WOULD_OVERWRITE,
            f"{folder} was not made by `backsplit train plan`",
            f"give another folder (--preprocessed), or remove it: rm -r {shlex.quote(str(folder))}",
        )
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "gt_segmentations").mkdir(parents=True)
    described = read_json(target.json)
    made = read_json(plans)
    write_json(part / plans.name, {**made, "dataset_name": target.folder.name})
    for path in (of_source / "dataset_fingerprint.json", target.json, target.splits):
        shutil.copyfile(path, part / path.name)
    for case in target.cases():
        label = next(target.labels.glob(f"{case}.*"))
        shutil.copyfile(label, part / "gt_segmentations" / label.name)
    for configuration in planning.configurations:
        if configuration not in made["configurations"]:
            continue
        _share_cases(made, described, configuration, (of_source, part), relabel, each)
    if (folder / SETTINGS).exists():
        shutil.copyfile(folder / SETTINGS, part / SETTINGS)
    write_json(part / NOTE, {"plan_of": source.folder.name, "sha256": file_sha256(plans)})
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return folder


def _share_cases(
    plans: dict[str, Any],
    described: dict[str, Any],
    configuration: str,
    folders: tuple[Path, Path],
    relabel: Relabel,
    each: Callable[[str], None],
) -> None:
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    name = manager.get_configuration(configuration).data_identifier
    of_source, mine = (folder / name for folder in folders)
    mine.mkdir()
    labels = manager.get_label_manager(described)
    sampled = list(labels.foreground_regions if labels.has_regions else labels.foreground_labels)
    if labels.has_ignore_label:
        sampled.append([-1, *labels.all_labels])
    for path in sorted(of_source.glob(f"*{PROPERTIES}")):
        case = path.name.removesuffix(PROPERTIES)
        _link(of_source / f"{case}{IMAGE}", mine / f"{case}{IMAGE}")
        change = partial(relabel, case)
        seg = _translate(of_source / f"{case}{LABELS}", mine / f"{case}{LABELS}", change)
        _write_properties(path, mine / path.name, seg, sampled)
        each(case)


def by_table(table: Array) -> Relabel:
    """Relabel every case by looking ids up; -1, where nnU-Net saw no tissue, stays."""
    wider = np.append(table.astype(np.int16), -1)  # the last stands for -1
    return lambda case, seg: wider[seg]


def _translate(source: Path, target: Path, change: Callable[[Array], Array]) -> Array:
    """Write a label map with other labels."""
    import blosc2

    held = blosc2.open(urlpath=str(source), mode="r")
    seg: Array = held[:]
    kept = change(seg)
    blosc2.asarray(
        np.ascontiguousarray(kept.astype(seg.dtype)),
        urlpath=str(target),
        chunks=held.chunks,
        blocks=held.blocks,
        cparams={"codec": held.schunk.cparams.codec, "clevel": held.schunk.cparams.clevel},
    )
    return kept


def _write_properties(source: Path, target: Path, seg: Array, sampled: list[Any]) -> None:
    """A case's properties, with places of the labels that this data set has."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

    properties = pickle.loads(source.read_bytes())  # noqa: S301 (nnU-Net wrote it a moment ago)
    places = DefaultPreprocessor._sample_foreground_locations(seg, sampled)
    properties["class_locations"] = places
    target.write_bytes(pickle.dumps(properties))


def _link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the disk has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
