"""Fisher information: closed forms against brute-force sums, autograd and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backsplit.study.theory import (
    EVERYWHERE,
    IN_QUESTION,
    Voxels,
    along,
    apart,
    apart_along,
    directions,
    halved,
    information,
    spread,
)

CLOSE = 1e-12
NAMES = ("background", "lesion", "liver", "spleen", "vessel", "fat")


def voxels(seed: int = 0, count: int = 40, classes: int = 6, features: int = 5) -> Voxels:
    random = np.random.default_rng(seed)
    rows = random.standard_normal((classes, features))
    seen = random.standard_normal((count, features))
    return Voxels(softmax(seen @ rows.T + random.standard_normal(classes)), seen, rows)


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def fisher(p: np.ndarray, jacobians: np.ndarray, groups: list[list[int]]) -> np.ndarray:
    """Of one voxel: sum over z of p(z) s_z s_z^T with s_z = E[s_Y | z], as it is defined."""
    scores = jacobians - p @ jacobians
    total = np.zeros((jacobians.shape[1],) * 2)
    for group in groups:
        mass = p[group].sum()
        s = (p[group] / mass) @ scores[group]
        total += mass * np.outer(s, s)
    return total


def rest_of(classes: int, targets: int) -> list[int]:
    return [0, *range(1 + targets, classes)]


@pytest.mark.parametrize("targets", [1, 2, 3])
def test_gain_is_the_difference_of_two_sums_over_labels(targets):
    v = voxels()
    rest = rest_of(6, targets)
    fine = [[k] for k in range(6)]
    coarse = [rest, *([t] for t in range(1, 1 + targets))]
    d = directions(v.probabilities, v.rows, 1, rest)
    heights = d @ v.rows.T
    for n, p in enumerate(v.probabilities):
        both = fisher(p, v.rows, fine), fisher(p, v.rows, coarse)
        gain = both[0] - both[1]
        assert np.linalg.eigvalsh(gain).min() > -CLOSE
        assert abs(spread(v.probabilities, v.rows, rest)[n] - np.trace(gain)) < CLOSE
        assert abs(spread(v.probabilities, v.rows, range(6))[n] - np.trace(both[0])) < CLOSE
        assert abs(along(v.probabilities, heights, rest)[n] - d[n] @ gain @ d[n]) < CLOSE
        assert abs(along(v.probabilities, heights, range(6))[n] - d[n] @ both[0] @ d[n]) < CLOSE


def test_coarse_information_of_one_target_has_the_form_of_a_single_vector():
    """I_Z = p (1 - p) g g^T."""
    v = voxels(1)
    rest = rest_of(6, 1)
    for p, d in zip(v.probabilities, directions(v.probabilities, v.rows, 1, rest), strict=True):
        g = v.rows[1] - (p[rest] / p[rest].sum()) @ v.rows[rest]
        coarse = fisher(p, v.rows, [[1], rest])
        assert np.abs(coarse - p[1] * (1 - p[1]) * np.outer(g, g)).max() < CLOSE
        assert np.abs(d - g / np.linalg.norm(g)).max() < CLOSE


def test_scores_are_those_of_autograd_and_of_finite_differences():
    """Features as the parameters: the log-likelihood of each fine and each coarse label."""
    v = voxels(2)
    rest = rest_of(6, 1)
    bias = np.random.default_rng(3).standard_normal(6)
    rows = torch.tensor(v.rows)

    def log_p(at: torch.Tensor, group: list[int]) -> torch.Tensor:
        return (at @ rows.T + torch.tensor(bias)).log_softmax(0)[group].logsumexp(0)

    p = softmax(v.features[:1] @ v.rows.T + bias)
    for groups in ([[k] for k in range(6)], [[1], rest]):
        brute = np.zeros((5, 5))
        for group in groups:
            at = torch.tensor(v.features[0], requires_grad=True)
            value = log_p(at, group)
            (score,) = torch.autograd.grad(value, at)
            step = 1e-5 * torch.eye(5, dtype=torch.float64)
            slope = [(log_p(at + s, group) - log_p(at - s, group)).item() / 2e-5 for s in step]
            assert np.allclose(slope, score.numpy(), atol=1e-9)
            brute += value.exp().item() * np.outer(score, score)
        assert np.abs(brute - fisher(p[0], v.rows, groups)).max() < CLOSE
    gain = np.trace(fisher(p[0], v.rows, [[k] for k in range(6)])) - np.trace(brute)
    assert abs(spread(p, v.rows, rest)[0] - gain) < CLOSE


def test_gains_of_successive_splits_add_up():
    v = voxels(4)
    rest = rest_of(6, 1)
    heights = directions(v.probabilities, v.rows, 1, rest) @ v.rows.T
    left, total, total_along = list(rest), 0.0, 0.0
    for label in rest[:0:-1]:
        left.remove(label)
        total = total + apart(v.probabilities, v.rows, label, left)
        total_along = total_along + apart_along(v.probabilities, heights, label, left)
    assert np.abs(total - spread(v.probabilities, v.rows, rest)).max() < CLOSE
    assert np.abs(total_along - along(v.probabilities, heights, rest)).max() < CLOSE


def test_a_split_at_random_gains_nothing_in_the_space_of_features():
    """While the trace over the last layer's weights claims a gain."""
    v = voxels(5)
    totals, _ = information(v, NAMES, 1)
    assert totals["halves_gain"].abs().max() < CLOSE
    assert (totals["halves_trace_gain"] > 0.01).all()
    p, rows = halved(v, 3)
    whole = Voxels(p, v.features, rows)
    again, splits = information(whole, (*NAMES, "half"), 1)
    for column in ("coarse", "fine", "gain", "along_coarse", "along_fine", "along_gain"):
        assert np.allclose(again[column], totals[column], atol=CLOSE)
    assert (again["trace_gain"] > totals["trace_gain"] + 0.01).all()
    assert np.isclose(p.sum(1), 1).all() and set(splits["structure"]) == {*NAMES[2:], "half"}


