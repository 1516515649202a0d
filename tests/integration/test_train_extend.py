"""A network of lesions goes on with anatomy: the command, and nnU-Net's own training loop."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nnunetv2.training.nnUNetTrainer.nnUNetTrainer as base
import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from typer.testing import CliRunner

from backsplit.cli import app
from backsplit.train.nnunet import TRAINERS
from backsplit.train.segresnet import nnUNetTrainerBackSplitSegResNet
from backsplit.train.trainer import nnUNetTrainerBackSplit
from support import training
from support.project import load
from support.training import LESIONS, PLAIN, RESIDUAL, data_set, plans, settings, trainer_of

pytestmark = pytest.mark.slow

MANY = [f"vertebra{i}" for i in range(112)]
"""With the five organs there are 117 new classes."""

SHORT = {"epochs": 1, "iterations": 1}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    training.paths(monkeypatch, tmp_path)
    monkeypatch.setenv("nnUNet_extTrainer", str(TRAINERS))
    monkeypatch.setattr(base.MetaLogger, "plot_progress_png", lambda *_: None)  # seconds an epoch
    torch.manual_seed(0)
    np.random.seed(0)
    return tmp_path


def trained(folder, kind, network, targets, asked, number=502):
    """A model folder of a network of lesions alone."""
    name = f"Dataset{number}_phantoms{number}"
    data_set(folder, number, targets, (), made=plans(name, network))
    settings(folder, name, **asked)
    trainer = trainer_of(kind, name)
    trainer.run_training()
    return Path(trainer.output_folder_base)


def extend(model, dataset="501", *more, ok=True):
    """Call the command; what it prints, or its message."""
    done = CliRunner().invoke(app, ["train", "extend", str(model), dataset, *more])
    assert (done.exit_code == 0) == ok, done.output
    return done.stdout if ok else done.stderr


def probabilities(model, checkpoint, case):
    """Of every class of a preprocessed case, by the network as nnU-Net's predictor loads it.

    The sliding window is MONAI's: nnU-Net's adds up logits in half precision.
    """
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False)
    predictor.initialize_from_trained_model_folder(str(model), (0,), checkpoint)
    with torch.no_grad():
        logits = sliding_window_inference(case[None], (16, 16, 16), 8, predictor.network.eval())
    return logits[0].double().softmax(0).numpy()


@pytest.mark.parametrize(
    ("kind", "network", "targets", "more"),
    [
        (nnUNetTrainerBackSplit, PLAIN, ("tumor",), MANY),
        (nnUNetTrainerBackSplit, RESIDUAL, tuple(LESIONS), ()),
        (nnUNetTrainerBackSplitSegResNet, PLAIN, tuple(LESIONS), ()),
    ],
)
def test_targets_keep_their_probability_on_a_case(
    folder, monkeypatch, kind, network, targets, more
):
    model = trained(folder, kind, network, targets, {"epochs": 1, "iterations": 4})
    name = data_set(
        folder, 501, targets, made=plans("Dataset501_phantoms501", network), more=more
    )  # fmt: skip
    told = extend(model)
    assert told.splitlines()[-1] == (
        f"nnUNetv2_train 501 3d_fullres 0 -tr {kind.__name__} -p nnUNetPlans --c"
    )
    out = folder / "results" / name / model.name
    for file in ("plans.json", "dataset.json"):  # nnU-Net writes them when it goes on
        source = "nnUNetPlans.json" if file == "plans.json" else file
        shutil.copy(folder / "preprocessed" / name / source, out / file)
    data = base.infer_dataset_class(str(folder / "preprocessed" / name / "nnUNetPlans_3d_fullres"))(
        str(folder / "preprocessed" / name / "nnUNetPlans_3d_fullres")
    )
    image = torch.from_numpy(data.load_case("p4")[0][:])
    before = probabilities(model, "checkpoint_final.pth", image)
    after = probabilities(out, "checkpoint_latest.pth", image)
    count = len(targets)
    assert len(after) == len(before) + 5 + len(more)
    np.testing.assert_allclose(after[1 : 1 + count], before[1:], atol=1e-5)
    assert np.ptp(before[1]) > 0.01  # there is something to keep
    stored = torch.load(out / "fold_0" / "checkpoint_latest.pth", weights_only=False)
    assert stored["current_epoch"] == 0 and stored["_best_ema"] is None
    assert not stored["optimizer_state"]["state"] and not any(stored["logging"].values())
    share = stored["init_args"]["backsplit"]["extended"]["share"]
    labels = np.concatenate(
        [load(folder / "raw" / name / "labelsTr" / f"p{i}.nii.gz").ravel() for i in range(4)]
    )
    rest = labels[(labels == 0) | (labels > count)]
    assert share["liver"] == pytest.approx((rest == count + 1).sum() / len(rest), rel=1e-2)


def test_ten_epochs_of_going_on_do_not_lose_the_lesion(folder):
    learnt = {"forced": 1.0, "targets": 1.0, "learning_rate": 0.03}
    asked = {"epochs": 4, "iterations": 80, "validation_iterations": 8, **learnt}
    model = trained(folder, nnUNetTrainerBackSplit, PLAIN, ("tumor",), asked)
    was = torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)
    before = was["logging"]["mean_fg_dice"][-1]
    name = data_set(folder, 501)
    extend(model)
    settings(folder, name, epochs=10, iterations=15, validation_iterations=8, **learnt)
    trainer = trainer_of(nnUNetTrainerBackSplit, name, continued=True)
    trainer.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_latest.pth"))
    assert trainer.current_epoch == 0 and trainer.lr_scheduler.warm_up == 10
    trainer.run_training()
    dice = trainer.logger.get_value("mean_fg_dice", step=None)
    losses = trainer.logger.get_value("train_losses", step=None)
    rates = trainer.logger.get_value("lrs", step=None)
    print(before, [round(float(d), 3) for d in dice], [round(float(x), 3) for x in losses])
    assert len(dice) == 10 and losses[-1] < losses[0]
    assert rates[0] == pytest.approx(0.03 / 11) and rates[1] > rates[0]
    assert before > 0.2 and min(dice[0], dice[-1]) > before / 2


def of_nnunets_own_trainer(folder, made):
    """A model folder as nnU-Net's trainer leaves it, untrained."""
    name = data_set(folder, 502, ("tumor",), (), made=made)
    plain = trainer_of(base.nnUNetTrainer, name)
    plain.initialize()
    plain.save_checkpoint(str(Path(plain.output_folder) / "checkpoint_final.pth"))
    model = Path(plain.output_folder_base)
    shutil.copy(folder / "preprocessed" / name / "nnUNetPlans.json", model / "plans.json")
    shutil.copy(folder / "preprocessed" / name / "dataset.json", model / "dataset.json")
    return model


