"""Layers to one label map, by precedence; every overruled voxel is accounted for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from backsplit.volume import Array


@dataclass(frozen=True)
class Layer:
    """One source of labels, already in the ids of the output.

    Attributes
    ----------
    name : `targets`, or the segmenter
    labels : ids of the label map, 0 where the layer says nothing, (z, y, x)
    """

    name: str
    labels: Array


@dataclass(frozen=True)
class Overruled:
    """Voxels that one layer claimed and a layer above it got."""

    loser_layer: str
    loser: int
    winner_layer: str
    winner: int
    voxels: int


@dataclass(frozen=True)
class LayerAccount:
    """What became of a layer's voxels: `claimed = kept + agreed + overruled`.

    Attributes
    ----------
    kept : the layer's own in the result
    agreed : a layer above said the same
    overruled : a layer above said something else
    """

    layer: str
    claimed: int
    kept: int
    agreed: int
    overruled: int


@dataclass(frozen=True)
class Composed:
    """A label map and the account of how it came to be."""

    labels: Array
    accounts: tuple[LayerAccount, ...]
    overruled: tuple[Overruled, ...]


def compose(
    layers: Iterable[Layer], shape: tuple[int, ...], dtype: np.typing.DTypeLike
) -> Composed:
    """Put layers on top of each other; the first wins.

    Parameters
    ----------
    layers : by precedence; each is read once and may be made on the fly
    shape : of all of them, (z, y, x)
    dtype : of the result

    Returns
    -------
    composed
        The label map; for each layer what became of its voxels; and for each pair of
        (loser, winner) how many voxels changed hands.
    """
    labels = np.zeros(shape, dtype)
    owner = np.zeros(shape, np.uint8)  # 1 + position of the layer that a voxel belongs to
    flat_labels, flat_owner = labels.reshape(-1), owner.reshape(-1)
    names: list[str] = []
    accounts: list[LayerAccount] = []
    overruled: list[Overruled] = []
    for position, layer in enumerate(layers, start=1):
        names.append(layer.name)
        claimed = np.flatnonzero(layer.labels)
        wanted = layer.labels.reshape(-1)[claimed]
        held = flat_labels[claimed]
        free = held == 0
        flat_labels[claimed[free]] = wanted[free]
        flat_owner[claimed[free]] = position
        lost = ~free & (held != wanted)
        overruled += _pairs(layer.name, wanted[lost], held[lost], flat_owner[claimed[lost]], names)
        kept, clashing = int(free.sum()), int(lost.sum())
        accounts.append(
            LayerAccount(layer.name, len(claimed), kept, len(claimed) - kept - clashing, clashing)
        )
    return Composed(labels, tuple(accounts), tuple(overruled))


def _pairs(
    loser_layer: str, losers: Array, winners: Array, owners: Array, names: list[str]
) -> list[Overruled]:
    """Count (loser, winner, winner's layer) over the voxels that changed hands."""
    if not len(losers):
        return []
    code = losers.astype(np.int64) << 24 | winners.astype(np.int64) << 8 | owners.astype(np.int64)
    found, counts = np.unique(code, return_counts=True)
    return [
        Overruled(
            loser_layer, int(c) >> 24, names[(int(c) & 0xFF) - 1], int(c) >> 8 & 0xFFFF, int(n)
        )
        for c, n in zip(found, counts, strict=True)
    ]
