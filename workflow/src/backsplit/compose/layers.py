"""Layers to one label map, by precedence; every overruled voxel is accounted for.

The rule, in full. Layers are laid down in order, the strongest first. A free voxel is taken by
whoever claims it. A voxel that is held changes hands only where an exception says that the label
of the later layer beats the label that holds it. Where masks of one layer overlap, the same rule
decides between them, in the order in which the layer lists them, before the layer is laid down.

The work is done on states: a state is a label of a layer, so that one small number says who holds
a voxel and for whom. A layer is laid down in one compiled pass over the volume.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from backsplit.compose.passes import lay, relabel
from backsplit.scheme.scheme import Claims
from backsplit.volume import Array


@dataclass(frozen=True)
class Layer:
    """One source of labels.

    Attributes
    ----------
    name : `targets`, or the segmenter
    values : its own values, unsigned, of the composer's shape
    claims : value to the label ids that it claims, the strongest first
    """

    name: str
    values: Array
    claims: Claims


@dataclass(frozen=True)
class State:
    """A label as one layer claims it."""

    layer: str
    label: int


@dataclass(frozen=True)
class Overruled:
    """Voxels that one layer claimed and another (or another mask of its own) got."""

    loser: State
    winner: State
    voxels: int


@dataclass(frozen=True)
class LayerAccount:
    """What became of a layer's claims: `claimed = kept + agreed + overruled + set_aside`.

    Attributes
    ----------
    claimed : (voxel, label) pairs; a voxel of two overlapping masks is claimed twice
    kept : the layer's own in the result
    agreed : somebody stronger said the same
    overruled : somebody else got the voxel
    set_aside : another source decided on the structure
    """

    layer: str
    claimed: int
    kept: int
    agreed: int
    overruled: int
    set_aside: int = 0


class Precedence:
    """Who wins a voxel: the order of layers, and exceptions for pairs of labels.

    Parameters
    ----------
    exceptions : (winner, loser) label ids
    """

    def __init__(self, exceptions: Iterable[tuple[int, int]] = ()) -> None:
        self.exceptions = frozenset(exceptions)

    def takes(self, challenger: int, holder: int) -> bool:
        """Whether a later claim takes the voxel from the label that holds it."""
        return (challenger, holder) in self.exceptions

    def winner(self, labels: Sequence[int]) -> int:
        """The label that wins of several claims, the strongest first."""
        holder = labels[0]
        for challenger in labels[1:]:
            if self.takes(challenger, holder):
                holder = challenger
        return holder


class Composer:
    """Takes layers, the strongest first, and keeps the account.

    Parameters
    ----------
    shape : of every layer, (z, y, x), or (n,) for chosen voxels
    precedence : exceptions from the order
    """

    def __init__(self, shape: tuple[int, ...], precedence: Precedence) -> None:
        self.shape = shape
        self.precedence = precedence
        self.known: list[State] = [State("", 0)]
        self.states: Array = np.empty(int(np.prod(shape)), np.uint8)
        self.states.fill(0)  # large pages at once; zeros would come page by page
        self.voxels = np.zeros(1, np.int64)  # of each state that is known; that of 0 is not kept
        self.layers: list[str] = []
        self.claimed: Counter[str] = Counter()
        self.met: Counter[tuple[int, int]] = Counter()
        self.within: Counter[tuple[State, State]] = Counter()

    def add(self, layer: Layer) -> None:
        """Lay a layer beneath those that are there."""
        if layer.values.shape != self.shape:
            raise ValueError(f"layer {layer.name} has shape {layer.values.shape}, not {self.shape}")
        self.layers.append(layer.name)
        first = len(self.known)
        table = self._table(layer)
        values = layer.values.reshape(-1)
        claims = np.zeros(len(table), np.int64)
        met = np.zeros((first, len(self.known) - first), np.int64)
        lay(self.states, values, table, first, self._takes(first), claims, met)
        self.claimed[layer.name] += int(claims.sum())
        self._count_shared(layer, claims)
        self._count(first, table, claims, met)

    def labels(self, dtype: np.typing.DTypeLike) -> Array:
        """The label map, of the composer's shape."""
        return self.look_up(lambda state: state.label, dtype)

    def settle(self, what: Callable[[State], int], dtype: np.typing.DTypeLike) -> Array:
        """As `look_up`, in the memory of the states where it fits; no layer can follow."""
        if self.states.dtype != np.dtype(dtype):
            return self.look_up(what, dtype)
        relabel(self.states, np.array([what(state) for state in self.known], dtype), self.states)
        return self.states.reshape(self.shape)

    def look_up(self, what: Callable[[State], int], dtype: np.typing.DTypeLike) -> Array:
        """Something about the state that holds each voxel, of the composer's shape."""
        result = np.empty(len(self.states), dtype)
        relabel(self.states, np.array([what(state) for state in self.known], dtype), result)
        return result.reshape(self.shape)

    def overruled(self) -> list[Overruled]:
        """Who lost voxels to whom, the largest loss first."""
        lost: Counter[tuple[State, State]] = Counter(self.within)
        for (held, new), voxels in self.met.items():
            holder, challenger = self.known[held], self.known[new]
            if holder.label == challenger.label:
                continue
            if self.precedence.takes(challenger.label, holder.label):
                lost[(holder, challenger)] += voxels
            else:
                lost[(challenger, holder)] += voxels
        rows = [Overruled(*pair, voxels) for pair, voxels in lost.items()]
        return sorted(rows, key=lambda o: (-o.voxels, str(o.loser), str(o.winner)))

    def accounts(self) -> list[LayerAccount]:
        """What became of each layer's claims."""
        kept: Counter[str] = Counter()
        for state, voxels in zip(self.known, self.voxels.tolist(), strict=True):
            kept[state.layer] += voxels
        agreed: Counter[str] = Counter()
        for (held, new), voxels in self.met.items():
            if self.known[held].label == self.known[new].label:
                agreed[self.known[new].layer] += voxels
        lost: Counter[str] = Counter()
        for o in self.overruled():
            lost[o.loser.layer] += o.voxels
        return [
            LayerAccount(name, self.claimed[name], kept[name], agreed[name], lost[name])
            for name in self.layers
        ]

    def _table(self, layer: Layer) -> Array:
        """Lookup table from the layer's values to states; makes the states wider when needed."""
        winners = {value: self.precedence.winner(c) for value, c in layer.claims.items()}
        numbers: dict[int, int] = {}
        for label in dict.fromkeys(winners.values()):
            numbers[label] = len(self.known)
            self.known.append(State(layer.name, label))
        self.states = self.states.astype(np.min_scalar_type(len(self.known) - 1), copy=False)
        table = np.zeros(np.iinfo(layer.values.dtype).max + 1, self.states.dtype)
        for value, label in winners.items():
            if value < len(table):
                table[value] = numbers[label]
        return table

    def _wins(self, challenger: int, holder: int) -> bool:
        """Whether the state of a later layer takes voxels from the state that holds them."""
        return self.precedence.takes(self.known[challenger].label, self.known[holder].label)

    def _takes(self, first: int) -> Array:
        """Matrix [holder, challenger - first]: 1 where the challenger takes the voxel."""
        pairs = self.precedence.exceptions
        takes = np.zeros((first, len(self.known) - first), np.uint8)
        if pairs:
            for holder, challenger in np.ndindex(takes.shape):
                takes[holder, challenger] = self._wins(first + challenger, holder)
        return takes

    def _count(self, first: int, table: Array, claims: Array, met: Array) -> None:
        """Keep who holds how many voxels now, and which states met."""
        voxels = np.zeros(len(self.known), np.int64)
        voxels[: len(self.voxels)] = self.voxels
        np.add.at(voxels, table, claims)
        for holder, column in np.argwhere(met).tolist():
            challenger, times = first + column, int(met[holder, column])
            self.met[holder, challenger] += times
            voxels[holder if self._wins(challenger, holder) else challenger] -= times
        voxels[0] = 0
        self.voxels = voxels

    def _count_shared(self, layer: Layer, claims: Array) -> None:
        """Count what the weaker of overlapping masks of one layer lose to the strongest."""
        for value, labels in layer.claims.items():
            voxels = int(claims[value]) if value < len(claims) else 0
            if not voxels:
                continue
            winner = self.precedence.winner(labels)
            for label in labels:
                if label != winner:
                    self.within[(State(layer.name, label), State(layer.name, winner))] += voxels
                    self.claimed[layer.name] += voxels
