"""Any task of the installed TotalSegmentator, offline, with its networks kept loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from backsplit.cases.table import Case
from backsplit.config.model import Run
from backsplit.config.segmenters import TotalSegmentator
from backsplit.config.slices import Labelling
from backsplit.errors import CaseError, Code, RunError
from backsplit.segment.base import Commercial, Labelled, Licence, Segmenter
from backsplit.segment.device import choose_device
from backsplit.segment.licences import stated_licence
from backsplit.segment.memory import limits
from backsplit.segment.pipeline import Size, Steps, overlap
from backsplit.segment.timing import Timings
from backsplit.segment.totalseg.tasks import (
    LICENCE_VARIABLE,
    ROUGH_TASK_IDS,
    crops,
    engine_task,
    find_dataset,
    licence_number,
    private_home,
    task_ids,
)
from backsplit.segment.weights import demo_weights, files_of, weights_home
from backsplit.store.provenance import versions
from backsplit.volume import Volume, read_grid, read_volume
from backsplit.volume.intensity import require_finite

STATED_ELSEWHERE = {
    "brain_aneurysm": "CC BY-NC 4.0",
}
"""Tasks for which the installed TotalSegmentator asks for no licence, but whose weights are said to
have a non-commercial one (docs/auto-segmentation.md of alexprotom/rust-dicom-station). They count
as unknown."""

_OWN = Licence("Apache-2.0", Commercial.YES, "free for any use", "ships with backsplit")


def build(section: TotalSegmentator, inputs: Labelling, run: Run) -> Segmenter:
    """Make the segmenter of a section."""
    return TotalSegmentatorSegmenter(section, inputs, run)


class TotalSegmentatorSegmenter(Segmenter):
    """Labels with one task of TotalSegmentator."""

    def __init__(self, config: TotalSegmentator, inputs: Labelling, run: Run) -> None:
        self.config = config
        (self.channel,) = inputs.channels
        self.settings = run
        self.timings = Timings()

    def classes(self) -> dict[str, int]:
        """Names from the package's own registry; refuses what the task can not do."""
        from totalsegmentator import registry

        if self.config.task not in registry.TASKS:
            raise RunError(
                Code.MODEL_INVALID,
                f"the installed TotalSegmentator has no task {self.config.task!r}",
                f"it has {', '.join(registry.TASKS)}",
            )
        return {name: value for value, name in registry.get_task_classes(self.config.task).items()}

    def licence(self) -> Licence:
        """What the configuration says, or else the package of its task."""
        own = _OWN if self.config.weights == "demo" else None
        return stated_licence(self.config) or own or _of_task(self.config.task)

    @property
    def weights_folder(self) -> Path:
        """Folder of the Dataset… folders."""
        if self.config.weights == "demo":
            return demo_weights()
        return Path(self.config.weights) if self.config.weights else weights_home()

    def weights(self) -> Sequence[Path]:
        """Every file of the task's networks; the licence is looked at too."""
        self._require_licence()
        return [path for folder in self._weight_folders() for path in files_of(folder)]

    def weights_root(self) -> Path:
        """The folder of the Dataset… folders."""
        return self.weights_folder

    def identity(self) -> dict[str, Any]:
        """Versions of TotalSegmentator and nnU-Net."""
        return {"versions": versions("TotalSegmentator", "nnunetv2")}

    def inputs(self, case: Case) -> Mapping[str, Path]:
        """The image of its channel."""
        return {"image": case.images[self.channel]}

    def label(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Labelled | CaseError]]:
        """Run the task on each case; its networks load once and stay."""
        # who only asks for classes does not wait for nibabel
        from backsplit.segment.totalseg.engine import TaskEngine
        from backsplit.segment.totalseg.package import label_with_package, resident_networks

        device = choose_device(self.settings.device)
        self.weights()
        with private_home(self.weights_folder):
            task = engine_task(self.config, self.weights_folder, device)
            if task is not None:
                engine = TaskEngine(task, self.channel, self._read, self.timings, self.settings)
                yield from overlap(cases, engine.steps, limits())
                return
            # TotalSegmentator's own function keeps its state in the process (standard output, a
            # counter in a file), so that two of it can not run at once: it counts as the network
            steps = Steps(
                (
                    self._read,
                    lambda volume: label_with_package(volume, self.config, device),
                    lambda labelled: labelled,
                ),
                lambda case: Size(own=5 * math.prod(read_grid(case.images[self.channel]).shape)),
            )
            with resident_networks(device, self.weights_folder, 60 * self.settings.case_minutes):
                yield from overlap(cases, steps, limits())

    def _read(self, case: Case) -> Volume:
        path = case.images[self.channel]
        volume = read_volume(path)
        require_finite(path, volume.array)
        if volume.array.min() == volume.array.max():
            raise CaseError(
                Code.IMAGE_CONSTANT,
                f"{path} holds {volume.array.min()} in every voxel",
                "replace it with the image",
            )
        return volume

    def _require_licence(self) -> None:
        from totalsegmentator import registry

        if not registry.requires_license(self.config.task):
            return
        number = licence_number()
        if not number:
            raise RunError(
                Code.LICENCE_MISSING,
                f"task {self.config.task!r} of TotalSegmentator needs a licence "
                "(free for non-commercial use: "
                "https://backend.totalsegmentator.com/license-academic/)",
                f"set {LICENCE_VARIABLE} to its number, or choose an open task",
            )

    def _weight_folders(self) -> list[Path]:
        """Folders of the networks that the task runs, each of them there."""
        folders = []
        for task_id in task_ids(self.config):
            found = find_dataset(self.weights_folder, task_id)
            if found is None:
                form = "--fast" if self.config.fast else "--fastest" if self.config.fastest else ""
                command = f"backsplit weights get {self.config.task} {form}".strip()
                raise RunError(
                    Code.WEIGHTS_MISSING,
                    f"the weights of task {self.config.task!r} (Dataset{task_id:03d}_…) are not in "
                    f"{self.weights_folder}",
                    f"on a machine with internet run `{command}`, or set `weights` to their folder",
                )
            folders.append(found)
        if crops(self.config.task):
            rough = (find_dataset(self.weights_folder, task_id) for task_id in ROUGH_TASK_IDS)
            folders += [folder for folder in rough if folder and folder not in folders]
        return folders


def _of_task(task: str) -> Licence:
    """Licence of a task as the installed TotalSegmentator states it."""
    from totalsegmentator import registry

    source = f"TotalSegmentator {registry.package_version()}, registry.requires_license"
    if registry.requires_license(task):
        return Licence(
            "TotalSegmentator licence",
            Commercial.NO,
            "weights are free for non-commercial use with a licence number "
            "(https://backend.totalsegmentator.com/license-academic/); commercial use needs a "
            "licence from its authors",
            source,
        )
    if task in STATED_ELSEWHERE:
        terms = "the package asks for no licence; elsewhere its weights are called non-commercial"
        return Licence(STATED_ELSEWHERE[task], Commercial.UNKNOWN, terms, source)
    return Licence("Apache-2.0", Commercial.YES, "open for any use", source)
