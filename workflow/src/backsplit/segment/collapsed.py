"""A network with fewer channels than it was trained for: those of the targets, and one of the rest.

The paper counts no cost at inference because only the target's channel is kept. nnU-Net keeps every
class of every voxel until the end. Here the classes of each window are collapsed before windows are
added up, so that memory does not grow with the number of classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from backsplit.segment.logits import piece
from backsplit.segment.network import Network
from backsplit.volume import Array

PLANES = 16
"""Planes of a channel that are resampled at a time."""


@dataclass(frozen=True)
class _Heads:
    """What a predictor asks its label manager for, where channels are no labels."""

    num_segmentation_heads: int
    has_regions: bool = False


def largest_of_rest(targets: int) -> Callable[[Any], Any]:
    """Collapse (b, class, …) to [largest logit of all that is no target, targets].

    The largest of these is a target exactly where the largest of all classes is.
    """

    def collapse(logits: Any) -> Any:  # noqa: ANN401 (torch, late)
        import torch

        rest = torch.cat([logits[:, :1], logits[:, targets + 1 :]], 1).amax(1, keepdim=True)
        return torch.cat([rest, logits[:, 1 : targets + 1]], 1)

    return collapse


def log_odds(targets: int, threshold: float) -> Callable[[Any], Any]:
    """Collapse (b, class, …) to [0, log-odds of each target above those of a threshold].

    The largest of these is a target exactly where its softmax probability is above the threshold.

    Parameters
    ----------
    targets : the classes 1 … T
    threshold : probability, between 0 and 1
    """
    least = math.log(threshold / (1 - threshold))

    def collapse(logits: Any) -> Any:  # noqa: ANN401
        import torch

        odds = [
            logits[:, t] - torch.logsumexp(torch.cat([logits[:, :t], logits[:, t + 1 :]], 1), 1)
            for t in range(1, targets + 1)
        ]
        return torch.stack([torch.zeros_like(odds[0]), *(one - least for one in odds)], 1)

    return collapse


def collapsed(network: Network, collapse: Callable[[Any], Any], heads: int) -> Network:
    """Give the same network with other channels.

    Parameters
    ----------
    network : a loaded one; it stays as it is
    collapse : logits (b, class, z, y, x) of a window to (b, head, z, y, x)
    heads : how many it gives
    """
    predictor = copy(network._predictor)
    whole = predictor._internal_maybe_mirror_and_predict
    predictor._internal_maybe_mirror_and_predict = lambda window: collapse(whole(window))
    predictor.label_manager = _Heads(heads)
    return Network(predictor)


def probability(
    network: Network,
    logits: Any,  # noqa: ANN401
    properties: dict[str, Any],
    target: int,
    threshold: float,
) -> Array:
    """Probability of a target on the image's grid, float32, (z, y, x); 0 where nothing was imaged.

    Parameters
    ----------
    network : collapsed by `log_odds` with that threshold
    logits : from its `run`
    properties : from its `prepare`
    target : 1 … T
    """
    laid, to = network._laid(logits, properties)
    shape = tuple(laid.shape[1:]) if to is None else to.shape
    odds = np.empty(shape, np.float32)
    for start in range(0, shape[0], PLANES):
        stop = min(start + PLANES, shape[0])
        odds[start:stop] = piece(laid[target], to, start, stop).float().cpu().numpy()
    odds += np.float32(math.log(threshold / (1 - threshold)))
    whole = np.zeros(properties["shape_before_cropping"], np.float32)
    box = tuple(slice(*ends) for ends in properties["bbox_used_for_cropping"])
    with np.errstate(over="ignore"):
        whole[box] = 1 / (1 + np.exp(-odds))
    axes = network._predictor.plans_manager.transpose_backward
    return np.ascontiguousarray(whole.transpose(axes))
