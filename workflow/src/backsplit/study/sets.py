"""The data set of an arm: the exported one with other labels, its lesions the same voxels.

A set is named by what it is made from, not by its arm: arms with the same labels (a twin, `ignore`
beside `marginal`) share one, and so do studies.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backsplit.config.base import BACKGROUND, IGNORE
from backsplit.errors import Code, RunError
from backsplit.export.files import image_name, label_name, link_or_copy
from backsplit.export.nnunet import NnUNetDataset
from backsplit.store.disk import atomic_path
from backsplit.store.provenance import digest, plain, write_json
from backsplit.study.arms import NOISE_REVISION, Arm, Control, Noise
from backsplit.study.control import controlled
from backsplit.study.noise import kept_dice, noisy
from backsplit.study.source import Source
from backsplit.volume import Array, read_labels, save_nifti

Digests = Mapping[str, Mapping[str, str]]
"""Case to the SHA-256 of each of its files in the exported data set, by name."""


@dataclass(frozen=True)
class LabelSet:
    """The labels of an arm, case by case.

    Attributes
    ----------
    source : the exported data set
    structures : those that it has, in the order of their ids
    known : patients whose anatomy is known
    background : whether voxels of unknown anatomy are background, not `ignore`
    complete : whether only cases are trained on in which every structure is known
    noise, control : what is done to the structures
    """

    source: Source
    structures: tuple[str, ...]
    known: frozenset[str]
    background: bool
    complete: bool
    noise: Noise | None
    control: Control | None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the labels by id, without `ignore`."""
        return (BACKGROUND, *self.source.targets, *self.structures)

    @property
    def ids(self) -> dict[str, int]:
        """Name of each structure to its id."""
        return {name: self.names.index(name) for name in self.structures}

    @property
    def ignore_id(self) -> int:
        """Id of voxels whose label is unknown, in sets that have any."""
        return len(self.names)

    def hidden(self, case: str) -> tuple[str, ...] | None:
        """Structures of the set that are unknown in a case; None: of ignored voxels nothing is."""
        given = self.source.unknown.get(case, ())
        if given is None:
            return None
        if self.source.patients[case] not in self.known:
            return self.structures
        return tuple(name for name in self.structures if name in given)

    def table(self, case: str) -> Array:
        """Lookup table from the ids of the exported data set to those of this one."""
        ids, hidden = self.source.ids, self.hidden(case)
        of_unknown = 0 if self.background else self.ignore_id
        nobody_looked = self.source.patients[case] not in self.known and self.structures
        rest = of_unknown if nobody_looked else 0
        table = np.full(max(ids.values()) + 1, rest, np.min_scalar_type(self.ignore_id))
        if not nobody_looked:
            for name in self.structures:
                table[ids[name]] = self.names.index(name)
        for number, target in enumerate(self.source.targets, start=1):
            table[ids[target]] = number
        if IGNORE in ids:
            # a lesion file's own `ignore` hides lesions too: it stays, whatever the arm
            table[ids[IGNORE]] = self.ignore_id if hidden is None else of_unknown if hidden else 0
        return table

    def described(self) -> dict[str, Any]:
        """Content of dataset.json; `ignore` is declared only where a case can have it."""
        labels = {name: label for label, name in enumerate(self.names)}
        hidden = {case: self.hidden(case) for case in self.source.cases}
        unknown = {
            case: None if some is None else list(some)
            for case, some in hidden.items()
            if some is None or (some and not self.background)
        }
        kept = {
            key: value
            for key, value in self.source.described.items()
            if key in ("channel_names", "numTraining", "file_ending", "targets")
        }
        if unknown:
            labels[IGNORE] = self.ignore_id
        return {**kept, "labels": labels, **({"unknown": unknown} if unknown else {})}

    def splits(self) -> list[dict[str, list[str]]]:
        """Folds of the exported data set; of those trained on only complete cases, if so asked."""
        wanted = set(self.source.complete if self.complete else self.source.cases)
        return [
            {"train": [case for case in one["train"] if case in wanted], "val": list(one["val"])}
            for one in self.source.splits
        ]

    def donor(self, case: str) -> str:
        """Case of another patient that gives the shapes of a control; complete, if there is one.

        Raises
        ------
        RunError
            TRAINING_UNSUITED: there is a single patient.
        """
        assert self.control is not None
        patient = self.source.patients[case]
        others = [c for c in self.source.cases if self.source.patients[c] != patient]
        complete = set(self.source.complete)
        others = [c for c in others if c in complete] or others
        if not others:
            raise RunError(
                Code.TRAINING_UNSUITED,
                "a control uses the structures of another patient, and there is only one patient",
                "leave the arm out",
            )
        number = int(hashlib.sha256(f"{self.control.seed} {case}".encode()).hexdigest(), 16)
        return others[number % len(others)]

    def key(self, digests: Digests) -> str:
        """Changes with anything that the set is made from; an arm's name is not part of it."""
        cases = {
            case: [digests[case], self.table(case).tolist(), self.hidden(case)]
            for case in self.source.cases
        }
        made = plain([cases, self.described(), self.splits(), self.noise, self.control])
        if self.noise is not None or self.control is not None:
            donors = self.control and [self.donor(case) for case in self.source.cases]
            made += [donors, NOISE_REVISION]
        return digest(made)

    def labels(self, case: str) -> tuple[Array, Array]:
        """Labels of a case as they are, and with what is done to the structures; (z, y, x)."""
        given = read_labels(self.source.labels(case))
        clean: Array = self.table(case)[given.array]
        spacing = given.grid.spacing[::-1]
        made = clean
        if self.noise is not None:
            made = noisy(clean, spacing, self.ids, self.noise, case)
        if self.control is not None:
            other = read_labels(self.source.labels(self.donor(case)))
            shapes = self.whole_table()[other.array]
            made = controlled(
                clean, spacing, self.ids, self.control, case, shapes, other.grid.spacing[::-1]
            )
        self.require_same_lesions(case, given.array, made)
        return clean, made

    def whole_table(self) -> Array:
        """Lookup table of a case in which everything is known; targets are background."""
        table = np.zeros(max(self.source.ids.values()) + 1, np.min_scalar_type(self.ignore_id))
        for name in self.structures:
            table[self.source.ids[name]] = self.names.index(name)
        return table

    def require_same_lesions(self, case: str, given: Array, made: Array) -> None:
        """Hold a label map of the set against that of the exported data set.

        Raises
        ------
        RunError
            PROMISE_BROKEN: a target has other voxels.
        """
        count = len(self.source.targets)  # targets have the ids 1 … T in both
        before, after = (np.where(labels <= count, labels, 0) for labels in (given, made))
        if not np.array_equal(before, after):
            changed = int((before != after).sum())
            raise RunError(
                Code.PROMISE_BROKEN,
                f"{case}: {changed} voxels of lesions differ from {self.source.labels(case)}",
                "report this as a bug",
            )


