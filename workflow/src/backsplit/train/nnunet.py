"""nnU-Net's folders and its way to find trainers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from backsplit.errors import Code, RunError

TRAINERS = Path(__file__).parent / "trainers"
"""For `nnUNet_extTrainer`: one module that names our trainers, which lie in the package."""


def let_find_ours() -> None:
    """Let nnU-Net find our trainers, beside those of the folders that the user names."""
    variable = "nnUNet_extTrainer"
    given = [path for path in os.environ.get(variable, "").split(os.pathsep) if path]
    if str(TRAINERS) not in given:
        os.environ[variable] = os.pathsep.join([*given, str(TRAINERS)])


def root(kind: str) -> Path:
    """Give nnU-Net's folder of raw or preprocessed data sets, or of results.

    Raises
    ------
    RunError
        TRAINING_UNSUITED: the environment does not name it.
    """
    variable = f"nnUNet_{kind}"
    given = os.environ.get(variable)
    if not given:
        raise RunError(
            Code.TRAINING_UNSUITED,
            f"${variable} is not set; nnU-Net needs it to find its folders",
            f"export {variable}=FOLDER",
        )
    return Path(given)


def data_set_folder(dataset: str, kind: str) -> Path:
    """Give the folder of a data set, by its name or id; it need not be there if named.

    Raises
    ------
    RunError
        TRAINING_UNSUITED: no folder has the id, or several have.
    """
    folder = root(kind)
    if dataset.startswith("Dataset"):
        return folder / dataset
    names = [
        path.name
        for place in ("raw", "preprocessed")
        for path in root(place).glob(f"Dataset{dataset.zfill(3)}_*")
    ]
    if len(set(names)) != 1:
        raise RunError(
            Code.TRAINING_UNSUITED,
            f"{len(set(names))} data sets have the id {dataset} ({', '.join(sorted(set(names)))})",
            "give the full name of one: DatasetNNN_NAME",
        )
    return folder / names[0]


def found_trainer(name: str) -> Any:  # noqa: ANN401
    """Give the class of a trainer, ours or one that nnU-Net finds."""
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    from backsplit.train import segresnet, trainer

    for module in (trainer, segresnet):
        if hasattr(module, name):
            return getattr(module, name)
    try:
        return recursive_find_trainer_class_by_name(name)
    except RuntimeError:
        raise RunError(
            Code.TRAINING_UNSUITED,
            f"nnU-Net finds no trainer {name}",
            "give another --trainer, or its folder in nnUNet_extTrainer",
        ) from None
