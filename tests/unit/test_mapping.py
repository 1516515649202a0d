"""Faults of the mapping that no single case shows, at the borders of what counts as one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from backsplit.config.quality import AnatomyRules, Cohort
from backsplit.judge.cube import Cube
from backsplit.judge.mapping import looks_like, one_side, several_parts, two_groups
from backsplit.judge.place import off_from_others
from support.cohort import absent, changed, cohort, names_of

RULES = AnatomyRules.model_validate(
    {
        "several": [{"of": "teeth*", "source": "a mouth"}],
        "components": [{"of": "sp?een", "most": 2, "source": "a splenule"}],
        "paired": [{"of": ["lungs", "kidney*"], "source": "a book"}],
        "midline": [{"of": "sacrum", "source": "a book"}],
    }
)


def parts(table, **renamed):
    table = table.assign(structure=table["structure"].replace(renamed))
    return {fault.subject: fault for fault in several_parts(Cube.of(table), RULES)}


def apart(ml, times):
    """A distance, in units of that at which two balls of a joint volume touch."""
    return times * 0.5 ** (1 / 3) * float(np.cbrt(6 / np.pi * ml * 1000))


TORN = {"components_large": 2.0, "volume_ml": 1500.0, "spread_mm": apart(1500, 1.01)}


@pytest.mark.parametrize(("cases", "torn", "said"), [
    (40, 32, True), (40, 31, False), (40, 40, True), (6, 5, True), (5, 5, True), (4, 4, False),
])  # fmt: skip
def test_far_parts_in_nearly_all_cases_are_a_fault(cases, torn, said):
    table = changed(cohort(cases), names_of(torn), "liver", TORN)
    found = parts(table)
    assert set(found) == ({"liver"} if said else set())
    if said:
        fault = found["liver"]
        assert (fault.rule, fault.where) == ("parts", f"{torn} of {cases} cases")
        assert fault.cases == set(names_of(torn)) and fault.expected == "at most 1 by its name"
        assert "consists of 2 large parts that lie far apart" in fault.message


def test_only_cases_that_have_the_structure_count():
    table = changed(cohort(40), names_of(16), "liver", TORN)
    table = absent(table, [f"c{n}" for n in range(20, 40)], "liver")
    assert parts(table)["liver"].where == "16 of 20 cases"


@pytest.mark.parametrize("name", ["liver_tumor", "gallstones", "GTVn", "lymph_node"])
def test_lesions_come_in_any_number(name):
    table = changed(cohort(20), names_of(20), "liver", TORN)
    assert "liver" in parts(table) and not parts(table, liver=name)


def test_parts_that_may_touch_are_two_halves_of_one_thing():
    near = TORN | {"spread_mm": apart(1500, 0.99)}
    assert not parts(changed(cohort(20), names_of(20), "liver", near))


def test_a_plural_has_any_number_of_parts_and_a_rule_says_otherwise():
    table = changed(cohort(20), names_of(20), "liver", TORN)
    table = changed(table, names_of(20), "spleen", TORN)
    assert set(parts(table)) == {"liver"}
    assert not parts(table, liver="teeth_lower")
    three = changed(table, names_of(20), "spleen", TORN | {"components_large": 3.0})
    fault = parts(three)["spleen"]
    assert fault.expected == "at most 2 by its name" and "of 3 large parts" in fault.message


# one side


def sided(table, *, middle=None, **renamed):
    renamed = {"kidney_left": "kidneys", **renamed}
    table = table.assign(structure=table["structure"].replace(renamed))
    gone = table["structure"].isin(["kidney_right"])
    if middle is not None:
        gone |= ~table["structure"].isin([*renamed.values(), *middle])
    cubes = {"labels": Cube.of(table[~gone])}
    return {fault.subject: fault for fault in one_side(cubes, "labels", RULES)}


def test_a_name_for_both_sides_that_lies_on_one_is_a_fault():
    fault = sided(cohort(20))["kidneys"]
    assert (fault.rule, fault.where) == ("one_side", "20 of 20 cases")
    assert fault.cases == set(names_of(20)) and "only on the patient's left" in fault.message
    other = sided(cohort(20).assign(structure=lambda t: t["structure"].replace(
        {"kidney_left": "kidney_right", "kidney_right": "kidney_left"})))  # fmt: skip
    assert "only on the patient's right" in other["kidneys"].message


@pytest.mark.parametrize("share", [0.8, 0.75])
def test_it_has_to_be_on_one_side_in_nearly_all_cases(share):
    table = cohort(20)
    across = [f"c{n:02}" for n in range(round(20 * share), 20)]
    table = changed(table, across, "kidney_left", {"box_x_min": -500.0})
    assert bool(sided(table)) == (share == 0.8)


@pytest.mark.parametrize("middle", [("sacrum",), ("aorta", "spleen", "liver"), ("liver",)])
def test_the_middle_is_that_of_unpaired_structures_or_of_all(middle):
    """The sacrum's own, else half way between the outermost ends."""
    table = cohort(20)
    for case in names_of(20):
        table = changed(table, [case], "sacrum", {"centroid_x": 0.0})
        table = changed(table, [case], "liver", {"box_x_min": -150.0, "box_x_max": -20.0})
        table = changed(table, [case], "aorta", {"box_x_min": -10.0, "box_x_max": 10.0})
        table = changed(table, [case], "spleen", {"box_x_min": 70.0, "box_x_max": 110.0})
    for low, high, side in ((1, 90, "left"), (-19, 90, None), (-90, -21, "right")):
        edge = 0 if middle == ("sacrum",) else -20
        if middle == ("liver",):
            edge = None
        box = {"box_x_min": float(low), "box_x_max": float(high)}
        found = sided(changed(table, names_of(20), "kidney_left", box), middle=middle)
        if edge is None:  # from the liver's right end to the kidneys' left one
            edge = (-150 + max(high, -20)) / 2
        expected = "left" if low > edge else "right" if high < edge else None
        said = found["kidneys"].message if found else ""
        assert (f"only on the patient's {expected}" in said) if expected else not found, (
            side,
            said,
        )


