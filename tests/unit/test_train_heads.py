"""Heads with new classes: probabilities of what was there stay, whatever the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.networks.nets import SegResNet
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from backsplit.errors import Code, RunError
from backsplit.train.heads import extend_heads, largest_change
from support.training import PLAIN, RESIDUAL, plans


def network(kind, classes):
    torch.manual_seed(classes)
    if kind == "SegResNet":
        made = SegResNet(init_filters=8, blocks_down=(1, 1), blocks_up=(1,), out_channels=classes)
    else:
        given = plans("Dataset001_a", kind, features=(4, 6, 8))["configurations"]["3d_fullres"]
        architecture = given["architecture"]
        made = get_network_from_plans(
            architecture["network_class_name"], architecture["arch_kwargs"],
            architecture["_kw_requires_import"], 1, classes, True, True,
        )  # fmt: skip
    with torch.no_grad():
        for name, value in made.named_parameters():
            if "seg_layers" in name or "conv_final.2" in name:
                value.normal_(0, 1.5)  # as trained: at the start heads are small
    return made.eval()


def names(targets, new=0):
    return [
        "background",
        *(f"t{i}" for i in range(targets)),
        *(f"s{i}" for i in range(new)),
    ]


@pytest.mark.parametrize("kind", [PLAIN, RESIDUAL, "SegResNet"])
@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("new", [1, 5, 117])
def test_probabilities_of_targets_stay_at_every_scale(kind, targets, new):
    old, wanted = names(targets), names(targets, new)
    share = np.random.default_rng(new).dirichlet(np.ones(new + 1) / 2) + 1e-6
    share /= share.sum()
    parts = [share[0], *[0] * targets, *share[1:]]
    before, after = network(kind, len(old)), network(kind, len(wanted))
    after.load_state_dict(extend_heads(before.state_dict(), after.state_dict(), old, wanted, parts))
    image = torch.randn(1, 1, 24, 24, 24)
    with torch.no_grad():
        one, other = before(image), after(image)
    assert largest_change(one, other, old, wanted) < 1e-5
    pairs = [(one, other)] if kind == "SegResNet" else list(zip(one, other, strict=True))
    assert len(pairs) == (1 if kind == "SegResNet" else 2)
    for logits, extended in pairs:
        p, q = (x.double().numpy() for x in (logits, extended))
        p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (p, q))
        np.testing.assert_allclose(q[:, 1 : 1 + targets], p[:, 1:], atol=1e-5)
        np.testing.assert_allclose(q[:, 0], p[:, 0] * share[0], atol=1e-5)
        np.testing.assert_allclose(q[:, 1 + targets :].sum(1), p[:, 0] * (1 - share[0]), atol=1e-5)
        assert p[:, 1].max() - p[:, 1].min() > 0.1  # there is something to keep


def test_frequencies_keep_more_of_the_lesion_by_argmax_than_equal_shares():
    old, wanted = names(1), names(1, 117)
    before, after = network(PLAIN, 2), network(PLAIN, 119)
    image = torch.randn(1, 1, 24, 24, 24)
    found = []
    for share in ([1 / 118] * 118, [0.8] + [0.2 / 117] * 117):
        parts = [share[0], 0, *share[1:]]
        after.load_state_dict(
            extend_heads(before.state_dict(), after.state_dict(), old, wanted, parts)
        )
        with torch.no_grad():
            found.append(int((after(image)[0].argmax(1) == 1).sum()))
    with torch.no_grad():
        was = int((before(image)[0].argmax(1) == 1).sum())
    assert found[0] > found[1] >= was


def test_a_class_that_both_have_keeps_its_row_whatever_its_id():
    """A network of nested structures: its liver stays, under another id."""
    old, wanted = ["background", "t0", "liver"], ["background", "t0", "spleen", "liver"]
    before, after = network(PLAIN, 3), network(PLAIN, 4)
    parts = [0.7, 0, 0.3, 0]
    after.load_state_dict(extend_heads(before.state_dict(), after.state_dict(), old, wanted, parts))
    image = torch.randn(1, 1, 24, 24, 24)
    with torch.no_grad():
        assert largest_change(before(image), after(image), old, wanted) < 1e-5
        p, q = (x[0].softmax(1) for x in (before(image), after(image)))
    torch.testing.assert_close(q[:, 3], p[:, 2], atol=1e-5, rtol=0)


def test_a_change_is_noticed():
    logits = torch.randn(1, 2, 4, 4, 4)
    moved = torch.cat([logits, logits[:, :1]], 1)  # background counted twice
    assert largest_change(logits, moved, names(1), names(1, 1)) > 0.01


@pytest.mark.parametrize("wrong", ["layers", "shapes", "equal"])
def test_other_networks_are_refused(wrong):
    old, wanted = names(1), names(1, 2)
    before, after = network(PLAIN, 2).state_dict(), network(PLAIN, 4).state_dict()
    if wrong == "layers":
        after = network(RESIDUAL, 4).state_dict()
    elif wrong == "shapes":
        after["encoder.stages.0.0.convs.0.conv.weight"] = torch.zeros(4, 1, 5, 5, 5)
    else:
        after = before
    with pytest.raises(RunError, match="not that of the plans") as refused:
        extend_heads(before, after, old, wanted, [0.8, 0, 0.1, 0.1])
    assert refused.value.code is Code.EXTENSION_MISMATCH
