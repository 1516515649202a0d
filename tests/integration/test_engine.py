"""What goes wrong in the engine: weights, images, devices, kills. Each has a code and a message."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from backsplit.cases.table import Case
from backsplit.config.model import Run
from backsplit.config.segmenters import NnUNet, TotalSegmentator
from backsplit.config.slices import Labelling, Placing, placing
from backsplit.demo.phantoms import make_phantom
from backsplit.errors import BacksplitError, CaseError, Code
from backsplit.segment import build, device, network
from backsplit.segment.nnunet import NnUNetSegmenter
from backsplit.segment.stage import SegmentStage
from backsplit.segment.totalseg.tasks import engine_task, private_home
from backsplit.segment.totalsegmentator import TotalSegmentatorSegmenter
from backsplit.segment.weights import accept, demo_weights, files_of, require_accepted
from backsplit.work.batch import attempt
from support.project import save

pytestmark = pytest.mark.slow
INPUTS = Labelling(("ct",), Placing("ct"))
RUN = Run(device="cpu")
PHANTOM = make_phantom(901)


@pytest.fixture(autouse=True)
def ledger(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKSPLIT_WEIGHTS", str(tmp_path / "ledger"))


@pytest.fixture
def model(tmp_path) -> Path:
    """A copy of the demo's network as a plain nnU-Net model folder."""
    shutil.copytree(demo_weights(), tmp_path / "copy")
    (folder,) = (tmp_path / "copy").glob("Dataset*/nnUNet*")
    return folder


def case_of(path: Path, name: str = "a") -> Case:
    return Case(name, 2, {"ct": path}, {}, {"case": name}, path.parent)


def phantom(folder: Path, name: str) -> Path:
    return save(folder / f"{name}.nii.gz", PHANTOM.image, PHANTOM.grid.spacing)


def label(*cases: Case, run: Run = RUN) -> list:
    config = TotalSegmentator(kind="totalsegmentator", task="total", fastest=True, weights="demo")
    labelled = TotalSegmentatorSegmenter(config, INPUTS, run).label(cases)
    results = {case.id: result for case, result in labelled}  # as they are done, in no order
    return [results[case.id] for case in cases]


def test_a_bad_image_fails_alone_with_a_code(tmp_path):
    nan = PHANTOM.image.astype(np.float32)
    nan[0, 0, 0] = np.nan
    four = nib.Nifti1Image(np.zeros((8, 8, 8, 3), np.int16), np.eye(4))
    flat = nib.Nifti1Image(np.zeros((8, 8), np.int16), np.eye(4))
    nib.save(four, tmp_path / "four.nii.gz")
    nib.save(flat, tmp_path / "flat.nii.gz")
    save(tmp_path / "zero.nii.gz", np.zeros((10, 10, 10), np.int16))
    save(tmp_path / "nan.nii.gz", nan)
    (tmp_path / "text.nii.gz").write_text("no image")
    expected = {
        "four": Code.NOT_3D,
        "flat": Code.NOT_3D,
        "zero": Code.IMAGE_CONSTANT,
        "nan": Code.IMAGE_NOT_FINITE,
        "text": Code.FILE_UNREADABLE,
        "absent": Code.FILE_MISSING,
    }
    bad = [case_of(tmp_path / f"{name}.nii.gz", name) for name in expected]
    good = [case_of(phantom(tmp_path, name), name) for name in ("first", "last")]
    results = label(good[0], *bad, good[1])
    assert [r.code for r in results[1:-1]] == list(expected.values())
    for result, name in zip(results[1:-1], expected, strict=True):
        assert f"{name}.nii.gz" in result.message and "; " in result.message
    np.testing.assert_array_equal(results[0].array, results[-1].array)
    assert len(np.unique(results[0].array)) > 15


def test_weights_are_opened_only_when_accepted_and_unchanged(tmp_path, model):
    config = NnUNet(kind="nnunet", model=model, mirroring=False)
    image = phantom(tmp_path, "a")
    checkpoint = model / "fold_0" / "checkpoint_final.pth"
    # the demo's own content is known wherever it lies; another byte makes it unknown
    require_accepted([checkpoint], "organs")
    checkpoint.write_bytes(checkpoint.read_bytes() + b"\0")
    with pytest.raises(BacksplitError) as caught:
        list(NnUNetSegmenter(config, INPUTS, RUN).label([case_of(image)]))
    assert caught.value.code is Code.WEIGHTS_UNKNOWN
    with pytest.raises(BacksplitError, match="`backsplit weights accept organs`"):
        require_accepted([checkpoint], "organs")
    accept(files_of(model))
    require_accepted([checkpoint], "organs")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])  # corrupted
    with pytest.raises(BacksplitError) as caught:
        list(NnUNetSegmenter(config, INPUTS, RUN).label([case_of(image)]))
    assert caught.value.code is Code.WEIGHTS_CHANGED
    assert str(checkpoint) in str(caught.value)


