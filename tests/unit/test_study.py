"""A study before anything is trained: arms, sets of labels, keys, and the price."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from backsplit.config.study import SmallNetwork, Study
from backsplit.errors import Code, RunError
from backsplit.export.nnunet import NnUNetDataset
from backsplit.flow import study_scores
from backsplit.flow.study import is_made_with
from backsplit.flow.study_keys import StudyKeys
from backsplit.store.provenance import digest
from backsplit.study.arms import Arm, Control, Noise, arms_of, reference_arm
from backsplit.study.jobs import (
    ArmSet,
    Job,
    Shared,
    Trained,
    jobs_of,
    settings_of,
    training_key,
)
from backsplit.study.preprocess import small_plans
from backsplit.study.price import Progress, as_time
from backsplit.study.sets import label_set, write_set
from backsplit.study.source import Source
from support import training
from support.project import load, save

ORGANS = ("liver", "kidney_left", "kidney_right")
NAMES = ["background", "tumor", *ORGANS]
IGNORE = len(NAMES)


def study(**arms) -> Study:
    return Study.model_validate({"arms": arms})


def arms(given: Study, nested=()) -> dict[str, Arm]:
    return {arm.name: arm for arm in arms_of(given, ORGANS, nested)}


# arms


def test_an_arm_has_the_structures_that_it_names_in_the_order_of_their_ids():
    found = arms(
        study(all={}, none={"structures": []}, two={"structures": ["kidney_left", "liver"]})
    )
    assert found["all"].structures == ORGANS
    assert found["none"].structures == ()
    assert found["two"].structures == ("liver", "kidney_left")


def test_nested_arms_take_structures_in_the_order_of_compose_nested():
    found = arms(study(nested={"nested": True}), nested=("kidney_right", "liver"))
    assert {name: arm.structures for name, arm in found.items()} == {
        "nested_0": (),
        "nested_1": ("kidney_right",),
        "nested_2": ("liver", "kidney_right"),
    }


def test_an_arm_for_each_structure_that_is_left_out():
    found = arms(study(without={"leave_one_out": ["liver", "kidney_left"]}))
    assert found["without_liver"].structures == ("kidney_left", "kidney_right")
    assert found["without_kidney_left"].structures == ("liver", "kidney_right")


def test_noise_and_controls_are_read_from_their_keys():
    found = arms(
        study(
            elastic={"noise": {"elastic_mm": 6, "seed": 3}},
            swapped={"noise": {"swap": [["kidney_left", "kidney_right"]]}},
            control={"control": "blobs"},
        )
    )
    assert found["elastic"].noise == Noise("elastic", 6.0, seed=3)
    assert found["swapped"].noise == Noise("swap", pairs=(("kidney_left", "kidney_right"),))
    assert found["control"].control == Control("blobs")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"noise": {"elastic_mm": 6, "grow_mm": 3}}, "give one of"),
        ({"noise": {"elastic_mm": 6}, "control": "blobs"}, "cannot be combined"),
        ({"structures": [], "control": "blobs"}, "without structures"),
        ({"from": "nobody"}, "`from` must name"),
        ({"share": 0}, "greater than 0"),
    ],
)
def test_an_arm_that_makes_no_sense_is_refused(section, said):
    with pytest.raises(ValueError, match=said):
        study(arm=section)


def test_the_others_are_compared_with_the_arm_of_lesions_alone():
    given = study(all={}, binary={"structures": []})
    assert reference_arm(given, arms_of(given, ORGANS, ())) == "binary"


# sets of labels


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
    assert len(made.known) == 3 and outside
    for case in outside:
        found, whole = made.labels(case)[1], load(source.labels(case))
        assert (found[whole != 1] == IGNORE).all() and made.described()["unknown"][case] == [
            *ORGANS
        ]


def test_a_smaller_share_is_part_of_a_larger_one(source):
    shares = [source.known_patients(share) for share in (0.1, 0.4, 0.7, 1.0)]
    assert [len(known) for known in shares] == [1, 3, 5, 6]
    assert all(few < many for few, many in pairwise(shares))


def test_a_share_is_not_rounded_up_by_the_last_digit(source):
    hundred = replace(source, patients={f"p{i}": f"p{i}" for i in range(100)})
    assert len(hundred.known_patients(0.07)) == 7  # 0.07 * 100 is above 7 in binary


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


def test_a_data_set_that_was_exported_again_is_told_from_what_was_preprocessed(source):
    digests = {
        case: {source.labels(case).name: sha256(source.labels(case).read_bytes()).hexdigest()}
        for case in source.cases
    }
    source.require_unchanged(digests)
    fewer = {case: held for case, held in digests.items() if case != "p3"}
    changed = {**digests, "p2": {source.labels("p2").name: "other"}}
    for case, held in (("p3", fewer), ("p2", changed)):
        with pytest.raises(RunError) as refused:
            source.require_unchanged(held)
        assert refused.value.code is Code.INPUT_CHANGED and case in str(refused.value)


# trainings

SHARED = Shared("nnUNetPlans", "abc", ORGANS, {})
PARTIAL = {"labels": {"background": 0, "tumor": 1, "liver": 2, "ignore": 3}}


def key(given: Study, name: str = "one", fold: int = 0, seed: int = 0, described=PARTIAL) -> str:
    job = Job(arms(given)[name], fold, seed)
    settings = settings_of(job, given, SHARED, described)
    return training_key(job, given, SHARED, ArmSet("Dataset", "set"), settings, None)


def test_a_seed_is_done_with_all_arms_before_the_next_and_an_arm_after_that_it_starts_from():
    given = Study.model_validate(
        {"arms": {"tuned": {"from": "one"}, "one": {}}, "folds": [0, 2], "seeds": 2}
    )
    order = [(j.seed, j.fold, j.arm.name) for j in jobs_of(given, arms_of(given, ORGANS, ()))]
    assert order == [(s, f, n) for s in (0, 1) for f in (0, 2) for n in ("one", "tuned")]


def test_trainings_are_the_same_network_where_nothing_that_matters_differs():
    first = key(study(one={}))
    assert first == key(study(other={}, one={}, more={"structures": []}))
    assert first == key(study(renamed={}), "renamed")
    assert first == key(Study.model_validate({"arms": {"one": {}}, "seeds": 3, "folds": [0, 1]}))


@pytest.mark.parametrize(
    "changed",
    [
        {"budget": {"epochs": 7}},
        {"configuration": "3d_lowres"},
        {"training": {"targets": 0.5}},
        {"arms": {"one": {"unknown": "ignore"}}},
        {"arms": {"one": {"network": "segresnet"}}},
        {"arms": {"one": {"twin": 1}}},
    ],
    ids=str,
)
def test_what_matters_makes_another_network(changed):
    assert key(Study.model_validate({"arms": {"one": {}}, **changed})) != key(study(one={}))


def test_ignore_and_marginal_are_the_same_where_everything_is_known():
    known = {"labels": {"background": 0, "tumor": 1, "liver": 2}}
    marginal, ignore = study(one={}), study(one={"unknown": "ignore"})
    assert key(marginal, described=known) == key(ignore, described=known)


def test_what_is_no_matter_of_labels_is_the_same_in_every_arm():
    given = study(binary={"structures": []}, all={})
    binary, whole = (
        settings_of(Job(arm, 0, 0), given, SHARED, PARTIAL) for arm in arms(given).values()
    )
    assert binary == whole and binary.mirroring is False  # kidney_left is in the study
    assert binary.targets == 1.0 and binary.anywhere


def test_a_setting_that_there_is_not_is_refused():
    given = Study.model_validate({"arms": {"one": {}}, "training": {"epoch": 3}})
    with pytest.raises(RunError) as refused:
        key(given)
    assert refused.value.code is Code.TRAINING_UNSUITED and "study.training" in str(refused.value)


def test_another_paper_makes_the_page_again_and_no_network():
    def keys(**given) -> StudyKeys:
        of = SimpleNamespace(study=Study.model_validate({"arms": {"one": {}}, **given}), jobs=())
        return StudyKeys(SimpleNamespace(export_key=lambda: "data"), of)

    of_study = {"reference": "one"}
    for made in (first := keys(), other := keys(paper="kits23")):
        vars(made.study).update(of_study, arm=lambda name: Arm(name, ()))
    assert first.compare() != other.compare()
    assert first.train("one", 0, 0) == other.train("one", 0, 0)


def test_of_arms_with_the_same_network_one_is_trained_before_the_others():
    """Else both would hold a GPU, and one of them would wait."""
    sections = {
        "binary": {"structures": []},
        "all": {},
        "nested": {"nested": True},
        "twin": {"structures": [], "twin": 1},
        "tuned": {"from": "binary"},
        "again": {"from": "binary"},
    }
    found = arms(Study.model_validate({"arms": sections}))
    keys = StudyKeys(None, SimpleNamespace(arm=found.__getitem__, arms=tuple(found.values())))
    before = {name: keys.before(name) for name in found if keys.before(name)}
    assert before == {
        "nested_0": ["binary"],
        f"nested_{len(ORGANS)}": ["all"],
        "tuned": ["binary"],
        "again": ["binary", "tuned"],
    }


def test_what_was_trained_or_predicted_before_a_change_is_named(tmp_path, monkeypatch):
    """The verbs run by hand: another budget, and only one arm trained since."""
    network = Trained(tmp_path, 0, "key", "sha", 3, 2)
    names = ["kept", "other key", "other network"]
    jobs = [Job(Arm(name, ()), 0, 0) for name in names]
    for job, sha in zip(jobs, ("sha", "sha", "before"), strict=True):
        (tmp_path / f"{job.arm.name}.json").write_text(json.dumps({"sha256": sha}))
    given = SimpleNamespace(
        jobs=jobs,
        network=lambda job: network,
        notes=lambda job: SimpleNamespace(predicted=tmp_path / f"{job.arm.name}.json"),
    )
    keys = {"kept": "key", "other key": "new", "other network": "key"}
    monkeypatch.setattr(
        study_scores,
        "training_of",
        lambda study, job, device: SimpleNamespace(key=keys[job.arm.name]),
    )
    assert [job.arm.name for job in study_scores.outdated(given)] == names[1:]


@pytest.mark.parametrize("own", ["epochs", "seed", "save_every"])
def test_a_setting_that_the_study_makes_itself_is_refused(own):
    given = Study.model_validate({"arms": {"one": {}}, "training": {own: 3}})
    with pytest.raises(RunError) as refused:
        key(given)
    assert refused.value.code is Code.TRAINING_UNSUITED and own in str(refused.value)


# plans and price


def test_a_small_network_takes_strides_and_kernels_as_nnunet_chooses_them():
    plans = {**training.plans("Dataset001_x"), "transpose_forward": [1, 2, 0]}
    small = SmallNetwork(spacing_mm=(4, 6, 8), patch=(32, 24, 16), features=(8, 16, 32))
    made = small_plans(plans, "3d_fullres", small)["configurations"]["3d_fullres"]
    assert made["spacing"] == [6, 4, 8] and made["patch_size"] == [24, 32, 16]  # y, x, z
    kwargs = made["architecture"]["arch_kwargs"]
    assert kwargs["features_per_stage"] == [8, 16, 32] and kwargs["n_stages"] == 3
    assert kwargs["strides"] == [[1, 1, 1], [2, 2, 1], [2, 2, 2]]  # 8 mm is not below twice 4 mm
    assert len(kwargs["kernel_sizes"]) == len(kwargs["n_conv_per_stage"]) == 3


def test_a_set_is_preprocessed_again_for_another_plan_and_for_another_configuration(tmp_path):
    """One plan has several configurations; only one of them is preprocessed."""
    plans = training.plans("Dataset001_x")
    whole = plans["configurations"]["3d_fullres"]
    plans["configurations"]["3d_lowres"] = {**whole, "data_identifier": "nnUNetPlans_3d_lowres"}
    (tmp_path / "nnUNetPlans.json").write_text(json.dumps(plans))
    (tmp_path / whole["data_identifier"]).mkdir()
    told = digest({key: held for key, held in plans.items() if key != "dataset_name"})
    shared = Shared("nnUNetPlans", told, ORGANS, {})
    assert is_made_with(tmp_path, shared, "3d_fullres")
    assert not is_made_with(tmp_path, shared, "3d_lowres")
    assert not is_made_with(tmp_path, replace(shared, sha256="other"), "3d_fullres")


@pytest.mark.parametrize(
    ("configuration", "patch"), [("3d_fullres", (8, 8, 8)), ("2d", (32, 32, 32))]
)
def test_a_small_network_that_does_not_fit_is_refused(configuration, patch):
    small = SmallNetwork(spacing_mm=(4, 4, 4), patch=patch, features=(8, 16, 32))
    plans = {**training.plans("Dataset001_x"), "transpose_forward": [0, 1, 2]}
    with pytest.raises(RunError) as refused:
        small_plans(plans, configuration, small)
    assert refused.value.code is Code.TRAINING_UNSUITED


def test_the_price_is_epochs_times_what_was_measured():
    given = Study.model_validate(
        {"arms": {"one": {}, "two": {"structures": []}}, "seeds": 2, "folds": [0]}
    )
    jobs = jobs_of(given, arms_of(given, ORGANS, ()))
    one, two, again, _ = jobs
    assert Progress(jobs, 10, {}, {}).all_s() is None
    progress = Progress(jobs, 10, {one: 10, again: 4}, {one: 30.0, two: 20.0})
    assert progress.finished == 1
    assert progress.all_s() == 10 * (30 + 20 + 30 + 20)
    assert progress.left_s() == 10 * 20 + 6 * 30 + 10 * 20
    assert [as_time(s) for s in (40, 600, 18720)] == ["40 s", "10 min", "5.2 h"]
