"""Faults of the mapping: each is said once, with the structure's name, and blames no case."""

from __future__ import annotations

import pandas as pd
import pytest

from backsplit.config.quality import Quality
from backsplit.judge.flags import all_flags
from backsplit.judge.verdicts import DECISION_COLUMNS, verdicts
from support.bench import AGREEMENT, Bench, openkbp, torsos

KIDNEYS = {"kidney_right": "kidney_left"}
LUMBAR = {f"vertebrae_L{n}": "vertebrae_L1" for n in range(2, 6)}


def of_mapping(flags: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Faults of the mapping: (rule, structure) to the message."""
    mine = flags[(flags["case"] == "") & (flags["severity"] == "review")]
    return dict(zip(zip(mine["rule"], mine["subject"], strict=True), mine["message"], strict=True))


def relabelled(bench: Bench, other, cases=None) -> list[pd.DataFrame]:
    """Measures in which some cases' structures have another one's id."""
    return [
        bench.measured(case, bench.renamed(bench.cases[case][1], other))
        if cases is None or case in cases
        else clean
        for case, clean in bench.clean.items()
    ]


def called(tables, names) -> list[pd.DataFrame]:
    """The same measures by other names; what has none is left out."""
    kept = [
        table[~table["structure"].isin([k for k, v in names.items() if v is None])]
        for table in tables
    ]
    return [table.assign(structure=table["structure"].replace(names)) for table in kept]


@pytest.mark.parametrize(
    "bench", [torsos, pytest.param(openkbp, marks=pytest.mark.shared)], ids=["phantoms", "openkbp"]
)
def test_nothing_is_said_of_the_mapping_of_clean_cohorts(bench):
    assert not of_mapping(bench().flags)


@pytest.mark.parametrize(
    ("other", "names", "rule", "structure"),
    [
        (KIDNEYS, {}, "systematic_components", "kidney_left"),
        (KIDNEYS, {"kidney_left": "my_organ"}, "systematic_parts", "my_organ"),
        (LUMBAR, {}, "systematic_components", "vertebrae_L1"),
        (LUMBAR, {"vertebrae_L1": "lumbar_body"}, "systematic_parts", "lumbar_body"),
    ],
    ids=["both kidneys as the left", "both kidneys, any name", "all lumbar as L1", "all, any name"],
)
def test_more_parts_than_the_name_allows_are_one_fault(other, names, rule, structure):
    bench = torsos()
    flags, verdict = bench.judge_tables(called(relabelled(bench, other), names))
    said = of_mapping(flags)
    parts = {"systematic_components", "systematic_parts"}
    assert [key for key in said if key[1] == structure and key[0] in parts] == [(rule, structure)]
    assert "20 of 20" in said[rule, structure]
    assert (verdict == "accept").mean() >= 0.95
    assert not flags["rule"].isin(["components", "parts"]).any()


@pytest.mark.parametrize("name", ["kidneys", "lesions", "fat_of_the_kidney", "teeth"])
def test_a_plural_may_have_any_number_of_parts(name):
    bench = torsos()
    tables = called(relabelled(bench, KIDNEYS), {"kidney_left": name})
    assert not {key for key in of_mapping(bench.judge_tables(tables)[0]) if key[1] == name}


@pytest.mark.parametrize(
    ("names", "structure", "side"),
    [
        ({"kidney_left": "kidneys", "kidney_right": None}, "kidneys", "left"),
        ({"lung_right": "lungs", "lung_left": None}, "lungs", "right"),
    ],
)
def test_a_name_for_two_sides_that_has_one_is_one_fault(names, structure, side):
    bench = torsos()
    flags, verdict = bench.judge_tables(called(bench.clean.values(), names))
    message = of_mapping(flags)["systematic_one_side", structure]
    assert f"only on the patient's {side} in 20 of 20 cases" in message
    assert (verdict == "accept").mean() >= 0.95
    both = called(relabelled(bench, KIDNEYS), {"kidney_left": "kidneys"})
    assert ("systematic_one_side", "kidneys") not in of_mapping(bench.judge_tables(both)[0])


def test_names_exchanged_in_every_case_are_one_fault():
    bench = torsos()
    tables = relabelled(bench, {"liver": "spleen", "spleen": "liver"})
    flags, verdict = bench.judge_tables(tables)
    said = of_mapping(flags)
    assert len(said) == 1 and set(flags["severity"]) <= {"review", "warn", "info"}
    ((rule, _), message) = said.popitem()
    assert rule == "systematic_exchanged" and "liver" in message and "spleen" in message
    assert (verdict == "accept").mean() >= 0.95


def test_a_structure_mapped_from_another_class_is_named():
    """By names that no rule of anatomy speaks of: only the segmenter's own class tells."""
    bench = torsos()
    neutral = {"liver": "organ_a", "spleen": "organ_b"}
    theirs = [t.assign(source="organs") for t in called(bench.clean.values(), neutral)]
    ours = called(bench.clean.values(), {"liver": "organ_b", "spleen": "organ_a"})
    mapped = {"organs": {"organ_a": "organ_b", "organ_b": "organ_a"}}
    right = {"organs": {"organ_a": "organ_a", "organ_b": "organ_b"}}
    said = of_mapping(all_flags(pd.concat([*ours, *theirs]), AGREEMENT, mapped, {}, Quality()))
    ((rule, structure), message) = said.popitem()
    assert rule == "systematic_exchanged" and not said
    assert f"{structure} has the size and place of organs/organ_" in message
    good = called(bench.clean.values(), neutral)
    assert not of_mapping(all_flags(pd.concat([*good, *theirs]), AGREEMENT, right, {}, Quality()))


@pytest.mark.parametrize("grouped", [True, False])
def test_two_kinds_are_one_fault_naming_sizes_and_group(grouped):
    """In the eight cases of one site two structures are each other, by names that no rule knows."""
    bench = torsos()
    south = list(bench.cases)[12:]
    groups = {"site": {"north": list(bench.cases)[:12], "south": south}} if grouped else {}
    tables = relabelled(bench, {"liver": "spleen", "spleen": "liver"}, south)
    neutral = {"liver": "organ_a", "spleen": "organ_b"}
    flags, verdict = bench.judge_tables(called(tables, neutral), groups)
    said = of_mapping(flags)
    assert {structure for _, structure in said} == {"organ_a", "organ_b"}
    for (rule, _), message in said.items():
        assert rule == "systematic_two_kinds"
        assert (
            "in 8 of 20 cases (site south), and" if grouped else "in 8 of 20 cases, and"
        ) in message
        assert "in the other 12" in message
    assert (verdict[south] == "accept").all()


def test_too_few_cases_are_said_to_be_too_few():
    bench = torsos()
    few = list(bench.clean.values())[:6]
    flags, _ = bench.judge_tables(few)
    row = flags[flags["rule"] == "too_few"].iloc[0]
    assert (row["case"], row["severity"], row["value"]) == ("", "info", "6 cases")
    assert "at least 10" in row["expected"]
    assert not flags["rule"].str.startswith("cohort").any()
    sites = {"site": {"north": list(bench.cases)[:15], "south": list(bench.cases)[15:]}}
    flags, _ = bench.judge({}, sites)
    said = flags[flags["rule"] == "too_few"]
    assert said["subject"].tolist() == ["site south"] and said["value"].tolist() == ["5 cases"]
    rare = [
        t if i < 4 else t[t["structure"] != "heart"] for i, t in enumerate(bench.clean.values())
    ]
    flags, _ = bench.judge_tables(rare)
    assert "compared without heart" in flags[flags["rule"] == "too_few"]["message"].iloc[0]
    assert not len(bench.flags[bench.flags["rule"] == "too_few"])


def test_mapping_faults_can_be_turned_off():
    bench = torsos()
    tables = called(relabelled(bench, KIDNEYS), {"kidney_left": "my_organ"})
    flags, _ = bench.judge_tables(tables, settings=Quality(off=("systematic_parts:my_*",)))
    assert ("systematic_parts", "my_organ") not in of_mapping(flags)


def test_faults_of_the_mapping_send_no_case_to_review():
    row = {"case": "", "subject": "x", "severity": "review", "rule": "systematic_parts"}
    flags = pd.DataFrame([row | {"message": "x is in two parts"}])
    decisions = pd.DataFrame(columns=list(DECISION_COLUMNS))
    assert verdicts(["a"], flags, decisions)["verdict"].tolist() == ["accept"]
