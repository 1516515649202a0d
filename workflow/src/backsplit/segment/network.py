"""The resident nnU-Net: a network is loaded once per process and stays; arrays in, labels out.

nnU-Net's own sliding window runs the network. What comes before and after are its steps in compiled
form (`preparation.py`, `logits.py`); where the plans ask for functions of somebody else, these are
called. Nothing goes through worker processes or temporary files.
"""

from __future__ import annotations

import math
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from backsplit.errors import CaseError, Code
from backsplit.segment.logits import Lattice, largest_channel, lattice, regions
from backsplit.segment.preparation import (
    Source,
    is_usual,
    normalised,
    own_shape,
    resampled,
    usual_resampling,
)
from backsplit.segment.weights import require_accepted
from backsplit.store.provenance import read_json
from backsplit.volume import Array

CHECKPOINT = "checkpoint_final.pth"
PLAIN_TRAINERS = frozenset(
    {
        "nnUNetTrainer",
        "nnUNetTrainerNoMirroring",
        "nnUNetTrainer_2000epochs_NoMirroring",
        "nnUNetTrainer_4000epochs_NoMirroring",
        "nnUNetTrainer_DASegOrd0",
        "nnUNetTrainer_DASegOrd0_NoMirroring",
        "nnUNetTrainer_onlyMirror01",
        "nnUNetTrainerBackSplit",
    }
)
"""Ours, and those of nnU-Net's that TotalSegmentator used, that build the network of the plans. A
trainer may build another one: for any that is not named here nnU-Net is asked."""


LOGIT_BYTES = 2
"""Of a voxel and channel: nnU-Net keeps float16."""


@dataclass(frozen=True)
class Model:
    """Which network, and how it is applied.

    Attributes
    ----------
    folder : trained-model folder (Trainer__Plans__Configuration)
    folds : folds whose logits are averaged
    checkpoint : file name in each fold
    device : torch device
    step_size : step of the sliding window as a share of the patch
    mirroring : test-time mirroring, where the checkpoint allows it
    """

    folder: Path
    folds: tuple[int | str, ...] = (0,)
    checkpoint: str = CHECKPOINT
    device: str = "cpu"
    step_size: float = 0.5
    mirroring: bool = True

    @property
    def checkpoints(self) -> list[Path]:
        """File of each fold."""
        return [self.folder / f"fold_{fold}" / self.checkpoint for fold in self.folds]


@dataclass(frozen=True)
class Prepared:
    """A case as the network wants it.

    Attributes
    ----------
    data : float32 tensor (channel, z, y, x) in the network's spacing and axis order; in pinned
        memory where the network is on CUDA
    properties : what is needed to bring labels back
    """

    data: Any
    properties: dict[str, Any]


