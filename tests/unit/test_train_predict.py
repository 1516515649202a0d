"""Targets alone: what a collapsed network predicts, held against nnU-Net's whole logits."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax

from backsplit.config.model import Run
from backsplit.errors import Code, RunError
from backsplit.segment import collapsed, network
from backsplit.segment.preparation import Source
from backsplit.segment.weights import accept
from backsplit.train.predict import Predicting, cases_in, predict
from support.networks import random_network
from support.project import ct_like, load, save

CLASSES = 9
TARGETS = ["c1", "c2", "c3", "c4"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network of nine classes with random weights; the first four are targets."""
    weights = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BACKSPLIT_WEIGHTS", str(weights / "home"))
        random_network(weights, 297, CLASSES, 3.0, "nnUNetTrainer", patch=16)
        (folder,) = weights.glob("Dataset*/nnUNet*")
        described = json.loads((folder / "dataset.json").read_text())
        (folder / "dataset.json").write_text(json.dumps(described | {"targets": TARGETS}))
        accept(network.Model(folder).checkpoints)
        yield folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for seed in range(2):
        save(folder / f"p{seed}_0000.nii.gz", ct_like(seed, (18, 30, 26)), (2.5, 3.5, 3.0))
    return folder


def whole_logits(model, path):
    """All classes on the image's grid: nnU-Net's own resampling of every channel."""
    net = network.load(network.Model(model))
    image, properties = net.reader.read_images([str(path)])
    prepared = net.prepare(Source(image, properties))
    logits = net.run(prepared)
    p = net._predictor
    shape = prepared.properties["shape_after_cropping_and_before_resampling"]
    spacing = properties["spacing"]
    resample = p.configuration_manager.resampling_fn_probabilities
    found = resample(logits, shape, p.configuration_manager.spacing, spacing)
    return np.asarray(found, np.float32)


def run(model, images, into, **how):
    cases, channels = cases_in(images)
    outcomes = list(predict(cases, channels, Run(device="cpu"), Predicting(model, **how), into))
    assert sorted((case.id, error) for case, error in outcomes) == [("p0", None), ("p1", None)]
    return {case.id: load(into / f"{case.id}.nii.gz") for case in cases}


def test_the_most_probable_class_is_that_of_all_classes(model, images, tmp_path):
    for case, labels in run(model, images, tmp_path).items():
        whole = whole_logits(model, images / f"{case}_0000.nii.gz").argmax(0)
        wanted = np.where(whole <= len(TARGETS), whole, 0)
        assert len(np.unique(wanted)) > 2  # or little would be shown
        assert (labels == wanted).mean() >= 0.95  # its labels are noise: windows disagree


@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_a_threshold_holds_for_the_softmax_of_all_classes(model, images, tmp_path, threshold):
    found = run(model, images, tmp_path, threshold=threshold, probabilities=True)
    for case, labels in found.items():
        logits = whole_logits(model, images / f"{case}_0000.nii.gz")
        whole = softmax(logits, axis=0)[1 : 1 + len(TARGETS)]
        wanted = np.where(whole.max(0) > threshold, 1 + whole.argmax(0), 0)
        assert wanted.any()
        assert (labels == wanted).mean() >= 0.95
        written = np.stack([load(tmp_path / f"{case}_{name}.nii.gz") for name in TARGETS])
        assert np.abs(written - whole).mean() < 0.05
        assert ((written.max(0) > threshold) == (labels > 0)).mean() > 0.999