def slices(name):
    """Plans of a 2D network."""
    made = plans(name)
    configuration = made["configurations"]["3d_fullres"]
    configuration |= {"patch_size": [16, 16], "spacing": [6.0, 6.0]}
    kwargs = configuration["architecture"]["arch_kwargs"]
    kwargs |= {"kernel_sizes": [[3, 3]] * 3, "strides": [[1, 1], [2, 2], [2, 2]]}
    kwargs["conv_op"] = "torch.nn.modules.conv.Conv2d"
    kwargs["norm_op"] = "torch.nn.modules.instancenorm.InstanceNorm2d"
    return made


@pytest.mark.parametrize("of", [plans, slices])
def test_a_network_of_nnunets_own_trainer_goes_on_in_ours(folder, of):
    model = of_nnunets_own_trainer(folder, of("Dataset502_phantoms502"))
    name = data_set(folder, 501, made=of("Dataset501_phantoms501"))
    assert "-tr nnUNetTrainerBackSplit -p nnUNetPlans --c" in extend(model)
    settings(folder, name, epochs=1, iterations=1)
    trainer = trainer_of(nnUNetTrainerBackSplit, name, continued=True)
    trainer.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_latest.pth"))
    trainer.run_training()
    assert len(trainer.logger.get_value("train_losses", step=None)) == 1