class Network:
    """A loaded network. Its three steps may run in three threads, each on another case."""

    def __init__(self, predictor: Any) -> None:  # noqa: ANN401 (nnU-Net is untyped)
        self._predictor = predictor
        self._until: float | None = None
        predictor.network.register_forward_pre_hook(self._look_at_clock)

    def _look_at_clock(self, *_: object) -> None:
        """Between two tiles is where a case that takes too long can be given up."""
        if self._until is not None and time.monotonic() > self._until:
            raise CaseError(
                Code.TIME_LIMIT,
                "the network ran longer than run.case_minutes allows",
                "raise it, or check whether this image is unusually large",
            )

    @property
    def reader(self) -> Any:  # noqa: ANN401
        """nnU-Net's reader and writer of the model's images."""
        return self._predictor.plans_manager.image_reader_writer_class()

    @property
    def file_ending(self) -> str:
        """Ending of the files that the model was trained on."""
        return str(self._predictor.dataset_json["file_ending"])

    @property
    def heads(self) -> int:
        """Channels of its logits."""
        return int(self._predictor.label_manager.num_segmentation_heads)

    @property
    def on_card(self) -> bool:
        """Whether its logits are made, and kept, in a GPU's own memory."""
        return bool(self._predictor.device.type == "cuda")

    @property
    def previous_stage(self) -> str | None:
        """Configuration whose labels this one takes beside the image (a cascade)."""
        return self._predictor.configuration_manager.previous_stage_name  # type: ignore[no-any-return]

    def prepare(self, source: Source, previous: Array | None = None) -> Prepared:
        """Crop, normalise and resample an image.

        Parameters
        ----------
        source : the image; the networks of a task share it
        previous : labels of the previous stage of a cascade, (z, y, x) on the image's grid
        """
        import torch

        p = self._predictor
        if is_usual(p.configuration_manager):
            data, properties = self._prepared(source)
            seg = None if previous is None else self._previous(source, previous, data.shape[1:])
        else:
            preprocessor = p.configuration_manager.preprocessor_class(verbose=False)
            data, seg, properties = preprocessor.run_case_npy(
                source.image.astype(np.float32),
                None if previous is None else previous[None],
                dict(source.properties),
                p.plans_manager,
                p.configuration_manager,
                p.dataset_json,
            )
        if previous is not None:
            assert seg is not None
            one_hot = [seg[0] == value for value in p.label_manager.foreground_labels]
            data = np.vstack([data, np.stack(one_hot).astype(np.float32)])
        tensor = torch.from_numpy(data)
        if self.on_card:
            tensor = tensor.pin_memory()  # the card fetches it while the CPU goes on
        return Prepared(tensor, properties)

    def _prepared(self, source: Source) -> tuple[Array, dict[str, Any]]:
        """The steps of `DefaultPreprocessor`."""
        p = self._predictor
        cropped = source.cropped(p.plans_manager.transpose_forward)
        properties = {
            **source.properties,
            "shape_before_cropping": cropped.whole,
            "bbox_used_for_cropping": cropped.box,
            "shape_after_cropping_and_before_resampling": cropped.data.shape[1:],
        }
        data = normalised(
            cropped,
            p.configuration_manager,
            p.plans_manager.foreground_intensity_properties_per_channel,
        )
        spacing, own = self._spacings(properties)
        shape = own_shape(data.shape[1:], spacing, own)
        function = p.configuration_manager.resampling_fn_data
        return resampled(data, shape, function, spacing, own), properties

    def voxels(self, shape: Sequence[int], spacing: Sequence[float]) -> int:
        """Voxels of an image in the network's spacing, at most: nothing cropped.

        Parameters
        ----------
        shape, spacing : of the image in the reader's order of axes
        """
        axes = self._predictor.plans_manager.transpose_forward
        given, own = self._spacings({"spacing": spacing})
        return math.prod(own_shape([shape[axis] for axis in axes], given, own))

    def _spacings(self, properties: Mapping[str, Any]) -> tuple[list[float], list[float]]:
        """The image's spacing in the network's order of axes, and the network's own.

        A 2D network has none along its first axis: there it takes the image's.
        """
        p = self._predictor
        spacing = [properties["spacing"][axis] for axis in p.plans_manager.transpose_forward]
        own = p.configuration_manager.spacing
        return spacing, [*spacing[: len(spacing) - len(own)], *own]

    def _previous(self, source: Source, labels: Array, shape: tuple[int, ...]) -> Array:
        """Labels of the previous stage in the network's spacing, (1, z, y, x), -1 outside."""
        p = self._predictor
        axes = p.plans_manager.transpose_forward
        cropped = source.cropped(axes)
        seg = labels.transpose(axes)[tuple(slice(*ends) for ends in cropped.box)].astype(np.int16)
        seg[(seg == 0) & ~cropped.mask] = -1
        spacing, own = self._spacings(source.properties)
        function = p.configuration_manager.resampling_fn_seg
        return np.asarray(function(seg[None], shape, spacing, own))

    def run(self, prepared: Prepared, limit_s: float | None = None) -> Any:  # noqa: ANN401
        """Logits by sliding window, averaged over the folds.

        Returns
        -------
        logits
            Half-precision tensor (class, z, y, x), on the network's device where they fit there
            (nnU-Net falls back to the CPU where they do not).

        Raises
        ------
        CaseError
            TIME_LIMIT when the network has run longer than `limit_s`.
        """
        import torch

        self._until = None if limit_s is None else time.monotonic() + limit_s
        p = self._predictor
        data = self._on_device(prepared.data)
        with torch.inference_mode():
            total: Any = None
            for weights in p.list_of_parameters:
                if len(p.list_of_parameters) > 1:  # a single fold is in the network already
                    p.network.load_state_dict(weights)
                logits = p.predict_sliding_window_return_logits(data)
                total = logits if total is None else total.add_(logits)
            if len(p.list_of_parameters) > 1:
                total /= len(p.list_of_parameters)
        return total

    def _on_device(self, data: Any) -> Any:  # noqa: ANN401
        """Start the way of an image to the card, where there is ample room for it."""
        import torch

        device = self._predictor.device
        if device.type != "cuda" or not self._predictor.perform_everything_on_device:
            return data
        if 4 * data.nbytes > torch.cuda.mem_get_info(device)[0]:
            return data
        return data.to(device, non_blocking=True)

    def labels(self, logits: Any, properties: dict[str, Any]) -> Array:  # noqa: ANN401
        """Label map in the axis order and on the grid of the image that was prepared.

        Parameters
        ----------
        logits : (class, z, y, x) from `run`
        properties : from `prepare`
        """
        p = self._predictor
        logits, to = self._laid(logits, properties)
        manager = p.label_manager
        if manager.has_regions:
            order = manager.regions_class_order
            labels = regions(logits, to, order, manager.inference_nonlin)
        else:
            labels = largest_channel(logits, to)
        whole_shape = properties["shape_before_cropping"]
        if labels.shape != tuple(whole_shape):
            whole = np.zeros(whole_shape, labels.dtype)
            box = properties["bbox_used_for_cropping"]
            whole[tuple(slice(*ends) for ends in box)] = labels
            labels = whole
        return np.asarray(labels.transpose(p.plans_manager.transpose_backward))

    def _laid(
        self,
        logits: Any,  # noqa: ANN401
        properties: Mapping[str, Any],
    ) -> tuple[Any, Lattice | None]:
        """Logits, and where the voxels of the cropped image lie between them."""
        import torch

        shape = tuple(properties["shape_after_cropping_and_before_resampling"])
        if tuple(logits.shape[1:]) == shape:
            return logits, None
        spacing, own = self._spacings(properties)
        function = self._predictor.configuration_manager.resampling_fn_probabilities
        usual = usual_resampling(function, own, spacing)
        if usual is None or usual[0] != 1:  # somebody else's
            channels = [function(c[None], shape, own, spacing) for c in logits.cpu()]
            return torch.cat([torch.as_tensor(c) for c in channels]), None
        return logits, lattice(logits.shape[1:], shape, usual[1])