def test_last_layer_trace_has_its_closed_form():
    """Gain (1 - p)(1 - sum q^2) |features|^2."""
    v = voxels(6)
    rest = rest_of(6, 1)
    p = v.probabilities
    q = p[:, rest] / (1 - p[:, [1]])
    closed = (1 - p[:, 1]) * (1 - (q**2).sum(1)) * (v.features**2).sum(1)
    totals, splits = information(v, NAMES, 1)
    assert abs(totals["trace_gain"][0] - closed.mean()) < CLOSE
    jacobians = [np.kron(np.eye(6)[k], v.features[0]) for k in range(6)]
    fine = fisher(p[0], np.stack(jacobians), [[k] for k in range(6)])
    coarse = fisher(p[0], np.stack(jacobians), [[1], rest])
    assert abs(closed[0] - np.trace(fine - coarse)) < CLOSE
    two = fisher(p[0], np.stack(jacobians), [[1], [2], [0, 3, 4, 5]])
    one = Voxels(p[:1], v.features[:1], v.rows)
    _, splits = information(one, NAMES, 1)
    liver = splits[(splits["structure"] == "liver") & (splits["where"] == EVERYWHERE)]
    assert abs(liver["trace_alone"].item() - np.trace(two - coarse)) < CLOSE


def test_each_structure_against_sums_over_labels_that_hold_it():
    v = voxels(7)
    targets = 2
    rest = rest_of(6, targets)
    names = ("background", "cyst", "tumour", "liver", "spleen", "fat")
    totals, splits = information(v, names, targets)
    assert len(totals) == 2 * targets and len(splits) == 2 * targets * 3
    doubt = v.probabilities[:, 2] * (1 - v.probabilities[:, 2])
    for where, weight in ((EVERYWHERE, np.full(40, 1 / 40)), (IN_QUESTION, doubt / doubt.sum())):
        for label in (3, 4, 5):
            others = [k for k in rest if k != label]
            alone = merged = 0.0
            for w, p in zip(weight, v.probabilities, strict=True):
                coarse = fisher(p, v.rows, [rest, [1], [2]])
                first = fisher(p, v.rows, [[label], others, [1], [2]])
                fine = fisher(p, v.rows, [[k] for k in range(6)])
                kept = [[k] for k in range(1, 6) if k != label]
                back = fisher(p, v.rows, [[0, label], *kept])
                alone += w * np.trace(first - coarse)
                merged += w * np.trace(fine - back)
            row = splits[
                (splits["target"] == "tumour")
                & (splits["where"] == where)
                & (splits["structure"] == names[label])
            ]
            assert abs(row["alone"].item() - alone) < CLOSE
            assert abs(row["merged"].item() - merged) < CLOSE
    assert (totals["coarse"] + totals["gain"] - totals["fine"]).abs().max() < CLOSE


def test_classes_that_never_occur_are_worth_nothing_and_break_nothing():
    v = voxels(9)
    p = v.probabilities.copy()
    p[:, 4] = 0
    p[0] = [0, 1, 0, 0, 0, 0]
    p /= p.sum(1, keepdims=True)
    totals, splits = information(Voxels(p, v.features, v.rows), NAMES, 1)
    assert np.isfinite(totals.select_dtypes("number")).all(axis=None)
    gone = splits[splits["structure"] == "vessel"]
    columns = ["probability", "alone", "merged", "along_alone", "along_merged", "trace_alone"]
    assert (gone[columns].abs() < CLOSE).all(axis=None)
