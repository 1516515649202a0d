"""Trainings of a study: their order, and which are the same network."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from backsplit.config.study import Study
from backsplit.errors import Code, RunError
from backsplit.flow import study_scores
from backsplit.flow.study_keys import StudyKeys
from backsplit.study.arms import Arm, arms_of
from backsplit.study.jobs import (
    ArmSet,
    Job,
    Shared,
    Trained,
    jobs_of,
    settings_of,
    training_key,
)
from support.arms import ORGANS, arms, study

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


def plan_keys(**given) -> StudyKeys:
    """Keys of a study with one arm."""
    section = Study.model_validate({"arms": {"one": {}}, **given})
    of = SimpleNamespace(study=section, jobs=(), reference="one", arm=lambda name: Arm(name, ()))
    return StudyKeys(SimpleNamespace(export_key=lambda: "data"), of)


def test_another_paper_makes_the_page_again_and_no_network():
    first, other = plan_keys(), plan_keys(paper="kits23")
    assert first.compare() != other.compare()
    assert first.train("one", 0, 0) == other.train("one", 0, 0)


def test_with_another_nnunet_networks_are_trained_again_and_labels_stay(monkeypatch):
    keys, given = plan_keys(), study(one={})
    before = keys.labels("one"), keys.train("one", 0, 0), key(given)
    for module in ("flow.study_keys", "study.jobs"):
        monkeypatch.setattr(f"backsplit.{module}.versions", lambda name: {name: "99.0"})
    after = keys.labels("one"), keys.train("one", 0, 0), key(given)
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, False]


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
