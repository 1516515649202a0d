"""What is known of structures, the score that ranks them, and what evidence it has."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from backsplit.study.advise import RANKED, Tables, advice_text, advise_on, missing, score
from backsplit.study.arms import Arm, Noise
from backsplit.study.evidence import (
    ALONE,
    LEFT_OUT,
    evidence,
    evidence_lines,
    gains,
    spearman,
)
from backsplit.study.surroundings import Surroundings, by_structure
from backsplit.study.theory import IN_QUESTION, Split

NAMES = ("liver", "bowel", "aorta")


def tables(measured=True, predicted=True, split=True) -> Tables:
    measures = [
        ("a", "labels", "liver", 1500.0),
        ("b", "labels", "liver", 1700.0),
        ("a", "organs", "liver", 9.0),  # a segmenter's own
        ("a", "labels", "bowel", 800.0),
        ("b", "labels", "bowel", 0.0),
    ]
    status = [("a", n, "labelled") for n in NAMES] + [
        ("b", "liver", "truncated"),
        ("b", "bowel", "unknown"),
        ("b", "aorta", "absent"),
    ]
    flags = [("a", "liver"), ("a", "liver"), ("b", "liver"), ("", "bowel"), ("a", "organs/aorta")]
    around = [
        Surroundings("a", name, 10.0, rim, alarm if predicted else np.nan, np.nan)
        for name, rim, alarm in (
            ("background", 50.0, 10.0),
            ("liver", 30.0, 0.0),
            ("bowel", 20.0, 30.0),
            ("aorta", 0.0, 0.0),
        )
    ]
    splits = [
        Split(target, where, name, 0.1, 9.0, 9.0, along, 9.0, 9.0)
        for target, factor in (("cyst", 1.0), ("tumour", 3.0))
        for where in ("everywhere", IN_QUESTION)
        for name, along in (
            ("liver", factor * (where == IN_QUESTION)),
            ("bowel", 0.5 * factor),
            ("aorta", 0.0),
        )
    ]
    return Tables(
        pd.DataFrame(
            measures if measured else [], columns=["case", "source", "structure", "volume_ml"]
        ),
        pd.DataFrame(status, columns=["case", "structure", "status"]),
        pd.DataFrame(flags if measured else [], columns=["case", "subject"]),
        by_structure(around),
        pd.DataFrame(splits if split else [], columns=list(Split.__dataclass_fields__)),
    )


def test_each_structure_with_what_the_tables_say_of_it():
    advice = advise_on(NAMES, tables()).set_index("structure")
    assert advice.loc["liver", "volume_ml"] == 1600 and advice.loc["bowel", "volume_ml"] == 800
    assert np.isnan(advice.loc["aorta", "volume_ml"])
    assert dict(advice["known"]) == {"liver": 1.0, "bowel": 0.5, "aorta": 1.0}
    assert dict(advice["flags"]) == {"liver": 2, "bowel": 0, "aorta": 0}
    assert advice.loc["liver", "rim_share"] == pytest.approx(0.3)
    assert advice.loc["bowel", "alarm_share"] == pytest.approx(0.75)
    assert advice.loc["liver", "information"] == 2 and advice.loc["bowel", "information"] == 1
    # ranks of three: rim 1, 2/3, 1/3; alarms 1/2, 1, 1/2; information 1, 2/3, 1/3
    assert advice.loc["liver", "score"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert advice.loc["bowel", "score"] == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    assert list(advice.index) == ["liver", "bowel", "aorta"]
    assert not missing(advice.reset_index())


def test_before_any_training_it_says_what_is_missing_and_how_to_get_it():
    advice = advise_on(NAMES, tables(predicted=False, split=False))
    assert set(missing(advice)) == {"alarm_share", "alarm_mm3", "information"}
    assert list(advice["score"]) == list(advice["rim_share"].rank(pct=True))
    text = advice_text(advice, evidence_lines([]))
    assert "information: not available; train an arm with structures" in text
    assert "score: mean percentile rank of rim_share\n" in text
    assert "A description, not a promise" in text and "Evidence for the score: none" in text
    first, *rest = text.splitlines()
    assert first.split() == ["structure", "volume_ml", "known", "flags", "rim_share", "score"]
    assert rest[0].split() == ["liver", "1.6e+03", "1", "2", "0.3", "1"]


def test_with_nothing_known_nothing_is_ranked():
    advice = advise_on(NAMES, tables(False, False, False)).drop(columns="score")
    advice["rim_share"] = np.nan
    assert score(advice).isna().all()


def long_table(dice: dict[str, dict[str, float]], seeds: int = 2) -> pd.DataFrame:
    rows = []
    for arm, of_patients in dice.items():
        for patient, value in of_patients.items():
            for seed in range(seeds):
                for target, offset in (("cyst", 9.0), ("any target", 0.0)):
                    for decision, other in (("argmax", 0.0), ("0.5", 9.0)):
                        d = value + offset + other + 0.1 * (seed - (seeds - 1) / 2)
                        rows.append((arm, seed, patient, patient, target, decision, True, d))
        rows.append((arm, 0, "healthy", "healthy", "any target", "argmax", False, 0.0))
    columns = ["arm", "seed", "case", "patient", "target", "decision", "has_lesion", "dice"]
    return pd.DataFrame(rows, columns=columns)


def test_gains_of_arms_that_differ_by_one_structure_and_of_no_others():
    arms = [
        Arm("binary", ()),
        Arm("all", NAMES),
        Arm("noisy", ("liver",), noise=Noise("grow", 3.0)),
        Arm("liver", ("liver",)),
        Arm("twin", ("bowel",), twin=1),
        Arm("two", ("liver", "bowel")),
        Arm("unfinished", ("aorta",)),
    ]
    dice = {
        "binary": {"p": 0.4, "q": 0.5, "r": 0.1},
        "all": {"p": 0.6, "q": 0.6},
        "noisy": {"p": 0.0, "q": 0.0},
        "liver": {"p": 0.5, "q": 0.4},
        "twin": {"p": 0.0, "q": 0.0},
        "two": {"p": 0.5, "q": 0.55},
    }
    found = gains(long_table(dice), arms, "binary")
    assert set(found) == {ALONE, LEFT_OUT}
    assert list(found[ALONE].columns) == ["liver"] and list(found[ALONE].index) == ["p", "q"]
    assert found[ALONE]["liver"].tolist() == pytest.approx([0.1, -0.1])
    assert list(found[LEFT_OUT].columns) == ["aorta"]
    assert found[LEFT_OUT]["aorta"].tolist() == pytest.approx([0.1, 0.05])


def test_rank_correlation_is_scipys():
    random = np.random.default_rng(0)
    first = random.integers(0, 4, (50, 7)).astype(float)
    second = random.standard_normal((50, 7))
    for a, b, mine in zip(first, second, spearman(first, second), strict=True):
        expected = stats.spearmanr(a, b).statistic if np.ptp(a) else np.nan
        assert mine == pytest.approx(expected, nan_ok=True)


def gains_of(means: np.ndarray, noise: float, patients: int = 30) -> pd.DataFrame:
    random = np.random.default_rng(1)
    values = means + noise * random.standard_normal((patients, len(means)))
    return pd.DataFrame(values, columns=[f"s{i}" for i in range(len(means))])


def advice_of(values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"structure": [f"s{i}" for i in range(len(values))], "score": values})


def test_an_order_that_is_really_there_is_found():
    means = np.arange(8) * 0.05
    (found,) = evidence(advice_of(means), gains_of(means, 0.02), ALONE, ["score"])
    assert found.correlation > 0.9 and found.low > 0.5 and found.p < 0.01 and found.holds
    assert found.structures == 8 and found.patients == 30
    assert "no evidence" not in evidence_lines([found])[1]


def test_chance_is_called_evidence_in_a_twentieth_of_repeats():
    """Scores know nothing of the gains, of which each structure has a part that patients share."""
    random = np.random.default_rng(2)
    told = []
    for _ in range(200):
        measured = gains_of(0.05 * random.standard_normal(7), 0.1, 12)
        (found,) = evidence(advice_of(random.standard_normal(7)), measured, ALONE, ["score"])
        told.append(found.holds)
    assert np.mean(told) <= 0.05 + 1.96 * np.sqrt(0.05 * 0.95 / 200)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_few_structures_are_no_evidence_whatever_their_order(count):
    means = np.arange(count) * 1.0
    (found,) = evidence(advice_of(means), gains_of(means, 0.001), LEFT_OUT, ["score"])
    assert not found.holds and "no evidence" in evidence_lines([found])[1]


def test_columns_that_are_not_known_of_every_structure_are_left_out():
    means = np.arange(5) * 0.1
    advice = advice_of(means).assign(rim_share=[0.1, np.nan, 0.2, 0.3, 0.1])
    found = evidence(advice, gains_of(means, 0.1), ALONE, ["score", "rim_share"])
    assert [each.column for each in found] == ["score"]
    assert set(RANKED) >= {"rim_share"}
