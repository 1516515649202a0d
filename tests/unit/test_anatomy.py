"""Anatomy rules: each finds what it is for, and is silent about what the scan does not show."""

from __future__ import annotations

import pandas as pd
import pytest
from totalsegmentator.registry import get_task_classes

from backsplit.config.quality import AnatomyRules, Quality
from backsplit.judge.anatomy import Case, anatomy_rules, findings
from backsplit.judge.flags import all_flags
from backsplit.measure.agreement import COLUMNS
from backsplit.measure.table import COLUMNS as MEASURES
from backsplit.measure.table import measure
from backsplit.volume import read_labels, read_volume
from support.measured import row
from support.project import SHARED


def table_of(rows) -> pd.DataFrame:
    """Rows of one case of a CT, with every column of `measures.parquet`."""
    return pd.DataFrame(rows).reindex(columns=list(MEASURES)).assign(case="a", minimum=-1000.0)


def flagged(rows, *, is_ct=True, rules=None):
    found = findings(Case(rows, is_ct=is_ct), rules or anatomy_rules())
    return {(finding.rule, finding.subject) for finding in found}


CUT = {"touches_border": True}

FAULTS = [
    pytest.param({"liver": row(ml=200)}, ("volume", "liver"), id="too small"),
    pytest.param({"liver": row(ml=9000)}, ("volume", "liver"), id="too large"),
    pytest.param({"lung_left": row(ml=2000, p50=-20)}, ("intensity", "lung_left"), id="no air"),
    pytest.param(
        {"rib_left_3": row(x=-90, p50=200), "rib_right_3": row(x=90, p50=200)},
        ("side", "rib_left_3"), id="swapped",
    ),
    pytest.param(
        {"left_atrium": row(x=-30), "right_atrium": row(x=30)},
        ("side", "left_atrium"), id="swapped, named the other way round",
    ),
    pytest.param(
        {"kidney_left": row(x=60, ml=50), "kidney_right": row(x=-60, ml=200)},
        ("pair", "kidney_left"), id="one side too small",
    ),
    pytest.param(
        {"heart": row(z=-200, ml=600), "liver": row(ml=1500)}, ("order", "heart"), id="upside down"
    ),
    pytest.param(
        {f"vertebrae_L{n}": row(z=-30 * n, ml=50, p50=200) for n in (1, 2, 4)},
        ("chain", "vertebrae_L3"), id="one left out",
    ),
    pytest.param(
        {f"vertebrae_L{n}": row(z=30 * n, ml=50, p50=200) for n in (1, 2)},
        ("chain", "vertebrae_L1"), id="the wrong way round",
    ),
    pytest.param(
        {"vertebrae_L4": row(ml=50, p50=200), "sacrum": row(z=-35, ml=200, p50=200)},
        ("chain", "vertebrae_L4"), id="off by one",
    ),
    pytest.param(
        {"gallbladder": row(z=100, ml=30), "liver": row(ml=1500, half_mm=60)},
        ("near", "gallbladder"), id="far from its neighbour",
    ),
    pytest.param(
        {"spleen": row(ml=200, components_large=2.0)}, ("components", "spleen"), id="two parts"
    ),
    pytest.param({"liver": row(ml=1500, holes_ml=60)}, ("holes", "liver"), id="a hole"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "finding"), FAULTS)
def test_each_rule_finds_what_it_is_for(rows, finding):
    assert finding in flagged(rows)


@pytest.mark.parametrize(("rows", "finding"), FAULTS)
def test_rules_are_silent_about_what_the_field_of_view_cuts_off(rows, finding):
    kinds = {"intensity", "side", "holes"}  # a part of a structure shows these as the whole does
    too_large = finding[0] == "volume" and rows["liver"]["volume_ml"] > 5000
    left_out = finding == ("chain", "vertebrae_L3")
    anchored = "sacrum" in rows
    cut = {name: {**measures, **CUT} for name, measures in rows.items()}
    seen = finding in flagged(cut)
    assert seen == (finding[0] in kinds or too_large or left_out or anchored)


