"""Measure one batch of cases and draw a picture of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from backsplit.cases.instances import Instance, find_instances
from backsplit.cases.lesion import read_lesion
from backsplit.cases.table import Case
from backsplit.config.base import BACKGROUND
from backsplit.config.slices import LesionValues
from backsplit.errors import CaseError, Code
from backsplit.measure import agreement, lesions
from backsplit.measure.body import find_body
from backsplit.measure.filled import in_label_map, in_segmentation
from backsplit.measure.parts import COLUMNS as PARTS
from backsplit.measure.parts import parts
from backsplit.measure.rows import Row, Rows, in_columns, write_rows
from backsplit.measure.table import COLUMNS, measure
from backsplit.scheme.scheme import Classes, Scheme
from backsplit.store import versions
from backsplit.store.disk import atomic_path
from backsplit.store.provenance import input_sha256, plain
from backsplit.store.results import Results
from backsplit.store.sidecars import (
    ComposeSidecar,
    LesionEntry,
    MeasureDetails,
    SegmentSidecar,
    read_sidecar,
)
from backsplit.volume import Array, Grid, Volume, read_labels, read_volume
from backsplit.volume.coverage import parts_of_classes
from backsplit.volume.intensity import require_finite
from backsplit.volume.pieces import places_of
from backsplit.work.batch import one_by_one

TABLES = {
    "measures": COLUMNS,
    "lesions": lesions.COLUMNS,
    "agreement": agreement.COLUMNS,
    "drawn": lesions.DRAWN,
    "parts": PARTS,
}
"""Tables that every case has rows of, with their columns."""


@dataclass(frozen=True)
class Measuring:
    """What measuring reads: the whole of it is in the fingerprint of a case's rows.

    Attributes
    ----------
    scheme : names and ids
    classes : what each segmenter can label
    layers : segmenters by precedence
    lesions : what the values of lesion files mean
    """

    scheme: Scheme
    classes: Mapping[str, Classes]
    layers: tuple[str, ...]
    lesions: LesionValues


class Draw(Protocol):
    """Draws image and labels (z, y, x) on a grid to a picture file."""

    def __call__(self, image: Array, labels: Array, grid: Grid, path: Path, *, title: str) -> None:
        """Draw one case."""


class MeasureStage:
    """Measures and pictures of the composed label maps.

    Parameters
    ----------
    inputs : names and what lesions are
    results : where label maps lie, and rows go
    failed : cases that could not be composed, and why; a map of theirs is an older one
    draw : who draws the picture, None where none is wanted, and `draw_version`, which changes
        when pictures look different
    """

    name = "measure"

    def __init__(
        self,
        inputs: Measuring,
        results: Results,
        failed: Mapping[str, str],
        draw: Draw | None,
        draw_version: int,
    ) -> None:
        self.inputs = inputs
        self.config = plain(inputs)  # once: it is the same in every case's fingerprint
        self.results = results
        self.scheme = inputs.scheme
        self.classes = inputs.classes
        self.failed = failed
        self.draw = draw
        self.draw_version = draw_version

    def outputs(self, case: Case) -> Mapping[str, Path]:
        """The case's rows and its picture."""
        rows = {"rows": self.results.measures.output(case.id)}
        return rows if self.draw is None else {**rows, "picture": self.results.picture(case.id)}

    def made_from(self, case: Case) -> Mapping[str, Any]:
        """The image, the label map, the names."""
        labels = self._labels(case)
        if case.id in self.failed:
            raise CaseError(
                Code.FILE_MISSING,
                f"{labels} could not be made: {self.failed[case.id]}",
                "correct that and run again",
            )
        if not labels.exists():
            raise CaseError(
                Code.FILE_MISSING, f"{labels} does not exist", "run `backsplit compose` first"
            )
        layers = self._layers(case)
        return {
            "stage": "measure",
            "version": versions.MEASURE,
            "picture_version": self.draw_version,
            "inputs": {
                "image": input_sha256(case.images[self.inputs.lesions.placing.grid_channel]),
                "labels": input_sha256(labels),
                "composed": self._composed(case).fingerprint,
                **{f"segment/{s}": input_sha256(path) for s, path in layers.items()},
            },
            "config": self.config,
        }

    def work(self, cases: Sequence[Case]) -> Iterator[tuple[Case, MeasureDetails | CaseError]]:
        """Measure case after case."""
        return one_by_one(cases, self._measure_case)

    def _labels(self, case: Case) -> Path:
        return self.results.labels.output(case.id)

    def _composed(self, case: Case) -> ComposeSidecar:
        """What composing found out about the case."""
        path = self.results.labels.sidecar(case.id)
        try:
            return read_sidecar(path, ComposeSidecar)
        except (OSError, ValueError) as error:
            raise CaseError(
                Code.FILE_MISSING,
                f"{path} cannot be read ({error})",
                "run `backsplit compose` again",
            ) from None

    def _layers(self, case: Case) -> dict[str, Path]:
        """Label maps that the case was composed of; one of a run before is none of them."""
        failed = self._composed(case).failed_segmenters
        return {
            name: self.results.segment(name).output(case.id)
            for name in self.inputs.layers
            if name not in failed
        }

    def read(self, case: Case) -> tuple[Volume, Volume]:
        """The image and its label map."""
        path = case.images[self.inputs.lesions.placing.grid_channel]
        image = read_volume(path)
        require_finite(path, image.array)
        return image, read_labels(self._labels(case))

    def tables(self, case: Case, image: Volume, labels: Volume) -> Rows:
        """Rows of a case for each of `TABLES`, without its id."""
        mine = list(self._lesions(case, image.grid, labels.array))
        ids = self.scheme.ids
        filled = in_label_map(labels.array, [(i, ids[e.host] if e.host else None) for e, i in mine])
        names = self.scheme.all_names
        found = measure(image.array, labels.array, names, image.grid, filled)
        whole = labels.array if filled is None else filled.array
        of_structures = parts(whole, names, image.grid)
        del filled, whole
        drawn = self._composed(case).drawn
        body = find_body(image) if any(entry.written_voxels for entry in drawn) else None
        of_layers = self._measure_layers(case, image, mine)
        few: dict[str, list[Row]] = {
            "lesions": [
                lesions.measure_lesion(
                    image.array, labels.array, image.grid, instance, names, entry, body
                )
                for entry, instance in mine
            ],
            "drawn": [
                lesions.drawn_row(
                    entry, image.grid.voxel_ml, body.voxels if body else image.array.size
                )
                for entry in drawn
            ],
            "agreement": list(self._compare_layers(case, image.grid)),
            "parts": of_structures,
        }
        measures = pd.concat([_field_of_view(image), found.assign(source="labels"), *of_layers])
        return {
            "measures": {str(name): list(values) for name, values in measures.items()},
            **{name: in_columns(rows, TABLES[name][1:]) for name, rows in few.items()},
        }

    def _measure_case(self, case: Case) -> MeasureDetails:
        image, labels = self.read(case)
        tables = self.tables(case, image, labels)
        outputs = self.outputs(case)
        write_rows(outputs["rows"], case.id, tables, TABLES)
        if self.draw is not None:
            with atomic_path(outputs["picture"]) as temporary:
                self.draw(image.array, labels.array, image.grid, temporary, title=case.id)
        else:  # of a run that drew; the report shows what is there
            self.results.picture(case.id).unlink(missing_ok=True)
        measures = tables["measures"]
        rows = zip(*(measures[name] for name in ("source", "structure", "voxels")), strict=True)
        found = [
            structure
            for source, structure, voxels in rows
            if source == "labels" and structure != BACKGROUND and voxels > 0
        ]
        return MeasureDetails(structures=len(found))

    def _written(self, segmenter: str, case: Case) -> SegmentSidecar:
        """What a segmenter says of its label map."""
        sidecar = self.results.segment(segmenter).sidecar(case.id)
        written = read_sidecar(sidecar, SegmentSidecar)
        written.require_classes(self.classes[segmenter])
        return written

    def _measure_layers(
        self, case: Case, image: Volume, mine: Sequence[tuple[LesionEntry, Instance]]
    ) -> Iterator[pd.DataFrame]:
        """Measures of the classes that a segmenter found, or that a structure asks for."""
        for segmenter, path in self._layers(case).items():
            classes = {value: name for name, value in self.classes[segmenter].items()}
            overlaps = self._written(segmenter, case).overlaps
            array = read_labels(path).array
            highest = max([*classes, *overlaps, int(array.max())])
            if overlaps:  # where masks overlap, the first stands
                table = np.arange(highest + 1).astype(array.dtype)
                for value, members in overlaps.items():
                    table[value] = members[0]
                array = table[array]
            names = [classes.get(value, "") for value in range(highest + 1)]
            sources = self.scheme.sources.get(segmenter, {})
            hosts = [
                (i, [v for v, name in classes.items() if e.host and sources.get(name) == e.host])
                for e, i in mine
            ]
            filled = in_segmentation(array, hosts, highest + 1, image.grid)
            found = measure(image.array, array, names, image.grid, filled)
            asked = found["structure"].isin(sources)
            kept = (found["structure"] != "") & ((found["voxels"] > 0) | asked)
            yield found[kept].assign(source=segmenter)

    def _lesions(
        self, case: Case, grid: Grid, labels: Array
    ) -> Iterator[tuple[LesionEntry, Instance]]:
        """Each lesion, with what composing found out about it."""
        lesion = read_lesion(case, self.inputs.lesions, grid)
        if lesion is None:
            return
        entries = self._composed(case).lesions
        places = places_of(lesion.map.array)
        count = len(self.scheme.targets)
        found = find_instances(labels, places, count, grid, lesion.given)
        yield from _paired(entries, found, self._labels(case))

    def _compare_layers(self, case: Case, grid: Grid) -> Iterator[dict[str, Any]]:
        """A row for each structure that two segmenters label."""
        sources = self.scheme.sources
        twice = {
            structure
            for structure in self.scheme.structures
            if sum(structure in sources.get(s, {}).values() for s in self.inputs.layers) > 1
        }
        if not twice:
            return
        layers = {}
        parts: dict[tuple[str, int], list[Grid]] = {}
        for segmenter, path in self._layers(case).items():
            written = self._written(segmenter, case)
            claims = self.scheme.claims(segmenter, self.classes[segmenter], written.overlaps)
            layers[segmenter] = (read_labels(path).array, claims)
            for name, grids in parts_of_classes(written.coverage).items():
                if label := sources.get(segmenter, {}).get(name):
                    mine = parts.setdefault((segmenter, self.scheme.ids[label]), [])
                    mine += [grid for grid in grids if grid not in mine]
        names = {self.scheme.ids[structure]: structure for structure in sorted(twice)}
        yield from agreement.agreement(layers, names, grid, parts)


