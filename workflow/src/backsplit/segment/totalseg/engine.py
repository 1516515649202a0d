"""TotalSegmentator's tasks on the resident engine: same steps, same labels, nothing reloaded.

The steps and their order are those of `totalsegmentator.nnunet.nnUNet_predict_image`, and the
functions that turn, resample and clean are TotalSegmentator's own. One difference: an image of
more than 512 x 512 x 900 voxels at the task's spacing is not cut in three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np

from backsplit.cases.table import Case
from backsplit.config.model import Run
from backsplit.segment.base import Labelled
from backsplit.segment.network import Network, Prepared, load
from backsplit.segment.pipeline import Steps
from backsplit.segment.timing import Timings
from backsplit.segment.totalseg.tasks import Part, Task, modality_notes
from backsplit.volume import Array, Grid, Volume


@dataclass(frozen=True)
class Ready:
    """A case at the task's spacing.

    Attributes
    ----------
    grid : of the image
    original, canonical : empty images with the geometry before and after turning to RAS
    resampled : image at the task's spacing, (1, z, y, x) float32
    spacing : of `resampled`, (z, y, x) mm
    affine : of `resampled`
    notes : what a person should know of the image
    first : the first network's own preparation
    """

    grid: Grid
    original: Any
    canonical: Any
    resampled: Array
    spacing: tuple[float, ...]
    affine: Array
    notes: Mapping[str, str]
    first: Prepared


@dataclass(frozen=True)
class Predicted:
    """A case whose networks have run; labels of the parts may still be in the making."""

    ready: Ready
    parts: Sequence[Future[Array]]


class TaskEngine:
    """Runs a task on case after case.

    Parameters
    ----------
    task : which
    read : gives the image of a case, checked
    timings : takes note of where the time goes
    run : settings of the run
    """

    def __init__(
        self, task: Task, read: Callable[[Case], Volume], timings: Timings, run: Run
    ) -> None:
        self.task = task
        self.read = read
        self.timings = timings
        self.limit_s = 60 * run.case_minutes
        with timings.phase("load"):
            self.networks = [load(part.model) for part in task.parts]
        self.helpers = ThreadPoolExecutor(2)
        self.steps = Steps(self.prepare, self.run, self.finish)

    def prepare(self, case: Case) -> Ready:
        """Read an image, turn it to RAS, resample it, prepare it for the first network."""
        from totalsegmentator.alignment import as_closest_canonical
        from totalsegmentator.resampling import change_spacing

        with self.timings.phase("read"):
            volume = self.read(case)
        with self.timings.phase("prepare"):
            original = _nifti(volume)
            canonical = as_closest_canonical(original)
            small = canonical
            if self.task.spacing_mm is not None:
                small = change_spacing(
                    canonical, list(self.task.spacing_mm), order=1, dtype=np.int32, nr_cpus=1
                )
            data = np.asarray(small.dataobj).transpose(2, 1, 0)[None].astype(np.float32)
            spacing = tuple(float(s) for s in small.header.get_zooms()[::-1])
            first = self.networks[0].prepare(data, {"spacing": spacing})
        return Ready(
            grid=volume.grid,
            original=_empty(original),
            canonical=_empty(canonical),
            resampled=data,
            spacing=spacing,
            affine=small.affine,
            notes=modality_notes(self.task.name, volume.array),
            first=first,
        )

    def run(self, ready: Ready) -> Predicted:
        """Run the networks; the next one's image and the last one's labels are made meanwhile."""
        parts: list[Future[Array]] = []
        upcoming = [self.helpers.submit(lambda: ready.first)]
        for number, network in enumerate(self.networks):
            prepared = upcoming.pop().result()
            if number + 1 < len(self.networks):
                following = self.networks[number + 1]
                upcoming.append(self.helpers.submit(self._prepare_part, following, ready))
            with self.timings.phase("network"):
                logits = network.run(prepared, self.limit_s)
            if parts:
                parts[-1].result()  # no more than one part's logits wait
            parts.append(self.helpers.submit(self._labels, network, logits, prepared.properties))
            del logits
        return Predicted(ready, parts)

    def finish(self, predicted: Predicted) -> Labelled:
        """Merge the parts, clean up, bring the labels back onto the image's grid."""
        labels = [future.result() for future in predicted.parts]
        with self.timings.phase("labels"):
            merged = merge(labels, self.task.parts)
            ready = predicted.ready
            array = self._bring_back(
                nib.Nifti1Image(merged.transpose(2, 1, 0), ready.affine), ready
            )
        self.timings.cases += 1
        labels_zyx = np.ascontiguousarray(array.transpose(2, 1, 0))
        return Labelled(labels_zyx, ready.grid, notes=ready.notes)

    def _prepare_part(self, network: Network, ready: Ready) -> Prepared:
        with self.timings.phase("prepare"):
            return network.prepare(ready.resampled, {"spacing": ready.spacing})

    def _labels(self, network: Network, logits: Any, properties: dict[str, Any]) -> Array:  # noqa: ANN401
        with self.timings.phase("labels"):
            return network.labels(logits, properties)

    def _bring_back(self, image: Any, ready: Ready) -> Array:  # noqa: ANN401
        """Clean labels at the task's spacing, resample them (nearest), undo the turning."""
        from totalsegmentator.alignment import undo_canonical
        from totalsegmentator.postprocessing import remove_auxiliary_labels
        from totalsegmentator.resampling import change_spacing

        image = remove_auxiliary_labels(image, self.task.name)
        if self.task.name == "body":
            image = _clean_body(image)
        if self.task.spacing_mm is not None:
            image = change_spacing(
                image,
                list(self.task.spacing_mm),
                ready.canonical.shape,
                order=0,
                dtype=np.uint8,
                nr_cpus=1,
                force_affine=ready.canonical.affine,
            )
        return np.asarray(undo_canonical(image, ready.original).dataobj).astype(np.uint8)