def test_ct_numbers_are_asked_of_a_ct_only():
    rows = {"lung_left": row(ml=2000, p50=-20)}
    assert flagged(rows) and not flagged(rows, is_ct=False)


def test_a_structure_of_a_few_voxels_is_not_judged_by_volume():
    assert not flagged({"adrenal_gland_left": row(ml=0.5, voxels=5)})
    assert flagged({"adrenal_gland_left": row(ml=0.5, voxels=500)})


def test_a_person_s_own_rule_comes_first_and_any_can_be_left_out():
    rows = {"liver": row(ml=9000)}
    own = {"volume": [{"of": "liver", "low": 1, "high": 10000, "source": "our clinic"}]}
    assert not flagged(rows, rules=anatomy_rules().with_first(AnatomyRules.model_validate(own)))
    table = table_of([{**rows["liver"], "structure": "liver", "source": "labels"}])
    none = pd.DataFrame(columns=list(COLUMNS))
    for off, left in ((), 1), (("volume",), 0), (("volume:li*",), 0), (("volume:spleen",), 1):
        settings = Quality(off=(*off, "too_few"))
        assert len(all_flags(table, none, {}, {}, settings)) == left


def test_only_mapped_classes_are_judged_and_no_flag_is_repeated():
    rows = [
        {**row(ml=ml), "structure": name, "source": source}
        for source, name, ml in (
            ("labels", "liver", 9000), ("organs", "liver", 9000), ("other", "liver", 9000),
            ("labels", "organ", 500), ("organs", "spleen", 9000), ("organs", "brain", 9000),
        )
    ]  # fmt: skip
    none = pd.DataFrame(columns=list(COLUMNS))
    sources = {"organs": {"liver": "liver", "spleen": "organ"}, "other": {}}
    flags = all_flags(table_of(rows), none, sources, {}, Quality(off=("too_few",)))
    # the liver says it itself, nobody takes the brain, and an organ of any name has no rule
    assert sorted(flags["subject"]) == ["liver", "organs/spleen"]


def test_every_rule_names_its_source_and_classes_that_exist():
    known = {name for task in ("total", "total_mr") for name in get_task_classes(task).values()}
    rules = anatomy_rules()
    every = [rule for kind in type(rules).model_fields for rule in getattr(rules, kind)]
    assert all(rule.source for rule in every)
    for rule in rules.near:
        assert {rule.of, rule.to} <= known | {"brainstem"}
    for chain in rules.chain:
        assert set(chain.names) <= known


@pytest.mark.shared
@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("example_ct", "example_seg_fast_force_split"),
        ("example_ct_sm", "example_seg"),
        ("example_ct_sm", "example_seg_fast"),
    ],
)
def test_totalsegmentator_s_own_maps_have_one_flagged_organ(image, labels):
    """40 to 61 classes of a real CT; the pancreas lies there in two parts 7 cm apart."""
    folder = SHARED / "data" / "totalsegmentator"
    ct, found = (read_volume(folder / f"{image}.nii.gz"), read_labels(folder / f"{labels}.nii.gz"))
    classes = get_task_classes("total")
    names = ["background", *(classes[value] for value in range(1, max(classes) + 1))]
    table = measure(ct.array, found.array, names, ct.grid).iloc[1:]
    rows = {r["structure"]: r for r in table.to_dict("records")}
    assert flagged(rows) == {("volume", "pancreas"), ("components", "pancreas")}


def test_of_several_breaches_of_one_kind_the_gravest_is_reported():
    """A rule that only warns hides none that sends a case to review."""
    near = [
        {"of": "spleen", "to": name, "within_mm": 20, "severity": severity, "source": "ours"}
        for name, severity in (("liver", "warn"), ("stomach", "review"), ("kidney_left", "warn"))
    ]
    rules = AnatomyRules.model_validate({"near": near})
    rows = {"spleen": row(z=200)} | {rule["to"]: row() for rule in near}
    (finding,) = findings(Case(rows, is_ct=True), rules)
    assert finding.severity == "review" and "stomach" in finding.message