@lru_cache(maxsize=16)
def load(model: Model) -> Network:
    """Load a network; the first call opens its checkpoints, later ones give the same object.

    Raises
    ------
    RunError
        WEIGHTS_UNKNOWN or WEIGHTS_CHANGED: no checkpoint is opened that nobody accepted.
    """
    require_accepted(model.checkpoints, shlex.quote(str(model.folder)))
    silence_nnunet()
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    device = torch.device(model.device)
    predictor = nnUNetPredictor(
        tile_step_size=model.step_size,
        use_gaussian=True,
        use_mirroring=model.mirroring,
        perform_everything_on_device=device.type == "cuda",
        device=device,
        verbose=False,
        allow_tqdm=False,
    )
    checkpoints = [
        torch.load(path, map_location="cpu", weights_only=False) for path in model.checkpoints
    ]
    if checkpoints[0]["trainer_name"] in PLAIN_TRAINERS:
        _build_from_plans(predictor, model, checkpoints)
    else:
        predictor.initialize_from_trained_model_folder(
            str(model.folder), use_folds=model.folds, checkpoint_name=model.checkpoint
        )
    return Network(predictor)


def _build_from_plans(
    predictor: Any,  # noqa: ANN401
    model: Model,
    checkpoints: Sequence[Mapping[str, Any]],
) -> None:
    """Give a predictor the network that the plans describe, with the checkpoints' weights.

    These are the steps of `initialize_from_trained_model_folder` but for its search for the
    trainer's class, which imports every trainer there is: two seconds of each job.
    """
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    dataset = read_json(model.folder / "dataset.json")
    plans = PlansManager(read_json(model.folder / "plans.json"))
    first = checkpoints[0]
    configuration = plans.get_configuration(first["init_args"]["configuration"])
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        determine_num_input_channels(plans, configuration, dataset),
        plans.get_label_manager(dataset).num_segmentation_heads,
        deep_supervision=False,
    )
    parameters = [checkpoint["network_weights"] for checkpoint in checkpoints]
    network.load_state_dict(parameters[0])
    predictor.manual_initialization(
        network,
        plans,
        configuration,
        parameters,
        dataset,
        first["trainer_name"],
        first.get("inference_allowed_mirroring_axes"),
    )


def silence_nnunet() -> None:
    """Set the folders that nnU-Net warns about; a predictor uses none of them."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ.setdefault(name, os.devnull)
