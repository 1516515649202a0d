"""What an nnU-Net model folder says of its classes, its regions and the stages of a cascade."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backsplit.config.model import Run
from backsplit.config.segmenters import NnUNet
from backsplit.config.slices import Labelling, Placing
from backsplit.errors import BacksplitError, Code
from backsplit.flow.check import check
from backsplit.segment.nnunet import NnUNetSegmenter

WHOLE = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "spot": 3}
CASCADE = {
    "3d_fullres": {},
    "3d_lowres": {"inherits_from": "3d_fullres", "next_stage": "3d_cascade_fullres"},
    "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
}


def folder(parent: Path, name: str = "T__P__3d_fullres", plans=None, **dataset) -> Path:
    """A model folder without a network that could be opened."""
    path = parent / name
    (path / "fold_0").mkdir(parents=True)
    (path / "fold_0" / "checkpoint_final.pth").touch()
    (path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}, **dataset}))
    (path / "plans.json").write_text(json.dumps(plans or {"configurations": CASCADE}))
    return path


def segmenter(model: Path) -> NnUNetSegmenter:
    section = NnUNet(kind="nnunet", model=model)
    return NnUNetSegmenter(section, Labelling(("ct",), Placing("ct")), Run())


@pytest.mark.parametrize(
    ("labels", "order", "expected"),
    [
        ({"background": 0, "a": 1, "b": 2, "ignore": 3}, None, {"a": 1, "b": 2}),
        ({"background": 0, "a": [1], "b": 2}, None, {"a": 1, "b": 2}),
        (WHOLE, [1, 2, 3], {"whole": 1, "core": 2, "spot": 3}),
        (WHOLE, [7, 3, 5], {"whole": 7, "core": 3, "spot": 5}),
        ({**WHOLE, "none": [0], "ignore": 4}, [1, 2, 3], {"whole": 1, "core": 2, "spot": 3}),
    ],
)
def test_classes(tmp_path, labels, order, expected):
    model = folder(tmp_path, labels=labels, regions_class_order=order)
    assert segmenter(model).classes() == expected


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (WHOLE, None),
        (WHOLE, [1, 2]),
        (WHOLE, [1, 2, 2]),
        (WHOLE, [1, 2, "3"]),
        (WHOLE, [0, 1, 2]),
        (WHOLE, {"whole": 1}),
        ({"background": 0, "a": "1"}, None),
        ({"background": 0, "a": []}, None),
        ({"background": 0, "a": 1.5}, None),
        ({"background": 0, "a": -1}, None),
        ({"background": 0, "a": 70000}, None),
        ({"background": 0, "a\x1b[2J": 1}, None),
        ({"background": 0, "a": [1, [2]]}, [1]),
    ],
)
def test_labels_that_no_map_can_hold_are_refused(tmp_path, labels, order):
    model = folder(tmp_path, labels=labels, regions_class_order=order)
    with pytest.raises(BacksplitError) as caught:
        segmenter(model).classes()
    assert caught.value.code is Code.MODEL_INVALID and str(model) in str(caught.value)


def test_a_folder_of_models_is_refused_with_one_that_it_holds(tmp_path):
    model = folder(tmp_path, labels={"background": 0, "a": 1})
    for given, end in ((tmp_path, f"such as {model}"), (tmp_path / "gone", "and fold_*")):
        with pytest.raises(BacksplitError) as caught:
            segmenter(given).classes()
        assert caught.value.what == f"{given / 'dataset.json'} does not exist"
        assert caught.value.remedy.endswith(end)


def test_a_folder_that_is_no_model_is_one_problem(tmp_path, project, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project.add("a")
    project.settings["segmenters"]["net"] = {"kind": "nnunet", "model": "gone"}
    project.settings["structures"]["a"] = "net/a"
    (problem,) = check(project.write()).fatal
    assert problem.code is Code.MODEL_INVALID


def test_the_files_of_a_cascade_are_those_of_both_stages(tmp_path):
    labels = {"background": 0, "a": 1}
    model = folder(tmp_path, "T__P__3d_cascade_fullres", labels=labels)
    with pytest.raises(BacksplitError, match="previous stage") as caught:
        segmenter(model).weights()
    assert caught.value.code is Code.WEIGHTS_MISSING
    low = folder(tmp_path, "T__P__3d_lowres", labels=labels)
    names = ("dataset.json", "plans.json", "fold_0/checkpoint_final.pth")
    expected = [part / name for part in (low, model) for name in names]
    assert segmenter(model).weights() == expected
    full = folder(tmp_path, "T__P__3d_fullres", labels=labels)
    assert segmenter(full).weights() == [full / name for name in names]


@pytest.mark.parametrize(
    "plans",
    [
        {"configurations": []},
        {"configurations": {"3d_fullres": []}},
        {"configurations": {"3d_fullres": {"inherits_from": "nothing"}}},
        {"nothing": 1},
        [1],
    ],
)
def test_plans_of_another_shape_are_refused(tmp_path, plans):
    model = folder(tmp_path, plans=plans, labels={"background": 0, "a": 1})
    with pytest.raises(BacksplitError) as caught:
        segmenter(model).weights()
    assert caught.value.code is Code.MODEL_INVALID


def test_plans_that_go_round_in_a_circle_end(tmp_path):
    entry = {"previous_stage": "3d_fullres", "inherits_from": "3d_fullres"}
    model = folder(tmp_path, plans={"configurations": {"3d_fullres": entry}},
                   labels={"background": 0, "a": 1})  # fmt: skip
    assert set(segmenter(model).weights()) == set(model.rglob("*.*"))
