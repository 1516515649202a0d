"""Arms against the reference: what is paired, what is left out, and what is said of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from backsplit.errors import Code, RunError
from backsplit.study.changes import changes, extremes
from backsplit.study.compare import Verdict, compare
from backsplit.study.curves import endings
from backsplit.study.false_alarms import false_alarms
from backsplit.study.measures import LESION_CLASSES, WITH, WITHOUT
from support.study import curves, tables


def one(found, arm, cases=WITH, score="dice", target="tumor"):
    rows = found.arms
    mine = rows[
        (rows["arm"] == arm)
        & (rows["cases"] == cases)
        & (rows["score"] == score)
        & (rows["target"] == target)
    ]
    return mine.iloc[0]


@pytest.fixture(scope="module")
def found():
    gains = {"better": 0.1, "worse": -0.1}
    scores, lesions = tables(["binary", "better", "worse", "same"], free=6, gains=gains)
    return compare(scores, lesions, "binary")


def test_gains_and_losses_have_their_verdicts(found):
    better, worse, same = (one(found, arm) for arm in ("better", "worse", "same"))
    assert better["verdict"] == Verdict.BETTER and better["low"] < 0.1 < better["high"]
    assert worse["verdict"] == Verdict.WORSE and worse["difference"] == pytest.approx(
        -0.1, abs=0.03
    )
    assert same["verdict"] == Verdict.PATIENTS and 0 < same["detectable"] < 0.1
    assert better["patients"] == 24 and better["better"] + better["worse"] == 24
    assert (better["folds"], better["seeds"]) == (1, 3)


def test_a_lower_false_positive_volume_is_better(found):
    row = one(found, "better", score="false_positive_ml")
    assert row["difference"] < 0 and row["verdict"] == Verdict.BETTER
    assert row["better"] > row["worse"]


def test_lesions_count_by_their_size_and_once_a_patient(found):
    small, large = one(found, "better", LESION_CLASSES[0]), one(found, "better", LESION_CLASSES[2])
    assert small["patients"] == large["patients"] == 24
    assert small["difference"] == pytest.approx(one(found, "better")["difference"])
    assert LESION_CLASSES[1] not in set(found.arms["cases"])


def test_every_score_knows_its_better_end():
    """An arm that finds more, invents less and fits better is better by every score."""
    scores, lesions = tables(["bad", "good"], patients=12, free=6, seeds=2, networks=0.001)
    worse, missed = scores["arm"] == "bad", (lesions["arm"] == "bad") & (lesions["number"] == 1)
    for column, change in (
        ("dice", -0.2), ("nsd", -0.2), ("lesion_dice", -0.2), ("found", -1), ("hd95_mm", 9),
        ("invented", 2), ("false_positive_ml", 2), ("false_negative_ml", 2),
    ):  # fmt: skip
        scores.loc[worse & scores["has_lesion"], column] += change
    alarms = ~scores["has_lesion"]
    for column in ("predicted_ml", "false_positive_ml", "invented"):
        scores.loc[alarms, column] = np.where(scores.loc[alarms, "arm"] == "bad", 3, 0)
    lesions.loc[missed, ["dice", "found"]] = [0.0, False]
    there, back = compare(scores, lesions, "bad"), compare(scores, lesions, "good")
    same = {"dice", "found"}  # of large lesions, which both arms find as well
    for found, share in ((there, "better"), (back, "worse")):
        rows = found.arms[found.arms["cases"] != LESION_CLASSES[2]]
        assert len(rows) == 13 and (rows[share] == rows["patients"]).all(), rows[["cases", "score"]]
        assert set(found.arms.loc[found.arms["cases"] == LESION_CLASSES[2], "score"]) == same


def test_lesions_that_do_not_count_and_invented_ones_are_left_out():
    scores, lesions = tables(["a", "b"], patients=8)
    tiny = lesions.assign(number=lesions["number"] + 2, counts=False, dice=0.0, diameter_mm=5.0)
    invented = lesions.assign(kind="invented", dice=0.0)
    alone = compare(scores, lesions, "a").arms
    together = compare(scores, pd.concat([lesions, tiny, invented]), "a").arms
    pd.testing.assert_frame_equal(alone, together)


def test_what_would_be_found_is_more_the_more_arms_there_are():
    scores, lesions = tables(["a", "b", "c", "d"], patients=20)
    alone = scores["arm"].isin(["a", "b"]), lesions["arm"].isin(["a", "b"])
    few = one(compare(scores[alone[0]], lesions[alone[1]], "a"), "b")
    many = one(compare(scores, lesions, "a"), "b")
    assert many["detectable"] > few["detectable"] > 0
    assert many["low"] == few["low"]


def test_p_is_corrected_for_the_other_arms(found):
    mine = found.arms[(found.arms["cases"] == WITH) & (found.arms["score"] == "dice")]
    raw = np.maximum(mine["p_patients"], mine["p_trainings"])
    assert mine["p_holm"].min() == pytest.approx(3 * raw.min())
    assert (mine["p_holm"] >= raw).all()


def test_cases_without_the_target_count_apart_and_the_empty_ones_are_counted():
    scores, lesions = tables(["binary", "other"], patients=8, free=4, seeds=1)
    quiet = ~scores["has_lesion"] & scores["case"].isin(["c004", "c005"])
    alarms = ~scores["has_lesion"] & ~quiet
    scores.loc[quiet, ["predicted_ml", "false_positive_ml", "invented"]] = 0
    scores.loc[alarms, "predicted_ml"] = np.where(scores.loc[alarms, "arm"] == "other", 2.0, 0.0)
    found = compare(scores, lesions, "binary")
    row = one(found, "other", WITHOUT, "false_alarm")
    assert (row["patients"], row["both_empty"], row["equal"]) == (4, 2, 2)
    assert (row["reference_mean"], row["arm_mean"], row["worse"]) == (0, 0.5, 2)
    assert one(found, "other")["patients"] == 4 and one(found, "other")["both_empty"] == 0


def test_arms_change_places_when_the_reference_does():
    scores, lesions = tables(["a", "b"], gains={"b": 0.05})
    there, back = one(compare(scores, lesions, "a"), "b"), one(compare(scores, lesions, "b"), "a")
    assert there["difference"] == pytest.approx(-back["difference"])
    assert (there["better"], there["worse"]) == (back["worse"], back["better"])
    assert there["p_patients"] == back["p_patients"]


def test_the_order_of_rows_does_not_matter():
    scores, lesions = tables(["a", "b", "c"], free=4)
    shuffled = scores.sample(frac=1, random_state=1), lesions.sample(frac=1, random_state=2)
    first, second = compare(scores, lesions, "a"), compare(*shuffled, "a")
    keys = ["arm", "cases", "score"]
    pd.testing.assert_frame_equal(
        first.arms.sort_values(keys, ignore_index=True),
        second.arms.sort_values(keys, ignore_index=True),
    )


def test_a_patient_with_many_cases_counts_once():
    scores, lesions = tables(["a", "b"], patients=10)
    mine = scores["patient"] == "p000"
    again = [
        scores[mine].assign(case=f"more{i}", dice=np.where(scores.loc[mine, "arm"] == "b", i, 0.5))
        for i in (0, 1)
    ]
    found = compare(pd.concat([scores, *again]), lesions, "a")
    row, alone = one(found, "b"), compare(scores, lesions, "a").patients
    assert (row["patients"], row["items"]) == (10, 12)
    dice = alone[(alone["cases"] == WITH) & (alone["score"] == "dice")].set_index("patient")
    own = dice.pop("difference")
    own["p000"] = (own["p000"] - 0.5 + 0.5) / 3
    assert row["difference"] == pytest.approx(own.mean())


def test_what_a_network_has_not_scored_is_left_out_of_both_arms_and_named():
    scores, lesions = tables(["a", "b", "c"], patients=10)
    gone = (scores["arm"] == "b") & (scores["seed"] == 1) & (scores["case"] == "c003")
    found = compare(scores[~gone], lesions, "a")
    assert found.left_out.to_dict("records") == [
        {"arm": "b", "target": "tumor", "decision": "argmax", "case": "c003"}
    ]
    assert one(found, "b")["patients"] == 9 and one(found, "c")["patients"] == 10
    mine = found.patients[(found.patients["cases"] == WITH) & (found.patients["arm"] == "b")]
    assert len(mine) and "p003" not in set(mine["patient"])


def test_nothing_predicted_costs_374_mm():
    scores, lesions = tables(["a", "b"], patients=8, seeds=1)
    scores.loc[(scores["arm"] == "b") & (scores["case"] == "c000"), "hd95_mm"] = np.inf
    row = (
        compare(scores, lesions, "a")
        .patients.query("score == 'hd95_mm' and patient == 'p000'")
        .iloc[0]
    )
    assert row["arm_value"] == 374


def test_one_training_of_each_never_decides():
    scores, lesions = tables(["a", "b"], seeds=1, gains={"b": 0.2})
    row = one(compare(scores, lesions, "a"), "b")
    assert row["p_patients"] < 0.001 and row["low"] > 0.1
    assert np.isnan(row["p_trainings"]) and row["verdict"] == Verdict.ONE_TRAINING


def test_folds_are_the_units_where_there_is_one_seed():
    scores, lesions = tables(["a", "b"], seeds=1, folds=5, patients=50, gains={"b": 0.2})
    row = one(compare(scores, lesions, "a"), "b")
    assert (row["folds"], row["seeds"], row["verdict"]) == (5, 1, Verdict.BETTER)


def test_networks_that_differ_as_much_are_no_difference():
    scores, lesions = tables(["a", "b"], patients=200, networks=0.05, random=3)
    row = one(compare(scores, lesions, "a"), "b")
    assert row["p_patients"] < 0.001 and row["verdict"] == Verdict.TRAININGS


def test_what_the_number_of_arms_hides_is_not_put_down_to_trainings():
    arms = ["a", "b", "c", "d", "e", "f"]
    scores, lesions = tables(arms, patients=24, networks=0, gains={"b": 0.024})
    row = one(compare(scores, lesions, "a"), "b")
    assert row["p_patients"] < 0.05 and row["p_trainings"] < 0.05 < row["p_holm"]
    assert row["verdict"] == Verdict.PATIENTS


def test_five_patients_cannot_show_any_difference():
    scores, lesions = tables(["a", "b"], patients=5, gains={"b": 0.3})
    row = one(compare(scores, lesions, "a"), "b")
    assert row["better"] == 5 and row["verdict"] == Verdict.PATIENTS
    assert np.isinf(row["detectable"])


def test_equal_scores_are_equal():
    scores, lesions = tables(["a"], patients=9)
    twice = [pd.concat([t, t.assign(arm="b")]) for t in (scores, lesions)]
    row = one(compare(*twice, "a"), "b")
    assert (row["verdict"], row["equal"], row["p_holm"]) == (Verdict.EQUAL, 9, 1)


@pytest.mark.parametrize("reference", ["other", "a"])
def test_an_arm_that_is_alone_or_unknown_is_refused(reference):
    scores, lesions = tables(["a"], patients=3)
    with pytest.raises(RunError) as caught:
        compare(scores, lesions, reference)
    assert caught.value.code is Code.TABLE_INVALID and "a" in caught.value.what


def test_cases_are_named_by_what_they_gained():
    scores, _ = tables(["a", "b"], patients=12, free=2, gains={"b": 0.02})
    every = changes(scores, "a", "b", "tumor", "argmax")
    assert len(every) == 10
    assert [c.difference for c in every] == sorted((c.difference for c in every), reverse=True)
    mine = scores[(scores["case"] == every[0].case)].groupby("arm")["dice"].mean()
    assert every[0].difference == pytest.approx(mine["b"] - mine["a"])
    gained, lost = extremes(every, 3)
    assert len(gained) == 3 and all(c.difference > 0 for c in gained)
    assert lost[0].difference == min(c.difference for c in every)
    assert not set(gained) & set(lost)


@pytest.mark.parametrize("networks", [0.0, 0.02])
@pytest.mark.parametrize("folds", [1, 5])
def test_equal_arms_of_the_study_are_rarely_called_different(folds, networks):
    """The rule holds on a study's own tables, whatever its networks and patients are like."""
    options = {"patients": 60, "folds": folds, "networks": networks}
    scores, lesions = tables(["a", "b", "c", "d"], **options, gains={"b": 0.1})
    (found,) = false_alarms(scores, lesions, draws=1000)
    assert found.low <= 0.05 and found.called <= 0.065
    assert (found.patients, found.folds, found.seeds) == (60, folds, 3)
    assert found.network_sd == pytest.approx(networks, abs=0.012)
    assert found.patient_sd == pytest.approx(0.05, abs=0.006)


def test_sign_flips_alone_would_be_wrong_more_often():
    scores, lesions = tables(["a", "b", "c", "d"], patients=100, networks=0.03)
    (found,) = false_alarms(scores, lesions, draws=600)
    assert found.patients_only > 0.2 > found.called


def test_one_seed_says_nothing_of_equal_arms():
    assert false_alarms(*tables(["a", "b"], seeds=1)) == []


def test_a_training_that_still_rises_is_seen():
    slow, flat = endings(curves({"slow": 40, "flat": 5}))
    assert slow.words.startswith("too short: Dice still rises") and slow.rise > 0.03
    assert flat.words.startswith("flat") and abs(flat.rise) < 0.01
    (short,) = endings(curves({"a": 3}, epochs=6))
    assert short.words == "too short to judge: 6 epochs"
