"""What the manifest says of the data sets: an entry for each, and their files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from backsplit.config.base import Section
from backsplit.config.model import Config
from backsplit.export.bids import bids_files, bids_sets
from backsplit.export.monai import data_lists
from backsplit.export.nnunet import NnUNetDataset, datasets
from backsplit.export.segmentations import (
    FORMATS,
    own_segmentations,
    segmentations_folder,
    segmented_cases,
)
from backsplit.store.provenance import file_sha256, read_json
from backsplit.store.results import VOLUME_ENDING

Row = tuple[str, str, str, str, str]
"""case, kind, role, path, sha256. Paths of inputs start at the case table's folder, others at the
results."""


class DatasetEntry(Section):
    """One data set that a trainer reads."""

    path: str = Field(description="Folder, or for MONAI file, from the results.")
    format: Literal["nnU-Net v2", "MONAI", "BIDS", "3D Slicer", "DICOM-SEG"]
    cases: int
    labels: dict[str, int | list[int]]


def dataset_entries(config: Config) -> Iterator[DatasetEntry]:
    """What each trainer reads."""
    main, *nested = datasets(config)
    labels = read_json(main.json)["labels"]
    for dataset in (main, *nested):
        yield _entry(config, dataset.folder, "nnU-Net v2", dataset)
    for path in data_lists(config):
        data_list = read_json(path)
        yield DatasetEntry(
            path=config.results.relative(path),
            format="MONAI",
            cases=data_list["numTraining"],
            labels={name: int(label) for label, name in data_list["labels"].items()},
        )
    for folder, dataset in bids_sets(config).items():
        yield _entry(config, folder, "BIDS", dataset)
    place = config.results.relative(segmentations_folder(config))
    for kind, cases in segmented_cases(config).items():
        yield DatasetEntry(path=place, format=FORMATS[kind], cases=cases, labels=labels)


def _entry(
    config: Config, folder: Path, layout: Literal["nnU-Net v2", "BIDS"], dataset: NnUNetDataset
) -> DatasetEntry:
    """What is said of a data set, or of a copy of it in another layout."""
    return DatasetEntry(
        path=config.results.relative(folder),
        format=layout,
        cases=len(dataset.cases()),
        labels=read_json(dataset.json)["labels"],
    )


def dataset_rows(config: Config, linked: dict[Path, str]) -> Iterator[Row]:
    """Files of the data sets; what a link leads to is known already."""
    results = config.results

    def row(path: Path, role: str, case: str = "") -> Row:
        known = linked.get(path.resolve()) if path.is_symlink() else None
        sha256 = known or file_sha256(path)
        if not path.is_symlink():
            linked[path.resolve()] = sha256
        return case, "dataset", role, results.relative(path), sha256

    for dataset in datasets(config):
        for path in dataset_files(dataset):
            case = path.name.removesuffix(VOLUME_ENDING) if path.parent == dataset.labels else ""
            yield row(path, path.parent.name, case)
    yield from (row(path, "monai") for path in data_lists(config))
    if config.export.bids is not None:
        yield from (row(path, "bids") for path in bids_files(config))
    segmentations = own_segmentations(segmentations_folder(config))
    yield from (row(path, "segmentations") for path in segmentations)


def dataset_files(dataset: NnUNetDataset) -> list[Path]:
    """Every file that a data set has on the disk."""
    folders = (dataset.folder, dataset.images, dataset.labels)
    return [
        path
        for folder in folders
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if not path.is_dir()
    ]
