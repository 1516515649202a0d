"""The trainers in nnU-Net's own training loop, on phantoms that nnU-Net has preprocessed."""

from __future__ import annotations

import json
from pathlib import Path

import nnunetv2.training.nnUNetTrainer.nnUNetTrainer as base
import numpy as np
import pytest
import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from backsplit.errors import Code, RunError
from backsplit.train.loss import CaseLoss
from backsplit.train.segresnet import levels_of, nnUNetTrainerBackSplitSegResNet
from backsplit.train.trainer import nnUNetTrainerBackSplit
from support import training
from support.training import PLAIN, RESIDUAL, data_set, settings, trainer_of

pytestmark = pytest.mark.slow

UNKNOWN = {"p1": ["liver", "spleen"], "p2": ["kidney_left", "kidney_right"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Data set 501, two of whose cases have unknown anatomy."""
    folder = tmp_path_factory.mktemp("trainers")
    with pytest.MonkeyPatch.context() as patch:
        training.paths(patch, folder)
        name = data_set(folder, 501, unknown=UNKNOWN)
    return folder, name


@pytest.fixture
def phantoms(made, monkeypatch):
    folder, name = made
    training.paths(monkeypatch, folder)
    monkeypatch.setattr(base.MetaLogger, "plot_progress_png", lambda *_: None)  # seconds an epoch
    settings(folder, name)
    torch.manual_seed(0)
    np.random.seed(0)
    return folder, name


def write_plans(folder, name, network):
    path = folder / "preprocessed" / name / "nnUNetPlans.json"
    path.write_text(json.dumps(training.plans(name, network)))


@pytest.mark.parametrize(
    ("kind", "network"),
    [
        (nnUNetTrainerBackSplit, PLAIN),
        (nnUNetTrainerBackSplit, RESIDUAL),
        (nnUNetTrainerBackSplitSegResNet, PLAIN),
    ],
)
def test_three_architectures_learn_the_lesions(phantoms, kind, network):
    """The loss falls, and the lesions' Dice is well above that of calling everything a lesion."""
    folder, name = phantoms
    write_plans(folder, name, network)
    rate = 3e-3 if kind is nnUNetTrainerBackSplitSegResNet else 3e-2
    asked = {"forced": 1.0, "targets": 1.0, "target_dice": 0.5, "learning_rate": rate}
    settings(folder, name, epochs=4, iterations=80, validation_iterations=8, **asked)
    trainer = trainer_of(kind, name)
    trainer.disable_checkpointing = True
    trainer.run_training()
    losses = trainer.logger.get_value("train_losses", step=None)
    dice = trainer.logger.get_value("mean_fg_dice", step=None)
    batches = [next(trainer.dataloader_val)["target"] for _ in range(8)]
    labels = torch.cat([b[0] if isinstance(b, list) else b for b in batches])
    lesion = float((labels == 1).float().mean())
    chance = 2 * lesion / (1 + lesion)
    print(kind.__name__, network, losses, dice, chance)
    assert losses[-1] < losses[0] - 0.2
    assert dice[-1] > 3 * chance


def test_the_loss_is_told_what_ignored_voxels_of_each_case_can_be(phantoms):
    folder, name = phantoms
    trainer = trainer_of(nnUNetTrainerBackSplit, name)
    trainer.run_training()
    assert isinstance(trainer.loss, CaseLoss) and len(trainer.loss.weights) == 2
    assert np.isfinite(trainer.logger.get_value("train_losses", step=None)).all()
    liver, spleen, left = (trainer.names.index(n) for n in ("liver", "spleen", "kidney_left"))
    trainer._tell_loss(["p1", "p2", "p0"])
    told = [set(np.flatnonzero(row).tolist()) for row in trainer.loss.possible.numpy()]
    assert told[0] == {0, liver, spleen} and told[1] >= {0, left} and not told[1] & {1, liver}
    assert told[2] == {0, *range(2, len(trainer.names))}
    for batch in (next(trainer.dataloader_train) for _ in range(2)):
        trainer.train_step(batch)
        mine = trainer.loss.possible
        trainer._tell_loss(batch["keys"])
        torch.testing.assert_close(trainer.loss.possible, mine)
    settings(folder, name, marginal=False)
    assert isinstance(trainer_initialised(name).loss, DeepSupervisionWrapper)
    settings(folder, name, marginal=False, target_dice=0.5)
    plain = trainer_initialised(name)
    plain._tell_loss(["p1"])
    assert plain.loss.possible.all() and plain.loss.loss.target_dice == 0.5


def trainer_initialised(name, kind=nnUNetTrainerBackSplit):
    trainer = trainer_of(kind, name)
    trainer.initialize()
    return trainer


def test_a_training_goes_on_from_a_checkpoint_and_the_checkpoint_tells_how(phantoms):
    folder, name = phantoms
    settings(folder, name, epochs=4, save_every=2, warm_up=3)
    trainer = trainer_of(nnUNetTrainerBackSplit, name)
    trainer.initialize()
    for _ in range(2):  # killed after two epochs
        trainer.num_epochs = trainer.current_epoch + 1
        trainer.on_train_end = lambda: None
        trainer.run_training()
    latest = Path(trainer.output_folder) / "checkpoint_latest.pth"
    trainer.num_epochs, trainer.current_epoch = 4, 1
    trainer.save_checkpoint(str(latest))
    settings(folder, name, epochs=4, save_every=2, warm_up=3, targets=1.0)
    again = trainer_of(nnUNetTrainerBackSplit, name, continued=True)
    again.load_checkpoint(str(latest))
    assert again.current_epoch == 2 and again.settings.targets == 1.0
    for key, value in trainer.network.state_dict().items():
        torch.testing.assert_close(again.network.state_dict()[key], value)
    again.run_training()
    stored = torch.load(
        Path(again.output_folder) / "checkpoint_final.pth", weights_only=False, map_location="cpu"
    )
    runs = stored["init_args"]["backsplit"]["runs"]
    assert [(run["from_epoch"], run["settings"]["targets"]) for run in runs] == [(0, 0.5), (2, 1.0)]
    assert stored["current_epoch"] == 4 and stored["trainer_name"] == "nnUNetTrainerBackSplit"
    rates = stored["logging"]["lrs"]
    poly = [0.01 * (1 - epoch / 4) ** 0.9 for epoch in range(4)]
    np.testing.assert_allclose(rates[2:], [poly[2] * 3 / 4, poly[3]], rtol=1e-6)
    assert rates[0] < poly[0] / 3
    assert (
        "Settings changed from epoch 2 on: targets: 0.5 -> 1.0" in Path(again.log_file).read_text()
    )
    assert len(stored["logging"]["train_losses"]) == 4


def test_the_best_checkpoint_is_best_for_the_targets(phantoms):
    """Counts are those of the targets, voxel by voxel; ignored voxels are no target."""
    _, name = phantoms
    trainer = trainer_of(nnUNetTrainerBackSplit, name)
    trainer.on_train_start()
    batch = next(trainer.dataloader_val)
    batch["target"][0][:, :, :8] = len(trainer.names)  # much is ignored
    with torch.no_grad():
        network = trainer.network
        trainer.network = lambda data: [
            torch.stack([x[:, 0] * 0, x[:, 0], *[x[:, 0] * 0 - 9] * 5], 1)
            for x in network_like(data)
        ]
        counts = trainer.validation_step(batch)
        trainer.network = network
    found = batch["data"][:, 0].numpy() > 0
    true = batch["target"][0][:, 0].numpy() == 1
    assert counts["tp_hard"].tolist() == [(found & true).sum()]
    assert counts["fp_hard"].tolist() == [(found & ~true).sum()]
    assert counts["fn_hard"].tolist() == [(true & ~found).sum()]
    trainer.on_validation_epoch_end([counts])
    tp, fp, fn = (counts[key][0] for key in ("tp_hard", "fp_hard", "fn_hard"))
    assert trainer.logger.get_value("mean_fg_dice", step=-1) == 2 * tp / (2 * tp + fp + fn)
    nothing = {key: value * 0 for key, value in counts.items()}
    trainer.current_epoch = 1
    before = trainer.logger.get_value("ema_fg_dice", step=-1)
    trainer.on_validation_epoch_end([nothing])
    assert trainer.logger.get_value("ema_fg_dice", step=-1) == pytest.approx(before)


def network_like(data):
    """The data at the scales of deep supervision."""
    return [data, data[:, :, ::2, ::2, ::2]]


def test_nothing_is_mirrored_where_a_structure_has_a_side(phantoms):
    folder, name = phantoms
    settings(folder, name, nearest=True)
    for asked, axes in ((None, None), (True, (0, 1, 2))):
        settings(folder, name, nearest=True, mirroring=asked)
        trainer = trainer_of(nnUNetTrainerBackSplit, name)
        trainer.on_train_start()
        assert trainer.inference_allowed_mirroring_axes == axes
        transforms = trainer.dataloader_train.data_loader.transforms.transforms
        names = [type(transform).__name__ for transform in transforms]
        assert ("MirrorTransform" in names) == (axes is not None)
        assert transforms[names.index("SpatialTransform")].mode_seg == "nearest"
        labels = set(np.unique(next(trainer.dataloader_train)["target"][0]).tolist())
        assert labels <= set(range(len(trainer.names) + 1))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"labels": {"background": 0, "tumor": [1], "liver": [2]}}, "has regions"),
        ({"targets": []}, "must list as `targets`"),
        ({"targets": ["liver"]}, "must list as `targets`"),
    ],
)
def test_a_data_set_that_does_not_fit_is_refused(phantoms, change, told):
    folder, name = phantoms
    path = folder / "preprocessed" / name / "dataset.json"
    kept = path.read_text()
    path.write_text(json.dumps(json.loads(kept) | change))
    try:
        with pytest.raises(RunError, match=told) as refused:
            trainer_of(nnUNetTrainerBackSplit, name)
    finally:
        path.write_text(kept)
    assert refused.value.code is Code.TRAINING_UNSUITED


