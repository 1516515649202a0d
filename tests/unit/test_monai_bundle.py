"""A bundle made by MONAI's own tools, run by `monai.bundle run` and by us: the same labels."""

from __future__ import annotations

import importlib.util
import json
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.losses import DiceCELoss
from typer.testing import CliRunner

from backsplit.cases.table import Case
from backsplit.cli import app
from backsplit.config.model import Run
from backsplit.config.segmenters import MonaiBundle
from backsplit.config.slices import Labelling, Placing
from backsplit.errors import BacksplitError, CaseError, Code
from backsplit.segment.monai_bundle import MonaiBundleSegmenter
from backsplit.segment.weights import accept
from support.project import load, save

pytestmark = pytest.mark.slow

NAMES = {"0": "background", "1": "body", "2": "bone"}
SHAPE, SPACING = (20, 28, 30), (2.0, 2.5, 3.0)
# an oblique grid whose axes are permuted and flipped: what is undone has to be undone rightly
TURN = np.deg2rad(7)
DIRECTION = (
    *(-np.cos(TURN), 0.0, np.sin(TURN)),
    *(0.0, -1.0, 0.0),
    *(np.sin(TURN), 0.0, np.cos(TURN)),
)


def phantom(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image of a body with a bone in it, and its labels, (z, y, x)."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:-2, 4:-4, 4:-4] = 1
    z, y, x = rng.integers(5, 9, 3)
    labels[z : z + 7, y : y + 9, x : x + 8] = 2
    image = np.array([-900.0, 30.0, 500.0])[labels] + rng.normal(0, 60, SHAPE)
    return np.rint(image).astype(np.int16), labels


INFERENCE = {
    "imports": ["$import glob", "$import os"],
    "bundle_root": ".",
    "output_dir": "$@bundle_root + '/eval'",
    "dataset_dir": "/dataset",
    "datalist": "$sorted(glob.glob(os.path.join(@dataset_dir, '*.nii.gz')))",
    "device": "$torch.device('cpu')",
    "network_def": {
        "_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3,
        "channels": [8, 16], "strides": [2], "num_res_units": 1,
    },
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": [2.5, 2.5, 2.5],
             "mode": "bilinear"},
            {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -1000, "a_max": 1000,
             "b_min": 0.0, "b_max": 1.0, "clip": True},
            {"_target_": "EnsureTyped", "keys": "image"},
        ],
    },
    "dataset": {
        "_target_": "Dataset", "data": "$[{'image': i} for i in @datalist]",
        "transform": "@preprocessing",
    },
    "dataloader": {
        "_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "shuffle": False,
        "num_workers": 0,
    },
    "inferer": {
        "_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "sw_batch_size": 2,
        "overlap": 0.5, "mode": "gaussian",
    },
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing",
             "orig_keys": "image", "nearest_interp": False, "to_tensor": True},
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir",
             "separate_folder": False, "output_postfix": "seg", "resample": False},
        ],
    },
    "handlers": [
        {"_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/models/model.pt'",
         "load_dict": {"model": "@network"}},
    ],
    "evaluator": {
        "_target_": "SupervisedEvaluator", "device": "@device", "val_data_loader": "@dataloader",
        "network": "@network", "inferer": "@inferer", "postprocessing": "@postprocessing",
        "val_handlers": "@handlers", "amp": False,
    },
    "run": ["$@evaluator.run()"],
}  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A bundle from MONAI's skeleton, with a network trained on phantoms for some seconds."""
    folder = tmp_path_factory.mktemp("made") / "bundle"
    monai("init_bundle", str(folder))
    for path in (folder / "configs").glob("inference.*"):
        path.unlink()
    (folder / "configs" / "inference.json").write_text(json.dumps(INFERENCE, indent=1))
    meta = json.loads((folder / "configs" / "metadata.json").read_text())
    meta["network_data_format"] = {"outputs": {"pred": {"channel_def": NAMES}}}
    (folder / "configs" / "metadata.json").write_text(json.dumps(meta, indent=1))
    parser = ConfigParser(INFERENCE)
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def")
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    images, labels = (
        torch.stack([torch.from_numpy(array.T.copy())[None] for array in arrays])
        for arrays in zip(*(phantom(seed) for seed in range(4)), strict=True)
    )
    images = ((images.float() + 1000) / 2000).clamp(0, 1)
    for _ in range(40):
        optimiser.zero_grad()
        loss(network(images), labels).backward()
        optimiser.step()
    (folder / "models").mkdir(exist_ok=True)
    torch.save({"model": network.state_dict()}, folder / "models" / "model.pt")
    return folder


