"""What a trained network makes of some voxels: its probabilities, and what its last layer reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from backsplit.errors import Code, RunError
from backsplit.segment.network import Network
from backsplit.study.theory import Voxels

PATCHES = 24
"""Of a case, at most, drawn at random: a sample of voxels needs no more."""


def observe(network: Network, data: Any, voxels: int, seed: int) -> Voxels:  # noqa: ANN401
    """Run a network on patches of a prepared case, and note what it makes of voxels at random.

    Parameters
    ----------
    network : of one fold, on the CPU or a GPU
    data : tensor (channel, z, y, x) of `Network.prepare`
    voxels : how many, about
    seed : of the patches and voxels

    Raises
    ------
    RunError
        MODEL_INVALID where the last layer is no convolution of 1 x 1 x 1.
    """
    import torch
    from acvl_utils.cropping_and_padding.padding import pad_nd_image

    predictor = network._predictor
    patch = predictor.configuration_manager.patch_size
    padded, inside = pad_nd_image(data, patch, "constant", {"value": 0}, True, None)
    slicers = predictor._internal_get_sliding_window_slicers(padded.shape[1:])
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(slicers))[:PATCHES]
    each = math.ceil(voxels / len(chosen))
    module = predictor.network.to(predictor.device).eval()
    parts = []
    for number in chosen:
        slicer = slicers[number]
        kept = _image_voxels(padded.shape[1:], inside, slicer)
        some = torch.from_numpy(random.choice(kept, min(len(kept), each), replace=False))
        with torch.inference_mode():
            window = padded[slicer][None].to(predictor.device)
            features, logits, rows = _last_layer(module, window)
            flat = [x[0].flatten(1)[:, some.to(x.device)].T.double() for x in (features, logits)]
            read, made = flat[0].cpu().numpy(), flat[1].softmax(1).cpu().numpy()
            parts.append(Voxels(made, read, rows.double().cpu().numpy()))
    return joined(parts)


def joined(parts: Sequence[Voxels]) -> Voxels:
    """Give the voxels of several patches or cases that one network saw."""
    return Voxels(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.features for part in parts]),
        parts[0].rows,
    )


def _image_voxels(shape: Sequence[int], inside: Sequence[slice], slicer: Sequence[slice]) -> Any:  # noqa: ANN401
    """Flat indices, within a patch, of its voxels that are no padding."""
    image = np.zeros(tuple(shape), bool)
    image[tuple(inside[1:])] = True
    return np.flatnonzero(image[tuple(slicer[1:])])


def _last_layer(network: Any, window: Any) -> tuple[Any, Any, Any]:  # noqa: ANN401
    """What the layer that makes the logits reads, the logits, and its rows (class, feature)."""
    from torch.nn.modules.conv import _ConvNd

    calls: list[tuple[Any, Any, Any]] = []
    hooks = [
        module.register_forward_hook(lambda m, read, made: calls.append((m, read[0], made)))
        for module in network.modules()
        if isinstance(module, _ConvNd)
    ]
    try:
        logits = network(window)
    finally:
        for hook in hooks:
            hook.remove()
    found = next((call for call in reversed(calls) if call[2] is logits), None)
    if found is None or math.prod(found[0].kernel_size) != 1 or found[0].groups != 1:
        raise RunError(
            Code.MODEL_INVALID,
            "the network does not end in a 1 x 1 x 1 convolution, from which its information is "
            "computed",
            "use a plain or residual U-Net, or a SegResNet",
        )
    layer, features, _ = found
    return features, logits, layer.weight.flatten(1)
