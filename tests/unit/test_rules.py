"""Each kind of anatomy rule at its border: just right, and just not."""

from __future__ import annotations

import pytest

from backsplit.config.quality import AnatomyRules
from backsplit.judge.anatomy import Case, box_gap_mm, findings
from support.measured import row

CUT = {"touches_border": True}


def said(rows, *, is_ct=True, **rules):
    given = {kind: [{"source": "a book", **rule}] for kind, rule in rules.items()}
    found = findings(Case(rows, is_ct=is_ct), AnatomyRules.model_validate(given))
    return [(f.subject, f.rule, f.value, f.expected) for f in found]


def flagged(rows, **rules):
    return [subject for subject, *_ in said(rows, **rules)]


@pytest.mark.parametrize(
    ("measured", "found"),
    [
        (row(ml=100), False), (row(ml=99), True), (row(ml=200), False), (row(ml=201), True),
        (row(ml=99, **CUT), False), (row(ml=201, **CUT), True),
        # twenty voxels at the lower limit are enough to judge by
        (row(ml=50, voxels=10), True), (row(ml=50, voxels=9), False),
        (row(ml=500, voxels=100), True), (row(ml=500, voxels=99), False),
    ],
)  # fmt: skip
def test_volume(measured, found):
    rule = {"of": "l?ver", "low": 100, "high": 200}
    assert flagged({"liver": measured}, volume=rule) == ["liver"] * found
    assert not flagged({"spleen": measured}, volume=rule)


def test_volume_is_said_in_ml():
    (finding,) = said({"liver": row(ml=99)}, volume={"of": "liver", "low": 100, "high": 2000})
    assert finding == ("liver", "volume", "99 ml", "100 to 2000 ml")


@pytest.mark.parametrize(("hu", "found"), [(10, 0), (9.4, 1), (90, 0), (91, 1)])
def test_intensity(hu, found):
    rule = {"of": ["liver", "spleen"], "low": 10, "high": 90}
    rows = {"liver": row(p50=hu, **CUT)}
    assert said(rows, intensity=rule) == [
        ("liver", "intensity", f"median {hu:.0f} HU", "10 to 90 HU")
    ] * found  # fmt: skip
    assert not said(rows, intensity=rule, is_ct=False)


@pytest.mark.parametrize(("x", "found"), [(31, False), (30, False), (28.6, True)])
def test_side(x, found):
    rows = {"rib_left_3": row(x=x), "rib_right_3": row(x=30), "rib_left_4": row(x=0)}
    expected = [("rib_left_3", "side", "1 mm to the right of rib_right_3",
                 "to the left of rib_right_3")]  # fmt: skip
    for rule in (
        {"left": "*_left_*", "right": "*_right_*"},
        {"left": "rib_left_3", "right": "rib_right_3"},
    ):
        assert said(rows, side=rule) == expected * found
    assert not said(rows, side={"left": "rib_left_4", "right": "rib_right_4"})
    assert not said(rows, side={"left": "rib_*", "right": "rib_*"})


@pytest.mark.parametrize(
    ("left", "right", "found"),
    [
        (row(ml=100), row(ml=200), False), (row(ml=100), row(ml=201), True),
        (row(ml=201), row(ml=100), True), (row(ml=201, **CUT), row(ml=100), False),
        (row(ml=201), row(ml=100, **CUT), False),
    ],
)  # fmt: skip
def test_pair(left, right, found):
    rule = {"left": "kidney_left", "right": "kidney_right", "factor": 2}
    rows = {"kidney_left": left, "kidney_right": right}
    text = f"{left['volume_ml']:.3g} ml, kidney_right {right['volume_ml']:.3g} ml"
    expected = [("kidney_left", "pair", text, "no more than 2 times apart")]
    assert said(rows, pair=rule) == expected * found


@pytest.mark.parametrize(("below", "found"), [(29, False), (30, False), (31, True)])
def test_order(below, found):
    """Thirty millimetres are allowed for; what the image cuts off is not asked."""
    rule = {"names": [["lung_*", "heart"], "liver", "bladder"]}
    rows = {"heart": row(z=-below), "liver": row(), "bladder": row(z=-300)}
    expected = [("heart", "order", f"{below} mm below liver", "above liver")]
    assert said(rows, order=rule) == expected * found
    assert not said(rows | {"liver": row(**CUT)}, order=rule)
    assert not said(rows | {"heart": row(z=-below, **CUT)}, order=rule)
    upside = {"lung_left": row(z=-50), "bladder": row(z=80)}  # the liver is not there
    assert flagged(upside, order=rule) == ["lung_left"]


LEVELS = ["L1", "L2", "L3", "L4"]


def chain(rows, **more):
    return said(rows, chain={"names": LEVELS, **more})


def column(*names, step=30, **kind):
    return {name: row(z=-step * LEVELS.index(name), half_mm=14, **kind) for name in names}


def test_chain_is_in_order_to_the_millimetre():
    assert not chain(column(*LEVELS)) and not chain({"liver": row()})
    level = {"L1": row(z=10), "L2": row(z=10)}
    assert not chain(level)
    level["L2"] = row(z=10.6)
    assert chain(level) == [("L1", "chain", "1 mm below L2", "above L2")]


def test_chain_leaves_none_out():
    assert chain(column("L1", "L4", **CUT)) == [
        ("L2", "chain", "0 voxels", "there, as L1 and L4 are"),
        ("L3", "chain", "0 voxels", "there, as L1 and L4 are"),
    ]
    assert not chain(column("L2", "L3"))  # the scan begins and ends somewhere