def test_a_missing_fold_is_named_with_the_command_that_gets_it(tmp_path, model):
    config = NnUNet(kind="nnunet", model=model, folds=(0, 3))
    with pytest.raises(BacksplitError) as caught:
        NnUNetSegmenter(config, INPUTS, RUN).weights()
    assert caught.value.code is Code.WEIGHTS_MISSING and "fold_3" in str(caught.value)
    config = TotalSegmentator(
        kind="totalsegmentator", task="total", fast=True, weights=str(tmp_path)
    )
    with pytest.raises(BacksplitError) as caught:
        TotalSegmentatorSegmenter(config, INPUTS, RUN).weights()
    assert caught.value.code is Code.WEIGHTS_MISSING
    assert "`backsplit weights get total --fast`" in str(caught.value)


def test_a_task_table_of_another_shape_is_a_clear_error(tmp_path, monkeypatch):
    from totalsegmentator import map_tasks_config

    config = TotalSegmentator(kind="totalsegmentator", task="total", fastest=True, weights="demo")
    for entry in ({"modes": {}}, {"sub_modes": {"fastest": {"network": 298}}}, 3):
        monkeypatch.setitem(map_tasks_config.TASK_CONFIGS, "total", entry)
        with pytest.raises(BacksplitError) as caught, private_home(tmp_path):
            engine_task(config, demo_weights(), "cpu")
        assert caught.value.code is Code.MODEL_INVALID
        assert "constraints.txt" in str(caught.value) or "no form" in str(caught.value)


def test_a_network_is_loaded_once_for_a_whole_job(tmp_path, monkeypatch):
    opened = []
    original = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: opened.append(a) or original(*a, **k))
    network.load.cache_clear()
    cases = [case_of(phantom(tmp_path, n), n) for n in "abc"]
    label(*cases)
    label(*cases)
    assert len(opened) == 1


def test_a_case_that_takes_too_long_is_given_up_and_the_next_goes_on(tmp_path):
    cases = [case_of(phantom(tmp_path, n), n) for n in "ab"]
    results = label(*cases, run=Run(device="cpu", case_minutes=1e-9))
    assert [r.code for r in results] == [Code.TIME_LIMIT] * 2
    assert not isinstance(label(cases[0])[0], CaseError)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), Code.OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), Code.OUT_OF_MEMORY),
        (RuntimeError("something"), Code.INTERNAL),
        (SystemExit(1), Code.INTERNAL),
    ],
)
def test_every_failure_of_a_case_has_a_code(tmp_path, error, code):
    def fails(_: Case) -> None:
        raise error

    result = attempt(case_of(tmp_path / "a.nii.gz"), fails)
    assert isinstance(result, CaseError) and result.code is code


def test_jobs_on_one_machine_take_different_gpus(tmp_path):
    script = (
        "import sys, time; from backsplit.segment.device import claim_gpu;"
        "print(claim_gpu(2), flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    jobs = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]  # fmt: skip
    taken = {int(job.stdout.readline()) for job in jobs}
    assert taken == {0, 1}
    third = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True, env=environment)  # fmt: skip
    time.sleep(1)
    jobs[0].kill()  # a killed job gives its GPU back
    jobs[0].wait()
    assert int(third.stdout.readline()) in taken
    for job in (jobs[1], third):
        job.stdin.close()
        job.wait(timeout=20)
    assert device.choose_device("cpu") == "cpu"


def test_an_mr_image_given_to_a_ct_task_is_a_warning(tmp_path):
    """Signal intensities without negative values: the sidecar says that this is no CT."""
    image = np.clip(PHANTOM.image.astype(np.int32) + 1000, 0, None).astype(np.int16)
    path = save(tmp_path / "mr.nii.gz", image, PHANTOM.grid.spacing)
    mr, ct = label(case_of(path), case_of(phantom(tmp_path, "ct"), "ct"))
    assert "CT" in mr.notes["warning"]
    assert "warning" not in ct.notes


