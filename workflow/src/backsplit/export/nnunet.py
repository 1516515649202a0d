"""nnU-Net v2 raw layout: imagesTr, labelsTr, dataset.json, splits_final.json."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backsplit.cases import Case
from backsplit.config import Config
from backsplit.disk import disk_errors
from backsplit.errors import BacksplitError, Code
from backsplit.provenance import digest, file_sha256, read_json, sidecar_path, write_json
from backsplit.resolving import own_labels
from backsplit.scheme import BACKGROUND, IGNORE, Scheme
from backsplit.volume import (
    Array,
    Geometry,
    Grid,
    atomic_path,
    read_geometry,
    read_labels,
    read_volume,
    save_nifti,
)
from backsplit.volume.nifti import read_header
from backsplit.volume.read import UNREADABLE
from backsplit.volume.resample import resample_image

FILE_ENDING = ".nii.gz"
NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What a file system says that keeps no symbolic links (FAT, some shares of Windows)."""
FOLDS = 5
SPLIT_SEED = 12345
"""nnU-Net's own number of folds and seed (`generate_crossval_split`)."""


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


def datasets(config: Config) -> list[NnUNetDataset]:
    """The data set with every label first, then those with 0, 1, 2, … structures.

    Nested sets have the ids that follow: Dataset501_NAME, Dataset502_NAME_nested0, …
    With `export.only_unrestricted` there is one, DatasetNNN_NAME_unrestricted, after all of them.
    """
    root = config.run.results / "datasets" / "nnunet"
    if config.export.only_unrestricted:
        return [
            NnUNetDataset(root / f"Dataset{config.unrestricted_id:03d}_{config.unrestricted_name}")
        ]
    start, name = config.dataset.id, config.dataset.name
    nested = range(len(config.compose.nested) + 1) if config.compose.nested else ()
    return [
        NnUNetDataset(root / f"Dataset{start:03d}_{name}"),
        *(
            NnUNetDataset(root / f"Dataset{start + 1 + count:03d}_{name}_nested{count}", count)
            for count in nested
        ),
    ]


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
    config: Config, scheme: Scheme, cases: Sequence[Case], composed: Path
) -> NnUNetDataset:
    """Write the data sets; what a run before left there and is no longer part of them goes.

    Parameters
    ----------
    config : the configuration
    scheme : names and ids
    cases : the cases that are part of it
    composed : folder with a label map of each
    """
    main, *nested = datasets(config)
    main.json.unlink(missing_ok=True)  # not finished until it is there again
    sidecars = (read_json(sidecar_path(_labels(composed, case))) for case in cases)
    ignored = any(sidecar["voxels"][IGNORE] for sidecar in sidecars)
    for dataset in (*nested, main):
        _write(dataset, config, scheme, cases, composed, ignored=ignored)
    return main


def _write(
    dataset: NnUNetDataset,
    config: Config,
    scheme: Scheme,
    cases: Sequence[Case],
    composed: Path,
    *,
    ignored: bool,
) -> None:
    dataset.json.unlink(missing_ok=True)
    images, labels = dataset.folder / "imagesTr", dataset.folder / "labelsTr"
    channels = config.dataset.channels
    _keep_only(images, {image_name(c.id, n) for c in cases for n in range(len(channels))})
    _keep_only(labels, {label_name(case.id) for case in cases})
    link = config.export.nnunet.mode == "symlink"
    table = (
        None if dataset.nested is None else scheme.nested_table(dataset.nested, keep_ignore=ignored)
    )
    for case in cases:
        geometries = {channel: read_geometry(case.images[channel]) for channel in channels}
        grid = geometries[config.dataset.grid_channel].grid
        for number, channel in enumerate(channels):
            target = images / image_name(case.id, number)
            _place_image(target, case.images[channel], geometries[channel], grid, link=link)
        _place_labels(labels / label_name(case.id), _labels(composed, case), table)
    splits = cross_validation([case.id for case in cases], _groups(cases))
    with atomic_path(splits_path(dataset)) as temporary:
        temporary.write_text(json.dumps(splits, indent=1) + "\n", "utf-8")
    description = describe(config, scheme, len(cases), nested=dataset.nested, ignored=ignored)
    write_json(dataset.json, description)


def describe(
    config: Config, scheme: Scheme, count: int, *, nested: int | None = None, ignored: bool
) -> dict[str, object]:
    """Content of dataset.json.

    `ignore` is declared only when a label map holds it: declaring it makes nnU-Net train with a
    partial loss.
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
    if ignored and nested != 0:
        labels[IGNORE] = len(names)
    return {
        "channel_names": {
            str(i): _channel_name(channel) for i, channel in enumerate(config.dataset.channels)
        },
        "labels": labels,
        **order,
        "numTraining": count,
        "file_ending": FILE_ENDING,
        "name": config.dataset.name,
        "targets": list(scheme.targets),
    }


def label_names(scheme: Scheme, nested: int | None) -> Sequence[str]:
    """Names of a data set's labels by id, background first; `nested` as `NnUNetDataset` has it."""
    if nested is None:
        return scheme.names
    return (BACKGROUND, *scheme.targets, *scheme.nested[:nested])


