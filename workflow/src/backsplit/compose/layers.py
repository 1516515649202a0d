"""Layers to one label map, by precedence; every overruled voxel is accounted for.

The rule, in full. Layers are laid down in order, the strongest first. A free voxel is taken by
whoever claims it. A voxel that is held changes hands only where an exception says that the label
of the later layer beats the label that holds it. Where masks of one layer overlap, the same rule
decides between them, in the order in which the layer lists them, before the layer is laid down.

The work is done on states: a state is a label of a layer, so that one small number says who holds
a voxel and for whom. Volumes are walked through in pieces that fit the processor's cache, and only
the voxels that two layers claim are looked at one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from backsplit.scheme import Claims
from backsplit.volume import Array
from backsplit.volume.pieces import apply_table, count_values, pieces


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
    """What became of a layer's claims: `claimed = kept + agreed + overruled`.

    Attributes
    ----------
    claimed : (voxel, label) pairs; a voxel of two overlapping masks is claimed twice
    kept : the layer's own in the result
    agreed : somebody stronger said the same
    overruled : somebody else got the voxel
    """

    layer: str
    claimed: int
    kept: int
    agreed: int
    overruled: int


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
        """The label that stands of several claims, the strongest first."""
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
        self.laid: set[int] = set()  # where pieces begin that somebody holds voxels of
        self.counted: Array | None = None
        self.layers: list[str] = []
        self.claimed: Counter[str] = Counter()
        self.met: Counter[tuple[int, int]] = Counter()
        self.within: Counter[tuple[State, State]] = Counter()

    def add(self, layer: Layer) -> None:
        """Lay a layer beneath those that are there."""
        if layer.values.shape != self.shape:
            raise ValueError(f"layer {layer.name} has shape {layer.values.shape}, not {self.shape}")
        self.layers.append(layer.name)
        self.counted = None
        table = self._table(layer)
        takes = self._takes()
        shared = {value: labels for value, labels in layer.claims.items() if len(labels) > 1}
        values = layer.values.reshape(-1)
        for at in pieces(len(values)):
            piece = values[at]
            if not piece.any():
                continue
            new = apply_table(table, piece)
            claims = int(np.count_nonzero(new))
            self.claimed[layer.name] += claims
            if shared:
                self._count_shared(layer.name, piece, shared)
            if at.start in self.laid:
                self._lay(self.states[at], new, takes)
            else:
                self.states[at] = new
                self.laid.add(at.start)

    def labels(self, dtype: np.typing.DTypeLike) -> Array:
        """The label map, of the composer's shape."""
        return self.look_up(lambda state: state.label, dtype)

    def settle(self, what: Callable[[State], int], dtype: np.typing.DTypeLike) -> Array:
        """As `look_up`, in the memory of the states where it fits; no layer can follow."""
        self.counts()
        if self.states.dtype != np.dtype(dtype):
            return self.look_up(what, dtype)
        table = np.array([what(state) for state in self.known], dtype)
        for at in pieces(len(self.states)):
            if at.start in self.laid:
                self.states[at] = apply_table(table, self.states[at])
        return self.states.reshape(self.shape)

    def look_up(self, what: Callable[[State], int], dtype: np.typing.DTypeLike) -> Array:
        """Something about the state that holds each voxel, of the composer's shape."""
        table = np.array([what(state) for state in self.known], dtype)
        result = np.empty(len(self.states), dtype)
        for at in pieces(len(result)):
            result[at] = apply_table(table, self.states[at])
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

    def counts(self) -> Array:
        """Voxels of each state that is known."""
        if self.counted is None:
            self.counted = count_values(self.states, len(self.known))
        return self.counted

    def accounts(self) -> list[LayerAccount]:
        """What became of each layer's claims."""
        kept: Counter[str] = Counter()
        for state, voxels in zip(self.known, self.counts(), strict=True):
            kept[state.layer] += int(voxels)
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
        if len(self.known) > 256 and self.states.dtype == np.uint8:
            self.states = self.states.astype(np.uint16)
        table = np.zeros(256 if layer.values.dtype == np.uint8 else 65536, self.states.dtype)
        for value, label in winners.items():
            if value < len(table):
                table[value] = numbers[label]
        return table

    def _takes(self) -> Array | None:
        """Matrix [holder, challenger] over states; None where no exception speaks of them."""
        pairs = self.precedence.exceptions
        if not pairs:
            return None
        labels = np.array([state.label for state in self.known])
        size = int(labels.max()) + 1
        beats = np.zeros((size, size), bool)
        for winner, loser in pairs:
            if winner < size and loser < size:
                beats[loser, winner] = True
        return np.asarray(beats[labels[:, None], labels[None, :]])

    def _lay(self, held: Array, new: Array, takes: Array | None) -> None:
        """Lay one piece; `held` is changed in place."""
        index = np.flatnonzero(np.logical_and(held, new))
        if len(index):
            holders, challengers = held[index], new[index]
            self._count_met(holders, challengers)
            new[index] = 0
            if takes is not None:
                taken = takes[holders, challengers]
                held[index[taken]] = challengers[taken]
        np.bitwise_or(held, new, out=held)

    def _count_met(self, holders: Array, challengers: Array) -> None:
        width = len(self.known)
        code = holders.astype(np.int64) * width + challengers
        if width <= 1024:
            counts = np.bincount(code)
            found = np.flatnonzero(counts)
            counts = counts[found]
        else:
            found, counts = np.unique(code, return_counts=True)
        for pair, voxels in zip(found.tolist(), counts.tolist(), strict=True):
            self.met[divmod(pair, width)] += voxels

    def _count_shared(self, layer: str, piece: Array, shared: Claims) -> None:
        """Count what the weaker of overlapping masks of one layer lose to the strongest."""
        counts = np.bincount(piece, minlength=max(shared) + 1)
        for value, labels in shared.items():
            voxels = int(counts[value])
            if not voxels:
                continue
            winner = self.precedence.winner(labels)
            for label in labels:
                if label != winner:
                    self.within[(State(layer, label), State(layer, winner))] += voxels
                    self.claimed[layer] += voxels