def _paired(
    entries: Sequence[LesionEntry], found: Sequence[Instance], labels: Path
) -> Iterator[tuple[LesionEntry, Instance]]:
    """Each lesion that composing noted, with its voxels in the label map.

    Raises
    ------
    CaseError
        RESULT_CHANGED when the label map has other lesions than its sidecar.
    """
    instances = {instance.number: instance for instance in found}
    if {e.instance: e.voxels for e in entries} != {n: i.voxels for n, i in instances.items()}:
        raise CaseError(
            Code.RESULT_CHANGED,
            f"{labels} does not hold the lesions that its sidecar names "
            f"({len(found)} found, {len(entries)} named)",
            "remove both, and run `backsplit compose` again",
        )
    yield from ((entry, instances[entry.instance]) for entry in entries)


def _field_of_view(image: Volume) -> pd.DataFrame:
    """The row `image`, `field_of_view`: how far the image reaches, mm in patient axes."""
    grid = image.grid
    edges = np.array([[z, y, x] for z in (0, 1) for y in (0, 1) for x in (0, 1)])
    mm = grid.to_mm(edges * np.array(grid.shape) - 0.5)
    low, high = mm.min(axis=0), mm.max(axis=0)
    row: dict[str, Any] = {"source": "image", "structure": "field_of_view"}
    row |= {"voxels": int(np.prod(grid.shape)), "volume_ml": np.prod(grid.shape) * grid.voxel_ml}
    row["touches_border"] = True
    for i, axis in enumerate("xyz"):
        row |= {f"centroid_{axis}": (low[i] + high[i]) / 2}
        row |= {f"box_{axis}_min": low[i], f"box_{axis}_max": high[i]}
    return pd.DataFrame([row])
