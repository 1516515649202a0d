"""Dice and cross-entropy for label maps in which some voxels are `ignore`: the marginal loss.

An ignored voxel is not worthless: its label is one of a few (background, and the structures that
nobody labelled in that case), and it is no target. Its cross-entropy is -log of the sum of the
probabilities of what it can be (Shi et al., Medical Image Analysis 2021, "marginal loss"). Where
nothing is ignored the loss is nnU-Net's `DC_and_CE_loss`.

Labels of classes, one softmax; no regions (overlapping sigmoids).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from backsplit.errors import Code, RunError, shown

Unknown = Mapping[str, Sequence[str | int] | None]
"""Case to the structures (names or ids) that its ignored voxels can be, beside background; None
where they can be anything. `unknown` of dataset.json and of MONAI's data list."""

SMOOTH = 1e-5
"""As nnU-Net's trainer has it."""


def possible_classes(
    unknown: Unknown | None, names: Sequence[str], targets: int, cases: Sequence[str]
) -> Tensor:
    """Which classes an ignored voxel can have, case by case.

    Parameters
    ----------
    unknown : `unknown` of dataset.json; None if it has none
    names : of the labels by id, background first, without `ignore`
    targets : number of targets; they have the ids 1 … targets
    cases : the cases of a batch

    Returns
    -------
    possible
        bool (case, class). A case that the table does not name can be anything but a target.

    Raises
    ------
    RunError
        TRAINING_UNSUITED: the table names a structure that there is not, or a target.
    """
    possible = torch.ones(len(cases), len(names), dtype=torch.bool)
    possible[:, 1 : 1 + targets] = False
    ids = {name: label for label, name in enumerate(names)}
    for row, case in enumerate(cases):
        if unknown is None or case not in unknown:
            continue
        listed = unknown[case]
        if listed is None:
            possible[row] = True
            continue
        possible[row, 1:] = False
        for entry in listed:
            label = entry if isinstance(entry, int) else ids.get(entry, -1)
            if not targets < label < len(names):
                raise RunError(
                    Code.TRAINING_UNSUITED,
                    f"`unknown` of dataset.json lists {shown(entry)!r} for {shown(case)}, which is "
                    f"not a structure of the data set ({', '.join(names[1 + targets :])})",
                    "run `backsplit export` again and copy its dataset.json",
                )
            possible[row, label] = True
    return possible


class MarginalLoss(nn.Module):
    """Soft Dice plus cross-entropy; an ignored voxel is one of the classes that it can be.

    Parameters
    ----------
    targets : number of targets; they have the ids 1 … targets
    ignore : the id of ignored voxels; None where there are none
    batch_dice : one Dice a class over the batch, or one a class and sample
    ddp : whether the batch is spread over processes (of torch.distributed)
    target_dice : share of the targets in the Dice part, between 0 and 1; None weighs every
        class alike, as nnU-Net does: T targets among T + K classes have T / (T + K)
    """

    def __init__(
        self,
        targets: int,
        ignore: int | None = None,
        *,
        batch_dice: bool = False,
        ddp: bool = False,
        target_dice: float | None = None,
    ) -> None:
        super().__init__()
        self.targets, self.ignore = targets, ignore
        self.batch_dice, self.ddp = batch_dice, ddp
        self.target_dice = target_dice

    def forward(self, logits: Tensor, labels: Tensor, possible: Tensor | None = None) -> Tensor:
        """Give the loss of a batch.

        Parameters
        ----------
        logits : (b, c, [z,] y, x)
        labels : (b, 1, [z,] y, x), ids
        possible : bool (b, c), the classes that ignored voxels of each sample can have
            (`possible_classes`); None: all that are no target
        """
        with torch.autocast(logits.device.type, enabled=False):
            exact = torch.promote_types(logits.dtype, torch.float32)
            logp = logits.to(exact).flatten(2).log_softmax(1)
            flat = labels.flatten(1).long()
            if possible is None:
                possible = torch.ones(logp.shape[:2], dtype=torch.bool)
                possible[:, 1 : 1 + self.targets] = False
            possible = possible.to(logits.device)
            ignored = torch.zeros_like(flat, dtype=torch.bool)
            if self.ignore is not None:
                ignored = flat == self.ignore
                flat = torch.where(ignored, 0, flat)
            own = logp.gather(1, flat[:, None])[:, 0]
            return self._entropy(logp, own, ignored, possible) + self._dice(
                logp.exp(), own.exp(), flat, ignored, possible
            )

    @staticmethod
    def _entropy(logp: Tensor, own: Tensor, ignored: Tensor, possible: Tensor) -> Tensor:
        """Mean over the voxels of which something is known."""
        told = ~ignored | ~possible.all(1, keepdim=True)
        if ignored.any():
            either = torch.where(possible[:, :, None], logp, -torch.inf).logsumexp(1)
            own = torch.where(ignored, either, own)
        return -(own * told).sum() / told.sum().clamp_min(1)

    def _dice(
        self, p: Tensor, own: Tensor, labels: Tensor, ignored: Tensor, possible: Tensor
    ) -> Tensor:
        """Minus the soft Dice; a class counts wherever it is known whether a voxel has it."""
        known = ~ignored
        empty = torch.zeros_like(p[..., 0])
        overlap = empty.scatter_add(1, labels, own * known)
        wanted = empty.scatter_add(1, labels, known.to(p.dtype))
        found = torch.bmm(p, torch.stack([known, ignored], 2).to(p.dtype))
        given = found[..., 0] + found[..., 1] * ~possible
        sums = torch.stack([overlap, wanted, given])[..., 1:]
        if self.batch_dice:
            sums = sums.sum(1, keepdim=True)
            if self.ddp:
                from nnunetv2.utilities.ddp_allgather import AllGatherGrad

                sums = AllGatherGrad.apply(sums).sum(0)
        overlap, wanted, given = sums
        dice = (2 * overlap + SMOOTH) / (wanted + given + SMOOTH).clamp_min(1e-8)
        return -(dice * self._weights(dice)).sum(1).mean()

    def _weights(self, dice: Tensor) -> Tensor:
        """Weight of each class but background; they sum to 1."""
        count, targets = dice.shape[1], self.targets
        if self.target_dice is None or targets == count:
            return torch.full_like(dice[0], 1 / count)
        weights = torch.full_like(dice[0], (1 - self.target_dice) / (count - targets))
        weights[:targets] = self.target_dice / targets
        return weights


class CaseLoss(nn.Module):
    """A `MarginalLoss` as nnU-Net's trainer calls it: logits and labels only, at every scale.

    Attributes
    ----------
    possible : classes of ignored voxels in the batch at hand; the trainer sets it before each step
    """

    def __init__(self, loss: MarginalLoss, weights: Sequence[float] | None) -> None:
        super().__init__()
        self.loss, self.weights = loss, weights
        self.possible: Tensor | None = None

    def forward(self, logits: Any, labels: Any) -> Tensor:  # noqa: ANN401 (a tensor or a list)
        """Give the loss, weighted over the scales of deep supervision where there are several."""
        if self.weights is None:
            return self.loss(logits, labels, self.possible)
        return sum(
            weight * self.loss(some, wanted, self.possible)
            for weight, some, wanted in zip(self.weights, logits, labels, strict=True)
            if weight
        )
