"""Trained nnU-Net models that a person names for a first configuration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from backsplit.config.lesion_words import is_lesion
from backsplit.errors import Code, RunError
from backsplit.start.names import few, is_config_name
from backsplit.store.provenance import read_json

CHECKPOINT = "checkpoint_final.pth"


@dataclass(frozen=True)
class Model:
    """A trained model as a segmenter.

    Attributes
    ----------
    path : trained-model folder
    folds : those that are trained
    anatomy, lesions : names of its classes
    left_out : classes whose names the configuration cannot have
    """

    path: Path
    folds: tuple[str, ...]
    anatomy: tuple[str, ...]
    lesions: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    def structures(self, taken: Collection[str]) -> list[str]:
        """Classes that become structures: those whose names are free."""
        return [name for name in self.anatomy if name not in taken]


def find_model(name: str, given: str) -> Model:
    """Look at a model folder, or at one that holds a single model.

    Parameters
    ----------
    name : of the segmenter, for messages
    given : the folder: Trainer__Plans__Configuration, or DatasetNNN_NAME above it

    Raises
    ------
    RunError
        MODEL_INVALID when there is no model, or several, or one that is not trained.
    """
    root = Path(given)
    found = [
        path.parent for pattern in ("", "*/", "*/*/") for path in root.glob(f"{pattern}plans.json")
    ]
    found = [path for path in dict.fromkeys(found) if (path / "dataset.json").exists()]
    if len(found) != 1:
        what = (
            f"holds {len(found)} models ({few([path.name for path in found])})"
            if found
            else ("holds no trained model (no folder with dataset.json and plans.json)")
        )
        raise RunError(
            Code.MODEL_INVALID,
            f"--segmenter {name}={given}: the folder {what}",
            "give the folder Trainer__Plans__Configuration of one model",
        )
    folder = found[0]
    folds = sorted(path.parent.name for path in folder.glob(f"fold_*/{CHECKPOINT}"))
    if not folds:
        raise RunError(
            Code.MODEL_INVALID,
            f"--segmenter {name}={given}: {folder} has no fold_*/{CHECKPOINT}",
            "finish its training, or copy the checkpoints there",
        )
    names = [label for label in _labels(folder) if label not in ("background", "ignore")]
    usable = [label for label in names if is_config_name(label)]
    return Model(
        folder,
        tuple(fold.removeprefix("fold_") for fold in folds),
        tuple(label for label in usable if not is_lesion(label)),
        tuple(label for label in usable if is_lesion(label)),
        tuple(label for label in names if label not in usable),
    )


def _labels(folder: Path) -> Mapping[str, object]:
    path = folder / "dataset.json"
    try:
        labels = read_json(path)["labels"]
        if not isinstance(labels, dict):
            raise ValueError("its `labels` do not map names to values")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            Code.MODEL_INVALID, f"{path} cannot be read ({error})", "restore it from the training"
        ) from None
    return labels
