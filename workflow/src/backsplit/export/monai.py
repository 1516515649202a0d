"""A data list for MONAI, in the Decathlon's form, with folds as Auto3DSeg has them.

The images and label maps are those of the nnU-Net data set beside it: nothing is copied.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backsplit.config.base import IGNORE
from backsplit.config.model import Config
from backsplit.export.files import image_name, label_name
from backsplit.export.nnunet import NnUNetDataset, datasets, folds, label_names
from backsplit.scheme.scheme import Scheme
from backsplit.store.provenance import read_json, write_json

UNRESTRICTED = "_unrestricted"
"""Part of the name of a list without restricted segmenters."""

DATA_LIST = re.compile(rf"datalist({UNRESTRICTED})?(_nested\d+)?\.json")
"""Names of all lists that there can be."""


def monai_folder(config: Config) -> Path:
    """Where the data lists lie."""
    return config.results.monai


def export_monai(
    config: Config, scheme: Scheme, cases: Sequence[str], variant: str = ""
) -> list[Path]:
    """Write a data list for each data set of nnU-Net.

    Parameters
    ----------
    config : the configuration; with `export.monai` unset nothing is written
    scheme : names and ids
    cases : ids of the cases that are part of it
    variant : `UNRESTRICTED` for the data set without restricted segmenters, which lies beside
        the one with all

    Returns
    -------
    written
        `datalist.json` with every label, `datalist_nestedN.json` for nested sets. Paths in them
        start at their own folder, as `load_decathlon_datalist` takes them; `fold` is the fold of
        nnU-Net's `splits_final.json` in which a case is validated; a single patient has none.
    """
    folder = monai_folder(config)
    lists = data_lists(config, variant)
    for path, dataset in lists.items():
        write_json(path, describe(config, scheme, dataset, cases, folder))
    return list(lists)


def remove_lists(config: Config, variant: str = "") -> None:
    """Remove the data lists of a variant: the files that they name are about to change."""
    folder = monai_folder(config)
    for path in (
        folder / f"datalist{variant}.json",
        *folder.glob(f"datalist{variant}_nested*.json"),
    ):
        path.unlink(missing_ok=True)


def data_lists(config: Config, variant: str | None = None) -> dict[Path, NnUNetDataset]:
    """Data lists of a configuration, each with the data set whose files it names."""
    if config.export.monai is None:
        return {}
    if variant is None:
        variant = UNRESTRICTED if config.export.only_unrestricted else ""
    nested = {d: "" if d.nested is None else f"_nested{d.nested}" for d in datasets(config)}
    folder = monai_folder(config)
    return {folder / f"datalist{variant}{ending}.json": d for d, ending in nested.items()}


def describe(
    config: Config, scheme: Scheme, dataset: NnUNetDataset, cases: Sequence[str], folder: Path
) -> dict[str, Any]:
    """Content of a data list.

    Parameters
    ----------
    config : the configuration
    scheme : names and ids
    dataset : the data set of nnU-Net that has the files
    cases : ids of its cases
    folder : what paths start from
    """
    described = read_json(dataset.json)
    fold = folds(dataset)
    where = Path(os.path.relpath(dataset.folder, folder))
    training = []
    for case in cases:
        images = [
            (where / dataset.images.name / image_name(case, number)).as_posix()
            for number in range(len(config.dataset.channels))
        ]
        label = (where / dataset.labels.name / label_name(case)).as_posix()
        image = images[0] if len(images) == 1 else images
        item = {"case": case, "image": image, "label": label}
        training.append({**item, "fold": fold[case]} if case in fold else item)
    names = [*label_names(scheme, dataset.nested)]
    if IGNORE in described["labels"]:
        names.append(IGNORE)
    regions = {name: ids for name, ids in described["labels"].items() if isinstance(ids, list)}
    return {
        "name": described["name"],
        "description": "lesions and anatomy on one label map a case, composed by backsplit",
        "reference": "arXiv 2511.19394",
        "licence": "see the manifest: that of the images, and of the segmenters' labels",
        "tensorImageSize": "3D",
        "modality": described["channel_names"],
        "labels": {str(label): name for label, name in enumerate(names)},
        "targets": list(scheme.targets),
        **({"regions": regions} if regions else {}),
        **({"unknown": described["unknown"]} if "unknown" in described else {}),
        "numTraining": len(training),
        "numTest": 0,
        "training": training,
        "test": [],
    }
