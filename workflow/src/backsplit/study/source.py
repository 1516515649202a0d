"""What every arm's labels are made from: the exported data set with every label."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from backsplit.config.base import BACKGROUND, IGNORE
from backsplit.errors import Code, RunError
from backsplit.export.folds import SPLIT_SEED
from backsplit.export.nnunet import NnUNetDataset
from backsplit.store.provenance import digest, file_sha256, plain, read_json
from backsplit.store.results import VOLUME_ENDING
from backsplit.volume import read_labels


@dataclass(frozen=True)
class Source:
    """The exported data set, read once.

    Attributes
    ----------
    dataset : where it lies
    described : its dataset.json
    splits : its folds
    patients : case to patient
    """

    dataset: NnUNetDataset
    described: Mapping[str, Any]
    splits: Sequence[Mapping[str, Sequence[str]]]
    patients: Mapping[str, str]

    @property
    def cases(self) -> list[str]:
        """Every case, in order."""
        return sorted(self.patients)

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets; they have the ids 1 … T."""
        return tuple(self.described["targets"])

    @property
    def ids(self) -> dict[str, int]:
        """Name of each label to its id, background and ignore included."""
        return dict(self.described["labels"])

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of the structures, by id."""
        named = {BACKGROUND, IGNORE, *self.targets}
        return tuple(sorted(self.ids.keys() - named, key=self.ids.__getitem__))

    @cached_property
    def unknown(self) -> Mapping[str, Sequence[str] | None]:
        """Case to what its ignored voxels can be; None where nothing is known of them."""
        return dict(self.described.get("unknown", {}))

    @cached_property
    def complete(self) -> list[str]:
        """Cases in which every structure is known."""
        return [case for case in self.cases if case not in self.unknown]

    @cached_property
    def drawn_patients(self) -> list[str]:
        """Patients in the order of shares: a smaller share is part of a larger one.

        Patients of every fold are spread evenly over it, so that a share of it is about the same
        share of those that each fold trains on.
        """
        names = sorted(set(self.patients.values()))
        rng = np.random.default_rng(SPLIT_SEED)
        validated = [{self.patients[case] for case in one["val"]} for one in self.splits]
        groups: dict[tuple[bool, ...], list[str]] = {}
        for name in rng.permutation(names).tolist():
            groups.setdefault(tuple(name in some for some in validated), []).append(name)
        placed = [
            ((rank + 0.5) / len(group), name)
            for group in groups.values()
            for rank, name in enumerate(group)
        ]
        return [name for _, name in sorted(placed, key=lambda each: each[0])]

    def known_patients(self, share: float) -> set[str]:
        """Patients whose anatomy an arm knows: as few as give every fold its share, rounded up.

        It is a share of the patients that a fold trains on, not of all.
        """
        if share == 1:
            return set(self.drawn_patients)
        trained = [{self.patients[case] for case in one["train"]} for one in self.splits]
        missing = [math.ceil(round(share * len(some), 6)) for some in trained]  # 0.07 of 100: 7
        known: set[str] = set()
        for name in self.drawn_patients:
            if max(missing) <= 0:
                break
            known.add(name)
            missing = [n - (name in some) for n, some in zip(missing, trained, strict=True)]
        return known

    def digests(self) -> dict[str, dict[str, str]]:
        """Case to the SHA-256 of each of its images, and of the voxels of its labels, by name."""
        return {
            case: {
                self.labels(case).name: labels_sha256(self.labels(case)),
                **{image.name: file_sha256(image.resolve()) for image in self.images(case)},
            }
            for case in self.cases
        }

    def require_unchanged(self, digests: Mapping[str, Mapping[str, str]]) -> None:
        """Hold the label maps against what was preprocessed.

        Parameters
        ----------
        digests : as `digests` gave them

        Raises
        ------
        RunError
            INPUT_CHANGED: the data set was exported again since.
        """
        changed = sorted({*digests} ^ {*self.cases})
        changed += [
            case
            for case in self.cases
            if case in digests
            and labels_sha256(self.labels(case)) != digests[case][self.labels(case).name]
        ]
        if changed:
            raise RunError(
                Code.INPUT_CHANGED,
                f"{self.dataset.folder} has changed since preprocessing: {len(changed)} cases "
                f"differ ({changed[0]})",
                "run `backsplit study preprocess` again",
            )

    def labels(self, case: str) -> Path:
        """The label map of a case."""
        return self.dataset.labels / f"{case}{VOLUME_ENDING}"

    def images(self, case: str) -> list[Path]:
        """The images of a case, one a channel."""
        channels = range(len(self.described["channel_names"]))
        return [self.dataset.images / f"{case}_{n:04d}{VOLUME_ENDING}" for n in channels]


def open_source(dataset: NnUNetDataset, patients: Mapping[str, str]) -> Source:
    """Read the exported data set.

    Parameters
    ----------
    dataset : the one with every label
    patients : case to patient, of every case of the table

    Raises
    ------
    RunError
        FILE_MISSING before the export; TRAINING_UNSUITED for regions.
    """
    if not dataset.json.exists():
        raise RunError(
            Code.FILE_MISSING,
            f"{dataset.json} does not exist",
            "run the workflow to the end, or `backsplit export`",
        )
    described = read_json(dataset.json)
    if any(not isinstance(label, int) for label in described["labels"].values()):
        raise RunError(
            Code.TRAINING_UNSUITED,
            f"{dataset.json} has regions, but a study needs plain labels",
            "set compose.emit to flat and export again",
        )
    splits: Any = read_json(dataset.splits)
    mine = {case: patients[case] for case in dataset.cases()}
    return Source(dataset, described, splits, mine)


def labels_sha256(path: Path) -> str:
    """SHA-256 of a label map's voxels and grid.

    Not of the file: names and colours in its header teach a network nothing, and another palette is
    no reason to train again.
    """
    found = read_labels(path)
    voxels = hashlib.sha256(np.ascontiguousarray(found.array, "<u2").data).hexdigest()
    return digest([plain(found.grid), voxels])
