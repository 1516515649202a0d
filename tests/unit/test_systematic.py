"""What is wrong nearly everywhere is said once: how many cases that takes, and of which group."""

from __future__ import annotations

import pandas as pd
import pytest

from backsplit.config.quality import AnatomyRules
from backsplit.judge.cube import Cube
from backsplit.judge.systematic import Fault, exchanged, split, typical
from backsplit.judge.verdicts import FLAG_COLUMNS
from support.cohort import absent, cohort, names_of


def flags(cases, subject="liver", rule="volume"):
    rows = [(case, subject, rule, "warn", "9 ml", "more", f"{subject} of {case}") for case in cases]
    return pd.DataFrame(rows, columns=FLAG_COLUMNS)


def present(count, subject="liver"):
    return {subject: set(names_of(count))}


def first_of(_, cases):
    return min(cases)


@pytest.mark.parametrize(
    ("bad", "cases", "said"),
    [(5, 10, True), (5, 11, False), (6, 11, True), (4, 4, False), (5, 5, True), (40, 40, True)],
)
def test_half_of_the_cases_and_five_make_a_fault(bad, cases, said):
    faults, single = split(flags(names_of(bad)), present(cases), {}, first_of)
    assert len(faults) == said and len(single) == (0 if said else bad)
    if said:
        (fault,) = faults
        assert (fault.subject, fault.rule) == ("liver", "volume")
        assert fault.where == f"{bad} of {cases} cases" and fault.cases == set(names_of(bad))
        assert fault.flag() == {
            "case": "", "subject": "liver", "rule": "systematic_volume", "severity": "review",
            "value": fault.where, "expected": "more",
            "message": f"liver is wrong in {fault.where}: its mapping, or its segmenter, not the "
            "cases; e.g. c00: liver of c00", "example": "c00",
        }  # fmt: skip


def test_the_example_is_the_case_whose_volume_is_typical():
    table = cohort(9)
    volumes = {name: 100.0 + 10 * n for n, name in enumerate(names_of(9))}
    chosen = table["structure"] == "liver"
    table.loc[chosen, "volume_ml"] = table[chosen]["case"].map(volumes)
    cubes = {"labels": Cube.of(table), "organs": Cube.of(table)}
    assert typical("liver", names_of(9), cubes) == "c04"
    assert typical("organs/liver", names_of(5), cubes) == "c02"
    assert typical("liver", [], cubes) == typical("liver of c01", names_of(3), cubes) == ""
    gone = {"labels": Cube.of(absent(table, names_of(4), "liver"))}
    assert typical("liver", names_of(4), gone) == "" and typical("liver", names_of(6), gone)
    (fault,), _ = split(flags(names_of(7)), present(9), {}, lambda subject, cases: max(cases))
    assert fault.example == "c06" and "e.g. c06: liver of c06" in fault.message


def test_only_cases_that_have_the_structure_count():
    faults, _ = split(flags(names_of(6)), {"liver": set(names_of(12))}, {}, first_of)
    assert faults
    nobody = {"spleen": set(names_of(40))}
    faults, _ = split(flags(names_of(6)), nobody, {}, first_of)
    assert faults[0].where == "6 of 6 cases"


def test_flags_of_other_subjects_and_rules_stay():
    table = pd.concat([flags(names_of(9)), flags(["c01"], "spleen"), flags(["c02"], rule="side")])
    faults, single = split(table, present(10) | present(10, "spleen"), {}, first_of)
    assert len(faults) == 1
    assert single[["case", "subject", "rule"]].to_numpy().tolist() == [
        ["c01", "spleen", "volume"],
        ["c02", "liver", "side"],
    ]
    assert list(single.columns) == FLAG_COLUMNS and single.index.tolist() == [0, 1]
    faults, single = split(flags([]), {}, {}, first_of)
    assert not faults and single.empty and list(single.columns) == FLAG_COLUMNS


@pytest.mark.parametrize(
    ("inside", "outside", "said"),
    [(8, 0, True), (5, 0, True), (4, 4, False), (8, 6, True), (8, 7, False)],
)
def test_a_fault_of_a_group_is_rare_elsewhere(inside, outside, said):
    """Ten cases of one site; of the thirty others at most a fifth may have it too."""
    cases = [*names_of(inside), *(f"c{n}" for n in range(10, 10 + outside))]
    groups = {"site": {"south": [f"c{n}" for n in range(35, 40)], "north": names_of(10)}}
    faults, single = split(flags(cases), present(40), groups, first_of)
    assert len(faults) == said
    if said:
        assert faults[0].where == f"{inside} of 10 cases of site north"
        assert faults[0].cases == set(names_of(inside))
        assert single["case"].tolist() == cases[inside:]  # they keep their own


