"""TotalSegmentator's tasks on the resident engine: same steps, same labels, nothing reloaded.

The steps and their order are those of `totalsegmentator.nnunet.nnUNet_predict_image`. Turning and
resampling are done in one compiled loop each way (`lattice.py`), with the same bits; what cleans
labels is TotalSegmentator's own. One difference: an image of more than 512 x 512 x 900 voxels at
the task's spacing is not cut in three.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np

from backsplit.cases.table import Case
from backsplit.config.model import Run
from backsplit.segment.base import Labelled
from backsplit.segment.network import LOGIT_BYTES, Network, Prepared, load
from backsplit.segment.pipeline import Size, Steps
from backsplit.segment.preparation import Source
from backsplit.segment.timing import Timings
from backsplit.segment.totalseg.lattice import Turned, turn
from backsplit.segment.totalseg.tasks import Part, Task, modality_notes
from backsplit.volume import Array, Grid, Volume, read_grid
from backsplit.volume.compiled import Compiled


@dataclass(frozen=True)
class Ready:
    """A case at the task's spacing.

    Attributes
    ----------
    grid : of the image
    turned : how it was turned and resampled
    source : image at the task's spacing, for every network of the task
    notes : what a person should know of the image
    first : the first network's own preparation, until that network takes it: it is as large as
        the source
    """

    grid: Grid
    turned: Turned
    source: Source
    notes: Mapping[str, str]
    first: list[Prepared]


@dataclass(frozen=True)
class Predicted:
    """A case whose networks have run; labels of the last part may still be in the making."""

    grid: Grid
    turned: Turned
    notes: Mapping[str, str]
    parts: Sequence[Future[Array]]


class TaskEngine:
    """Runs a task on case after case.

    Parameters
    ----------
    task : which
    channel : whose image it labels
    read : gives the image of a case, checked
    timings : takes note of where the time goes
    run : settings of the run
    """

    def __init__(
        self,
        task: Task,
        channel: str,
        read: Callable[[Case], Volume],
        timings: Timings,
        run: Run,
    ) -> None:
        self.task = task
        self.channel = channel
        self.read = read
        self.timings = timings
        self.limit_s = 60 * run.case_minutes
        with timings.phase("load"):
            self.networks = [load(part.model) for part in task.parts]
        self.helpers = ThreadPoolExecutor(2)
        self.steps = Steps((self.prepare, self.run, self.finish), self.size)

    def size(self, case: Case) -> Size:
        """Estimate: the image and its labels, five images and maps of parts at the task's spacing.

        In the network in addition, on the CPU, the logits of two parts.
        """
        grid = read_grid(case.images[self.channel])
        image = math.prod(grid.shape)
        small = math.prod(turn(grid, self.task.spacing_mm).shape)
        heads = max(network.heads for network in self.networks)
        logits = 0 if self.networks[0].on_card else 2 * LOGIT_BYTES * heads * small
        return Size(5 * image + (20 + len(self.networks)) * small, logits)

    def prepare(self, case: Case) -> Ready:
        """Read an image, turn it to RAS, resample it, prepare it for the first network."""
        with self.timings.phase("read"):
            volume = self.read(case)
        with self.timings.phase("prepare"):
            turned = turn(volume.grid, self.task.spacing_mm)
            source = Source(turned.to_task(volume.array)[None], {"spacing": turned.spacing_zyx})
            notes = modality_notes(self.task.name, volume.array)
            del volume
            first = self.networks[0].prepare(source)
        return Ready(turned.grid, turned, source, notes, [first])

    def run(self, ready: Ready) -> Predicted:
        """Run the networks; the next one's image and the last one's labels are made meanwhile."""
        parts: list[Future[Array]] = []
        upcoming = [self.helpers.submit(ready.first.pop)]
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
        return Predicted(ready.grid, ready.turned, ready.notes, parts)

    def finish(self, predicted: Predicted) -> Labelled:
        """Merge the parts, clean up, bring the labels back onto the image's grid."""
        labels = [future.result() for future in predicted.parts]
        turned = predicted.turned
        with self.timings.phase("labels"):
            array = turned.to_image(self._cleaned(merge(labels, self.task.parts), turned))
        self.timings.count_case()
        return Labelled(array, predicted.grid, notes=predicted.notes)

    def _prepare_part(self, network: Network, ready: Ready) -> Prepared:
        with self.timings.phase("prepare"):
            return network.prepare(ready.source)

    def _labels(self, network: Network, logits: Any, properties: dict[str, Any]) -> Array:  # noqa: ANN401
        with self.timings.phase("labels"):
            return network.labels(logits, properties)

    def _cleaned(self, labels: Array, turned: Turned) -> Array:
        """Clean labels at the task's spacing, (z, y, x), as TotalSegmentator does."""
        from totalsegmentator.map_to_binary import class_map
        from totalsegmentator.postprocessing import remove_auxiliary_labels

        if f"{self.task.name}_auxiliary" not in class_map and self.task.name != "body":
            return labels
        image = nib.Nifti1Image(labels.transpose(2, 1, 0), turned.task_affine)
        image = remove_auxiliary_labels(image, self.task.name)
        if self.task.name == "body":
            image = _clean_body(image)
        return np.asarray(image.dataobj).transpose(2, 1, 0)


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
        _lay_over(np.ascontiguousarray(array).reshape(-1), table, merged.reshape(-1))
    return merged


@Compiled
def _lay_over(labels: Array, table: Array, merged: Array) -> None:
    """Write `table[labels]` where it is not 0."""
    for i in range(len(merged)):
        value = table[labels[i]]
        merged[i] = merged[i] if value == 0 else value


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
