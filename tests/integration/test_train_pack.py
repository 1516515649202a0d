"""A packed model: nnU-Net alone predicts with it, and predicts the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from typer.testing import CliRunner

from backsplit.cli import app
from backsplit.train.nnunet import TRAINERS
from backsplit.train.segresnet import nnUNetTrainerBackSplitSegResNet
from backsplit.train.trainer import nnUNetTrainerBackSplit
from support import training
from support.project import load
from support.training import data_set, settings, trainer_of

pytestmark = pytest.mark.slow


def call(*arguments, ok=True):
    done = CliRunner().invoke(app, ["train", "pack", *map(str, arguments)])
    assert (done.exit_code == 0) == ok, done.output
    return done.stdout.strip() if ok else done.stderr


def logits(model, image):
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False)
    predictor.initialize_from_trained_model_folder(str(model), None)
    with torch.no_grad():
        return predictor.predict_sliding_window_return_logits(image).numpy()


def test_nnunet_alone_predicts_the_same_with_a_packed_model(tmp_path, monkeypatch):
    training.paths(monkeypatch, tmp_path)
    name = data_set(tmp_path, 501, unknown={"p1": ["liver"]})
    settings(tmp_path, name, epochs=1, iterations=2)
    trainer = trainer_of(nnUNetTrainerBackSplit, name)
    trainer.run_training()
    data = trainer.dataset_class(trainer.preprocessed_dataset_folder)
    image = torch.from_numpy(data.load_case("p4")[0][:])
    model = Path(trainer.output_folder_base)
    monkeypatch.setenv("nnUNet_extTrainer", str(TRAINERS))
    before = logits(model, image)
    monkeypatch.delenv("nnUNet_extTrainer")
    packed = Path(call(model, tmp_path / "out"))
    assert packed == tmp_path / "out" / name / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    np.testing.assert_array_equal(logits(packed, image), before)
    described = json.loads((packed / "dataset.json").read_text())
    assert "unknown" not in described and described["labels"]["ignore"] == 7
    (file,) = packed.rglob("*.pth")
    assert file.stat().st_size < (model / "fold_0" / "checkpoint_final.pth").stat().st_size * 0.6
    assert not {"p0", "p4"} & set(str(torch.load(file, weights_only=True)).split("'"))

    assert "(code WOULD_OVERWRITE)" in call(model, tmp_path / "out", ok=False)
    assert "(code WEIGHTS_MISSING)" in call(model, tmp_path / "b", "--fold", 3, ok=False)
    settings(tmp_path, name, epochs=1, iterations=1)
    other = trainer_of(nnUNetTrainerBackSplitSegResNet, name)
    other.run_training()
    told = call(other.output_folder_base, tmp_path / "c", ok=False)
    assert (
        "(code TRAINING_UNSUITED)" in told and "nnU-Net cannot build it without backsplit" in told
    )
    assert not (tmp_path / "b").exists() and not (tmp_path / "c").exists()


@pytest.mark.parametrize("kind", [nnUNetTrainerBackSplit, nnUNetTrainerBackSplitSegResNet])
def test_train_predict_finds_our_trainers_by_itself(tmp_path, monkeypatch, kind):
    training.paths(monkeypatch, tmp_path)
    monkeypatch.setenv("BACKSPLIT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    name = data_set(tmp_path, 501, cases=3)
    settings(tmp_path, name, epochs=1, iterations=1)
    trainer = trainer_of(kind, name)
    trainer.run_training()
    images = tmp_path / "raw" / name / "imagesTr"
    arguments = [trainer.output_folder_base, str(tmp_path / "out"), "--images", str(images)]
    CliRunner().invoke(app, ["weights", "accept", str(trainer.output_folder_base)])
    done = CliRunner().invoke(
        app, ["train", "predict", *arguments, "--device", "cpu", "--no-mirroring"]
    )
    assert done.exit_code == 0, done.output
    found = [load(tmp_path / "out" / f"p{i}.nii.gz") for i in range(3)]
    assert all(set(np.unique(labels)) <= {0, 1} for labels in found)
    assert found[0].shape == load(images / "p0_0000.nii.gz").shape
