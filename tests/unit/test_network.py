"""Which network a trained-model folder holds: held against nnU-Net itself."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import get_bbox_from_mask
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.preprocessing.cropping.cropping import create_nonzero_mask
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from backsplit.demo import training
from backsplit.segment.network import PLAIN_TRAINERS, Model, Network, load
from backsplit.segment.preparation import Source, nonzero_box, usual_resampling
from backsplit.segment.weights import accept, files_of
from backsplit.train.nnunet import TRAINERS

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
def test_plain_trainers_build_the_network_of_the_plans(name, monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", str(TRAINERS))  # where ours are found
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


def plans_manager(spacing, schemes, transposed=(0, 1, 2)) -> PlansManager:
    scale = {"mean": 10.0, "std": 90.0, "percentile_00_5": -300.0, "percentile_99_5": 300.0}
    plans = training._plans({str(i): scale for i in range(len(schemes))})
    plans["transpose_forward"] = list(transposed)
    plans["transpose_backward"] = [int(i) for i in np.argsort(transposed)]
    configuration = plans["configurations"]["3d_fullres"]
    configuration["spacing"] = list(spacing)
    configuration["normalization_schemes"] = list(schemes)
    configuration["use_mask_for_norm"] = [scheme == "ZScoreNormalization" for scheme in schemes]
    return PlansManager(plans)


def holed_image(channels: int) -> np.ndarray:
    """Noise with zeros round it on some sides, zeros within, and zeros that reach the border."""
    image = np.random.default_rng(0).integers(-500, 500, (channels, 20, 25, 30)).astype(np.int16)
    image[image == 0] = 1
    image[:, :3], image[:, :, -4:], image[:, :, :, :2] = 0, 0, 0
    image[:, 8:12, 8:12, 8:12] = 0  # a hole
    image[:, 14:, 5:9, 5:9] = 0  # open at the last plane
    image[0, 10, 18] = 0  # not in the other channels
    return image


@pytest.mark.parametrize("transposed", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize(
    ("own", "given"),
    [
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
        ((1.0, 1.5, 1.5), (2.0, 1.0, 1.0)),
        ((1.0, 1.0, 1.0), (5.0, 0.9, 0.9)),
        ((1.0, 1.0, 4.0), (1.0, 1.2, 1.0)),
        ((1.0, 1.0), (3.0, 0.7, 0.7)),
    ],
)
@pytest.mark.parametrize(
    "schemes",
    [
        ("CTNormalization",),
        ("ZScoreNormalization", "CTNormalization"),
        ("RescaleTo01Normalization", "NoNormalization"),
    ],
)
def test_preparation_equals_nnunet_s_own(own, given, schemes, transposed):
    manager = plans_manager(own, schemes, transposed)
    configuration = manager.get_configuration("3d_fullres")
    image = holed_image(len(schemes))
    dataset = {"labels": {"background": 0, "a": 1}, "channel_names": {"0": "x"}}
    predictor = SimpleNamespace(
        network=torch.nn.Identity(), plans_manager=manager, configuration_manager=configuration,
        device=torch.device("cpu"), dataset_json=dataset,
    )  # fmt: skip
    expected, _, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        image, None, {"spacing": list(given)}, manager, configuration, dataset
    )
    source = Source(image, {"spacing": list(given)})
    prepared = Network(predictor).prepare(source)
    difference = np.abs(prepared.data.numpy() - expected).max()
    assert difference <= 1e-6 * np.ptp(expected)
    if expected.shape[1:] == tuple(properties["shape_after_cropping_and_before_resampling"]):
        np.testing.assert_array_equal(prepared.data.numpy(), expected)
    assert prepared.properties == properties
    again = Network(predictor).prepare(source)  # a second network of the task
    np.testing.assert_array_equal(again.data.numpy(), prepared.data.numpy())


def test_what_is_zero_everywhere_is_not_cropped():
    assert nonzero_box(np.zeros((2, 3, 4, 5))) == [[0, 3], [0, 4], [0, 5]]


@pytest.mark.parametrize("shape", [(6, 7, 8), (1, 9, 9), (5, 1, 4)])
def test_holes_are_filled_as_nnunet_fills_them(shape):
    for seed in range(20):
        image = np.random.default_rng(seed).random((1, *shape)).round()
        whole = create_nonzero_mask(image)
        cropped = Source(image, {}).cropped((0, 1, 2))
        inside = tuple(slice(*ends) for ends in cropped.box)
        assert cropped.box == get_bbox_from_mask(whole)
        np.testing.assert_array_equal(cropped.mask, whole[inside])


def test_somebody_s_resampling_is_called_as_the_plans_say(tmp_path):
    """Plans may name torch's resampling; then its results are taken, whole channels at a time."""
    manager = plans_manager((1.0, 1.0, 1.0), ("CTNormalization",))
    entry = manager.plans["configurations"]["3d_fullres"]
    for what in ("data", "probabilities"):
        entry[f"resampling_fn_{what}"] = "resample_torch_fornnunet"
        entry[f"resampling_fn_{what}_kwargs"] = {"is_seg": False, "force_separate_z": False}
    configuration = manager.get_configuration("3d_fullres")
    assert usual_resampling(configuration.resampling_fn_data, [1, 1, 1], [2, 2, 2]) is None
    dataset = {"labels": {"background": 0, "a": 1, "b": 2}, "channel_names": {"0": "x"}}
    predictor = SimpleNamespace(
        network=torch.nn.Identity(), plans_manager=manager, configuration_manager=configuration,
        device=torch.device("cpu"), dataset_json=dataset,
        label_manager=manager.get_label_manager(dataset),
    )  # fmt: skip
    image = holed_image(1)
    spacing = {"spacing": [1.5, 1.2, 0.8]}
    expected, _, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        image, None, dict(spacing), manager, configuration, dataset
    )
    network = Network(predictor)
    prepared = network.prepare(Source(image, spacing))
    np.testing.assert_array_equal(prepared.data.numpy(), expected)
    logits = torch.rand((3, *expected.shape[1:]), generator=torch.Generator().manual_seed(0)).half()
    theirs = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits, manager, configuration, predictor.label_manager, properties
    )
    np.testing.assert_array_equal(network.labels(logits, prepared.properties), theirs)