def test_pairs_part_left_from_right():
    table = cohort(20)
    pair = table[table["structure"].isin(["liver", "spleen"])].copy()
    pair["structure"] = pair["structure"].replace({"liver": "rib_right_4", "spleen": "rib_left_4"})
    names = {"rib_right_4": -100.0, "rib_left_4": 140.0}
    for name, x in names.items():
        pair = changed(pair, names_of(20), name, {"centroid_x": x})
    for low, said in ((19.0, False), (21.0, True)):
        box = {"box_x_min": low, "box_x_max": 300.0}
        mine = changed(table, names_of(20), "kidney_left", box)
        mine = mine[mine["structure"] == "kidney_left"]
        assert bool(sided(pd.concat([mine, pair], ignore_index=True))) == said
        own = pair[pair["structure"] == "rib_left_4"]  # without its partner it says nothing
        alone = sided(pd.concat([mine, own], ignore_index=True), middle=("rib_left_4",))
        assert set(alone) <= {"kidneys"}


def test_a_name_counts_as_paired_where_a_segmenter_has_both_sides():
    table = cohort(20)
    renamed = table.assign(structure=table["structure"].replace({"spleen": "glands"}))
    labels = Cube.of(renamed[~renamed["structure"].str.startswith("kidney")])
    for given, said in ((("gland_left", "gland_right"), True), (("gland_left",), False)):
        names = dict(zip(("kidney_left", "kidney_right"), given, strict=False))
        classes = table.assign(structure=table["structure"].replace(names))
        cubes = {"labels": labels, "organs": Cube.of(classes)}
        assert bool(list(one_side(cubes, "labels", RULES))) == said


# exchanged names


def exchanged(table, other, mapped):
    cubes = {"labels": Cube.of(table), "organs": Cube.of(other)}
    return list(looks_like(cubes, "labels", {"organs": mapped, "absent": {"liver": "liver"}}))


SWAP = {"kidney_left": "kidney_right", "kidney_right": "kidney_left"}


def swapped(cases=20, seed=0):
    other = cohort(cases, seed)
    table = other.assign(structure=other["structure"].replace(SWAP))
    return table, other


def test_names_that_were_exchanged_are_one_fault():
    table, other = swapped()
    (fault,) = exchanged(table, other, SWAP)
    assert (fault.rule, fault.where) == ("exchanged", "20 of 20 cases")
    assert {fault.subject, fault.partner} == set(SWAP)
    assert fault.expected == f"as organs/{fault.subject}"
    assert f"the size and place of organs/{fault.partner}" in fault.message
    assert fault.cases == set(names_of(20))


def test_names_that_a_structure_has_of_its_own_are_no_exchange():
    table, other = swapped()
    assert not exchanged(other, other, {name: name for name in SWAP})
    assert not exchanged(table, other, {"kidney_left": "my_kidney"})  # nobody's class
    without = other[other["structure"] != "kidney_right"]
    assert not exchanged(table, without, SWAP)


