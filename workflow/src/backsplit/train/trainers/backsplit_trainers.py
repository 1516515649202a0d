"""nnU-Net looks for trainers here (`nnUNet_extTrainer`); they live in the package and pickle."""

from backsplit.train.segresnet import nnUNetTrainerBackSplitSegResNet
from backsplit.train.trainer import nnUNetTrainerBackSplit

__all__ = ["nnUNetTrainerBackSplit", "nnUNetTrainerBackSplitSegResNet"]
