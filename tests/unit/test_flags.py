"""Flags of a data set, on made-up cohorts: who is flagged, for what, and what is left out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from backsplit.config.quality import Cohort, Quality
from backsplit.judge.cube import Cube
from backsplit.judge.echoes import without_echoes, without_unused
from backsplit.judge.flags import (
    all_flags,
    cases_of_ct,
    flag_compared,
    flag_disagreement,
    flag_too_few,
    without_off,
)
from backsplit.judge.ranking import NOTABLE
from backsplit.judge.verdicts import FLAG_COLUMNS, SCORED_COLUMNS
from backsplit.measure.agreement import COLUMNS as AGREEMENT
from support.cohort import absent, changed, cohort, names_of

NONE = pd.DataFrame(columns=list(AGREEMENT))


def flags_of(rows):
    return pd.DataFrame(
        [(case, subject, rule, "warn", "", "", "") for case, subject, rule in rows],
        columns=FLAG_COLUMNS,
    )


def keys(flags):
    return list(zip(flags["case"], flags["subject"], flags["rule"], strict=True))


def said(table, *, agreement=NONE, sources=None, groups=None, **settings):
    """What is flagged; not what each case is led by however little that is."""
    settings = Quality.model_validate({"off": ["too_few"]} | settings)
    flags = all_flags(table, agreement, sources or {}, groups or {}, settings)
    return flags[~(flags["score"] < NOTABLE)]


def test_nothing_is_said_of_an_ordinary_cohort():
    assert said(cohort(40), off=[]).empty


def test_too_few_cases_are_flagged_per_population():
    groups = {"site": {"north": names_of(12), "south": names_of(3)}}
    flags = flag_too_few(Cube.of(cohort(12)), groups, Cohort())
    assert flags["subject"].tolist() == ["site south"]
    assert flags.iloc[0].to_dict() == {
        "case": "", "subject": "site south", "rule": "too_few", "severity": "info",
        "value": "3 cases", "expected": "at least 10 cases",
        "message": "site south: too few cases to compare (3; at least 10)",
    }  # fmt: skip
    few = flag_too_few(Cube.of(cohort(9)), {}, Cohort())
    assert few["subject"].tolist() == ["the data set"]
    assert flag_too_few(Cube.of(cohort(9)), {}, Cohort(fewest=9)).empty


def test_rare_structures_are_named_up_to_eight():
    table = absent(cohort(20), names_of(11), "liver")  # nine have one
    table = absent(table, names_of(10), "spleen")  # ten
    table = absent(table, names_of(20), "aorta")  # nobody
    (flag,) = flag_too_few(Cube.of(table), {}, Cohort()).to_dict("records")
    assert flag["message"] == (
        "the data set: compared without liver, which too few of its 20 cases have"
    )
    liver = table[table["structure"] == "liver"]
    for count, more in ((8, ""), (9, " and 1 more"), (11, " and 3 more")):
        copies = [liver.assign(structure=f"s{n:02}") for n in range(count)]
        rows = flag_too_few(Cube.of(pd.concat(copies)), {}, Cohort())
        names = ", ".join(f"s{n:02}" for n in range(8))
        assert f"compared without {names}{more}, " in rows["message"].iloc[0]


def test_a_ct_goes_below_minus_200():
    table = cohort(3, names=("liver",)).assign(minimum=[-1000.0, -200.0, -201.0])
    assert cases_of_ct(table) == {"c00", "c02"}


def test_segmenters_are_named_before_their_classes():
    table = changed(cohort(40), ["c07"], "liver", {"p50": 500.0})
    flags = flag_compared({"organs": Cube.of(table)}, {"organs": {"liver": "liver"}}, {}, Quality())
    assert {subject for _, subject, _ in keys(flags)} == {"organs/liver"}
    odd = flags[flags["score"] > NOTABLE]
    assert odd["case"].tolist() == ["c07"]
    assert odd["rule"].isin(["cohort_intensity", "cohort_tissue"]).all()


def test_cases_are_compared_within_groups_as_well():
    """What is ordinary for three scanners together stands out among the cases of one."""
    table = cohort(60)
    cases = names_of(60)
    groups = {"scanner": {"a": cases[:20], "b": cases[20:40], "c": cases[40:]}}
    liver = table["structure"] == "liver"
    table.loc[liver, "p50"] = np.repeat([200.0, 60.0, 130.0], 20) + np.arange(60) % 3
    table = changed(table, ["c00"], "liver", {"p50": 60.0})
    off = ["too_few", "cohort_tissue", "cohort_together", "cohort_place"]
    of_livers = [
        [key for key in keys(said(table, off=off, groups=some)) if key[1] == "liver"]
        for some in ({}, groups)
    ]
    assert of_livers == [[], [("c00", "liver", "cohort_intensity")]]


def pairs(rows):
    columns = ["case", "structure", "first", "second", "dice"]
    return pd.DataFrame(rows, columns=columns).reindex(columns=list(AGREEMENT))


def test_disagreement_is_of_what_lies_below_the_limit():
    table = pairs(
        [("d", "liver", "x", "y", 0.69), ("b", "liver", "x", "y", 0.7), ("c", "fat", "x", "y", 0.1)]
    )
    flags = flag_disagreement(table, 0.7)
    assert keys(flags) == [("d", "liver", "agreement"), ("c", "fat", "agreement")]
    assert flags.iloc[0].to_dict() == {
        "case": "d", "subject": "liver", "rule": "agreement", "severity": "warn",
        "value": "Dice 0.69", "expected": "at least 0.7",
        "message": "liver: x and y agree with a Dice of 0.69 only; expected at least 0.7",
    }  # fmt: skip
    assert keys(said(cohort(12), agreement=table, least_dice=0.05)) == []
    assert len(said(cohort(12), agreement=table)) == 2


def test_of_several_low_pairs_the_worst_is_told():
    table = pairs([("a", "liver", "x", "y", 0.5), ("a", "liver", "x", "z", 0.3),
                   ("a", "liver", "y", "z", 0.4)])  # fmt: skip
    assert flag_disagreement(table, 0.7)["value"].tolist() == ["Dice 0.30"]


def test_rules_are_left_out_by_name_wildcard_and_subject():
    flags = flags_of([("a", "liver", "volume"), ("a", "spleen", "volume"), ("b", "liver", "side")])
    assert keys(without_off(flags, [])) == keys(flags)
    assert keys(without_off(flags, ["volume"])) == [("b", "liver", "side")]
    assert keys(without_off(flags, ["volume:li*"])) == [
        ("a", "spleen", "volume"), ("b", "liver", "side"),
    ]  # fmt: skip
    assert keys(without_off(flags, ["s*", "vol*:spleen"])) == [("a", "liver", "volume")]


def test_a_class_s_flag_goes_where_its_structure_says_the_same():
    sources = {"organs": {"kidney_left": "kidney", "spleen": "spleen"}}
    flags = flags_of(
        [("a", "kidney", "volume"), ("a", "organs/kidney_left", "volume"),
         ("a", "organs/kidney_left", "side"), ("b", "organs/kidney_left", "volume"),
         ("a", "organs/spleen", "volume"), ("a", "organs/brain", "volume")]
    )  # fmt: skip
    assert keys(without_echoes(flags, sources)) == [
        key for i, key in enumerate(keys(flags)) if i != 1
    ]
    assert keys(without_unused(flags, sources)) == keys(flags)[:5]


def test_a_class_that_is_odder_than_its_structure_is_no_echo_of_it():
    """Half of a class is missing; of its structure something else is said, which is nothing."""
    organs = changed(cohort(40, 1, "organs"), ["c05"], "kidney_left", {"volume_ml": 75.0})
    names = {name: name for name in organs["structure"].unique()}
    both = pd.concat([cohort(40), organs], ignore_index=True)
    flags = said(both, sources={"organs": names})
    (score,) = flags[(flags["case"] == "c05") & (flags["subject"] == "organs/kidney_left")]["score"]
    assert score > 3
    rows = [("a", "organs/liver", "near"), ("a", "liver", "near")]
    graver = flags_of(rows).assign(severity=["review", "warn"])
    assert keys(without_echoes(graver, {"organs": {"liver": "liver"}})) == rows


def test_what_is_said_of_all_cases_and_of_a_group_is_said_as_gravely_as_either():
    """By all cases the liver's place is out of view; by those of its site it lies lower."""
    table, south = cohort(60), names_of(60)[48:]
    ends = ["centroid_z", "box_z_min", "box_z_max"]
    table.loc[table["case"].isin(south) & (table["structure"] == "liver"), ends] -= 190
    table = absent(table, [south[0]], "liver")
    seen = table[(table["case"] == south[0]) & (table["structure"] == "sacrum")]["centroid_z"]
    image = {"case": south[0], "source": "image", "structure": "image",
             "box_z_min": seen.item() - 80, "box_z_max": seen.item() + 80}  # fmt: skip
    table = pd.concat([table, pd.DataFrame([image]).reindex(columns=table.columns)])

    def severities(**groups: dict[str, list[str]]) -> list[str]:
        flags = all_flags(table, NONE, {}, groups, Quality())
        return flags[(flags["case"] == south[0]) & (flags["rule"] == "cohort_absent")][
            "severity"
        ].tolist()

    assert severities() == ["info"]
    assert severities(site={"north": names_of(60)[:48], "south": south}) == ["review"]