@pytest.mark.parametrize(
    ("moved", "factor", "said"),
    [(9.9, 1, True), (10.1, 1, False), (0, 1.49, True), (0, 1.51, False), (0, 1 / 1.51, False)],
)
def test_the_same_thing_has_the_same_place_and_size(moved, factor, said):
    table, other = swapped()
    here = other["structure"] == "kidney_left"
    other.loc[here, "centroid_y"] += moved
    other.loc[here, "volume_ml"] *= factor
    found = exchanged(table, other, {"kidney_left": "kidney_right"})
    assert bool(found) == said


def test_cases_are_compared_by_name_not_by_row():
    table, other = swapped()
    shuffled = pd.concat([part for _, part in reversed(list(other.groupby("case")))])
    assert len(exchanged(table, shuffled, SWAP)) == 1
    assert exchanged(table, other[other["case"] < "c16"], SWAP)[0].where == "16 of 20 cases"
    assert not exchanged(table, other[other["case"] < "c15"], SWAP)


# two kinds


def kinds(table, groups=None, **settings):
    cube = Cube.of(table)
    settings = Cohort(**settings)
    off = off_from_others(cube, settings.fewest)
    return list(two_groups(cube, off, groups or {}, settings))


def two_livers(first, cases=40, seed=0):
    """In the first cases the liver is a third as large."""
    table = cohort(cases, seed)
    chosen = table["case"].isin(names_of(first)) & (table["structure"] == "liver")
    table.loc[chosen, "volume_ml"] /= 8
    return table


@pytest.mark.parametrize(("first", "said"), [(4, 0), (5, 1), (15, 1), (20, 1), (35, 1), (36, 0)])
def test_two_kinds_of_volume_name_the_rarer_cases(first, said):
    table = two_livers(first)
    found = [f for f in kinds(table) if f.subject == "liver"]
    assert len(found) == said
    if said:
        (fault,) = found
        cases = set(table["case"])
        rarer = set(names_of(first)) if first <= 20 else cases - set(names_of(first))
        assert fault.cases == rarer and fault.rule == "two_kinds" and fault.expected == "one kind"
        volumes = table[table["structure"] == "liver"].set_index("case")["volume_ml"]
        levels = [np.exp(np.log(volumes[list(c)]).median()) for c in (rarer, cases - rarer)]
        assert fault.message == (
            f"liver comes in two kinds: its volume is about {levels[0]:.3g} ml in {len(rarer)} of "
            f"40 cases, and about {levels[1]:.3g} ml in the other {40 - len(rarer)}: two things "
            "may be mapped to it"
        )


def test_a_place_of_two_kinds_is_a_fault():
    table = cohort(40)
    chosen = table["case"].isin(names_of(15)) & (table["structure"] == "aorta")
    for axis, columns in {"z": ["centroid_z", "box_z_min", "box_z_max"]}.items():
        table.loc[chosen, columns] += 90.0
        (fault,) = [f for f in kinds(table) if f.subject == "aorta"]
        assert f"its place along {axis} is about" in fault.message and " mm in " in fault.message
        assert fault.cases == set(names_of(15))


def test_an_ordinary_cohort_is_of_one_kind():
    assert not kinds(cohort(40))
    assert kinds(two_livers(10, 20), fewest=20) and not kinds(two_livers(10, 20), fewest=21)


def test_a_spread_without_a_gap_is_one_kind():
    table = cohort(40)
    chosen = table["structure"] == "liver"
    table.loc[chosen, "volume_ml"] = np.exp(np.linspace(4, 8, 40))
    assert not kinds(table)
    # two kinds that are less than `limit` standard deviations (of 12 %) apart
    for factor, said in ((1.65, False), (1.8, True)):
        table.loc[chosen, "volume_ml"] = [1000.0] * 20 + [1000.0 * factor] * 20
        assert bool([f for f in kinds(table) if "volume" in f.message]) == said
    # between them nothing lies over at least half of the way
    for half_gap, said in ((0.26, True), (0.24, False)):
        values = [*[0.0] * 19, 0.5 - half_gap, 0.5 + half_gap, *[1.0] * 19]
        table.loc[chosen, "volume_ml"] = 100 * np.exp(np.array(values) * 2)
        assert bool([f for f in kinds(table) if "volume" in f.message]) == said


@pytest.mark.parametrize(
    ("both", "members", "said"),
    [(10, 10, True), (9, 10, True), (8, 10, False), (10, 12, False)],
)
def test_the_group_that_the_rarer_kind_is_is_named(both, members, said):
    """Nine in ten of both have to be the same cases."""
    cases = [*names_of(both), *(f"c{n}" for n in range(30, 30 + members - both))]
    groups = {"site": {"north": cases, "south": ["elsewhere"]}}
    fault = next(f for f in kinds(two_livers(10), groups) if f.subject == "liver")
    assert fault.where == "10 of 40 cases" + (" (site north)" if said else "")
