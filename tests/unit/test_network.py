"""Which network a trained-model folder holds: held against nnU-Net itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from backsplit.demo import training
from backsplit.segment.network import PLAIN_TRAINERS, Model, load
from backsplit.segment.weights import accept, files_of

OWN_TRAINER = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

class SomebodysOwn(nnUNetTrainer):
    @staticmethod
    def build_network_architecture(plans_manager, configuration_manager, inputs, outputs,
                                   enable_deep_supervision=True):
        return nn.Conv3d(inputs, outputs, 1)
"""


@pytest.fixture(autouse=True)
def ledger(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKSPLIT_WEIGHTS", str(tmp_path / "ledger"))


def trained(folder: Path, trainer: str, folds: int = 1) -> Model:
    """A model of that trainer's own network with random weights, accepted."""
    scale = {"mean": 0.0, "std": 1.0, "percentile_00_5": -9.0, "percentile_99_5": 9.0}
    plans = training._plans({"0": scale})
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    architecture["arch_kwargs"]["features_per_stage"] = [4, 4, 4, 4]
    labels = {"background": 0, "liver": 1, "spleen": 2}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}
    folder.mkdir()
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    manager = PlansManager(plans)
    build = recursive_find_trainer_class_by_name(trainer).build_network_architecture
    for fold in range(folds):
        torch.manual_seed(fold)
        configuration = manager.get_configuration("3d_fullres")
        network = build(manager, configuration, 1, 3, enable_deep_supervision=False)
        checkpoint = {
            "network_weights": network.state_dict(),
            "trainer_name": trainer,
            "init_args": {"configuration": "3d_fullres"},
            "inference_allowed_mirroring_axes": (0, 2),
        }
        (folder / f"fold_{fold}").mkdir()
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    accept(files_of(folder))
    return Model(folder, folds=tuple(range(folds)))


def theirs(model: Model) -> nnUNetPredictor:
    predictor = nnUNetPredictor(device=torch.device("cpu"))
    predictor.initialize_from_trained_model_folder(str(model.folder), model.folds)
    return predictor


@pytest.mark.parametrize("name", sorted(PLAIN_TRAINERS))
def test_plain_trainers_build_the_network_of_the_plans(name):
    trainer = recursive_find_trainer_class_by_name(name)
    assert trainer.build_network_architecture is nnUNetTrainer.build_network_architecture


def test_a_plain_trainer_s_network_is_the_one_that_nnunet_loads(tmp_path):
    model = trained(tmp_path / "model", "nnUNetTrainerNoMirroring", folds=2)
    ours, expected = load(model)._predictor, theirs(model)
    assert repr(ours.network) == repr(expected.network)
    for name in ("trainer_name", "allowed_mirroring_axes", "dataset_json"):
        assert getattr(ours, name) == getattr(expected, name)
    assert ours.plans_manager.plans == expected.plans_manager.plans
    assert ours.configuration_manager.configuration == expected.configuration_manager.configuration
    assert len(ours.list_of_parameters) == 2
    for own, their in zip(ours.list_of_parameters, expected.list_of_parameters, strict=True):
        assert own.keys() == their.keys()
        assert all(torch.equal(own[key], their[key]) for key in own)
    image = torch.rand(1, 32, 32, 32, generator=torch.Generator().manual_seed(1))
    logits = [p.predict_sliding_window_return_logits(image) for p in (ours, expected)]
    assert torch.equal(*logits) and logits[0].std() > 0


def test_trainers_that_build_another_network_are_honoured(tmp_path):
    network = load(trained(tmp_path / "model", "nnUNetTrainerBN"))._predictor.network
    kinds = {type(module) for module in network.modules()}
    assert torch.nn.BatchNorm3d in kinds and torch.nn.InstanceNorm3d not in kinds


def test_somebody_s_own_trainer_is_found_where_nnunet_looks_for_it(tmp_path, monkeypatch):
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "own.py").write_text(OWN_TRAINER)
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path / "trainers"))
    network = load(trained(tmp_path / "model", "SomebodysOwn"))._predictor.network
    assert isinstance(network, torch.nn.Conv3d)
