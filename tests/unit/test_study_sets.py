"""Sets of labels of a study's arms: lesions stay, anatomy is what the arm says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from backsplit.errors import Code, RunError
from backsplit.export.nnunet import NnUNetDataset
from backsplit.study.sets import label_set, write_set
from backsplit.study.source import Source
from backsplit.volume import read_labels, save_nifti
from support.arms import ORGANS, arms, study
from support.project import load, save

NAMES = ["background", "tumor", *ORGANS]
IGNORE = len(NAMES)


@pytest.fixture
def source(tmp_path) -> Source:
    """Six cases of six patients; in p4 kidneys are unknown, in p5 a lesion file has `ignore`."""
    dataset = NnUNetDataset(tmp_path / "Dataset009_whole")
    cases = [f"p{i}" for i in range(6)]
    for i, case in enumerate(cases):
        labels = np.zeros((6, 8, 10), np.uint8)
        labels[1:3], labels[3, :4], labels[3, 4:] = 2, 3, 4
        if i >= 4:
            labels[labels != 2] = IGNORE
        labels[2:4, 3:5, i : i + 3] = 1
        save(dataset.labels / f"{case}.nii.gz", labels)
        save(dataset.images / f"{case}_0000.nii.gz", labels.astype(np.int16))
    described = {
        "channel_names": {"0": "CT"},
        "labels": {**{name: i for i, name in enumerate(NAMES)}, "ignore": IGNORE},
        "numTraining": 6,
        "file_ending": ".nii.gz",
        "targets": ["tumor"],
        "unknown": {"p4": ["kidney_left", "kidney_right"], "p5": None},
    }
    splits = [{"train": cases[:1] + cases[3:], "val": cases[1:3]}]
    dataset.json.write_text(json.dumps(described))
    return Source(dataset, described, splits, {case: case for case in cases})


def labels_in(source: Source, case: str, **section) -> tuple[np.ndarray, dict]:
    (arm,) = arms(study(arm=section)).values()
    made = label_set(arm, source)
    return made.labels(case)[1], made.described()


def test_every_arm_has_the_lesions_of_the_exported_data_set(source):
    for section in (
        {"structures": []},
        {},
        {"share": 0.2, "unknown": "background"},
        {"noise": {"grow_mm": 4}},
        {"control": "shuffled"},
    ):
        for case in source.cases:
            found, _ = labels_in(source, case, **section)
            np.testing.assert_array_equal(found == 1, load(source.labels(case)) == 1)


def test_a_lesion_that_moved_is_an_error(source, monkeypatch):
    monkeypatch.setattr("backsplit.study.sets.noisy", lambda labels, *rest: np.roll(labels, 1, 0))
    with pytest.raises(RunError) as refused:
        labels_in(source, "p0", noise={"grow_mm": 4})
    assert refused.value.code is Code.PROMISE_BROKEN


def test_unknown_voxels_are_background_where_no_structure_of_the_arm_is_unknown(source):
    whole = load(source.labels("p4"))
    found, described = labels_in(source, "p4", structures=["liver"])
    assert not found[whole == IGNORE].any() and "p4" not in described["unknown"]
    found, described = labels_in(source, "p4")
    assert (found[whole == IGNORE] == IGNORE).all()
    assert described["unknown"]["p4"] == ["kidney_left", "kidney_right"]
    found, described = labels_in(source, "p4", unknown="background")
    assert not found[whole == IGNORE].any() and set(described["unknown"]) == {"p5"}


def test_where_nobody_looked_for_lesions_no_arm_learns_that_there_are_none(source):
    whole = load(source.labels("p5"))
    for section in ({}, {"structures": []}, {"unknown": "background"}):
        found, described = labels_in(source, "p5", **section)
        last = described["labels"]["ignore"]
        assert (found[whole == IGNORE] == last).all() and described["unknown"]["p5"] is None


def test_of_a_patient_outside_the_share_all_anatomy_is_unknown(source):
    (arm,) = arms(study(arm={"share": 0.5})).values()
    made = label_set(arm, source)
    outside = [case for case in ("p0", "p1", "p2", "p3") if case not in made.known]
    assert len(made.known & {*source.splits[0]["train"]}) == 2 and outside
    for case in outside:
        found, whole = made.labels(case)[1], load(source.labels(case))
        assert (found[whole != 1] == IGNORE).all() and made.described()["unknown"][case] == [
            *ORGANS
        ]


def folds_of(source: Source, patients: int, validated: Sequence[int]) -> Source:
    """The source with other patients; a fold validates so many of them, the next one the next."""
    names = [f"p{i:03d}" for i in range(patients)]
    ends = np.cumsum(validated).tolist()
    splits = [
        {"train": names[:start] + names[end:], "val": names[start:end]}
        for start, end in zip([0, *ends], ends, strict=False)
    ]
    return replace(source, patients={name: name for name in names}, splits=splits)


FOLDS = {
    "five folds": (80, (16, 16, 16, 16, 16)),
    "few patients": (12, (3, 3, 2, 2, 2)),
    "a third held out": (80, (27,)),
    "folds of different sizes": (60, (40, 5, 5)),
}


@pytest.mark.parametrize("folds", FOLDS.values(), ids=FOLDS.keys())
def test_a_share_is_that_of_the_patients_that_each_fold_trains_on(source, folds):
    given = folds_of(source, *folds)
    for share in (0.05, 0.1, 0.25, 0.5, 0.9):
        known = given.known_patients(share)
        for split in given.splits:
            mine, wanted = len(known & {*split["train"]}), share * len(split["train"])
            assert wanted - 1e-9 <= mine < wanted + 2


@pytest.mark.parametrize("folds", FOLDS.values(), ids=FOLDS.keys())
def test_a_smaller_share_is_part_of_a_larger_one(source, folds):
    given = folds_of(source, *folds)
    shares = [given.known_patients(share) for share in (0.05, 0.1, 0.4, 0.7, 1.0)]
    assert all(few <= many for few, many in pairwise(shares)) and len(shares[0]) < len(shares[2])
    assert shares[-1] == {*given.patients}  # held-out patients too: nothing is unknown then


def test_a_share_is_not_rounded_up_by_the_last_digit(source):
    hundred = folds_of(source, 120, (20,))
    trained = {*hundred.splits[0]["train"]}
    assert len(hundred.known_patients(0.07) & trained) == 7  # 0.07 * 100 is above 7 in binary


def test_complete_leaves_out_of_the_training_what_is_not_and_validates_the_same(source):
    (arm,) = arms(study(arm={"complete": True})).values()
    (split,) = label_set(arm, source).splits()
    assert split == {"train": ["p0", "p3"], "val": ["p1", "p2"]}


def test_the_shapes_of_a_control_are_another_patients(source):
    (arm,) = arms(study(arm={"control": "shuffled"})).values()
    made = label_set(arm, source)
    assert all(made.donor(case) in {*source.complete} - {case} for case in source.cases)


def test_a_set_is_a_data_set_of_nnunet_with_linked_images(source, tmp_path):
    (arm,) = arms(study(arm={"noise": {"grow_mm": 4}})).values()
    noted = tmp_path / "noise.parquet"
    dataset = write_set(label_set(arm, source), tmp_path / "set", noted, link=True)
    assert dataset.cases() == source.cases
    for case in source.cases:
        image = dataset.images / f"{case}_0000.nii.gz"
        assert image.resolve() == source.images(case)[0].resolve()
    assert json.loads(dataset.splits.read_text()) == source.splits
    dice = pd.read_parquet(noted).set_index(["case", "structure"])["dice"]
    assert all(0 < dice["p0", organ] < 1 for organ in ORGANS)


def test_the_key_of_a_set_is_what_it_is_made_from_not_its_arm(source):
    files = {case: {"a": case} for case in source.cases}
    given = study(
        one={},
        ignore={"unknown": "ignore"},
        twin={"twin": 1},
        background={"unknown": "background"},
        fewer={"structures": ["liver"]},
        noisy={"noise": {"grow_mm": 3}},
        noisier={"noise": {"grow_mm": 4}},
        complete={"complete": True},
        control={"control": "blobs"},
    )
    keys = {name: label_set(arm, source).key(files) for name, arm in arms(given).items()}
    assert keys["one"] == keys["ignore"] == keys["twin"]
    assert len(set(keys.values())) == len(keys) - 2
    other = label_set(arms(given)["one"], source).key({**files, "p0": {"a": "changed"}})
    assert other != keys["one"]


def test_with_another_revision_of_noise_the_sets_that_have_any_are_made_again(source, monkeypatch):
    files = {case: {"a": case} for case in source.cases}
    given = study(one={}, noisy={"noise": {"grow_mm": 3}}, control={"control": "blobs"})
    sets = {name: label_set(arm, source) for name, arm in arms(given).items()}
    before = {name: made.key(files) for name, made in sets.items()}
    monkeypatch.setattr("backsplit.study.sets.NOISE_REVISION", -1)
    changed = {name for name, made in sets.items() if made.key(files) != before[name]}
    assert changed == {"noisy", "control"}


def test_a_data_set_that_was_exported_again_is_told_from_what_was_preprocessed(source):
    digests = source.digests()
    source.require_unchanged(digests)
    named = read_labels(source.labels("p1"))  # other names and colours, the same voxels
    save_nifti(source.labels("p1"), named.array, named.grid, names={1: ("x", (1, 2, 3))})
    source.require_unchanged(digests)
    fewer = {case: held for case, held in digests.items() if case != "p3"}
    changed = {**digests, "p2": {source.labels("p2").name: "other"}}
    for case, held in (("p3", fewer), ("p2", changed)):
        with pytest.raises(RunError) as refused:
            source.require_unchanged(held)
        assert refused.value.code is Code.INPUT_CHANGED and case in str(refused.value)
