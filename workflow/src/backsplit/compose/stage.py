"""Compose one batch of cases: read every layer, write one label map, keep the promises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from backsplit.cases.lesion import Lesion, read_lesion
from backsplit.cases.table import Case, excluded
from backsplit.compose.account import details
from backsplit.compose.balance import hold_balance
from backsplit.compose.case import ComposedCase, Rules, compose_case
from backsplit.compose.layers import Layer
from backsplit.compose.opinions import ballots
from backsplit.compose.promises import assert_promises
from backsplit.compose.status import excluded_structures, partly_seen, unknown_structures
from backsplit.config.slices import LesionValues
from backsplit.errors import CaseError, Code
from backsplit.scheme.colours import colours_of, named_labels
from backsplit.scheme.scheme import Classes
from backsplit.store import versions
from backsplit.store.disk import atomic_path
from backsplit.store.provenance import digest, input_sha256, plain
from backsplit.store.results import Results, StageFolder
from backsplit.store.sidecars import ComposeDetails, SegmentSidecar, read_sidecar
from backsplit.volume import (
    Array,
    Geometry,
    Grid,
    read_geometry,
    read_labels,
    read_volume,
    require_same_grid,
    save_nifti,
)
from backsplit.volume.body import body_mask, body_threshold
from backsplit.volume.coverage import parts_of_classes
from backsplit.work.batch import one_by_one


@dataclass(frozen=True)
class Composing:
    """What composing reads: the whole of it is in the fingerprint of a label map.

    Attributes
    ----------
    rules : names, order, exceptions
    classes : what each segmenter can label
    lesions : what the values of lesion files mean
    """

    rules: Rules
    classes: Mapping[str, Classes]
    lesions: LesionValues


@dataclass(frozen=True)
class Composition:
    """A case composed in memory, and what it was composed of.

    Attributes
    ----------
    composed : the label map and its account
    geometry : of the image
    lesion : the lesion files on the image's grid, None if the case has no lesion
    sidecars : segmenter to what it says of its label map
    failed : segmenters that could not label the case, and why
    """

    composed: ComposedCase
    geometry: Geometry
    lesion: Lesion | None
    sidecars: Mapping[str, SegmentSidecar]
    failed: Mapping[str, str]


class ComposeStage:
    """The label maps of the data set.

    Parameters
    ----------
    inputs : names and rules
    results : where the segmenters' label maps lie
    failures : segmenter to {case id: what went wrong}
    folder : where the label maps go
    name : of the stage
    """

    def __init__(
        self,
        inputs: Composing,
        results: Results,
        failures: Mapping[str, Mapping[str, str]],
        folder: StageFolder,
        name: str = "compose",
    ) -> None:
        self.name = name
        self.folder = folder
        self.inputs = inputs
        self.config = plain(inputs)  # once: it is the same in every case's fingerprint
        self.results = results
        self.scheme = inputs.rules.scheme
        self.classes = inputs.classes
        self.rules = inputs.rules
        self.layers = inputs.rules.merging.layers
        self.all_failures = failures
        self.colours = colours_of(self.scheme.all_names, self.scheme)

    def outputs(self, case: Case) -> Mapping[str, Path]:
        """The label map."""
        return {"labels": self.folder.output(case.id)}

    def made_from(self, case: Case) -> Mapping[str, Any]:
        """The lesion file, every layer, the scheme and the rules."""
        inputs = {"grid": input_sha256(self._image(case))}
        inputs |= {column: input_sha256(path) for column, path in case.lesion_files.items()}
        sidecars = self._sidecars(case)
        for segmenter in sidecars:
            layer = self._layers_of(segmenter).output(case.id)
            inputs[f"segment/{segmenter}"] = input_sha256(layer)  # it may be called `lesion`
        return {
            "stage": "compose",
            "version": versions.COMPOSE,
            "colours": digest(self.colours),
            "inputs": inputs,
            "failed": self._failed(case),
            "excluded": excluded(case),
            "masks": {s: _masks(sidecar) for s, sidecar in sidecars.items()},
            "config": self.config,
        }

    def work(self, cases: Sequence[Case]) -> Iterator[tuple[Case, ComposeDetails | CaseError]]:
        """Compose case after case."""
        return one_by_one(cases, self._compose_case)

    def compose(self, case: Case) -> Composition:
        """Compose a case in memory.

        Raises
        ------
        CaseError
            When a file cannot be read, or too little is labelled.
        """
        image = self._image(case)
        geometry = read_geometry(image)
        grid = geometry.grid
        failed, sidecars = self._failed(case), self._sidecars(case)
        missing = {s: sidecar.unknown for s, sidecar in sidecars.items()}
        unknown = unknown_structures(self.scheme, failed, missing, excluded(case))
        hidden = excluded_structures(self.scheme, excluded(case))
        self._require_enough(case, failed, unknown)
        within = {s: parts_of_classes(sidecar.coverage) for s, sidecar in sidecars.items()}
        asked = ballots(self.scheme, failed, missing, hidden, within)
        seen = partly_seen(self.scheme, failed, missing, within)
        with ThreadPoolExecutor(1) as ahead:
            layers = self._layers(case, grid, sidecars, ahead)
            lesion = read_lesion(case, self.inputs.lesions, grid)
            body = partial(_body, image, grid)
            composed = compose_case(
                grid, lesion, layers, unknown, body, self.rules, asked, hidden, seen
            )
        self._require_known(case, {e.structure: e.reason for e in composed.structures if e.reason})
        return Composition(composed, geometry, lesion, sidecars, failed)

    def _compose_case(self, case: Case) -> ComposeDetails:
        made = self.compose(case)
        composed, lesion, grid = made.composed, made.lesion, made.geometry.grid
        output, like = self.outputs(case)["labels"], made.geometry.like(self._image(case))
        with atomic_path(output) as temporary:
            names = named_labels(self.scheme.all_names, self.scheme, composed.labels)
            save_nifti(temporary, composed.labels, grid, like, names=names)
            written = assert_promises(temporary, grid, lesion, self.scheme, self.rules.precedence)
            drawn = hold_balance(
                case.lesion_files,
                () if lesion is None else lesion.drawn,
                written,
                composed.overruled,
                grid.voxel_ml,
                self.scheme.ids,
            )
        notes = () if lesion is None else lesion.map.notes
        return details(composed, grid, self.rules, notes, made.sidecars, made.failed, drawn)

    def _failed(self, case: Case) -> dict[str, str]:
        """Segmenters that could not label this case, and why."""
        return {
            name: self.all_failures[name][case.id]
            for name in self.layers
            if case.id in self.all_failures[name]
        }

    def _sidecars(self, case: Case) -> dict[str, SegmentSidecar]:
        """What each segmenter that labelled this case says of its map."""
        found = {}
        for segmenter in self.layers:
            if case.id in self.all_failures[segmenter]:
                continue
            path = self._layers_of(segmenter).sidecar(case.id)
            try:
                sidecar = read_sidecar(path, SegmentSidecar)
            except (OSError, ValueError) as error:
                raise CaseError(
                    Code.FILE_MISSING,
                    f"{path} cannot be read ({error})",
                    f"run `backsplit segment {segmenter}` again",
                ) from None
            sidecar.require_classes(self.classes[segmenter])
            found[segmenter] = sidecar
        return found

    def _require_enough(
        self, case: Case, failed: Mapping[str, str], unknown: Mapping[str, str]
    ) -> None:
        if failed and len(failed) == len(self.layers):
            name, reason = next(iter(failed.items()))
            raise CaseError(
                Code.NOTHING_LABELLED,
                f"{case.id}: every segmenter failed ({name}: {reason})",
                "fix that, or leave the case out",
            )
        self._require_known(case, unknown)

    def _require_known(self, case: Case, unknown: Mapping[str, str]) -> None:
        if unknown and self.rules.merging.unknown == "drop":
            name, reason = next(iter(unknown.items()))
            raise CaseError(
                Code.STRUCTURE_UNKNOWN,
                f"{case.id}: {name} is unknown ({reason}) and compose.unknown is drop",
                "fix that, or set compose.unknown to ignore",
            )

    def _layers(
        self,
        case: Case,
        grid: Grid,
        sidecars: Mapping[str, SegmentSidecar],
        ahead: ThreadPoolExecutor,
    ) -> Iterator[Layer]:
        """Layers, the strongest first; each is read while the one before is laid down."""

        def read(segmenter: str) -> Layer:
            path = self._layers_of(segmenter).output(case.id)
            labels = read_labels(path)
            require_same_grid(str(path), labels.grid, grid, "its image")
            overlaps = sidecars[segmenter].overlaps
            claims = self.scheme.claims(segmenter, self.classes[segmenter], overlaps)
            return Layer(segmenter, labels.array, claims)

        coming = [ahead.submit(read, name) for name in list(sidecars)[:1]]

        def in_turn() -> Iterator[Layer]:
            for following in [*list(sidecars)[1:], None]:
                layer = coming.pop().result()
                if following is not None:
                    coming.append(ahead.submit(read, following))
                yield layer
                del layer

        return in_turn()

    def _layers_of(self, segmenter: str) -> StageFolder:
        return self.results.segment(segmenter)

    def _image(self, case: Case) -> Path:
        return case.images[self.inputs.lesions.placing.grid_channel]


def _masks(sidecar: SegmentSidecar) -> list[object]:
    """What a fingerprint holds of where masks overlap and what nobody looked for, or where."""
    overlaps = {str(value): list(members) for value, members in sidecar.overlaps.items()}
    parts = [entry.model_dump(mode="json") for entry in sidecar.coverage]
    return [overlaps, dict(sidecar.unknown), *parts]


def _body(image: Path, grid: Grid) -> Array:
    """Mask of the body; everything where none is found."""
    array = read_volume(image).array
    mask = body_mask(array, grid, body_threshold(array))
    return mask if mask.any() else np.ones(grid.shape, bool)
