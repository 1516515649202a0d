"""What a trained network makes of voxels, held against the network itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn
from totalsegmentator.map_tasks_config import TASK_ID_WEIGHTS_CONFIGS

from backsplit.errors import Code, RunError
from backsplit.segment.network import Model, load
from backsplit.segment.weights import accept, files_of
from backsplit.study.features import _last_layer, joined, observe
from backsplit.train.segresnet import nnUNetTrainerBackSplitSegResNet
from support.networks import random_network
from support.training import RESIDUAL, plans

CLASSES = 5


@pytest.fixture
def network(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKSPLIT_WEIGHTS", str(tmp_path / "ledger"))
    random_network(tmp_path, 298, CLASSES, 6.0, "nnUNetTrainer", patch=16)
    folder = tmp_path / TASK_ID_WEIGHTS_CONFIGS[298]["foldername"]
    model = Model(folder / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    accept(files_of(model.folder))
    return load(model)


def image(*shape):
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [(16, 16, 16), (16, 11, 9)])
def test_every_voxel_of_the_image_and_none_of_the_padding(network, shape):
    """As many voxels as there are: those of the network itself, in some order."""
    data = image(*shape)
    seen = observe(network, data, 16**3, seed=0)
    low = [(16 - n) // 2 for n in shape]
    around = [side for n, a in zip(shape[::-1], low[::-1], strict=True) for side in (a, 16 - n - a)]
    with torch.inference_mode():
        logits = network._predictor.network(nn.functional.pad(data, around)[None])[0].double()
    inside = tuple(slice(a, a + n) for n, a in zip(shape, low, strict=True))
    expected = logits[(slice(None), *inside)].softmax(0).flatten(1).T.numpy()
    assert seen.probabilities.shape == expected.shape
    assert np.abs(np.sort(seen.probabilities, 0) - np.sort(expected, 0)).max() < 1e-9


def test_logits_are_those_of_features_and_rows(network):
    seen = observe(network, image(40, 20, 24), 500, seed=3)
    again = observe(network, image(40, 20, 24), 500, seed=3)
    assert np.array_equal(seen.features, again.features)
    assert 500 <= len(seen.features) < 600 and seen.features.dtype == np.float64
    logits = seen.features @ seen.rows.T
    bias = np.log(seen.probabilities) - logits
    bias -= bias[:, :1]
    assert np.ptp(bias, axis=0).max() < 1e-3 and np.abs(bias).max() > 0
    both = joined([seen, again])
    assert len(both.probabilities) == 2 * len(seen.probabilities)


@pytest.mark.parametrize("kind", ["ResidualEncoderUNet", "SegResNet"])
def test_the_last_layer_of_other_networks_is_found(kind):
    made = plans("Dataset001_x", RESIDUAL, features=(4, 8, 8))
    manager = PlansManager(made)
    trainer = nnUNetTrainerBackSplitSegResNet if kind == "SegResNet" else nnUNetTrainer
    build = trainer.build_network_architecture
    module = build(manager, manager.get_configuration("3d_fullres"), 1, 4, False).eval()
    with torch.inference_mode():
        features, logits, rows = _last_layer(module, torch.rand(1, 1, 16, 16, 16))
        difference = logits - torch.einsum("kf,bfzyx->bkzyx", rows, features)
    assert rows.shape[0] == 4
    assert (difference - difference[:, :, :1, :1, :1]).abs().max() < 1e-4  # the bias alone


def test_a_network_without_such_a_layer_is_refused():
    wide = nn.Sequential(nn.Conv3d(1, 4, 3), nn.Conv3d(4, 3, 3))
    bent = nn.Sequential(nn.Conv3d(1, 3, 1), nn.ReLU())
    for module in (wide, bent):
        with pytest.raises(RunError) as error:
            _last_layer(module, torch.rand(1, 1, 8, 8, 8))
        assert error.value.code is Code.MODEL_INVALID