def test_an_exchange_replaces_the_faults_it_explains():
    """The mapping of two kidneys is exchanged: no case is to blame."""
    swap = {"kidney_left": "kidney_right", "kidney_right": "kidney_left"}
    organs = cohort(40).assign(source="organs")
    table = cohort(40).assign(structure=lambda t: t["structure"].replace(swap))
    both = pd.concat([table, organs], ignore_index=True)
    flags = said(both, sources={"organs": swap})
    assert ("", "kidney_left", "systematic_exchanged") in keys(flags)
    assert {case for case, _, _ in keys(flags)} == {""}
    assert not {("", kidney, "systematic_side") for kidney in swap} & set(keys(flags))
    off = said(both, sources={"organs": swap}, off=["too_few", "systematic_*"])
    assert off.empty


@pytest.mark.parametrize(
    ("fault", "rule", "added"),
    [({}, "one_side", True), ({"components_large": 3.0, "spread_mm": 200.0}, "parts", False)],
)
def test_of_what_is_wrong_otherwise_only_a_missing_side_is_added(fault, rule, added):
    """A structure of a wrong intensity everywhere, which is one fault already."""
    name = "kidneys" if rule == "one_side" else "my_organ"
    table = cohort(40)
    table = table[table["structure"] != "kidney_right"]
    table = changed(table, names_of(40), "kidney_left", {"p50": 500.0} | fault)
    table["structure"] = table["structure"].replace({"kidney_left": name})
    intensity = [{"of": name, "low": 0, "high": 100, "source": "a book"}]
    with_rule = keys(said(table, rules={"intensity": intensity}))
    assert ("", name, "systematic_intensity") in with_rule
    assert (("", name, f"systematic_{rule}") in with_rule) == added
    assert ("", name, f"systematic_{rule}") in keys(said(table))