@pytest.mark.parametrize(("end", "anchor"), [("first_touches", "T12"), ("last_touches", "sacrum")])
@pytest.mark.parametrize(("gap", "touching"), [(15, True), (15.6, False)])
def test_chain_ends_at_its_neighbours(end, anchor, gap, touching):
    up = end == "first_touches"
    last, other = ("L1", "L2") if up else ("L4", "L3")
    for there, name in ((LEVELS, last), ([n for n in LEVELS if n != last], other)):
        rows = column(*there)
        z = rows[name]["centroid_z"] + (28 + gap) * (1 if up else -1)
        found = chain(rows | {anchor: row(z=z, half_mm=14)}, **{end: anchor})
        if name == last:
            expected = (last, "chain", "16 mm from " + anchor, f"next to {anchor}")
            assert found == ([] if touching else [expected])
        else:
            expected = (other, "chain", f"next to {anchor}", f"{last} next to it")
            assert found == ([expected] if touching else [])
        assert not chain(rows, **{end: anchor})


@pytest.mark.parametrize(("gap", "found"), [(30, False), (31, True)])
def test_near(gap, found):
    rule = {"of": "gallbladder", "to": "liver", "within_mm": 30}
    rows = {"gallbladder": row(x=40 + gap), "liver": row()}
    expected = [("gallbladder", "near", f"{gap} mm from liver", "within 30 mm of liver")]
    assert said(rows, near=rule) == expected * found
    assert not said(rows | {"liver": row(**CUT)}, near=rule)
    assert not said(rows | {"gallbladder": row(x=40 + gap, **CUT)}, near=rule)
    assert not said({"liver": row()}, near=rule) and not said({"gallbladder": row()}, near=rule)


@pytest.mark.parametrize(("parts", "found"), [(2, False), (3, True)])
def test_components(parts, found):
    rule = {"of": "spleen", "most": 2}
    rows = {"spleen": row(components_large=float(parts), spread_mm=61.7)}
    expected = [("spleen", "components", f"{parts} large parts, up to 62 mm apart", "at most 2")]
    assert said(rows, components=rule) == expected * found
    assert not said({"spleen": {**rows["spleen"], **CUT}}, components=rule)


@pytest.mark.parametrize(("ml", "found"), [(25, False), (30, True)])
def test_holes(ml, found):
    rows = {"liver": row(ml=1000, holes_ml=float(ml), **CUT)}
    expected = [("liver", "holes", "holes of 3% of its volume", "at most 2%")]
    assert said(rows, holes={"of": "liver", "most": 0.025}) == expected * found


def test_a_gap_is_that_between_boxes():
    assert box_gap_mm(row(), row(x=30)) == 0
    assert box_gap_mm(row(), row(x=43)) == box_gap_mm(row(x=43), row()) == 3
    assert box_gap_mm(row(), row(x=43, y=-44)) == 5
    assert box_gap_mm(row(), row(x=42, y=-43, z=46)) == 7


def test_the_first_matching_rule_counts_and_faults_are_not_repeated():
    rules = {
        "volume": [
            {"of": "liver", "low": 1, "high": 10, "source": "ours", "severity": "reject"},
            {"of": "*", "low": 1, "high": 20, "source": "a book"},
        ],
        "side": [{"left": "liver", "right": name, "source": "a book"} for name in ("a", "b")],
    }
    rows = {"liver": row(ml=15), "spleen": row(ml=15), "a": row(x=9, ml=5), "b": row(x=9, ml=5)}
    found = findings(Case(rows, is_ct=False), AnatomyRules.model_validate(rules))
    assert [(f.subject, f.rule, str(f.severity)) for f in found] == [
        ("liver", "volume", "reject"), ("liver", "side", "review"),
    ]  # fmt: skip
    assert found[0].message == "liver: 15 ml; expected 1 to 10 ml (ours)"


def test_structures_without_a_voxel_are_not_there():
    case = Case({"liver": row(voxels=0), "fat": row(voxels=1)}, is_ct=True)
    assert list(case.rows) == ["fat"] and case.is_ct
    other = case.renamed(("fat", "liver"))
    assert list(other.rows) == ["liver"] and other.is_ct
    assert not Case({}, is_ct=False).renamed(("a", "b")).is_ct


def test_what_the_image_cuts_off_hides_no_other_fault():
    pairs = {"rib_left_1": row(ml=100, **CUT), "rib_right_1": row(ml=900)}
    pairs |= {"rib_left_2": row(ml=100), "rib_right_2": row(ml=900)}
    rule = {"left": "*_left_*", "right": "*_right_*", "factor": 2}
    assert flagged(pairs, pair=rule) == ["rib_left_2"]
    levels = {"heart": row(z=-100), "liver": row(**CUT), "spleen": row()}
    assert said(levels, order={"names": ["heart", ["liver", "spleen"]]}) == [
        ("heart", "order", "100 mm below spleen", "above spleen")
    ]
    volumes = {"tiny": row(ml=1, voxels=9), "small": row(ml=1, voxels=900)}
    assert flagged(volumes, volume={"of": "*", "low": 2, "high": 3}) == ["small"]
    assert flagged({"of": row(), "near": row(), "far": row(x=500)}, near={
        "of": "of", "to": "far", "within_mm": 9}) == ["of"]  # fmt: skip
