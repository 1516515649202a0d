"""New classes split off the background of a trained network, its targets' probabilities kept.

Each output layer gets a row for each new class: the background's weights, and its bias + log pi,
where pi are the shares of background and new classes in what was background; they sum to 1. Then
p(background) + sum of p(new) is what p(background) was, and p of every other class is unchanged.
With equal pi this is how MiB starts (Cermelli et al., CVPR 2020); with the classes' frequencies
the first cross-entropy is lower, and argmax keeps most of the lesion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from backsplit.config.base import BACKGROUND
from backsplit.errors import Code, RunError

Weights = Mapping[str, Any]
"""Name of a tensor to the tensor, as `state_dict()` gives them."""


def extend_heads(
    weights: Weights,
    wanted: Weights,
    old: Sequence[str],
    new: Sequence[str],
    share: Sequence[float],
) -> dict[str, Any]:
    """Weights of a network with more classes.

    Parameters
    ----------
    weights : of the trained network
    wanted : of a network with the new classes; only names and shapes count
    old, new : names of the labels by id, background first
    share : of background and each new class in what was background, by id in `new`; not used for
        classes that `old` has

    Returns
    -------
    extended
        For `load_state_dict`.

    Raises
    ------
    RunError
        EXTENSION_MISMATCH: the networks differ in more than their output layers.
    """
    ids = {name: label for label, name in enumerate(old)}
    rows = [ids.get(name, 0) for name in new]
    split = [name == BACKGROUND or name not in ids for name in new]
    offset = torch.tensor(
        [math.log(part) if is_split else 0.0 for part, is_split in zip(share, split, strict=True)],
        dtype=torch.float64,
    )
    missing = weights.keys() ^ wanted.keys()
    extended: dict[str, Any] = {}
    heads = 0
    for key in wanted if not missing else ():
        value, shape = weights[key], tuple(wanted[key].shape)
        if tuple(value.shape) == shape:
            extended[key] = value.clone()
            continue
        inner = tuple(value.shape[1:])
        if (len(value), shape) != (len(old), (len(new), *inner)):
            missing = {key}
            break
        heads += 1
        row = value[rows]
        extended[key] = row if value.ndim > 1 else (row.double() + offset).to(value.dtype)
    if missing or not heads:
        raise RunError(
            Code.EXTENSION_MISMATCH,
            f"the trained network is not that of the plans and the trainer: they differ in "
            f"{', '.join(sorted(missing)[:3]) or 'nothing, not even in the number of classes'}",
            "use the trainer and the plans that it was trained with (--trainer, --plans)",
        )
    return extended


def largest_change(before: Any, after: Any, old: Sequence[str], new: Sequence[str]) -> float:  # noqa: ANN401
    """Largest difference of a probability that must stay: kept classes, and the background's whole.

    Parameters
    ----------
    before, after : logits (b, c, …) of both networks for the same input, or a list of them
    old, new : names of the labels by id, background first
    """
    if isinstance(before, list | tuple):
        pairs = zip(before, after, strict=True)
        return max(largest_change(one, other, old, new) for one, other in pairs)
    p, q = before.double().softmax(1), after.double().softmax(1)
    kept = [(old.index(name), new.index(name)) for name in old if name != BACKGROUND]
    split = [label for label, name in enumerate(new) if name == BACKGROUND or name not in old]
    changes = [(p[:, i] - q[:, j]).abs().max() for i, j in kept]
    changes.append((p[:, 0] - q[:, split].sum(1)).abs().max())
    return float(max(changes))