def test_a_job_killed_at_case_five_of_eight_goes_on_there(project):
    names = [f"p{i}" for i in range(8)]
    for name in names:
        project.add(name, PHANTOM.image, np.zeros(PHANTOM.image.shape, np.uint8))
    project.write(
        segmenters={"organs": {"kind": "totalsegmentator", "fastest": True, "weights": "demo"}},
        structures={"liver": "organs/liver"},
        compose={"segmenter_lesions": {"organs/kidney_cyst_*": "background"}},
        run={"batch_size": 8, "device": "cpu"},
    )
    project.run("check")
    folder = project.results / "segment" / "organs"
    command = [sys.executable, "-c", "from backsplit.cli import app; app()", "segment", "organs"]
    job = subprocess.Popen(
        [*command, "--config", "config.yaml"], cwd=project.folder, stderr=subprocess.DEVNULL
    )
    while not (folder / "p3.json").exists():
        assert job.poll() is None
        time.sleep(0.01)
    job.send_signal(signal.SIGKILL)
    job.wait()
    done = {p.stem for p in folder.glob("p*.json")}
    assert "p3" in done and "p7" not in done
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("p*.nii.gz") if p.name[:2] in done}
    project.run("segment", "organs", "--timings", "t.json")
    assert json.loads((project.folder / "t.json").read_text())["cases"] == 8 - len(done)
    after = {p.name: p.stat().st_mtime_ns for p in folder.glob("p*.nii.gz")}
    assert all(after[name] == time_ for name, time_ in before.items())
    table = pd.read_csv(folder / "00001.tsv", sep="\t", keep_default_na=False)
    assert list(table["status"]) == ["done"] * 8
    assert not list(folder.glob(".part-*")) or len(list(folder.glob(".part-*"))) <= 1


def test_a_stage_refuses_weights_before_any_case(tmp_path, model):
    checkpoint = model / "fold_0" / "checkpoint_final.pth"
    checkpoint.write_bytes(checkpoint.read_bytes() + b"\0")
    from backsplit.config.model import Config

    config = Config.model_validate(
        {
            "dataset": {"name": "a", "id": 1, "cases": "c.tsv"},
            "targets": {"t": 1},
            "segmenters": {"mine": {"kind": "nnunet", "model": str(model)}},
            "structures": {"liver": "mine/liver"},
        }
    )
    section, folder = config.segmenters["mine"], config.results.segment("mine")
    with pytest.raises(BacksplitError) as caught:
        SegmentStage("mine", build(config, "mine"), section, placing(config), folder)
    assert caught.value.code is Code.WEIGHTS_UNKNOWN


def test_weights_are_listed_accepted_and_verified_by_hand(project, model):
    checkpoint = model / "fold_0" / "checkpoint_final.pth"
    checkpoint.write_bytes(checkpoint.read_bytes() + b"\0")
    project.add("a")
    project.write(
        segmenters={"mine": {"kind": "nnunet", "model": str(model)}},
        structures={"liver": "mine/liver"},
    )
    listed = project.run("weights", "list").stdout
    assert f"mine\tunknown\t{checkpoint}" in listed
    assert "WEIGHTS_UNKNOWN" in project.run("weights", "verify", ok=False).stderr
    assert "accept mine" in project.run("check", ok=False).stderr
    project.run("weights", "accept", "mine")
    assert f"mine\taccepted\t{checkpoint}" in project.run("weights", "list").stdout
    project.run("weights", "verify")
    checkpoint.write_bytes(checkpoint.read_bytes() + b"\0")
    assert "WEIGHTS_CHANGED" in project.run("weights", "verify", ok=False).stderr


def test_out_of_memory_falls_back_to_the_cpu_then_fails_with_a_code(tmp_path, monkeypatch):
    """The path that CUDA takes, on the CPU: the predictor is told that it runs on a device."""
    image = case_of(phantom(tmp_path, "a"))
    expected = label(image)[0].array
    network.load.cache_clear()
    predictors = []
    original = network.Network.__init__

    def remember(self, predictor):
        predictor.perform_everything_on_device = True
        predictors.append(predictor)
        original(self, predictor)

    monkeypatch.setattr(network.Network, "__init__", remember)
    assert not isinstance(label(image)[0], CaseError)
    (predictor,) = predictors
    inner = predictor._internal_predict_sliding_window_return_logits
    asked = []

    def scarce(data, slicers, on_device=True):
        asked.append(on_device)
        if on_device:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return inner(data, slicers, on_device)

    predictor._internal_predict_sliding_window_return_logits = scarce
    np.testing.assert_array_equal(label(image)[0].array, expected)
    assert asked == [True, False]

    def none(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    predictor._internal_predict_sliding_window_return_logits = none
    assert label(image)[0].code is Code.OUT_OF_MEMORY
    network.load.cache_clear()
