"""The resident nnU-Net: a network is loaded once per process and stays; arrays in, labels out.

nnU-Net's own classes do preprocessing, sliding window and the resampling of logits. What differs
is the order of the work: one channel of logits is resampled at a time and the largest is kept
(`labels`), so that memory does not grow with the number of classes, and nothing goes through
worker processes or temporary files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from backsplit.errors import CaseError, Code
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
    }
)
"""nnU-Net's trainers, of those that TotalSegmentator used, that build the network of the plans. A
trainer may build another one: for any that is not named here nnU-Net is asked."""


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
    data : float32 (channel, z, y, x) in the network's spacing and axis order
    properties : what nnU-Net needs to bring labels back
    """

    data: Array
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
                "the network ran longer than run.case_minutes allow",
                "raise it, or look whether the image is far larger than the others",
            )

    @property
    def reader(self) -> Any:  # noqa: ANN401
        """nnU-Net's reader and writer of the model's images."""
        return self._predictor.plans_manager.image_reader_writer_class()

    @property
    def file_ending(self) -> str:
        """Ending of the files that the model was trained on."""
        return str(self._predictor.dataset_json["file_ending"])

    def prepare(self, image: Array, properties: dict[str, Any]) -> Prepared:
        """Crop, normalise and resample an image.

        Parameters
        ----------
        image : (channel, z, y, x) in the axis order of the model's reader
        properties : the reader's; `spacing` is (z, y, x) in mm
        """
        p = self._predictor
        preprocessor = p.configuration_manager.preprocessor_class(verbose=False)
        data, _, properties = preprocessor.run_case_npy(
            image, None, properties, p.plans_manager, p.configuration_manager, p.dataset_json
        )
        return Prepared(data, properties)

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
        data = torch.from_numpy(prepared.data)
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

    def labels(self, logits: Any, properties: dict[str, Any]) -> Array:  # noqa: ANN401
        """Label map in the axis order and on the grid of the image that was prepared.

        Parameters
        ----------
        logits : (class, z, y, x) from `run`
        properties : from `prepare`
        """
        from acvl_utils.cropping_and_padding.bounding_boxes import insert_crop_into_image

        p = self._predictor
        if p.label_manager.has_regions:
            labels = self._region_labels(logits, properties)
        else:
            labels = largest_channel(self._resampled(logits, properties), len(logits))
        whole = np.zeros(properties["shape_before_cropping"], labels.dtype)
        whole = insert_crop_into_image(whole, labels, properties["bbox_used_for_cropping"])
        return np.asarray(whole.transpose(p.plans_manager.transpose_backward))

    def _resampled(self, logits: Any, properties: dict[str, Any]) -> Any:  # noqa: ANN401
        """Give a function from channel to its logits (a tensor) on the cropped image's grid."""
        import torch

        p = self._predictor
        shape = tuple(properties["shape_after_cropping_and_before_resampling"])
        if tuple(logits.shape[1:]) == shape:
            return lambda channel: logits[channel]
        spacing = [properties["spacing"][i] for i in p.plans_manager.transpose_forward]
        own = p.configuration_manager.spacing
        current = own if len(own) == len(shape) else [spacing[0], *own]
        resample = p.configuration_manager.resampling_fn_probabilities
        logits = logits.cpu()

        def channel_of(channel: int) -> Any:  # noqa: ANN401
            one = resample(logits[channel : channel + 1], shape, current, spacing)[0]
            return torch.as_tensor(one)

        return channel_of

    def _region_labels(self, logits: Any, properties: dict[str, Any]) -> Array:  # noqa: ANN401
        """Regions overlap: nnU-Net itself decides."""
        channel = self._resampled(logits, properties)
        whole = np.stack([channel(c).cpu().numpy() for c in range(len(logits))])
        return np.asarray(self._predictor.label_manager.convert_logits_to_segmentation(whole))


def largest_channel(channel_of: Any, count: int) -> Array:  # noqa: ANN401
    """Index of the largest channel of each voxel, one channel at a time, on the channels' device.

    Parameters
    ----------
    channel_of : function from channel to its values, a tensor (z, y, x)
    count : number of channels

    Returns
    -------
    labels
        uint8 (uint16 beyond 256 channels); the first of equal channels, as numpy's argmax.
    """
    import torch

    best = channel_of(0).clone()
    kind = torch.uint8 if count <= 256 else torch.int32
    labels = torch.zeros(best.shape, dtype=kind, device=best.device)
    for channel in range(1, count):
        values = channel_of(channel)
        labels.masked_fill_(values > best, channel)
        torch.maximum(best, values, out=best)
    return np.asarray(labels.cpu().numpy(), np.min_scalar_type(count - 1))


@lru_cache(maxsize=16)
def load(model: Model) -> Network:
    """Load a network; the first call opens its checkpoints, later ones give the same object.

    Raises
    ------
    RunError
        WEIGHTS_UNKNOWN or WEIGHTS_CHANGED: no checkpoint is opened that nobody accepted.
    """
    require_accepted(model.checkpoints)
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


def predict(
    network: Network, images: Sequence[Path], limit_s: float
) -> tuple[Array, dict[str, Any]]:
    """Read the channels of a case and predict its labels, one step after the other.

    Raises
    ------
    CaseError
        TIME_LIMIT when the network has run longer than `limit_s`.
    """
    image, properties = network.reader.read_images([str(path) for path in images])
    prepared = network.prepare(image, properties)
    return network.labels(network.run(prepared, limit_s), prepared.properties), prepared.properties


def silence_nnunet() -> None:
    """Set the folders that nnU-Net warns about; a predictor uses none of them."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ.setdefault(name, os.devnull)