def test_segresnet_halves_the_patch_as_often_as_it_can():
    assert [levels_of(p) for p in ([64, 64, 64], [20, 256, 256], [14, 64, 64], [96, 160])] == [
        4, 3, 2, 4,
    ]  # fmt: skip
    with pytest.raises(RunError, match="7 x 64 x 64"):
        levels_of([7, 64, 64])


@pytest.mark.parametrize(("first", "filters"), [(8, 8), (32, 32), (12, 8), (6, 8)])
def test_segresnet_is_as_wide_as_the_plans_first_stage(first, filters):
    made = training.plans("Dataset501_X", features=(first, 16, 32))
    configuration = PlansManager(made).get_configuration("3d_fullres")
    build = nnUNetTrainerBackSplitSegResNet.build_network_architecture
    assert build(PlansManager(made), configuration, 1, 3).convInit.conv.out_channels == filters


class OnCpu(nnUNetTrainerBackSplit):
    """nnU-Net takes a GPU a process for granted."""

    def initialize(self):
        self.device, self.grad_scaler = torch.device("cpu"), None
        base.DDP = lambda network, **_: torch.nn.parallel.DistributedDataParallel(network)
        super().initialize()


def of_one_process(rank, port, folder, name, continued):
    with pytest.MonkeyPatch.context() as patch:
        training.paths(patch, folder)
        base.MetaLogger.plot_progress_png = lambda *_: None
        address = f"tcp://127.0.0.1:{port}"
        torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
        np.random.seed(rank)
        trainer = trainer_of(OnCpu, name, continued)
        if continued:
            trainer.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_best.pth"))
        trainer.run_training()
        assert isinstance(trainer.loss, CaseLoss) and trainer.loss.loss.ddp
        state = trainer.network.module.state_dict()
        torch.save(
            [state, trainer.logger.get_value("train_losses", None)], folder / f"rank{rank}.pt"
        )
        torch.distributed.destroy_process_group()


def test_two_processes_train_one_network_and_go_on(phantoms):
    from nnunetv2.run.run_training import find_free_network_port

    folder, name = phantoms
    write_plans(folder, name, PLAIN)
    for epochs in (1, 2):
        settings(folder, name, epochs=epochs)
        torch.multiprocessing.spawn(
            of_one_process,
            (find_free_network_port(), folder, name, epochs == 2),
            nprocs=2,
            join=True,
        )
        (first, losses), (second, others) = (
            torch.load(folder / f"rank{r}.pt", weights_only=False) for r in (0, 1)
        )
        assert losses == others and len(losses) == epochs and np.isfinite(losses).all()
        for key, value in first.items():
            torch.testing.assert_close(second[key], value)