def test_sources_come_in_the_order_of_the_table():
    table = changed(cohort(40), ["c07"], "liver", {"p50": 500.0})
    both = pd.concat([table.assign(source=name) for name in ("zebra", "ant")], ignore_index=True)
    sources = {name: {"liver": "organ"} for name in ("ant", "zebra")}
    subjects = [subject for _, subject, _ in keys(said(both, sources=sources))]
    assert list(dict.fromkeys(subjects)) == ["zebra/liver", "ant/liver"]


def test_two_kinds_take_the_place_of_what_single_cases_show():
    table = cohort(40)
    chosen = table["case"].isin(names_of(8)) & (table["structure"] == "sacrum")
    table.loc[chosen, "volume_ml"] /= 8
    flags = said(table)
    assert ("", "sacrum", "systematic_two_kinds") in keys(flags)
    mine = [key for key in keys(flags) if key[1] == "sacrum" and key[0]]
    assert not [key for key in mine if key[2].startswith("cohort_")]
    fault = flags[flags["rule"] == "systematic_two_kinds"].iloc[0]
    assert fault["example"] in names_of(8) and (flags[flags["case"] != ""]["example"] == "").all()


def test_a_source_of_images_is_no_source_of_labels():
    table = changed(cohort(40), ["c07"], "liver", {"p50": 500.0})
    assert said(table.assign(source="image")).empty and not said(table).empty


@pytest.mark.parametrize("cases", [10, 40])
def test_every_flag_has_a_place_and_a_text(cases):
    table = changed(cohort(cases), ["c07"], "liver", {"p50": 500.0, "volume_ml": 9000.0})
    flags = said(table, off=[])
    assert list(flags.columns) == SCORED_COLUMNS and len(flags)
    assert not flags[FLAG_COLUMNS].isna().any().any()
    assert flags.index.tolist() == list(np.arange(len(flags)))


def test_what_ends_at_the_end_of_the_image_is_cut_off():
    """The last voxels of an organ that is hardly in view are no small organ."""
    table = changed(cohort(40), ["c07"], "liver", {"volume_ml": 3.0})
    row = table[(table["case"] == "c07") & (table["structure"] == "liver")].iloc[0]
    view = {"source": "image", "structure": "field_of_view", "voxels": 9, "touches_border": True}
    view |= {"case": "c07", "box_z_min": -999.0}
    for end, seen in ((8.0, True), (200.0, False)):
        image = pd.DataFrame([view | {"box_z_max": row["box_z_max"] + end}])
        flags = said(pd.concat([image, table]))
        rules = {rule for case, name, rule in keys(flags) if (case, name) == ("c07", "liver")}
        assert ("cohort_truncated" in rules) == seen and ("volume" in rules) != seen