def monai(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> list[Case]:
    folder = tmp_path_factory.mktemp("images")
    made = []
    for number in range(3):
        path = folder / f"case_{number}.nii.gz"
        save(path, phantom(10 + number)[0], SPACING, (3.0, -7.0, 11.0), DIRECTION)
        made.append(Case(path.name[:6], number + 2, {"ct": path}, {}, {}, folder))
    return made


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKSPLIT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(sys, "pycache_prefix", None)  # which a bundle sets for its whole job
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)


def segmenter_of(folder: Path, run: Run | None = None, **keys: object) -> MonaiBundleSegmenter:
    section = MonaiBundle.model_validate({"kind": "monai_bundle", "bundle": folder} | keys)
    inputs = Labelling(("ct",), Placing("ct"))
    return MonaiBundleSegmenter(section, inputs, run or Run(device="cpu"))


def test_labels_are_those_of_monai_s_own_run(bundle, cases, weights, tmp_path):
    monai(
        "run",
        "--config_file", str(bundle / "configs" / "inference.json"),
        "--meta_file", str(bundle / "configs" / "metadata.json"),
        "--bundle_root", str(bundle), "--dataset_dir", str(cases[0].folder),
        "--output_dir", str(tmp_path / "eval"),
    )  # fmt: skip
    segmenter = segmenter_of(bundle)
    accept(segmenter.weights())
    found = {case.id: result for case, result in segmenter.label(cases)}
    assert len(found) == 3
    for case in cases:
        expected = load(tmp_path / "eval" / f"{case.id}_seg.nii.gz")
        result = found[case.id]
        assert not isinstance(result, CaseError), result
        np.testing.assert_array_equal(result.array, expected)
        assert np.bincount(result.array.ravel(), minlength=3).min() > 100  # it learned both
        truth = phantom(10 + cases.index(case))[1]
        assert (result.array == truth).mean() > 0.9
    assert segmenter.classes() == {"body": 1, "bone": 2}


def test_scripted_weights_and_other_formats_give_the_same(bundle, cases, weights, tmp_path):
    segmenter = segmenter_of(bundle)
    accept(segmenter.weights())
    ((_, expected),) = segmenter.label(cases[:1])
    script = bundle / "models" / "model.ts"
    monai(
        "ckpt_export", "network_def",
        "--filepath", str(script), "--ckpt_file", str(bundle / "models" / "model.pt"),
        "--meta_file", str(bundle / "configs" / "metadata.json"),
        "--config_file", str(bundle / "configs" / "inference.json"), "--key_in_ckpt", "model",
    )  # fmt: skip
    try:
        scripted = segmenter_of(bundle, checkpoint="models/model.ts")
        accept(scripted.weights())
        path = save(tmp_path / "a.nrrd", phantom(10)[0], SPACING, (3.0, -7.0, 11.0), DIRECTION)
        case = Case("a", 2, {"ct": path}, {}, {}, tmp_path)
        ((_, found),) = scripted.label([case])
        np.testing.assert_array_equal(found.array, expected.array)
    finally:
        script.unlink()


