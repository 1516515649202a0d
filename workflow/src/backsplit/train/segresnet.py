"""SegResNet in nnU-Net's trainer, with the plans' patches and a schedule of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from backsplit.errors import Code, RunError
from backsplit.train.trainer import WarmUp, nnUNetTrainerBackSplit

LEVELS = (1, 2, 2, 4)
"""Blocks of each level of the encoder, as Myronenko (2018) has them."""
LEAST_FILTERS = 8
"""Its normalisation has eight groups of channels."""


class nnUNetTrainerBackSplitSegResNet(nnUNetTrainerBackSplit):  # noqa: N801
    """Trains MONAI's SegResNet: AdamW, 2e-4, without deep supervision.

    With nnU-Net's SGD at 0.01 SegResNets diverge.
    """

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.enable_deep_supervision = False

    def own_learning_rate(self) -> float:
        """The learning rate where the settings name none."""
        return 2e-4

    def configure_optimizers(self) -> tuple[Any, Any]:
        """Give AdamW, and nnU-Net's schedule with a warm-up."""
        optimizer = torch.optim.AdamW(
            self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay
        )
        return optimizer, WarmUp(optimizer, self.initial_lr, self.num_epochs, self._warm_up())

    @staticmethod
    def build_network_architecture(
        plans_manager: Any,  # noqa: ANN401 (nnU-Net's signature)
        configuration_manager: Any,  # noqa: ANN401
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> Any:  # noqa: ANN401
        """Build the network: as wide as the plan's first stage (nnU-Net plans 32, as Myronenko).

        It halves the patch as often as that is whole, three times at most.
        """
        try:
            from monai.networks.nets import SegResNet
        except ImportError:
            raise RunError(
                Code.TRAINING_UNSUITED,
                "SegResNet needs MONAI, which is not installed",
                "pip install monai",
            ) from None
        patch = configuration_manager.patch_size
        width = configuration_manager.network_arch_init_kwargs["features_per_stage"][0]
        return SegResNet(
            spatial_dims=len(patch),
            init_filters=max(1, width // LEAST_FILTERS) * LEAST_FILTERS,
            in_channels=num_input_channels,
            out_channels=num_output_channels,
            blocks_down=LEVELS[: levels_of(patch)],
            blocks_up=(1,) * (levels_of(patch) - 1),
        )

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Do nothing: it has one output."""


def levels_of(patch: Sequence[int]) -> int:
    """How many levels a patch allows: each halves it.

    Raises
    ------
    RunError
        TRAINING_UNSUITED: not even once.
    """
    levels = 1
    while levels < len(LEVELS) and all(side % 2**levels == 0 for side in patch):
        levels += 1
    if levels == 1:
        raise RunError(
            Code.TRAINING_UNSUITED,
            f"the plans' patch of {' x '.join(map(str, patch))} voxels has an odd side, and "
            "SegResNet halves every side",
            "change patch_size of the configuration in the plans to multiples of 8",
        )
    return levels