def label_set(arm: Arm, source: Source) -> LabelSet:
    """Give the labels of an arm."""
    background = arm.unknown == "background"
    known = frozenset(source.known_patients(arm.share))
    return LabelSet(source, arm.structures, known, background, arm.complete, arm.noise, arm.control)


def write_set(labels: LabelSet, folder: Path, noted: Path, *, link: bool) -> NnUNetDataset:
    """Write the raw data set.

    Parameters
    ----------
    labels : the set
    folder : DatasetNNN_NAME
    noted : table of how like the clean labels those with noise, or of a control, are: case,
        structure, dice
    link : link the images, or copy them

    Returns
    -------
    dataset
        Its dataset.json is written last.

    Raises
    ------
    RunError
        PROMISE_BROKEN: a lesion of a written label map is not as it was.
    """
    dataset = NnUNetDataset(folder)
    dataset.json.unlink(missing_ok=True)
    kept: list[dict[str, Any]] = []
    for case in labels.source.cases:
        for number, image in enumerate(labels.source.images(case)):
            target = dataset.images / image_name(case, number)
            target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(target, image, link=link)
        given = read_labels(labels.source.labels(case))
        clean, made = labels.labels(case)
        path = dataset.labels / label_name(case)
        with atomic_path(path) as temporary:
            save_nifti(temporary, made, given.grid, labels.source.labels(case))
        labels.require_same_lesions(case, given.array, read_labels(path).array)
        if labels.noise is not None or labels.control is not None:
            dice = kept_dice(clean, made, labels.ids)
            kept += [{"case": case, "structure": n, "dice": d} for n, d in dice.items()]
    if kept:
        with atomic_path(noted) as temporary:
            pd.DataFrame(kept).to_parquet(temporary, index=False)
    write_json_list(dataset.splits, labels.splits())
    write_json(dataset.json, labels.described())
    return dataset


def write_json_list(path: Path, content: list[Any]) -> None:
    """Write a JSON list atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
