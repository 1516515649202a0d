"""What a split background tells a network about its targets, as Fisher information.

A network with the targets 1 … T sees the fine label Y. In the coarse label Z, background and all
structures are one class. Z is a function of Y, so its score is the projection s_Z = E[s_Y | Z], and
I_Y = I_Z + E[Var(s_Y | Z)]: a split never takes information away (BackSplit, arXiv 2511.19394). For
a softmax with probabilities p, logit Jacobians J_k, and the classes B that are no target (P_B the
sum of their p, q_k = p_k / P_B):

    I_Y - I_Z = P_B Cov_{k ~ q}(J_k)

and for a single target c, I_Z = p_c (1 - p_c) g g^T with g = J_c - sum_B q_k J_k.

Here J_k is taken in the space of the features that the last layer reads: its row for class k. The
trace over the last layer's own weights is given beside it as a warning: it grows even with a split
at random, which tells nothing.

Expectations are over the network's own probabilities, so all of it describes that network on the
voxels that it was given. tests/unit/test_study_theory.py holds the closed forms against sums over
labels and against autograd.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from backsplit.volume import Array

EVERYWHERE = "everywhere"
IN_QUESTION = "in question"
"""Voxels weighted by p (1 - p) of the target: where the network is in doubt about it."""

HALVES = 0.5


@dataclass(frozen=True)
class Voxels:
    """What a network made of some voxels.

    Attributes
    ----------
    probabilities : float64 (n, class)
    features : float64 (n, feature), what the last layer reads
    rows : float64 (class, feature), the last layer's weights
    """

    probabilities: Array
    features: Array
    rows: Array


@dataclass(frozen=True)
class Total:
    """Information under both labels, a mean over voxels.

    Attributes
    ----------
    coarse, fine, gain : traces of I_Z, I_Y and I_Y - I_Z in the space of features
    along_coarse, along_fine, along_gain : the same along the unit vector from the background's
        mean row to the target's, voxel by voxel
    trace_gain : of I_Y - I_Z over the last layer's weights
    halves_gain : the largest `alone` (below) of a structure split into halves at random; 0
    halves_trace_gain : the same by the trace over the last layer's weights; not 0
    """

    target: str
    where: str
    voxels: int
    coarse: float
    fine: float
    gain: float
    along_coarse: float
    along_fine: float
    along_gain: float
    trace_gain: float
    halves_gain: float
    halves_trace_gain: float


@dataclass(frozen=True)
class Split:
    """What a class of its own for one structure is worth, in the units of `Total.gain`.

    Attributes
    ----------
    probability : mean of the structure's probability
    alone, along_alone : gain where the background is split into this structure and the rest
    merged, along_merged : loss where, of all splits, this structure goes back into the background
    trace_alone : as `alone`, over the last layer's weights
    """

    target: str
    where: str
    structure: str
    probability: float
    alone: float
    merged: float
    along_alone: float
    along_merged: float
    trace_alone: float


def spread(probabilities: Array, rows: Array, members: Sequence[int]) -> Array:
    """Trace of P_G Cov_{k ~ p / P_G}(w_k) over a group G of classes.

    Written as a sum over pairs, p_j p_k |w_j - w_k|^2 / P_G, which loses no digits.

    Parameters
    ----------
    probabilities : (n, class)
    rows : (class, feature)
    members : classes of the group

    Returns
    -------
    traces
        (n,)
    """
    p, w = probabilities[:, members], rows[list(members)]
    squared = ((w[:, None] - w[None]) ** 2).sum(-1)
    return _over(0.5 * ((p @ squared) * p).sum(1), p.sum(1))


def along(probabilities: Array, heights: Array, members: Sequence[int]) -> Array:
    """P_G Var_{k ~ p / P_G}(w_k . d) over a group G of classes, for a direction d of each voxel.

    Parameters
    ----------
    probabilities : (n, class)
    heights : w_k . d, (n, class)
    members : classes of the group

    Returns
    -------
    variances
        (n,)
    """
    p, u = probabilities[:, members], heights[:, members]
    mean = _over((p * u).sum(1), p.sum(1))
    return np.asarray((p * (u - mean[:, None]) ** 2).sum(1))


def apart(probabilities: Array, rows: Array, label: int, others: Sequence[int]) -> Array:
    """Trace of the gain where a group is split into one class and all others of it, (n,).

    The chain rule: `apart` and the `spread` of the others are the `spread` of the group.
    """
    p, rest = probabilities[:, label], probabilities[:, others]
    mean = _over(rest @ rows[list(others)], rest.sum(1)[:, None])
    return np.asarray(_between(p, rest.sum(1)) * ((rows[label] - mean) ** 2).sum(1))


def apart_along(probabilities: Array, heights: Array, label: int, others: Sequence[int]) -> Array:
    """The same along a direction of each voxel, with `heights` as in `along`, (n,)."""
    p, rest = probabilities[:, label], probabilities[:, others]
    mean = _over((rest * heights[:, others]).sum(1), rest.sum(1))
    return np.asarray(_between(p, rest.sum(1)) * (heights[:, label] - mean) ** 2)


def directions(probabilities: Array, rows: Array, target: int, rest: Sequence[int]) -> Array:
    """Unit vector from the mean row of the background to the target's, (n, feature)."""
    p = probabilities[:, rest]
    mean = _over(p @ rows[list(rest)], p.sum(1)[:, None])
    g = rows[target] - mean
    return np.asarray(_over(g, np.linalg.norm(g, axis=1, keepdims=True)))


