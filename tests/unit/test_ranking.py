"""Who is looked at first, how many are, and what decisions change."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from backsplit.config.quality import Quality
from backsplit.judge.cube import Cube
from backsplit.judge.evidence import Scale, compare, numbers
from backsplit.judge.flags import all_flags, compared_cases
from backsplit.judge.verdicts import (
    DECISION_COLUMNS,
    SCORED_COLUMNS,
    VERDICT_COLUMNS,
    below_the_line,
    settled,
    verdicts,
)
from backsplit.measure.agreement import COLUMNS as AGREEMENT
from support.cohort import absent, changed, cohort, names_of

NONE = pd.DataFrame(columns=list(AGREEMENT))
NOBODY = pd.DataFrame(columns=list(DECISION_COLUMNS), dtype=str)


def flags_of(*rows):
    """Flags of (case, subject, rule, severity, score)."""
    full = [
        (c, s, rule, severity, "", "", f"{s} {rule}", score, "")
        for c, s, rule, severity, score in rows
    ]
    return pd.DataFrame(full, columns=SCORED_COLUMNS)


def decided(**decisions):
    rows = [(case, decision, "") for case, decision in decisions.items()]
    return pd.DataFrame(rows, columns=list(DECISION_COLUMNS), dtype=str)


def judged(table, decisions=NOBODY, review=0.05, **more):
    flags = all_flags(table, NONE, {}, {}, Quality(off=("too_few",)), **more)
    result = verdicts(list(table["case"].unique()), flags, decisions, review)
    return settled(flags, result, decisions, review), result.set_index("case")


@pytest.mark.parametrize("cases", [10, 20, 50, 120])
def test_a_clean_cohort_takes_its_share_and_no_more(cases):
    """Never more than the share, rounded up, and over many cohorts about as much."""
    sent = []
    for seed in range(240 // cases):
        _, result = judged(cohort(cases, seed))
        sent.append(int((result["verdict"] == "review").sum()))
    assert max(sent) <= np.ceil(0.05 * cases)
    low, high = stats.binom.interval(0.99, len(sent) * cases, 0.05)
    assert sum(sent) <= high and (cases < 50 or sum(sent) >= low)


def test_scores_are_chances():
    """Of ordinary cases a tenth scores above 1, and next to none above 3."""
    scores = pd.concat([judged(cohort(60, seed))[1]["score"] for seed in range(8)])
    assert 0.05 < (scores > 1).mean() < 0.2 and (scores > 3).mean() < 0.01


def test_what_is_certain_comes_first_and_is_never_cut_off():
    flags = flags_of(
        ("a", "liver", "cohort_shape", "warn", 9.0), ("b", "liver", "side", "review", np.nan),
        ("c", "liver", "side", "review", np.nan), ("d", "liver", "cohort_shape", "warn", 2.5),
        ("e", "x", "GRID_MISMATCH", "reject", np.nan),
    )  # fmt: skip
    cases = [*"abcdef", *names_of(14)]
    table = verdicts(cases, flags, NOBODY, 0.05).set_index("case")
    assert list(table.sort_values("rank").index[:5]) == ["e", "b", "c", "a", "d"]
    assert table.loc[["b", "c"], "verdict"].tolist() == ["review", "review"]
    assert table.loc[["a", "d", "e"], "verdict"].tolist() == ["accept", "accept", "reject"]
    assert table["reason"].loc["b"] == "liver side" and table.loc["b", "rules"] == "side"
    assert sorted(table["rank"]) == list(range(1, 21))
    more = verdicts(cases, flags, NOBODY, 0.15).set_index("case")
    assert more.loc[["a", "d"], "verdict"].tolist() == ["review", "accept"]
    assert more.loc["a", "rules"] == "cohort_shape"
    assert list(table.reset_index().columns) == VERDICT_COLUMNS


def test_nobody_is_sent_for_nothing():
    flags = flags_of(("a", "liver", "absent", "info", np.nan))
    assert set(verdicts([*"abc"], flags, NOBODY, 1.0)["verdict"]) == {"accept"}
    assert set(verdicts([*"abc"], flags[:0], NOBODY, 1.0)["verdict"]) == {"accept"}


def test_a_warning_counts_by_how_few_have_it():
    rows = [(f"c{n:02}", "liver", "pair", "warn", np.nan) for n in range(10)]
    flags = flags_of(
        *rows, ("c11", "spleen", "holes", "warn", np.nan), ("c12", "x", "agreement", "warn", np.nan)
    )
    table = verdicts(names_of(40), flags, NOBODY, 0.05).set_index("case")
    assert table["rank"].idxmin() == "c11"
    assert table.loc["c11", "score"] == pytest.approx(-np.log10(2 / 89), abs=0.01)
    assert table.loc["c00", "score"] == pytest.approx(-np.log10(11 / 89), abs=0.01)
    assert table.loc["c12", "score"] == pytest.approx(-np.log10(5 / 89), abs=0.01)
    few = verdicts(["c12"], flags, NOBODY, 0.05)  # a small set is not sent for a small reason
    assert few["verdict"].tolist() == ["accept"]


def test_what_was_accepted_in_bulk_is_not_spent_on_cases_that_come_later():
    flags = flags_of(("c99", "liver", "cohort_shape", "warn", 9.0))
    old = pd.DataFrame({"case": names_of(90), "decision": "accept", "note": ""})
    table = verdicts(names_of(100), flags, old, 0.05).set_index("case")
    assert table.loc["c99", ["verdict", "by", "rank"]].tolist() == ["review", "rules", 1]


@pytest.mark.parametrize("cases", [1, 20, 40, 100])
@pytest.mark.parametrize(
    "rule", ["lesion_outside", "lesion_fills", "lesion_value", "lesion_contrast"]
)
def test_the_mask_of_something_else_is_for_review_however_few_cases_there_are(rule, cases):
    flags = flags_of(("c00", "tumor", rule, "warn", np.nan))
    table = verdicts(names_of(cases), flags, NOBODY).set_index("case")
    assert table.loc["c00", "verdict"] == "review" and table.loc["c00", "rank"] == 1


def test_a_faulty_case_leads_with_one_reason_and_folds_the_rest():
    table = changed(cohort(40), ["c07"], "liver", {"p50": 120.0, "volume_ml": 700.0})
    table = changed(table, ["c09"], "spleen", {"volume_ml": 120.0})
    flags, result = judged(table)
    assert result["rank"].loc["c07"] == 1
    mine = flags[flags["case"] == "c07"]
    assert mine["severity"].tolist().count("review") == 1
    leading = mine[mine["severity"] == "review"].iloc[0]
    assert leading["message"] == result.loc["c07", "reason"] and leading["score"] > 2
    assert result.loc["c07", "rules"].split(",")[0] == leading["rule"]
    accepted = flags["case"].isin(result.index[result["verdict"] == "accept"])
    assert not ((flags["score"] < 2) & (flags["severity"] == "warn") & accepted).any()
    assert below_the_line(flags, result.reset_index()) == len(
        set(flags[flags["severity"] == "warn"]["case"])
        - {"c07", *result.index[result["verdict"] == "review"]}
    )


def test_a_reviewed_case_is_told_of_all_that_would_have_sent_it():
    """Also of what is far less odd than what leads, and would be no line of an accepted case."""
    table = changed(cohort(20), ["c07", "c08"], "spleen", {"volume_ml": 350.0})
    levels = dict.fromkeys(["p05", "p25", "p50", "p75", "p95"], 900.0)
    flags, result = judged(changed(table, ["c07"], "liver", levels))
    assert result.loc[["c07", "c08"], "verdict"].tolist() == ["review", "accept"]
    spleen = flags[flags["subject"] == "spleen"]
    assert spleen["case"].tolist() == ["c07"] and -np.log10(0.05) < spleen["score"].iloc[0] < 2
    assert -np.log10(0.05) < result.loc["c08", "score"] < 2
    assert spleen["rule"].iloc[0] in result.loc["c07", "rules"].split(",")
    assert flags["example"].eq("").all()


def test_a_cohort_with_a_tenth_of_faults_has_them_first():
    table = cohort(60)
    wrong = [f"c{n:02}" for n in range(0, 60, 10)]
    for case, structure in zip(wrong, ["liver", "spleen", "kidney_left"] * 2, strict=True):
        box = table[(table["case"] == case) & (table["structure"] == structure)].iloc[0]
        half = {"volume_ml": box["volume_ml"] * 0.5, "axis_1_mm": box["axis_1_mm"] * 0.5,
                "box_z_max": (box["box_z_min"] + box["box_z_max"]) / 2}  # fmt: skip
        table = changed(table, [case], structure, half)
    _, result = judged(table)
    assert set(result.sort_values("rank").index[:6]) == set(wrong)


def test_decisions_move_what_is_left():
    flags = flags_of(
        *[(f"a{n}", "liver", "cohort_shape", "warn", 3.0) for n in range(4)],
        ("b", "spleen", "cohort_place", "warn", 2.9), ("c", "liver", "cohort_place", "warn", 3.1),
    )  # fmt: skip
    cases = ["a0", "a1", "a2", "a3", "b", "c"]

    def order(**decisions):
        table = verdicts(cases, flags, decided(**decisions), 0.5).set_index("case")
        return table, [case for case in table.sort_values("rank").index if case not in decisions]

    assert order()[1] == ["c", "a0", "a1", "a2", "a3", "b"]
    table, left = order(a0="accept", a1="accept")
    assert left == ["b", "c", "a2", "a3"]
    assert table.loc["a2", "score"] == pytest.approx(3 + np.log10(2 / 4), abs=0.01)
    table, left = order(a0="reject", b="accept")
    assert table.loc["a2", "score"] == pytest.approx(3 + np.log10(4 / 3), abs=0.01)
    assert order(a0="review")[0].loc["a2", "score"] == 3.0
    # two of three are decided, so that one more is sent
    sent = order(a0="accept", a1="accept")[0]
    assert sent[(sent["verdict"] == "review")].index.tolist() == ["b"]


def test_lesions_are_compared_with_nothing():
    """Targets, and whatever a name calls a lesion."""
    table = cohort(40)
    for name, more in (("my_target", {"targets": ("my_target",)}), ("liver_tumor", {})):
        rows = table[table["structure"] == "spleen"].assign(structure=name)
        odd = {"volume_ml": 9000.0, "p50": 900.0, "centroid_z": 900.0, "box_z_max": 999.0}
        both = changed(pd.concat([table, rows], ignore_index=True), ["c07"], name, odd)
        flags = all_flags(both, NONE, {}, {}, Quality(off=("too_few",)), **more)
        assert name not in set(flags["subject"])
        assert not set(flags[flags["case"] == "c07"]["rule"]) - {"cohort_shape", "cohort_tissue",
            "cohort_place", "cohort_together", *flags["rule"]} and len(flags)  # fmt: skip


def test_an_absent_prostate_is_no_flag_and_an_absent_spleen_ranks():
    table = cohort(40)
    prostate = table[table["structure"] == "sacrum"].assign(structure="prostate")
    women = absent(pd.concat([table, prostate], ignore_index=True), ["c05"], "prostate")
    flags, _ = judged(women)
    assert flags[(flags["subject"] == "prostate") & (flags["case"] == "c05")].empty
    flags, result = judged(absent(table, ["c05"], "spleen"))
    assert flags[flags["rule"] == "cohort_absent"]["severity"].tolist() == ["warn"]
    assert result.loc["c05", "verdict"] == "accept" and result.loc["c05", "score"] > 1
    assert "unless it was removed" in result.loc["c05", "reason"]


def test_the_numbers_behind_a_case():
    table = changed(cohort(40), ["c07"], "liver", {"p50": 300.0})
    compared = compared_cases({"labels": Cube.of(table)}, {}, {}, Quality())
    rows = numbers(compared, "c07", 5)
    assert len(rows) == 5 and [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert rows[0][1] == "liver" and rows[0][2] in ("cohort_intensity", "cohort_tissue")
    assert numbers(compared, "nobody", 5) == []
    scale = Scale.of(compared)
    assert scale.looks > 6 and scale.score(rows[0][0]) > 3 and scale.score(1.0) == 0
    assert (
        compare(Cube.of(cohort(9)), ["x"] * 6, Quality().cohort, lambda rule, subject: True) is None
    )