# exchanged names

RULES = AnatomyRules.model_validate(
    {
        "volume": [
            {"of": "liver", "low": 900, "high": 2500, "source": "a book"},
            {"of": "spleen", "low": 50, "high": 500, "source": "a book"},
            {"of": "aorta", "low": 50, "high": 500, "source": "a book"},
        ],
        "intensity": [{"of": "aorta", "low": 0, "high": 100, "source": "a book"}],
    }
)
SWAP = {"liver": "spleen", "spleen": "liver"}
CT = set(names_of(40))


def fault(subject, rule="volume", message="too small", cases=20):
    return Fault(subject, rule, f"{cases} of 20 cases", frozenset(names_of(cases)), "x", message)


def cube(cases=20, **renamed):
    table = cohort(cases)
    return Cube.of(table.assign(structure=table["structure"].replace(renamed)))


def test_an_exchange_of_two_names_is_one_fault():
    faults = [fault("liver"), fault("aorta", "intensity"), fault("spleen", "cohort_size"),
              fault("spleen")]  # fmt: skip
    found = exchanged(faults, cube(**SWAP), RULES, CT)
    assert [(f.subject, f.rule) for f in found] == [("aorta", "intensity"), ("liver", "exchanged")]
    assert (found[1].partner, found[1].where) == ("spleen", "20 of 20 cases")
    assert found[1].expected == "liver and spleen the other way round"
    assert found[1].message == (
        "liver and spleen have each other's size and place in 20 of 20 cases: their names are "
        "exchanged in the mapping, or in the segmenter's class table; swapped back, nothing is "
        "wrong with either (volume)"
    )


def test_two_exchanges_are_two_faults():
    table = cohort(20)
    renamed = SWAP | {"aorta": "sacrum", "sacrum": "aorta"}
    both = Cube.of(table.assign(structure=table["structure"].replace(renamed)))
    wrong = [fault("liver"), fault("spleen"), fault("aorta", "intensity"), fault("sacrum", "side")]
    found = exchanged(wrong, both, RULES, CT)
    assert [(f.subject, f.partner) for f in found] == [("liver", "spleen"), ("aorta", "sacrum")]


def test_the_other_name_may_be_only_spoken_of():
    spoken = fault("liver", message="too small (beside spleen, or so)")
    (found,) = exchanged([spoken], cube(**SWAP), RULES, CT)
    assert (found.rule, found.partner) == ("exchanged", "spleen")
    assert exchanged([fault("liver")], cube(**SWAP), RULES, CT) == [fault("liver")]


def test_what_an_exchange_does_not_explain_stays():
    both = [fault("liver"), fault("spleen")]
    assert exchanged(both, cube(), RULES, CT) == both  # their sizes are right as they are
    others = [fault("liver"), fault("spleen", cases=0)]
    (first, second) = exchanged(others, cube(**SWAP), RULES, CT)  # a fault of other cases
    assert (first.subject, second.rule) == ("spleen", "exchanged")
    unknown = [fault("kidney"), fault("liver", "cohort_size")]
    assert exchanged(unknown, cube(**SWAP), RULES, CT) == unknown


def test_rules_for_ct_are_asked_of_a_ct_only():
    names = {"aorta": "sacrum", "sacrum": "aorta"}
    bright = cohort(20).assign(p50=300.0)
    bright = bright.assign(structure=bright["structure"].replace(names))
    wrong = [fault("aorta"), fault("sacrum")]
    assert exchanged(wrong, Cube.of(bright), RULES, CT) == wrong
    assert [f.rule for f in exchanged(wrong, Cube.of(bright), RULES, set())] == ["exchanged"]


@pytest.mark.parametrize(("count", "said"), [(12, True), (13, False)])
def test_exchanges_are_not_sought_among_many_faults(count, said):
    table = cohort(20)
    more = [table[table["structure"] == "aorta"].assign(structure=f"s{n}") for n in range(11)]
    table = table.assign(structure=table["structure"].replace(SWAP))
    whole = Cube.of(pd.concat([table, *more], ignore_index=True))
    faults = [fault("liver"), fault("spleen"), *(fault(f"s{n}") for n in range(count - 2))]
    found = exchanged(faults, whole, RULES, CT)
    assert ("exchanged" in {f.rule for f in found}) == said