def test_nothing_of_a_bundle_is_read_before_it_is_accepted(bundle, cases, weights, tmp_path):
    mark = tmp_path / "ran"
    evil = tmp_path / "evil"
    (evil / "configs").mkdir(parents=True)
    (evil / "models").mkdir()
    for name in ("configs/metadata.json", "models/model.pt"):
        (evil / name).write_bytes((bundle / name).read_bytes())
    code = {**INFERENCE, "imports": [f"$open({str(mark)!r}, 'w')"]}
    (evil / "configs" / "inference.json").write_text(json.dumps(code))
    segmenter = segmenter_of(evil)
    assert segmenter.classes() and segmenter.weights()
    with pytest.raises(BacksplitError) as caught:
        list(segmenter.label(cases))
    assert caught.value.code is Code.WEIGHTS_UNKNOWN and not mark.exists()
    accept(segmenter.weights())
    (evil / "configs" / "inference.json").write_text(json.dumps(INFERENCE))
    with pytest.raises(BacksplitError) as caught:
        list(segmenter.label(cases))
    assert caught.value.code is Code.WEIGHTS_CHANGED
    (evil / "scripts.py").write_text("")  # a module that it could import
    accept(segmenter_of(evil).weights()[:1])
    with pytest.raises(BacksplitError):
        list(segmenter_of(evil).label(cases))


