"""Predict lesions with a network that was trained on all classes, keeping the targets only."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from backsplit.cases.table import Case
from backsplit.config.model import Run
from backsplit.errors import CaseError, Code, RunError, shown
from backsplit.segment.base import Labelled
from backsplit.segment.collapsed import collapsed, largest_of_rest, log_odds, probability
from backsplit.segment.device import choose_device
from backsplit.segment.memory import limits
from backsplit.segment.network import CHECKPOINT, Model, Network, Prepared, load
from backsplit.segment.nnunet_engine import Engine, Predicted, Ready
from backsplit.segment.pipeline import Steps, overlap
from backsplit.segment.timing import Timings
from backsplit.segment.weights import require_accepted
from backsplit.store.provenance import read_json
from backsplit.store.results import VOLUME_ENDING
from backsplit.train.nnunet import let_find_ours
from backsplit.volume import Array, read_geometry, write_labels
from backsplit.work.batch import attempt

CHANNEL = re.compile(r"(.+)_(\d{4})")
"""Name of an image in a folder as nnU-Net has it: case and channel."""


@dataclass(frozen=True)
class Predicting:
    """What predicts, and how a voxel becomes a lesion.

    Attributes
    ----------
    model : trained-model folder (Trainer__Plans__Configuration)
    folds : whose logits are averaged
    checkpoint : file of each fold
    threshold : probability above which a voxel is the target; None: where no other class is
        more probable
    mirroring : test-time mirroring, where the checkpoint allows it
    probabilities : whether to write them too
    """

    model: Path
    folds: tuple[int | str, ...] = (0,)
    checkpoint: str = CHECKPOINT
    threshold: float | None = None
    mirroring: bool = True
    probabilities: bool = False

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets, the classes 1 … T.

        Raises
        ------
        RunError
            MODEL_INVALID: the model was not trained on a data set of ours, or on regions.
        """
        path = self.model / "dataset.json"
        try:
            described = read_json(path)
            names = tuple(described["targets"])
            ids = [described["labels"][name] for name in names]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                Code.MODEL_INVALID,
                f"{path} does not say which labels are targets ({error!r})",
                'add `"targets": ["lesion"]` to it, names of labels with the ids 1, 2, …',
            ) from None
        if ids != list(range(1, len(ids) + 1)) or not ids:
            raise RunError(
                Code.MODEL_INVALID,
                f"the targets of {path} have the ids {ids}, not 1 to {len(ids)}",
                "use a model trained on labels exported by backsplit, without regions",
            )
        return names


@dataclass(frozen=True)
class Result:
    """Labels of a case (0, 1 … T), and the probability of each target where asked for."""

    labels: Labelled
    probabilities: Sequence[Array]


class TargetEngine(Engine):
    """The steps of a case; logits are kept until probabilities are made of them."""

    def __init__(
        self, network: Network, channels: Sequence[str], run: Run, how: Predicting
    ) -> None:
        super().__init__([network], channels, Timings(), run)
        self.how = how
        self.count = len(how.targets)
        if how.probabilities and not self._reads_as_we_do():
            raise RunError(
                Code.MODEL_INVALID,
                "probabilities are written for models that read images with SimpleITKIO",
                "omit --probabilities, or train on .nii.gz with nnU-Net's default reader",
            )
        self.steps = Steps((self.prepare, partial(self.run, 0), self.result), self.size)

    def run(self, number: int, ready: Ready) -> Predicted:
        """Run the network."""
        if not self.how.probabilities:
            return super().run(number, ready)
        logits = self.networks[number].run(ready.prepared, self.limit_s).cpu()
        rest = replace(ready, prepared=Prepared(None, ready.prepared.properties))
        return Predicted(rest, None, logits)

    def result(self, predicted: Predicted) -> Result:
        """Labels, and probabilities if asked for."""
        made: list[Array] = []
        if self.how.probabilities:
            assert self.how.threshold is not None
            properties = predicted.ready.prepared.properties
            make = partial(probability, self.networks[0], predicted.logits, properties)
            made = [make(target, self.how.threshold) for target in range(1, self.count + 1)]
        return Result(self.finish(predicted), made)


def predict(
    cases: Sequence[Case], channels: Sequence[str], run: Run, how: Predicting, into: Path
) -> Iterator[tuple[Case, CaseError | None]]:
    """Predict cases and write `CASE.nii.gz` (and `CASE_TARGET.nii.gz`); yields each when done.

    Raises
    ------
    RunError
        WEIGHTS_UNKNOWN, MODEL_INVALID; CONFIG_INVALID for probabilities without a threshold.
    """
    if how.probabilities and how.threshold is None:
        raise RunError(
            Code.CONFIG_INVALID,
            "probabilities need a threshold, and none is given",
            "give one: --threshold 0.5 --probabilities",
        )
    engine = TargetEngine(load_targets(how, run.device), channels, run, how)
    for case, result in overlap(cases, engine.steps, limits()):
        if isinstance(result, CaseError):
            yield case, result
            continue
        written = attempt(case, partial(_write, result, how, channels[0], into))
        yield case, written if isinstance(written, CaseError) else None


def load_targets(how: Predicting, device: str) -> Network:
    """Load a network and keep its targets only."""
    count = len(how.targets)
    wanted = Model(
        how.model, how.folds, how.checkpoint, choose_device(device), mirroring=how.mirroring
    )
    require_accepted(wanted.checkpoints, shlex.quote(str(how.model)))
    let_find_ours()
    if how.threshold is None:
        return collapsed(load(wanted), largest_of_rest(count), 1 + count)
    return collapsed(load(wanted), log_odds(count, how.threshold), 1 + count)


def cases_in(folder: Path) -> tuple[list[Case], list[str]]:
    """Cases of a folder of images CASE_0000.nii.gz, CASE_0001.nii.gz, …, and the channels' names.

    Raises
    ------
    RunError
        FILE_MISSING: there is no such image, or a case lacks a channel that others have.
    """
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.glob(f"*{VOLUME_ENDING}")):
        if match := CHANNEL.fullmatch(path.name.removesuffix(VOLUME_ENDING)):
            found.setdefault(match[1], {})[match[2]] = path
    channels = sorted({channel for images in found.values() for channel in images})
    lacking = [case for case, images in found.items() if list(images) != channels]
    if not found or lacking:
        what = f"{len(lacking)} cases lack a channel ({shown(', '.join(lacking))})"
        raise RunError(
            Code.FILE_MISSING,
            f"{folder}: {what if found else 'no image CASE_0000.nii.gz'}",
            "name a folder laid out like nnU-Net's imagesTr, or a case table by --config",
        )
    return [Case(id, 0, images, {}, {}, folder) for id, images in found.items()], channels


def _write(result: Result, how: Predicting, channel: str, into: Path, case: Case) -> Path:
    path = into / f"{case.id}{VOLUME_ENDING}"
    image = case.images[channel]
    like = read_geometry(image).like(image)
    for name, values in zip(how.targets, result.probabilities, strict=False):
        target = into / f"{case.id}_{name}{VOLUME_ENDING}"
        write_labels(target, values.astype(np.float32), result.labels.grid, like)
    write_labels(path, result.labels.array, result.labels.grid, like)
    return path
