"""The marginal loss: against sums over voxels, nnU-Net's own loss, and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

from backsplit.errors import Code, RunError
from backsplit.train.loss import CaseLoss, MarginalLoss, possible_classes

NAMES = ["background", "tumor", "cyst", "liver", "kidney", "spleen"]
TARGETS, IGNORE = 2, 6
UNKNOWN = {"a": ["liver"], "b": ["kidney", 5], "c": None, "d": []}


def batch(seed=0, cases=2, ignored=True, shape=(3, 4, 5)):
    random = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(cases, len(NAMES), *shape, generator=random, dtype=torch.float64)
    highest = IGNORE + 1 if ignored else IGNORE
    return logits, torch.randint(0, highest, (cases, 1, *shape), generator=random)


def nnunet_loss(batch_dice, ignore=None):
    dice = {"batch_dice": batch_dice, "smooth": 1e-5, "do_bg": False, "ddp": False}
    return DC_and_CE_loss(
        dice, {}, ignore_label=ignore, dice_class=MemoryEfficientSoftDiceLoss
    )  # fmt: skip


def obvious(logits, labels, possible, batch_dice, target_dice):
    """Voxel by voxel and class by class, as the module's docstring says it."""
    exp = np.exp(logits.numpy())
    p, y, possible = exp / exp.sum(1, keepdims=True), labels.numpy()[:, 0], possible.numpy()
    entropies = []
    sums = np.zeros((3, *p.shape[:2]))
    for index in np.ndindex(y.shape):
        b, at, label = index[0], index[1:], y[index]
        ignored = label == IGNORE
        could = np.flatnonzero(possible[b]) if ignored else [label]
        if len(could) < p.shape[1]:
            entropies.append(-np.log(sum(p[(b, c, *at)] for c in could)))
        for c in range(p.shape[1]):
            if ignored and c in could:
                continue
            sums[:, b, c] += p[(b, c, *at)] * (label == c), float(label == c), p[(b, c, *at)]
    if batch_dice:
        sums = sums.sum(1, keepdims=True)
    dice = ((2 * sums[0] + 1e-5) / (sums[1] + sums[2] + 1e-5))[:, 1:]
    if target_dice is None:
        total = dice.mean(1)
    else:
        total = target_dice * dice[:, :TARGETS].mean(1)
        total += (1 - target_dice) * dice[:, TARGETS:].mean(1)
    return np.mean(entropies) - total.mean()


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("target_dice", [None, 0.7])
@pytest.mark.parametrize("cases", ["ab", "ca", "dx"])
def test_equals_the_sum_over_voxels_with_sets_of_each_case(batch_dice, target_dice, cases):
    logits, labels = batch()
    possible = possible_classes(UNKNOWN, NAMES, TARGETS, cases)
    loss = MarginalLoss(TARGETS, IGNORE, batch_dice=batch_dice, target_dice=target_dice)
    wanted = obvious(logits, labels, possible, batch_dice, target_dice)
    assert float(loss(logits, labels, possible)) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("shape", [(3, 4, 5), (6, 7)])
