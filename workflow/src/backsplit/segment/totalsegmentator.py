"""Any task of the installed TotalSegmentator, offline, with its networks kept loaded.

TotalSegmentator's own function does all that is TotalSegmentator's: orientation, resampling,
cropping, merging of parts, post-processing. Two of its functions are replaced while it runs:

- `totalsegmentator.nnunet.nnUNetv2_predict`, which loads a network, spawns worker processes and
  predicts a folder: ours predicts the same files with the resident network, in this process.
- `totalsegmentator.python_api.download_pretrained_weights`, which downloads, and deletes older
  weights from the folder: ours only looks.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel as nib
import numpy as np

from backsplit.batch import one_by_one
from backsplit.cases import Case
from backsplit.config import Dataset, TotalSegmentator
from backsplit.errors import BacksplitError, CaseError, Code
from backsplit.provenance import versions
from backsplit.segment.base import Labelled
from backsplit.segment.device import choose_device
from backsplit.segment.predictor import Model, load, silence_nnunet
from backsplit.segment.threshold import require_finite
from backsplit.segment.weights import demo_weights, files_of, weights_home
from backsplit.volume import Array, read_volume

LICENCE_VARIABLE = "TOTALSEG_LICENSE_NUMBER"
ROUGH_TASK_IDS = (297, 298, 300, 852)
"""Networks that tasks with a crop run first (`python_api.totalsegmentator`)."""


class TotalSegmentatorSegmenter:
    """Labels with one task of TotalSegmentator."""

    def __init__(self, config: TotalSegmentator, dataset: Dataset, device: str) -> None:
        self.config = config
        self.channel = config.channel or dataset.channels[0]
        self.device = device

    def classes(self) -> dict[str, int]:
        """Names from the package's own registry; refuses what the task can not do."""
        from totalsegmentator import registry

        if self.config.task not in registry.TASKS:
            raise BacksplitError(
                Code.MODEL_INVALID,
                f"the installed TotalSegmentator has no task {self.config.task!r}; "
                f"it has {', '.join(registry.TASKS)}",
            )
        return {name: value for value, name in registry.get_task_classes(self.config.task).items()}

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

    def identity(self) -> dict[str, Any]:
        """Versions of TotalSegmentator and nnU-Net."""
        return {"versions": versions("TotalSegmentator", "nnunetv2")}

    def inputs(self, case: Case) -> Mapping[str, Path]:
        """The image of its channel."""
        return {"image": case.images[self.channel]}

    def label(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Labelled | CaseError]]:
        """Run the task on each case; its networks load on the first and stay."""
        device = choose_device(self.device)
        self._require_licence()
        self._weight_folders()
        with private_home(self.weights_folder), _resident_networks(device, self.weights_folder):
            yield from one_by_one(cases, lambda case: self._label_case(case, device))

    def _label_case(self, case: Case, device: str) -> Labelled:
        from totalsegmentator.python_api import totalsegmentator

        path = case.images[self.channel]
        volume = read_volume(path)
        require_finite(path, volume.array)
        if volume.array.min() == volume.array.max():
            raise CaseError(
                Code.IMAGE_CONSTANT,
                f"{path} holds {volume.array.min()} in every voxel; replace it by the image",
            )
        # in memory: TotalSegmentator sees the grid that everybody else here sees
        image = nib.Nifti1Image(volume.array.transpose(2, 1, 0), volume.grid.affine_ras)
        result = totalsegmentator(
            image,
            None,
            ml=True,
            task=self.config.task,
            fast=self.config.fast,
            fastest=self.config.fastest,
            device=_their_name(device),
            quiet=True,
            nr_thr_saving=1,
        )
        labels = np.asarray(result.dataobj, dtype=np.uint8).transpose(2, 1, 0)
        return Labelled(np.ascontiguousarray(labels), volume.grid)

    def _require_licence(self) -> None:
        from totalsegmentator import registry

        if not registry.requires_license(self.config.task):
            return
        number = licence_number()
        if not number:
            raise BacksplitError(
                Code.LICENCE_MISSING,
                f"task {self.config.task!r} of TotalSegmentator needs a licence "
                "(free for non-commercial use: "
                "https://backend.totalsegmentator.com/license-academic/); "
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
                raise BacksplitError(
                    Code.WEIGHTS_MISSING,
                    f"the weights of task {self.config.task!r} (Dataset{task_id:03d}_…) are not in "
                    f"{self.weights_folder}; on a machine with internet run `{command}`, "
                    "or set `weights` to their folder",
                )
            folders.append(found)
        if _crops(self.config.task):
            rough = (find_dataset(self.weights_folder, task_id) for task_id in ROUGH_TASK_IDS)
            folders += [folder for folder in rough if folder and folder not in folders]
        return folders


def task_ids(config: TotalSegmentator) -> list[int]:
    """nnU-Net data set ids of a task's own networks, from the package's task table.

    Raises
    ------
    BacksplitError
        MODEL_INVALID where the task has no such form (fast, fastest), or the table of a newer
        TotalSegmentator has another shape than the one this was written for.
    """
    from totalsegmentator.map_tasks_config import TASK_CONFIGS

    try:
        table = TASK_CONFIGS[config.task]
        wanted = "fast" if config.fast else "fastest" if config.fastest else "default"
        if wanted != "default" and wanted not in table.get("sub_modes", {}):
            raise BacksplitError(
                Code.MODEL_INVALID,
                f"task {config.task!r} of TotalSegmentator has no form `{wanted}`; remove the key",
            )
        entry = table["sub_modes"][wanted] if "sub_modes" in table else table
        ids = entry["task_id"]
        return [int(i) for i in ids] if isinstance(ids, list) else [int(ids)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BacksplitError(
            Code.MODEL_INVALID,
            f"the task table of the installed TotalSegmentator has another shape than expected "
            f"({type(error).__name__}: {error}, task {config.task!r}); "
            "install the version of envs/constraints.txt",
        ) from None


def needed_ids(config: TotalSegmentator) -> list[int]:
    """Networks that a task runs: its own, and the rough ones that it crops with."""
    own = task_ids(config)
    return [*own, *(i for i in ROUGH_TASK_IDS if _crops(config.task) and i not in own)]


def find_dataset(weights: Path, task_id: int) -> Path | None:
    """Folder of a network in a weights folder."""
    return next(iter(sorted(weights.glob(f"Dataset{task_id:03d}_*"))), None)


def licence_number() -> str:
    """The licence number: from the environment, or from the user's own TotalSegmentator."""
    given = os.environ.get(LICENCE_VARIABLE, "")
    if given:
        return given
    try:
        own = json.loads((Path.home() / ".totalsegmentator" / "config.json").read_text("utf-8"))
        return str(own.get("license_number", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _crops(task: str) -> bool:
    from totalsegmentator.map_tasks_config import TASK_CONFIGS

    return bool(TASK_CONFIGS[task].get("crop") or TASK_CONFIGS[task].get("cascade"))


def _their_name(device: str) -> str:
    return device.replace("cuda", "gpu")


@contextlib.contextmanager
def private_home(weights: Path) -> Iterator[None]:
    """Give TotalSegmentator a home of ours for a while: no usage statistics, no shared counter."""
    with tempfile.TemporaryDirectory(prefix="backsplit-ts-") as home:
        settings = {
            "totalseg_id": "backsplit",
            "send_usage_stats": False,
            "statistics_disclaimer_shown": True,
            "prediction_counter": 0,
        }
        number = licence_number()
        if number:
            settings["license_number"] = number
        (Path(home) / "config.json").write_text(json.dumps(settings), "utf-8")
        surroundings = {
            "TOTALSEG_HOME_DIR": home,
            "TOTALSEG_WEIGHTS_PATH": str(weights),
            "nnUNet_raw": str(weights),
            "nnUNet_preprocessed": str(weights),
            "nnUNet_results": str(weights),
        }
        with mock.patch.dict(os.environ, surroundings):
            yield


@contextlib.contextmanager
def _resident_networks(device: str, weights: Path) -> Iterator[None]:
    """Replace the two functions of TotalSegmentator that the module's docstring names."""
    silence_nnunet()
    import totalsegmentator.nnunet as theirs
    import totalsegmentator.python_api as api

    def predict(
        dir_in: Path,
        dir_out: Path,
        task_id: int,
        model: str = "3d_fullres",
        folds: Sequence[int] | None = None,
        trainer: str = "nnUNetTrainer",
        tta: bool = False,
        *_threads: int,
        plans: str = "nnUNetPlans",
        step_size: float = 0.5,
        **_others: object,
    ) -> None:
        dataset = find_dataset(weights, task_id)
        if dataset is None:
            _look_for_weights(task_id)
            raise AssertionError
        network = Model(
            folder=dataset / f"{trainer}__{plans}__{model}",
            folds=tuple(folds) if folds else (0,),
            device=device,
            step_size=step_size,
            mirroring=tta,
        )
        _predict_folder(network, Path(dir_in), Path(dir_out))

    def _look_for_weights(task_id: int | str) -> None:
        if isinstance(task_id, str) or find_dataset(weights, int(task_id)) is None:
            raise BacksplitError(
                Code.WEIGHTS_MISSING,
                f"the network {task_id} that this task also needs is not in {weights}; "
                "on a machine with internet run `backsplit weights get` for the task",
            )

    with (
        mock.patch.object(theirs, "nnUNetv2_predict", predict),
        mock.patch.object(api, "download_pretrained_weights", _look_for_weights),
    ):
        yield


def _predict_folder(network: Model, dir_in: Path, dir_out: Path) -> None:
    """Predict `<part>_0000.nii.gz …` of a folder to `<part>.nii.gz`, as their function does."""
    predictor = load(network)
    ending = predictor.dataset_json["file_ending"]
    reader = predictor.plans_manager.image_reader_writer_class()
    for first in sorted(dir_in.glob(f"*_0000{ending}")):
        part = first.name.removesuffix(f"_0000{ending}")
        channels = sorted(dir_in.glob(f"{part}_[0-9][0-9][0-9][0-9]{ending}"))
        image, properties = reader.read_images([str(path) for path in channels])
        labels: Array = predictor.predict_single_npy_array(image, properties, None, None, False)
        reader.write_seg(labels, str(dir_out / f"{part}{ending}"), properties)