def merge(labels: Sequence[Array], parts: Sequence[Part]) -> Array:
    """Put the parts of a task onto one map in the task's ids; the later one wins."""
    if parts[0].to_task is None:
        return labels[0].astype(np.uint8)
    merged = np.zeros(labels[0].shape, np.uint8)
    for array, part in zip(labels, parts, strict=True):
        assert part.to_task is not None
        table = np.zeros(256, np.uint8)
        for own, wanted in part.to_task.items():
            table[own] = wanted
        mapped = table[array]
        np.copyto(merged, mapped, where=mapped != 0)
    return merged


def _nifti(volume: Volume) -> Any:  # noqa: ANN401 (nibabel is untyped)
    """Float64 image (x, y, z), as TotalSegmentator makes of its input."""
    return nib.Nifti1Image(
        volume.array.transpose(2, 1, 0).astype(np.float64), volume.grid.affine_ras
    )


def _empty(image: Any) -> Any:  # noqa: ANN401
    """An image of the same geometry that holds no memory."""
    nothing = np.broadcast_to(np.uint8(0), image.shape)
    return nib.Nifti1Image(nothing, image.affine)


def _clean_body(image: Any) -> Any:  # noqa: ANN401
    """What TotalSegmentator does to its task `body`: largest trunk, no small extremities."""
    from totalsegmentator.map_to_binary import class_map
    from totalsegmentator.postprocessing import (
        keep_largest_blob_multilabel,
        remove_small_blobs_multilabel,
    )

    classes = class_map["body"]
    array = image.get_fdata().astype(np.uint8)
    array = keep_largest_blob_multilabel(array, classes, ["body_trunc"], debug=False, quiet=True)
    smallest = 50000 / np.prod(image.header.get_zooms())  # mm3, as theirs
    array = remove_small_blobs_multilabel(
        array, classes, ["body_extremities"], interval=[smallest, 1e10], debug=False, quiet=True
    )
    return nib.Nifti1Image(array, image.affine)