@pytest.mark.shared
@pytest.mark.parametrize("threshold", [None, 0.3, 0.5])
def test_a_trained_network_loses_nothing(shared, tmp_path, monkeypatch, threshold):
    """A real CT and network: 99.9 % of voxels, 99.5 % of those of the targets."""
    monkeypatch.setenv("BACKSPLIT_WEIGHTS", str(tmp_path))
    (folder,) = (shared / "models" / "Dataset901_OpenKBP").iterdir()
    accept(network.Model(folder).checkpoints)
    image = shared / "data" / "openkbp" / "pt_109" / "ct.nii.gz"
    targets = 3
    collapse = (
        collapsed.largest_of_rest(targets)
        if threshold is None
        else collapsed.log_odds(targets, threshold)
    )
    net = collapsed.collapsed(network.load(network.Model(folder)), collapse, 1 + targets)
    given, properties = net.reader.read_images([str(image)])
    prepared = net.prepare(Source(given, properties))
    labels = net.labels(net.run(prepared), prepared.properties)
    whole = whole_logits(folder, image)
    if threshold is None:
        wanted = np.where(whole.argmax(0) <= targets, whole.argmax(0), 0)
    else:
        sure = softmax(whole, axis=0)[1 : 1 + targets]
        wanted = np.where(sure.max(0) > threshold, 1 + sure.argmax(0), 0)
    assert (wanted > 0).sum() > 1000
    assert (labels == wanted).mean() >= 0.999
    assert (labels == wanted)[wanted > 0].mean() >= 0.995


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("targets", [1, 2])
def test_collapsed_logits_decide_as_all_of_them(classes, targets):
    if targets >= classes:
        targets = classes - 1
    rng = np.random.default_rng(classes)
    logits = rng.normal(0, 3, (1, classes, 4, 5, 6))
    given = torch.from_numpy(logits)
    largest = collapsed.largest_of_rest(targets)(given).numpy()[0]
    whole = logits[0].argmax(0)
    np.testing.assert_array_equal(largest.argmax(0), np.where(whole <= targets, whole, 0))
    odds = collapsed.log_odds(targets, 0.3)(given).numpy()[0]
    wanted = softmax(logits[0], axis=0)[1 : targets + 1]
    np.testing.assert_array_equal(odds[1:] > 0, wanted > 0.3)
    np.testing.assert_allclose(
        odds[1] + np.log(0.3 / 0.7),
        logits[0, 1] - logsumexp(np.delete(logits[0], 1, axis=0), axis=0),
    )


def test_logits_in_memory_are_of_the_targets_only(model, images):
    net = collapsed.collapsed(network.load(network.Model(model)), collapsed.largest_of_rest(2), 3)
    image, properties = net.reader.read_images([str(images / "p0_0000.nii.gz")])
    assert net.run(net.prepare(Source(image, properties))).shape[0] == 3
    assert network.load(network.Model(model)).heads == CLASSES + 1  # the whole one stays whole


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda d: d.pop("targets"), Code.MODEL_INVALID),
        (lambda d: d.update(targets=["c2"]), Code.MODEL_INVALID),
        (lambda d: d.update(targets=[]), Code.MODEL_INVALID),
    ],
    ids=["no targets", "not the first", "none"],
)
def test_a_model_has_to_say_what_its_targets_are(model, tmp_path, change, code):
    described = json.loads((model / "dataset.json").read_text())
    change(described)
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    with pytest.raises(RunError) as caught:
        _ = Predicting(tmp_path).targets
    assert caught.value.code is code


def test_nothing_is_loaded_that_nobody_accepted(model, images, tmp_path, monkeypatch):
    monkeypatch.setenv("BACKSPLIT_WEIGHTS", str(tmp_path / "other"))
    cases, channels = cases_in(images)
    with pytest.raises(RunError) as caught:
        list(predict(cases, channels, Run(device="cpu"), Predicting(model), tmp_path))
    assert (
        caught.value.code is Code.WEIGHTS_UNKNOWN
        and f"weights accept {model}`" in caught.value.remedy
    )


def test_the_verb_predicts_a_folder_and_names_what_failed(project, model, images):
    folder = project.folder / "images"
    for path in images.iterdir():
        (folder / path.name).parent.mkdir(exist_ok=True)
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "p2_0000.nii.gz").write_bytes(b"no image")
    project.write()
    arguments = ["train", "predict", str(model), "out", "--images", "images", "--device", "cpu"]
    done = project.run(*arguments, ok=False)
    assert "(code WEIGHTS_UNKNOWN)" in done.stderr
    project.run("weights", "accept", str(model))
    done = project.run(*arguments)
    assert "predict: 3 cases, 1 failed" in done.stdout + done.stderr
    assert "p2: " in done.stdout + done.stderr and "FILE_UNREADABLE" in done.stdout + done.stderr
    assert {path.name for path in (project.folder / "out").iterdir()} == {
        "p0.nii.gz", "p1.nii.gz", "status.tsv",
    }  # fmt: skip


def test_probabilities_need_a_threshold_and_a_folder_needs_images(model, images, tmp_path):
    cases, channels = cases_in(images)
    with pytest.raises(RunError, match="--threshold"):
        list(predict(cases, channels, Run(), Predicting(model, probabilities=True), tmp_path))
    with pytest.raises(RunError) as caught:
        cases_in(tmp_path)
    assert caught.value.code is Code.FILE_MISSING
    save(tmp_path / "a_0000.nii.gz", ct_like())
    save(tmp_path / "b_0001.nii.gz", ct_like())
    with pytest.raises(RunError, match="2 cases lack a channel"):
        cases_in(tmp_path)
