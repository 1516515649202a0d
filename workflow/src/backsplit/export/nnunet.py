"""nnU-Net v2 raw layout: imagesTr, labelsTr, dataset.json, splits_final.json."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from backsplit.cases.table import Case
from backsplit.config.base import BACKGROUND, IGNORE
from backsplit.config.model import Config
from backsplit.config.slices import merging
from backsplit.errors import Code, RunError
from backsplit.export.files import (
    Converted,
    image_name,
    keep_only,
    label_name,
    place_image,
    place_labels,
)
from backsplit.export.folds import splits
from backsplit.export.label_tables import TABLES, write_label_tables
from backsplit.export.unknown import Unknown, hidden_structures, of_names
from backsplit.scheme.colours import named_labels
from backsplit.scheme.resolve import own_labels
from backsplit.scheme.scheme import Scheme
from backsplit.store.disk import atomic_path
from backsplit.store.provenance import file_sha256, read_json, write_json
from backsplit.store.results import VOLUME_ENDING, StageFolder, folders_in
from backsplit.store.sidecars import ComposeSidecar, read_sidecar
from backsplit.volume import read_geometry


@dataclass(frozen=True)
class NnUNetDataset:
    """Where a data set of nnU-Net lies, and which label set it has.

    Attributes
    ----------
    folder : DatasetNNN_NAME
    nested : how many structures of `compose.nested` it has; None for all labels
    """

    folder: Path
    nested: int | None = None

    @property
    def json(self) -> Path:
        """Its description, written last."""
        return self.folder / "dataset.json"

    @property
    def images(self) -> Path:
        """Folder of the images, one a channel and case."""
        return self.folder / "imagesTr"

    @property
    def labels(self) -> Path:
        """Folder of the label maps, one a case."""
        return self.folder / "labelsTr"

    @property
    def splits(self) -> Path:
        """The folds of cross-validation."""
        return self.folder / "splits_final.json"

    @property
    def label_tables(self) -> list[Path]:
        """Names and colours of the labels, for viewers."""
        return [self.folder / name for name in TABLES]

    def cases(self) -> list[str]:
        """Cases with a label map, in order."""
        names = (path.name for path in self.labels.glob(f"*{VOLUME_ENDING}"))
        return sorted(name.removesuffix(VOLUME_ENDING) for name in names)


def datasets(config: Config) -> list[NnUNetDataset]:
    """The data set with every label first, then those with 0, 1, 2, … structures.

    Nested sets have the ids that follow: Dataset501_NAME, Dataset502_NAME_nested0, …
    With `export.only_unrestricted` there is one, DatasetNNN_NAME_unrestricted, after all of them.
    """
    if config.export.only_unrestricted:
        return [unrestricted_dataset(config)]
    root = config.results.nnunet
    start, name = config.dataset.id, config.dataset.name
    nested = range(len(config.compose.nested) + 1) if config.compose.nested else ()
    return [
        NnUNetDataset(root / f"Dataset{start:03d}_{name}"),
        *(
            NnUNetDataset(root / f"Dataset{start + 1 + count:03d}_{name}_nested{count}", count)
            for count in nested
        ),
    ]


def unrestricted_dataset(config: Config) -> NnUNetDataset:
    """The data set without restricted segmenters, whether it is asked for or not."""
    name = f"Dataset{config.unrestricted_id:03d}_{config.unrestricted_name}"
    return NnUNetDataset(config.results.nnunet / name)


def exported_datasets(root: Path) -> list[NnUNetDataset]:
    """Every data set in a folder that this export wrote, whatever it was called then.

    Others may keep theirs beside them: ours have `targets` in dataset.json, and the name that it
    says.
    """
    found = map(NnUNetDataset, folders_in(root))
    return [dataset for dataset in found if _is_exported(dataset)]


def _is_exported(dataset: NnUNetDataset) -> bool:
    try:
        described = read_json(dataset.json)
        name = re.escape(described["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    named = re.fullmatch(rf"Dataset\d{{3}}_{name}(_nested\d+)?", dataset.folder.name)
    return named is not None and "targets" in described


def same_ids(config: Config) -> list[Path]:
    """Other data sets with an id of ours, from before a renaming; nnU-Net refuses an id twice."""
    ours = datasets(config)
    names = {dataset.folder.name for dataset in ours}
    return sorted(
        path
        for dataset in ours
        for path in dataset.folder.parent.glob(f"{dataset.folder.name.partition('_')[0]}_*")
        if path.name not in names
    )


def dataset_folder(config: Config) -> Path:
    """Folder of the data set with every label, DatasetNNN_NAME."""
    return datasets(config)[0].folder


def export_nnunet(
    config: Config, scheme: Scheme, cases: Sequence[Case], composed: StageFolder
) -> NnUNetDataset:
    """Write the data sets; what a run before left there and is no longer part of them goes.

    Parameters
    ----------
    config : the configuration
    scheme : names and ids
    cases : the cases that are part of it
    composed : label maps
    """
    main, *nested = datasets(config)
    main.json.unlink(missing_ok=True)  # not finished until it is there again
    sources: dict[str, Path] = {}
    unknown: dict[str, Sequence[str] | None] = {}
    for case in cases:
        sidecar = read_sidecar(composed.sidecar(case.id), ComposeSidecar)
        sources[case.id] = _written(composed.output(case.id), sidecar)
        if sidecar.voxels[IGNORE]:
            unknown[case.id] = hidden_structures(scheme, merging(config), sidecar)
    for dataset in (*nested, main):
        _write(dataset, config, scheme, cases, sources, unknown)
    return main


def _write(
    dataset: NnUNetDataset,
    config: Config,
    scheme: Scheme,
    cases: Sequence[Case],
    sources: Mapping[str, Path],
    unknown: Unknown,
) -> None:
    dataset.json.unlink(missing_ok=True)
    images, labels = dataset.images, dataset.labels
    channels = config.dataset.channels
    keep_only(images, {image_name(c.id, n) for c in cases for n in range(len(channels))})
    keep_only(labels, {label_name(case.id) for case in cases})
    link = config.export.nnunet.mode == "symlink"
    table = None
    if dataset.nested is not None:
        table = scheme.nested_table(dataset.nested, keep_ignore=bool(unknown))
    converted = Converted(config.results.converted(dataset.folder.name))
    named = partial(named_labels, [*label_names(scheme, dataset.nested), IGNORE], scheme)
    for case in cases:
        geometries = {channel: read_geometry(case.images[channel]) for channel in channels}
        grid = geometries[config.dataset.grid_channel].grid
        for number, channel in enumerate(channels):
            target = images / image_name(case.id, number)
            place_image(
                target, case.images[channel], geometries[channel], grid, converted, link=link
            )
        place_labels(labels / label_name(case.id), sources[case.id], table, converted, named)
    converted.save()
    with atomic_path(dataset.splits) as temporary:
        temporary.write_text(json.dumps(splits(cases), indent=1) + "\n", "utf-8")
    description = describe(config, scheme, len(cases), nested=dataset.nested, unknown=unknown)
    names = label_names(scheme, dataset.nested)
    declared = IGNORE in description["labels"]
    write_label_tables(dataset.folder, [*names, IGNORE] if declared else names, scheme)
    write_json(dataset.json, description)


def describe(
    config: Config, scheme: Scheme, count: int, *, nested: int | None = None, unknown: Unknown
) -> dict[str, Any]:
    """Content of dataset.json.

    `ignore` is declared only when a label map holds it: declaring it makes nnU-Net train with a
    partial loss. `unknown` then says case by case what those voxels can be.
    """
    names = label_names(scheme, nested)
    ids = {name: label for label, name in enumerate(names)}
    labels: dict[str, int | list[int]] = dict(ids)
    order: dict[str, object] = {}
    if nested is None and scheme.regions:
        labels = {BACKGROUND: 0}
        labels |= {r: sorted(ids[n] for n in members) for r, members in scheme.regions.items()}
        own = own_labels(scheme.regions)
        order = {"regions_class_order": [ids[own[region]] for region in scheme.regions]}
    table: dict[str, object] = {}
    if unknown and nested != 0:
        labels[IGNORE] = len(names)
        table = {"unknown": of_names(unknown, names)}
    return {
        "channel_names": {
            str(i): config.export.nnunet.channel_name(channel)
            for i, channel in enumerate(config.dataset.channels)
        },
        "labels": labels,
        **order,
        "numTraining": count,
        "file_ending": VOLUME_ENDING,
        "name": config.dataset.name,
        "targets": list(scheme.targets),
        **table,
    }


def label_names(scheme: Scheme, nested: int | None) -> Sequence[str]:
    """Names of a data set's labels by id, background first; `nested` as `NnUNetDataset` has it."""
    if nested is None:
        return scheme.names
    return (BACKGROUND, *scheme.targets, *scheme.nested[:nested])


def _written(path: Path, sidecar: ComposeSidecar) -> Path:
    """A case's label map, which must be the one that composing wrote.

    Raises
    ------
    RunError
        RESULT_CHANGED: it was damaged or edited since.
    """
    written = sidecar.outputs["labels"]
    if (found := file_sha256(path)) != written.sha256:
        raise RunError(
            Code.RESULT_CHANGED,
            f"{path} is not the label map that was composed: sha256 {found}, "
            f"written {written.sha256}",
            "remove it and run again: it is composed again",
        )
    return path


def folds(dataset: NnUNetDataset) -> dict[str, int]:
    """The fold in which a case is validated; no case where a single patient cannot be split."""
    splits = json.loads(dataset.splits.read_text("utf-8"))
    return {case: number for number, split in enumerate(splits) for case in split["val"]}