def halved(voxels: Voxels, label: int) -> tuple[Array, Array]:
    """Probabilities and rows after a class was split at random: its new class is the last one."""
    p = np.hstack([voxels.probabilities, voxels.probabilities[:, [label]]])
    p[:, [label, -1]] *= HALVES
    return p, np.vstack([voxels.rows, voxels.rows[label]])


def information(
    voxels: Voxels, names: Sequence[str], targets: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Information under the coarse and the fine label, and what each structure's class is worth.

    Parameters
    ----------
    voxels : what the network made of them
    names : of the classes by id: background, targets, structures
    targets : how many

    Returns
    -------
    totals
        A row for each target and each of `EVERYWHERE`, `IN_QUESTION` (`Total`).
    splits
        A row for each of these and each structure (`Split`).
    """
    structures = range(1 + targets, len(names))
    totals, splits = [], []
    for target in range(1, 1 + targets):
        p = voxels.probabilities[:, target]
        doubt = p * (1 - p)
        for where, weight in ((EVERYWHERE, np.ones_like(p)), (IN_QUESTION, doubt)):
            if not weight.sum():
                continue
            weighed = _Weighed(voxels, target, targets, weight / weight.sum())
            totals.append(weighed.total(names, where))
            splits += [weighed.split(names, where, label) for label in structures]
    return _table(totals, Total), _table(splits, Split)


class _Weighed:
    """Means over voxels, with weights that sum to 1."""

    def __init__(self, voxels: Voxels, target: int, targets: int, weight: Array) -> None:
        self.voxels, self.target, self.targets, self.weight = voxels, target, targets, weight
        classes = voxels.probabilities.shape[1]
        self.all = list(range(classes))
        self.rest = [0, *range(1 + targets, classes)]
        self.p, self.rows = voxels.probabilities, voxels.rows
        self.heights = directions(self.p, self.rows, target, self.rest) @ self.rows.T
        self.size = (voxels.features**2).sum(1)

    def mean(self, values: Array) -> float:
        return float(self.weight @ values)

    def spread(self, members: Sequence[int]) -> float:
        return self.mean(spread(self.p, self.rows, members))

    def along(self, members: Sequence[int]) -> float:
        return self.mean(along(self.p, self.heights, members))

    def trace(self, members: Sequence[int], p: Array) -> float:
        """Over the last layer's weights: J_k = e_k x features, e_k a row of the unit matrix."""
        return self.mean(self.size * spread(p, np.eye(p.shape[1]), members))

    def total(self, names: Sequence[str], where: str) -> Total:
        fine, gain = self.spread(self.all), self.spread(self.rest)
        along_fine, along_gain = self.along(self.all), self.along(self.rest)
        gains, traces = [0.0], [0.0]
        for label in self.rest[1:]:
            p, rows = halved(self.voxels, label)
            halves = [label, p.shape[1] - 1]
            gains.append(self.mean(spread(p, rows, halves)))
            traces.append(self.trace(halves, p))
        return Total(
            target=names[self.target],
            where=where,
            voxels=len(self.p),
            coarse=fine - gain,
            fine=fine,
            gain=gain,
            along_coarse=along_fine - along_gain,
            along_fine=along_fine,
            along_gain=along_gain,
            trace_gain=self.trace(self.rest, self.p),
            halves_gain=max(gains),
            halves_trace_gain=max(traces),
        )

    def split(self, names: Sequence[str], where: str, label: int) -> Split:
        others = [k for k in self.rest if k != label]
        corners = np.eye(len(self.all))
        return Split(
            target=names[self.target],
            where=where,
            structure=names[label],
            probability=self.mean(self.p[:, label]),
            alone=self.mean(apart(self.p, self.rows, label, others)),
            merged=self.spread([0, label]),
            along_alone=self.mean(apart_along(self.p, self.heights, label, others)),
            along_merged=self.along([0, label]),
            trace_alone=self.mean(self.size * apart(self.p, corners, label, others)),
        )


def _between(one: Array, rest: Array) -> Array:
    """P q (1 - q) of two parts of P."""
    return _over(one * rest, one + rest)


def _over(values: Array, by: Array) -> Array:
    """A quotient that is 0 where both are."""
    return np.asarray(np.divide(values, by, out=np.zeros_like(values), where=by > 0))


def _table(rows: Sequence[Total] | Sequence[Split], kind: type) -> pd.DataFrame:
    columns = [field.name for field in fields(kind)]
    return pd.DataFrame([[getattr(row, c) for c in columns] for row in rows], columns=columns)