def edited(path, change):
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def test_what_does_not_fit_is_refused_and_says_why(folder):
    model = trained(folder, nnUNetTrainerBackSplit, PLAIN, ("tumor",), SHORT)
    name = data_set(folder, 501)
    ready, raw = folder / "preprocessed" / name, folder / "raw" / name
    own = (ready / "nnUNetPlans.json").read_text()

    def clipped(plans):
        properties = plans["foreground_intensity_properties_per_channel"]["0"]
        properties["percentile_00_5"] = -896.0

    edited(ready / "nnUNetPlans.json", clipped)
    told = extend(model, ok=False)
    assert "(code EXTENSION_MISMATCH)" in told and "-896" in told and "--plans" in told

    def strided(plans):
        plans["configurations"]["3d_fullres"]["spacing"] = [1.0, 1.0, 1.0]
        plans["configurations"]["3d_fullres"]["batch_size"] = 7  # may differ

    (ready / "nnUNetPlans.json").write_text(own)
    edited(ready / "nnUNetPlans.json", strided)
    told = extend(model, ok=False)
    assert "spacing is [1.0, 1.0, 1.0], the network's [6.0, 6.0, 6.0]" in told
    assert "batch_size" not in told
    (ready / "nnUNetPlans.json").write_text(own)

    described = (raw / "dataset.json").read_text()
    for change, words in (
        (lambda d: d["labels"].pop("tumor"), "the network has tumor, which the data set lacks"),
        (lambda d: d.update(channel_names={"0": "MR"}), "channels are {'0': 'MR'}"),
        (lambda d: d.update(labels={"background": 0, "tumor": 1}), "adds no class to the network"),
        (lambda d: d["labels"].update(liver=[2, 3]), "labels are regions (liver)"),
    ):
        edited(raw / "dataset.json", change)
        told = extend(model, ok=False)
        assert "(code EXTENSION_MISMATCH)" in told and words in told
        (raw / "dataset.json").write_text(described)

    folds = (ready / "splits_final.json").read_text()
    (ready / "splits_final.json").write_text(
        json.dumps([{"train": ["p2", "p3", "p4", "p5"], "val": ["p0", "p1"]}])
    )
    told = extend(model, ok=False)
    assert "validates on 2 cases on which the network was trained (p0, p1)" in told
    (ready / "splits_final.json").write_text(folds)

    assert "(code WEIGHTS_MISSING)" in extend(model, "501", "--fold", "3", ok=False)
    assert "(code MODEL_INVALID)" in extend(folder, ok=False)
    kept = (model / "plans.json").read_text()
    for key in ("plans_name", "dataset_name"):
        for name in ("../../elsewhere", "a; rm -r b", "$(b)"):
            edited(model / "plans.json", lambda p, key=key, name=name: p.update({key: name}))
            assert "(code MODEL_INVALID)" in extend(model, ok=False)
    (model / "plans.json").write_text(kept)
    assert "(code TRAINING_UNSUITED)" in extend(model, "77", ok=False)
    assert "(code TRAINING_UNSUITED)" in extend(model, "501", "--trainer", "Nobody", ok=False)
    other = "nnUNetTrainerBackSplitSegResNet"
    assert "(code EXTENSION_MISMATCH)" in extend(model, "501", "--trainer", other, ok=False)
    assert not list((folder / "results" / name).rglob("*.pth"))
    extend(model)
    told = extend(model, ok=False)
    assert "(code WOULD_OVERWRITE)" in told and "checkpoint_latest.pth" in told


def test_plans_are_carried_over_and_what_to_run_is_told(folder):
    model = trained(folder, nnUNetTrainerBackSplit, PLAIN, ("tumor",), SHORT)
    name = data_set(folder, 501)
    ready = folder / "preprocessed" / name
    told = extend(model, "501", "--plans", "Carried").splitlines()
    assert told == [
        "nnUNetv2_preprocess -d 501 -plans_name Carried -c 3d_fullres",
        "nnUNetv2_train 501 3d_fullres 0 -tr nnUNetTrainerBackSplit -p Carried --c",
    ]
    carried = json.loads((ready / "Carried.json").read_text())
    assert carried["dataset_name"] == name and carried["plans_name"] == "Carried"
    assert carried["configurations"]["3d_fullres"]["data_identifier"] == "Carried_3d_fullres"
    shutil.rmtree(ready)  # as where nothing was preprocessed yet
    told = extend(model, name).splitlines()
    assert told[0] == "nnUNetv2_preprocess -d 501 -plans_name nnUNetPlans -c 3d_fullres"
    files = {path.name for path in ready.iterdir()}
    assert files == {
        "nnUNetPlans.json", "dataset.json", "dataset_fingerprint.json", "splits_final.json",
    }  # fmt: skip


def test_a_checkpoint_that_would_run_code_is_not_opened(folder):
    class Code:
        def __reduce__(self):
            return (Path.touch, (folder / "ran",))

    model = trained(folder, nnUNetTrainerBackSplit, PLAIN, ("tumor",), SHORT)
    data_set(folder, 501)
    torch.save({"network_weights": {}, "init_args": Code()}, model / "fold_0" / "bad.pth")
    told = extend(model, "501", "--checkpoint", "bad.pth", ok=False)
    assert "(code MODEL_INVALID)" in told and not (folder / "ran").exists()
