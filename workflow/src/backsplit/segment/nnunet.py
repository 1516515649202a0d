"""Any trained nnU-Net v2 model as a segmenter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from backsplit.cases.table import Case
from backsplit.config.base import MOST_LABEL
from backsplit.config.model import Run
from backsplit.config.segmenters import NnUNet
from backsplit.config.slices import Labelling
from backsplit.errors import CaseError, Code, RunError, shown
from backsplit.segment.base import Labelled, Licence, Segmenter
from backsplit.segment.device import choose_device
from backsplit.segment.licences import UNSTATED, stated_licence
from backsplit.segment.memory import limits
from backsplit.segment.network import Model, load
from backsplit.segment.nnunet_engine import Engine
from backsplit.segment.pipeline import overlap
from backsplit.segment.timing import Timings
from backsplit.store.provenance import read_json, versions

MOST_STAGES = 4
"""nnU-Net's own cascade has two; plans that go round in a circle have no end."""


def build(section: NnUNet, inputs: Labelling, run: Run) -> Segmenter:
    """Make the segmenter of a section."""
    return NnUNetSegmenter(section, inputs, run)


class NnUNetSegmenter(Segmenter):
    """Applies a trained-model folder; the network loads once per job."""

    def __init__(self, config: NnUNet, inputs: Labelling, run: Run) -> None:
        self.config = config
        self.channels = inputs.channels
        self.settings = run
        self.timings = Timings()

    @cached_property
    def _dataset_json(self) -> dict[str, Any]:
        path = self.config.model / "dataset.json"
        try:
            data = read_json(path)
            if not isinstance(data, dict) or not isinstance(data.get("labels"), dict):
                raise ValueError("it has no `labels` with names and values")
            if not isinstance(data.get("channel_names", {}), dict):
                raise ValueError("its `channel_names` do not map numbers to names")
            return data
        except (OSError, ValueError, RecursionError) as error:
            gone = isinstance(error, FileNotFoundError)
            raise RunError(
                Code.MODEL_INVALID,
                f"{path} does not exist" if gone else f"{path} cannot be read ({error})",
                "`model` must be a trained-model folder (Trainer__Plans__Configuration) with "
                f"dataset.json, plans.json and fold_*{_models_in(self.config.model)}",
            ) from None

    def classes(self) -> dict[str, int]:
        """Names from the model's dataset.json, background left out."""
        labels = self._dataset_json["labels"]
        if any(isinstance(value, list) and len(value) > 1 for value in labels.values()):
            return self._regions()
        classes: dict[str, int] = {}
        for name, value in labels.items():
            if name in ("background", "ignore"):
                continue
            single = value[0] if isinstance(value, list) and value else value
            classes[name] = self._id(name, single)
        return classes

    def _regions(self) -> dict[str, int]:
        """Names of regions, and what the model's own order writes where each is found.

        Regions overlap; where several are found, the value of the last of them is written.
        """
        names = []
        for name, value in self._dataset_json["labels"].items():
            members = value if isinstance(value, list) else [value]
            for member in members:
                if member != 0:
                    self._id(name, member)
            if name not in ("background", "ignore") and any(members):
                names.append(name)
        order = self._dataset_json.get("regions_class_order")
        if not isinstance(order, list) or len(order) != len(names):
            raise RunError(
                Code.MODEL_INVALID,
                f"{self.config.model}/dataset.json has {len(names)} regions, but its "
                f"`regions_class_order` is {shown(order)}",
                "give it a value for each region, as nnU-Net asks for",
            )
        classes = {name: self._id(name, value) for name, value in zip(names, order, strict=True)}
        if len(set(classes.values())) != len(classes):
            raise RunError(
                Code.MODEL_INVALID,
                f"{self.config.model}/dataset.json gives two regions the same value "
                f"(`regions_class_order` is {shown(order)})",
                "use another model",
            )
        return classes

    def _id(self, name: str, value: Any) -> int:  # noqa: ANN401
        if not (name.strip() and name.isprintable()):
            raise RunError(
                Code.MODEL_INVALID,
                f"{self.config.model}/dataset.json has the label {shown(name)!r}, which is not a "
                "printable name",
                "use another model",
            )
        if not isinstance(value, int) or not 1 <= value <= MOST_LABEL:
            raise RunError(
                Code.MODEL_INVALID,
                f"{self.config.model}/dataset.json gives {shown(name)!r} the value "
                f"{shown(value)}, which no label map can hold",
                "use another model",
            )
        return value

    def licence(self) -> Licence:
        """What the configuration says; else nobody has said."""
        return stated_licence(self.config) or UNSTATED

    def weights_root(self) -> Path:
        """The model's folder."""
        return self.config.model

    def identity(self) -> dict[str, Any]:
        """Version of nnU-Net."""
        return {"versions": versions("nnunetv2")}

    def inputs(self, case: Case) -> Mapping[str, Path]:
        """One image per channel."""
        return {f"image_{channel}": case.images[channel] for channel in self.channels}

    def label(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Labelled | CaseError]]:
        """Predict each case with the resident network; three cases are in work at a time."""
        expected = len(self._dataset_json.get("channel_names", {}))
        if expected and expected != len(self.channels):
            raise RunError(
                Code.MODEL_INVALID,
                f"{self.config.model} has {expected} input channels but is given "
                f"{list(self.channels)}",
                "set `channel` to as many, in the model's order",
            )
        device = choose_device(self.settings.device)
        with self.timings.phase("load"):
            networks = [
                load(
                    Model(
                        folder=folder,
                        folds=self.config.folds,
                        checkpoint=self.config.checkpoint,
                        device=device,
                        step_size=self.config.step_size,
                        mirroring=self.config.mirroring,
                    )
                )
                for folder in self._stages()
            ]
        engine = Engine(networks, self.channels, self.timings, self.settings)
        yield from overlap(cases, engine.steps, limits())

    def weights(self) -> Sequence[Path]:
        """Descriptions and checkpoints of the folds that are used, of each stage of a cascade."""
        return [path for folder in self._stages() for path in self._files(folder)]

    def _files(self, folder: Path) -> list[Path]:
        files = [folder / "dataset.json", folder / "plans.json"]
        files += [folder / f"fold_{fold}" / self.config.checkpoint for fold in self.config.folds]
        for path in files:
            if not path.is_file():
                there = ", ".join(sorted(p.name for p in folder.glob("fold_*"))) or "no folds"
                raise RunError(
                    Code.WEIGHTS_MISSING,
                    f"{path} does not exist; the model folder has {there}",
                    "correct `model`, `folds` or `checkpoint`"
                    if folder == self.config.model
                    else f"put the previous stage of the cascade next to {self.config.model.name}, "
                    "with the same folds",
                )
        return files

    def _stages(self) -> list[Path]:
        """Model folders of a cascade, the first one first; of any other model its own alone.

        A stage's configuration names the one before it; nnU-Net puts both into one folder, under
        the same trainer and plans.
        """
        folder = self.config.model
        trainer_plans, _, configuration = folder.name.rpartition("__")
        stages = [folder]
        previous = self._previous(configuration)
        while previous is not None and len(stages) < MOST_STAGES:
            stages.insert(0, folder.parent / f"{trainer_plans}__{previous}")
            previous = self._previous(previous)
        return stages

    def _previous(self, configuration: str) -> str | None:
        """The stage before a configuration, through what it inherits; None where it has none."""
        try:
            plans = read_json(self.config.model / "plans.json")
            entry = plans["configurations"].get(configuration, {})
            for _ in range(MOST_STAGES):
                if "previous_stage" in entry or "inherits_from" not in entry:
                    break
                entry = plans["configurations"][entry["inherits_from"]]
            found = entry.get("previous_stage")
        except FileNotFoundError:
            return None  # told with the weights
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                Code.MODEL_INVALID,
                f"{self.config.model}/plans.json cannot be read ({type(error).__name__}: {error})",
                "restore it",
            ) from None
        return found if isinstance(found, str) else None


def _models_in(folder: Path) -> str:
    """Trained models within a folder, as the end of a sentence: often its parent was named."""
    found = sorted(path.parent for path in folder.glob("*__*__*/dataset.json"))
    return f", such as {shown(str(found[0]))}" if found else ""