def cross_validation(cases: Sequence[str], groups: Mapping[str, str]) -> list[dict[str, list[str]]]:
    """Five folds of training and validation cases; a group (patient) is never on both sides.

    Returns fewer folds when there are fewer groups, and none for a single one.
    """
    members: dict[str, list[str]] = {}
    for case in sorted(cases):
        members.setdefault(groups[case], []).append(case)
    names = sorted(members)
    if len(names) < 2:
        return []
    shuffled = [names[i] for i in np.random.default_rng(SPLIT_SEED).permutation(len(names))]
    parts = [sorted(shuffled[i :: min(FOLDS, len(names))]) for i in range(min(FOLDS, len(names)))]
    return [
        {
            "train": sorted(c for n in names if n not in part for c in members[n]),
            "val": sorted(c for n in part for c in members[n]),
        }
        for part in parts
    ]


def _groups(cases: Sequence[Case]) -> dict[str, str]:
    return {case.id: case.patient for case in cases}


def _channel_name(channel: str) -> str:
    """nnU-Net normalises the channel called CT by Hounsfield units and any other by z-score."""
    return "CT" if channel.lower() == "ct" else channel


def _labels(composed: Path, case: Case) -> Path:
    return composed / label_name(case.id)


def image_name(case: str, channel: int) -> str:
    """File of a case's channel."""
    return f"{case}_{channel:04d}{FILE_ENDING}"


def label_name(case: str) -> str:
    """File of a case's label map."""
    return f"{case}{FILE_ENDING}"


def splits_path(dataset: NnUNetDataset) -> Path:
    """The folds of cross-validation."""
    return dataset.folder / "splits_final.json"


def _link(target: Path, leads_to: str) -> None:
    try:
        target.symlink_to(leads_to)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        raise BacksplitError(
            Code.LINKS_UNSUPPORTED,
            f"the disk of {target.parent} takes no symbolic links ({error.strerror}); set "
            "export.nnunet.mode to copy, and export.bids.mode if there is one",
        ) from error


def folds(dataset: NnUNetDataset) -> dict[str, int]:
    """The fold in which a case is validated; no case where a single patient can not be split."""
    splits = json.loads(splits_path(dataset).read_text("utf-8"))
    return {case: number for number, split in enumerate(splits) for case in split["val"]}


def _keep_only(folder: Path, names: set[str]) -> None:
    """Make a folder, and remove from it what is no longer part of the data set."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.iterdir():
        if stale.name not in names:
            stale.unlink()


def _place_image(target: Path, source: Path, geometry: Geometry, grid: Grid, *, link: bool) -> None:
    """Link or copy an image; write it anew where trainers could not read it as it is."""
    same = geometry.grid.is_same(grid)
    if same and geometry.faithful and source.name.endswith(FILE_ENDING):
        link_or_copy(target, source, link=link)
        return
    mark = _mark(source, grid)
    if _is_marked(target, mark):
        return
    volume = read_volume(source)
    array = volume.array if same else resample_image(volume, grid).array
    _save(target, array, grid, mark)


def _place_labels(target: Path, source: Path, table: Array | None) -> None:
    """Copy a label map, or write it with other ids by looking them up."""
    if table is None:
        link_or_copy(target, source, link=False)
        return
    mark = _mark(source, table.tolist())
    if _is_marked(target, mark):
        return
    labels = read_labels(source)
    _save(target, table[labels.array], labels.grid, mark, like=source)


def _save(target: Path, array: Array, grid: Grid, mark: str, like: Path | None = None) -> None:
    target.unlink(missing_ok=True)
    with atomic_path(target) as temporary:
        save_nifti(temporary, array, grid, like, description=mark)


def _mark(source: Path, settings: object) -> str:
    """What a file of ours was made from, short enough for a NIfTI header."""
    return f"backsplit {digest([file_sha256(source), str(settings)])[:32]}"


def _is_marked(target: Path, mark: str) -> bool:
    if target.is_symlink() or not target.is_file():
        return False
    try:
        return read_header(target).description == mark
    except UNREADABLE:
        return False  # written anew


def link_or_copy(target: Path, source: Path, *, link: bool, inside: Path | None = None) -> None:
    """Make a file the same as another one, unless it is.

    Parameters
    ----------
    target, source : the files; where `source` is a link, what it leads to is meant
    link : a symbolic link, or a copy
    inside : a link to what lies in this folder is relative, so that the folder can be moved
    """
    wanted = Path(os.path.realpath(source))
    if link:
        place = Path(os.path.realpath(target.parent))
        near = inside is not None and wanted.is_relative_to(os.path.realpath(inside))
        leads_to = os.path.relpath(wanted, place) if near else str(wanted)
        if target.is_symlink() and str(target.readlink()) == leads_to:
            return
        with disk_errors(target.parent):
            target.unlink(missing_ok=True)
            _link(target, leads_to)
        return
    if target.is_file() and not target.is_symlink() and file_sha256(target) == file_sha256(source):
        return
    target.unlink(missing_ok=True)
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