def test_each_file_that_could_run_is_accepted_or_not_used(bundle, cases, weights, tmp_path):
    """A configuration elsewhere, a module behind a link, weights, a compiled module."""
    mark = tmp_path / "ran"
    folder, elsewhere = tmp_path / "bundle", tmp_path / "elsewhere"
    shutil.copytree(bundle, folder)
    elsewhere.mkdir()
    configs = folder / "configs"
    (elsewhere / "net.py").write_text("VALUE = 1")
    (folder / "scripts").symlink_to(elsewhere)
    compiled = elsewhere / "net.cpython.source.py"
    compiled.write_text(f"open({str(mark)!r}, 'w'); VALUE = 1")
    kept = importlib.util.cache_from_source(str(elsewhere / "net.py"))
    py_compile.compile(
        str(compiled), cfile=kept, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    compiled.unlink()
    code = {**INFERENCE, "imports": ["$import scripts.net"]}
    code["inferer"] = f"%{elsewhere}/parts.json#inferer"
    (configs / "inference.json").write_text(json.dumps(code))
    (elsewhere / "parts.json").write_text(json.dumps({"inferer": INFERENCE["inferer"]}))
    accept(segmenter_of(folder).weights())
    with pytest.raises(BacksplitError, match="not a file of its bundle"):
        list(segmenter_of(folder).label(cases[:1]))
    code["inferer"] = INFERENCE["inferer"]
    (configs / "inference.json").write_text(json.dumps(code))
    accept(segmenter_of(folder).weights())
    ((_, found),) = segmenter_of(folder).label(cases[:1])
    assert not isinstance(found, CaseError), found
    assert not mark.exists()
    added = ("scripts/other.py", "scripts/fast.so", "models/more.pt", "configs/more/a.json")
    for name in (*added, "extra/state.PKL"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
        with pytest.raises(BacksplitError) as caught:
            list(segmenter_of(folder).label(cases[:1]))
        assert caught.value.code is Code.WEIGHTS_UNKNOWN and name.split("/")[-1] in str(
            caught.value
        )
        path.unlink()


def test_scores_that_are_no_masks_are_refused(bundle, cases, weights, tmp_path):
    """Without an argmax the network's scores would be taken for masks."""
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    post = {"_target_": "Compose", "transforms": [INFERENCE["postprocessing"]["transforms"][1]]}
    code = {**INFERENCE, "postprocessing": post}
    (folder / "configs" / "inference.json").write_text(json.dumps(code))
    accept(segmenter_of(folder).weights())
    ((_, found),) = segmenter_of(folder).label(cases[:1])
    assert found.code is Code.LABEL_UNDECLARED and "scores" in found.what


def test_a_value_beyond_any_label_map_is_refused_not_counted(bundle, cases, weights, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    steps = INFERENCE["postprocessing"]["transforms"]
    far = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda found: 1e13 * (found + 1)"}
    post = {"_target_": "Compose", "transforms": [*steps[:-1], far]}
    code = {**INFERENCE, "postprocessing": post}
    (folder / "configs" / "inference.json").write_text(json.dumps(code))
    accept(segmenter_of(folder).weights())
    ((_, found),) = segmenter_of(folder).label(cases[:1])
    assert (
        found.code is Code.LABEL_UNDECLARED and "the value" in found.what and "e+13" in found.what
    )


def test_a_bad_case_costs_no_other_and_time_is_limited(bundle, cases, weights, tmp_path):
    segmenter = segmenter_of(bundle)
    accept(segmenter.weights())
    bad = Case("bad", 9, {"ct": tmp_path / "gone.nii.gz"}, {}, {}, tmp_path)
    found = {case.id: result for case, result in segmenter.label([bad, *cases[:1]])}
    assert found["bad"].code is Code.FILE_MISSING
    assert not isinstance(found[cases[0].id], CaseError)
    slow = segmenter_of(bundle, Run(device="cpu", case_minutes=1e-9))
    ((_, late),) = slow.label(cases[:1])
    assert late.code is Code.TIME_LIMIT


def test_what_is_no_bundle_is_told(bundle, weights, tmp_path):
    def refused(folder: Path, **keys: object) -> Code:
        with pytest.raises(BacksplitError) as caught:
            segmenter = segmenter_of(folder, **keys)
            segmenter.classes()
            files = segmenter.weights()
            accept(files)
            list(segmenter.label([]))
        return caught.value.code

    assert refused(tmp_path) is Code.MODEL_INVALID
    assert refused(bundle, checkpoint="models/other.pt") is Code.WEIGHTS_MISSING
    broken = tmp_path / "broken"
    for name in ("configs/metadata.json", "models/model.pt"):
        (broken / name).parent.mkdir(parents=True, exist_ok=True)
        (broken / name).write_bytes((bundle / name).read_bytes())
    told = (bundle / "configs" / "metadata.json").read_text()
    (broken / "configs" / "inference.json").write_text(json.dumps(INFERENCE))
    (broken / "configs" / "metadata.json").write_text(told.replace('"bone"', '"bo\\u001bne"'))
    assert refused(broken) is Code.MODEL_INVALID


def without(*keys: str) -> str:
    return json.dumps({k: v for k, v in INFERENCE.items() if k not in keys})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(without()[:900], "cannot be read", id="cut-off"),
        pytest.param("[1, 2]", "does not define preprocessing, inferer", id="list"),
        pytest.param(without("inferer"), "does not define inferer", id="no-inferer"),
        pytest.param(without("network_def", "network"), "not define network_def", id="no-network"),
        pytest.param("[" * 100_000, "cannot be read", id="nested"),
    ],
)
def test_an_unusable_configuration_is_told_before_anything_runs(
    bundle, weights, tmp_path, text, told
):
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    (folder / "configs" / "inference.json").write_text(text)
    with pytest.raises(BacksplitError, match=told) as caught:
        segmenter_of(folder).weights()
    assert caught.value.code is Code.MODEL_INVALID


def test_weights_that_hold_their_network_need_no_other(bundle, weights, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    (folder / "configs" / "inference.yaml").write_text(without("network_def", "network"))
    (folder / "models" / "model.pt").rename(folder / "models" / "model.ts")
    assert segmenter_of(folder, config="configs/inference.yaml").weights()


def test_the_whole_command_accepts_and_labels(bundle, project, weights, monkeypatch):
    """`backsplit weights accept` knows a bundle; the label map has the names of its metadata."""
    monkeypatch.chdir(project.folder)
    lesion = np.zeros(SHAPE, np.uint8)
    lesion[8:10, 10:12, 10:12] = 1
    project.add("a", phantom(10)[0], lesion)
    project.write(
        segmenters={"net": {"kind": "monai_bundle", "bundle": str(bundle)}},
        structures={"body": "net/body", "bone": "net/bone"},
        targets={"tumor": 1},
    )
    run = CliRunner().invoke
    assert run(app, ["weights", "accept", "net", "--config", "config.yaml"]).exit_code == 0
    for verb in (["check"], ["segment", "net"], ["compose"]):
        done = run(app, [*verb, "--config", "config.yaml"])
        assert done.exit_code == 0, done.output
    labels = load(project.results / "labels" / "a.nii.gz")
    assert set(np.unique(labels).tolist()) == {0, 1, 2, 3}  # tumor, then body and bone
