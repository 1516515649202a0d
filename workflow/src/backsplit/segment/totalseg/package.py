"""Tasks with crops or cascades: TotalSegmentator's own function with the networks resident.

All that is TotalSegmentator's stays TotalSegmentator's. Two of its functions are replaced while it
runs:

- `totalsegmentator.nnunet.nnUNetv2_predict`, which loads a network, spawns worker processes and
  predicts a folder: ours predicts the same files with the resident network, in this process.
- `totalsegmentator.python_api.download_pretrained_weights`, which downloads, and deletes older
  weights from the folder: ours only looks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np

from backsplit.config.segmenters import TotalSegmentator
from backsplit.errors import Code, RunError
from backsplit.segment.base import Labelled
from backsplit.segment.network import Model, Network, load, silence_nnunet
from backsplit.segment.preparation import Source
from backsplit.segment.totalseg.tasks import find_dataset, modality_notes
from backsplit.volume import Volume


def label_with_package(volume: Volume, config: TotalSegmentator, device: str) -> Labelled:
    """Run a task through TotalSegmentator's own function; call it inside `resident_networks`."""
    from totalsegmentator.python_api import totalsegmentator

    # in memory: TotalSegmentator sees the grid that everybody else here sees
    image = nib.Nifti1Image(volume.array.transpose(2, 1, 0), volume.grid.affine_ras)
    result = totalsegmentator(
        image,
        None,
        ml=True,
        task=config.task,
        fast=config.fast,
        fastest=config.fastest,
        device=device.replace("cuda", "gpu"),
        quiet=True,
        nr_thr_saving=1,
    )
    labels = np.asarray(result.dataobj, dtype=np.uint8).transpose(2, 1, 0)
    notes = modality_notes(config.task, volume.array)
    return Labelled(np.ascontiguousarray(labels), volume.grid, notes=notes)


@contextlib.contextmanager
def resident_networks(device: str, weights: Path, limit_s: float) -> Iterator[None]:
    """Replace the two functions of TotalSegmentator that the module's docstring names.

    A network that runs on a case for longer than `limit_s` seconds gives it up (TIME_LIMIT).
    """
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
        _predict_folder(load(network), Path(dir_in), Path(dir_out), limit_s)

    def _look_for_weights(task_id: int | str) -> None:
        if isinstance(task_id, str) or find_dataset(weights, int(task_id)) is None:
            raise RunError(
                Code.WEIGHTS_MISSING,
                f"the network {task_id} that this task also needs is not in {weights}",
                "on a machine with internet run `backsplit weights get` for the task",
            )

    with (
        replaced(theirs, "nnUNetv2_predict", predict),
        replaced(api, "download_pretrained_weights", _look_for_weights),
    ):
        yield


@contextlib.contextmanager
def replaced(module: ModuleType, name: str, ours: object) -> Iterator[None]:
    """Put a function of ours in the place of a module's own for a while."""
    theirs = getattr(module, name)
    setattr(module, name, ours)
    try:
        yield
    finally:
        setattr(module, name, theirs)


def _predict_folder(network: Network, dir_in: Path, dir_out: Path, limit_s: float) -> None:
    """Predict `<part>_0000.nii.gz …` of a folder to `<part>.nii.gz`, as their function does."""
    ending = network.file_ending
    for first in sorted(dir_in.glob(f"*_0000{ending}")):
        part = first.name.removesuffix(f"_0000{ending}")
        channels = sorted(dir_in.glob(f"{part}_[0-9][0-9][0-9][0-9]{ending}"))
        image, given = network.reader.read_images([str(path) for path in channels])
        prepared = network.prepare(Source(image, given))
        labels = network.labels(network.run(prepared, limit_s), prepared.properties)
        network.reader.write_seg(labels, str(dir_out / f"{part}{ending}"), prepared.properties)
