"""From logits to labels: compiled loops and torch's path against nnU-Net's own functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from backsplit.segment import logits as module
from backsplit.segment.logits import (
    _rounded,
    largest_channel,
    largest_channel_on_device,
    lattice,
    piece,
    regions,
)

SHAPES = [
    ((10, 13, 17), (24, 30, 27)),
    ((20, 15, 90), (12, 40, 33)),
    ((8, 9, 10), (8, 20, 21)),
    ((3, 4, 70), (5, 4, 200)),
]


def random_logits(kind: str, channels: int, shape) -> np.ndarray:
    """Float16: of usual size, of subnormal size, or thirds, of which many are equal."""
    random = np.random.default_rng(0)
    values = random.normal(0, 1, (channels, *shape))
    if kind == "equal":
        values = np.round(values * 3) / 3
    return (values * {"usual": 30, "tiny": 1e-6, "equal": 1}[kind]).astype(np.float16)


@pytest.mark.parametrize("kind", ["usual", "tiny", "equal"])
@pytest.mark.parametrize("nearest", [None, 0, 1, 2])
@pytest.mark.parametrize(("shape", "wanted"), SHAPES)
def test_resampled_labels_equal_nnunet_s(shape, wanted, nearest, kind):
    values = random_logits(kind, 7, shape)
    theirs = resample_data_or_seg(values, wanted, False, nearest, 1, nearest is not None)
    to = lattice(shape, wanted, nearest)
    given = torch.from_numpy(values)
    channel = piece(given[3], to, 0, wanted[0]).numpy()
    np.testing.assert_array_equal(channel, theirs[3])  # float16, to the bit
    expected = theirs.argmax(0)
    np.testing.assert_array_equal(largest_channel(given, to), expected)
    np.testing.assert_array_equal(largest_channel_on_device(given, to), expected)
    assert len(np.unique(expected)) == 7


@pytest.mark.parametrize("kind", ["usual", "tiny", "equal"])
@pytest.mark.parametrize("channels", [1, 2, 9, 300])
def test_labels_on_the_network_s_own_lattice(channels, kind):
    values = random_logits(kind, channels, (4, 30, 50))
    values[:, 0, 0, :9] = 0.0
    values[channels // 2, 0, 0, :5] = -0.0  # is 0
    values[:, 0, 1] = np.inf
    given = torch.from_numpy(values)
    labels = largest_channel(given, None)
    np.testing.assert_array_equal(labels, values.argmax(0))
    np.testing.assert_array_equal(largest_channel_on_device(given, None), labels)
    assert labels.dtype == (np.uint16 if channels > 256 else np.uint8)
    single = given.float()
    np.testing.assert_array_equal(largest_channel(single, None), values.argmax(0))


def test_a_channel_that_wins_nothing_is_passed_over_without_harm():
    """Boxes that win, next to channels that win nowhere: what real logits look like."""
    values = np.full((12, 10, 40, 150), -6, np.float16)
    values[0] = 1
    random = np.random.default_rng(0)
    for channel in range(1, 8):
        z, y, x = (int(random.integers(0, n // 2)) for n in (10, 40, 150))
        values[channel, z : z + 5, y : y + 20, x : x + 60] = random.normal(3, 1, (1,))
    values += random.normal(0, 0.01, values.shape).astype(np.float16)
    wanted = (17, 71, 260)
    theirs = resample_data_or_seg(values, wanted, False, None, 1, False)
    labels = largest_channel(torch.from_numpy(values), lattice(values.shape[1:], wanted, None))
    np.testing.assert_array_equal(labels, theirs.argmax(0))


def test_float64_becomes_float16_in_one_rounding():
    """Midpoints between float16 and their neighbours in float64: where two roundings err."""
    half = np.arange(0x7BFF, dtype=np.uint16).view(np.float16)
    middle = (half.astype(float) + np.nextafter(half, np.float16(np.inf)).astype(float)) / 2
    for values in (middle, np.nextafter(middle, 0), np.nextafter(middle, 1e9), middle * (1 + 1e-9)):
        for sign in (1, -1):
            ours = _rounded(torch.from_numpy(sign * values)).numpy()
            np.testing.assert_array_equal(ours, (sign * values).astype(np.float16))


@pytest.mark.parametrize("nearest", [None, 0])
def test_regions_equal_nnunet_s(nearest):
    names = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "spot": 3}
    manager = LabelManager(names, [1, 2, 3])
    shape, wanted = (8, 11, 13), (13, 20, 9)
    values = random_logits("usual", 3, shape)
    values[0, 2] = np.float16(6e-8)  # above 0, but its probability is one half
    theirs = resample_data_or_seg(values, wanted, False, nearest, 1, nearest is not None)
    to = lattice(shape, wanted, nearest)
    for at, resampled in ((to, theirs), (None, values)):
        expected = manager.convert_logits_to_segmentation(torch.from_numpy(resampled))
        labels = regions(torch.from_numpy(values), at, [1, 2, 3], manager.inference_nonlin)
        np.testing.assert_array_equal(labels, expected.numpy())
        assert set(np.unique(labels)) == {0, 1, 2, 3}


def test_pieces_of_a_device_hold_to_its_memory(monkeypatch):
    """The path of a GPU, on the CPU: pieces of one plane give the same labels."""
    values = random_logits("equal", 5, (9, 10, 11))
    given, to = torch.from_numpy(values), lattice((9, 10, 11), (20, 17, 30), None)
    whole = largest_channel_on_device(given, to)
    monkeypatch.setattr(module, "COPIES", 1 << 20)
    pieces = module._device_pieces(given, to)
    assert pieces == [(i, i + 1) for i in range(20)]
    np.testing.assert_array_equal(largest_channel_on_device(given, to), whole)
    names = {"background": 0, "a": [1, 2], "b": 2}
    manager = LabelManager(names, [1, 2])
    cut = regions(given[:2], to, [1, 2], manager.inference_nonlin)
    monkeypatch.undo()
    np.testing.assert_array_equal(regions(given[:2], to, [1, 2], manager.inference_nonlin), cut)
