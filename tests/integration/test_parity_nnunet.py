"""Every kind of nnU-Net model against `nnUNetv2_predict`, by voxel, on models trained here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from backsplit.cases.table import Case
from backsplit.config.model import Run
from backsplit.config.segmenters import NnUNet
from backsplit.config.slices import Labelling, Placing
from backsplit.demo.phantoms import make_phantom
from backsplit.errors import BacksplitError, Code
from backsplit.segment.nnunet import NnUNetSegmenter
from backsplit.segment.weights import accept
from support.project import load, save
from support.trained import REGION_ORDER, REGIONS, train

pytestmark = pytest.mark.slow
RUN = Run(device="cpu")
SPACINGS = {"fine": (4.0, 4.0, 4.0), "thick": (4.0, 4.0, 16.0), "holed": (5.0, 4.5, 6.0)}


@pytest.fixture(autouse=True)
def ledger(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKSPLIT_WEIGHTS", str(tmp_path / "ledger"))


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> dict[str, Path]:
    """Phantoms in several spacings, one thick enough for nnU-Net's separate z, one half zero."""
    folder = tmp_path_factory.mktemp("images")
    paths = {}
    for number, (name, spacing) in enumerate(SPACINGS.items()):
        image = make_phantom(950 + number, ("liver",), spacing).image.copy()
        if name == "holed":  # a box of zeros round it, and a hole within
            image[:5], image[:, :7], image[:, :, -9:] = 0, 0, 0
            image[20:24, 30:34, 30:34] = 0
        paths[name] = save(folder / f"{name}.nii.gz", image, spacing)
    return paths


def theirs(model: Path, images: dict[str, Path], folder: Path, *more: str) -> dict[str, Path]:
    """What nnU-Net's command writes for the images."""
    channels = len(json.loads((model / "dataset.json").read_text())["channel_names"])
    (folder / "in").mkdir(parents=True)
    for name, path in images.items():
        for channel in range(channels):
            (folder / "in" / f"{name}_{channel:04d}.nii.gz").symlink_to(path)
    command = [str(Path(sys.executable).parent / "nnUNetv2_predict_from_modelfolder")]
    command += ["-i", str(folder / "in"), "-o", str(folder / "out"), "-m", str(model), *more]
    command += ["-f", "0", "-device", "cpu", "-npp", "1", "-nps", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: folder / "out" / f"{name}.nii.gz" for name in images}


def segmenter(model: Path, channels: int = 1) -> NnUNetSegmenter:
    section = NnUNet(kind="nnunet", model=model, channel=["ct"] * channels)
    found = NnUNetSegmenter(section, Labelling(("ct",) * channels, Placing("ct")), RUN)
    accept(found.weights())
    return found


def require_equal(found: NnUNetSegmenter, images: dict[str, Path], expected: dict[str, Path]):
    cases = [Case(n, 2, {"ct": p}, {}, {}, p.parent) for n, p in images.items()]
    seen = set()
    for case, result in found.label(cases):
        assert not isinstance(result, Exception), result
        np.testing.assert_array_equal(result.array, load(expected[case.id]))
        seen |= set(np.unique(result.array).tolist())
    assert seen == {0, *found.classes().values()}


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_labels(tmp_path, images, configuration):
    model = train(tmp_path / "model", configuration)
    require_equal(segmenter(model), images, theirs(model, images, tmp_path / "theirs"))


def test_regions_are_written_in_the_model_s_own_order(tmp_path, images):
    model = train(tmp_path / "model", "3d_fullres", REGIONS, REGION_ORDER)
    found = segmenter(model)
    assert found.classes() == {"all": 3, "some": 1, "lung": 2}
    require_equal(found, images, theirs(model, images, tmp_path / "theirs"))


def test_two_channels_of_which_one_is_normalised_within_a_mask(tmp_path, images):
    schemes = ("CTNormalization", "ZScoreNormalization")
    model = train(tmp_path / "model", "3d_fullres", schemes=schemes)
    expected = theirs(model, images, tmp_path / "theirs")
    require_equal(segmenter(model, 2), images, expected)


def test_a_cascade_runs_both_stages(tmp_path, images):
    low = train(tmp_path / "model", "3d_lowres")
    model = train(tmp_path / "model", "3d_cascade_fullres")
    before = theirs(low, images, tmp_path / "low")
    folder = str(next(iter(before.values())).parent)
    expected = theirs(model, images, tmp_path / "full", "-prev_stage_predictions", folder)
    found = segmenter(model)
    assert [path.parent.parent for path in found.weights() if path.suffix == ".pth"] == [low, model]
    require_equal(found, images, expected)
    (low / "fold_0" / "checkpoint_final.pth").unlink()
    with pytest.raises(BacksplitError, match="previous stage") as caught:
        found.weights()
    assert caught.value.code is Code.WEIGHTS_MISSING