@pytest.mark.parametrize("ignore", [None, IGNORE])
def test_is_the_loss_of_nnunet_where_nothing_is_unknown(batch_dice, shape, ignore):
    logits, labels = batch(1, ignored=False, shape=shape)
    logits = logits.float().requires_grad_()
    ours = MarginalLoss(TARGETS, ignore, batch_dice=batch_dice)(logits, labels)
    theirs = nnunet_loss(batch_dice, ignore)(logits, labels)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_is_the_loss_of_nnunet_where_an_ignored_voxel_can_be_anything(batch_dice):
    logits, labels = batch(2)
    possible = possible_classes({"a": None, "b": None}, NAMES, TARGETS, "ab")
    ours = MarginalLoss(TARGETS, IGNORE, batch_dice=batch_dice)(logits.float(), labels, possible)
    theirs = nnunet_loss(batch_dice, IGNORE)(logits.float(), labels)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_is_the_loss_of_lesions_alone_where_no_structure_is_known():
    """Cross-entropy of [logsumexp of the rest, targets], and the Dice of the targets."""
    logits, labels = batch(3)
    labels[labels > TARGETS] = IGNORE
    labels[labels == 0] = IGNORE
    rest = torch.cat([logits[:, :1], logits[:, 1 + TARGETS :]], 1).logsumexp(1, keepdim=True)
    collapsed = torch.cat([rest, logits[:, 1 : 1 + TARGETS]], 1).float()
    binary = torch.where(labels == IGNORE, 0, labels)
    ours = MarginalLoss(TARGETS, IGNORE, target_dice=1.0)(logits.float(), labels)
    torch.testing.assert_close(ours, nnunet_loss(False)(collapsed, binary), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_the_gradient_is_that_of_finite_differences(batch_dice):
    logits, labels = batch(4, shape=(2, 3, 2))
    loss = MarginalLoss(TARGETS, IGNORE, batch_dice=batch_dice, target_dice=0.5)
    possible = possible_classes(UNKNOWN, NAMES, TARGETS, "ab")
    assert torch.autograd.gradcheck(lambda x: loss(x, labels, possible), logits.requires_grad_())


def test_the_gradient_of_an_ignored_voxel_pulls_toward_what_it_can_be():
    """p_k - [k in S] p_k / P_S: it only ever takes from the others, the targets among them."""
    logits = torch.randn(1, 6, 1, 1, 1, dtype=torch.float64).requires_grad_()
    possible = possible_classes(UNKNOWN, NAMES, TARGETS, "a")
    loss = MarginalLoss(TARGETS, IGNORE, target_dice=0.0)
    p, s = logits.detach().softmax(1).flatten(), possible[0]
    entropy = loss._entropy(
        logits.flatten(2).log_softmax(1), p[:1, None], torch.ones(1, 1, dtype=bool), possible
    )
    (gradient,) = torch.autograd.grad(entropy, logits)
    wanted = p - torch.where(s, p / p[s].sum(), 0)
    torch.testing.assert_close(gradient.flatten(), wanted)
    assert (gradient.flatten()[1 : 1 + TARGETS] > 0).all()


def test_half_precision_is_only_that_of_the_logits():
    logits, labels = batch(5, shape=(16, 16, 16))
    half = logits.to(torch.bfloat16)
    loss = MarginalLoss(TARGETS, IGNORE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(half, labels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(half.float(), labels), atol=0, rtol=0)


def test_a_batch_of_which_nothing_is_known_costs_and_teaches_nothing():
    logits, labels = batch(6)
    labels[:] = IGNORE
    logits.requires_grad_()
    possible = possible_classes({"a": None, "b": None}, NAMES, TARGETS, "ab")
    loss = MarginalLoss(TARGETS, IGNORE)(logits, labels, possible)
    assert loss.item() == pytest.approx(-1)  # the Dice of nothing with nothing, as nnU-Net's
    assert not torch.autograd.grad(loss, logits)[0].any()


def test_a_case_that_the_table_does_not_name_can_be_anything_but_a_target():
    no_target = [True, False, False, True, True, True]
    assert possible_classes(UNKNOWN, NAMES, TARGETS, ["z"]).tolist() == [no_target]
    assert possible_classes(None, NAMES, TARGETS, ["a"]).tolist() == [no_target]
    logits, labels = batch(7)
    loss = MarginalLoss(TARGETS, IGNORE)
    given = loss(logits, labels, possible_classes(None, NAMES, TARGETS, "ab"))
    torch.testing.assert_close(loss(logits, labels), given)


@pytest.mark.parametrize("wrong", ["lung", "tumor", 1, 6, 0])
def test_a_table_that_names_what_is_no_structure_is_refused(wrong):
    with pytest.raises(RunError, match="not a structure of the data set") as refused:
        possible_classes({"a": ["liver", wrong]}, NAMES, TARGETS, "a")
    assert refused.value.code is Code.TRAINING_UNSUITED


def test_scales_of_deep_supervision_are_weighted():
    outputs = [batch(seed) for seed in (8, 9, 10)]
    loss = MarginalLoss(TARGETS, IGNORE)
    whole = CaseLoss(loss, [0.6, 0.4, 0.0])
    whole.possible = possible_classes(UNKNOWN, NAMES, TARGETS, "ab")
    logits, labels = zip(*outputs, strict=True)
    parts = [loss(x, y, whole.possible) for x, y in outputs]
    torch.testing.assert_close(whole(logits, labels), 0.6 * parts[0] + 0.4 * parts[1])
    plain = CaseLoss(loss, None)
    torch.testing.assert_close(plain(*outputs[0]), loss(*outputs[0]))


def of_one_process(rank, port, where, batch_dice):
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    logits, labels = batch(11, cases=4)
    mine = slice(2 * rank, 2 * rank + 2)
    possible = possible_classes(UNKNOWN, NAMES, TARGETS, "abcd")[mine]
    weights = torch.ones(6, dtype=torch.float64, requires_grad=True)
    loss = MarginalLoss(TARGETS, IGNORE, batch_dice=batch_dice, ddp=True)
    x = logits[mine] * weights[:, None, None, None]
    entropy = loss._entropy  # its mean is over each process's own voxels: not compared here
    loss._entropy = lambda *_: 0
    value = loss(x, labels[mine], possible)
    (gradient,) = torch.autograd.grad(value, weights)
    loss._entropy = entropy
    torch.distributed.all_reduce(gradient)
    if rank == 0:
        torch.save([value.detach(), gradient / 2], where)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_the_dice_of_a_batch_goes_over_processes_as_nnunet_s(tmp_path):
    """Value and gradient over two processes are those of the whole batch in one."""
    from nnunetv2.run.run_training import find_free_network_port

    where = tmp_path / "found.pt"
    torch.multiprocessing.spawn(
        of_one_process, (find_free_network_port(), where, True), nprocs=2, join=True
    )
    value, gradient = torch.load(where)
    logits, labels = batch(11, cases=4)
    weights = torch.ones(6, dtype=torch.float64, requires_grad=True)
    loss = MarginalLoss(TARGETS, IGNORE, batch_dice=True)
    loss._entropy = lambda *_: 0
    whole = loss(
        logits * weights[:, None, None, None],
        labels,
        possible_classes(UNKNOWN, NAMES, TARGETS, "abcd"),
    )
    torch.testing.assert_close(value, whole.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(whole, weights)[0])
