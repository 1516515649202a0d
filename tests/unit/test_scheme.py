"""Names to ids: by name, wildcards, near names, stable order."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from totalsegmentator import registry

from backsplit.config.lesion_words import is_lesion
from backsplit.config.model import Config
from backsplit.config.structures import Structure
from backsplit.errors import Code
from backsplit.scheme import resolve as scheme_resolve
from backsplit.scheme.resolve import own_labels, resolve
from backsplit.scheme.scheme import Scheme

TOTAL = {name: value for value, name in registry.get_task_classes("total").items()}
FILE = Path("config.yaml")


RULED = {"organs/kidney_cyst_*": "background"}


def config(structures, targets=None, **compose):
    return Config.model_validate(
        {
            "dataset": {"name": "a", "id": 1, "cases": "c.tsv"},
            "targets": targets or {"tumor": 2, "cyst": 3},
            "segmenters": {
                "organs": {"kind": "totalsegmentator"},
                "given": {"kind": "files", "path": "{lesion}", "labels": {"kidney": 1}},
            },
            "structures": structures,
            "compose": {"segmenter_lesions": RULED} | compose,
        }
    )


CLASSES = {"organs": TOTAL, "given": {"kidney": 1}}


def test_targets_first_structures_in_order_ignore_last():
    scheme, problems = resolve(
        config({"kidney": ["given/kidney", "organs/kidney_left"], "spine": "organs/vertebrae_*"}),
        CLASSES,
        FILE,
    )
    assert not problems
    assert scheme.ids == {
        "background": 0,
        "tumor": 1,
        "cyst": 2,
        "kidney": 3,
        "spine": 4,
        "ignore": 5,
    }
    assert scheme.dtype == np.uint8
    vertebrae = [name for name in TOTAL if name.startswith("vertebrae_")]
    assert [n for n, s in scheme.sources["organs"].items() if s == "spine"] == vertebrae
    claims = scheme.claims("organs", TOTAL, {})
    assert {claims[TOTAL[n]] for n in vertebrae} == {(4,)}
    assert claims[TOTAL["kidney_left"]] == (3,) and TOTAL["kidney_right"] not in claims
    assert len(claims) == len(vertebrae) + 1
    # a value that stands for two overlapping masks claims both, once each
    pair = (TOTAL["kidney_left"], TOTAL["vertebrae_L1"])
    spine = (TOTAL["vertebrae_L1"], TOTAL["vertebrae_L2"])
    both = scheme.claims("organs", TOTAL, {200: pair, 201: spine})
    assert (both[200], both[201]) == ((3, 4), (4,))


def test_appending_a_structure_keeps_every_id():
    first, _ = resolve(config({"liver": "organs/liver"}), CLASSES, FILE)
    more, _ = resolve(config({"liver": "organs/liver", "aorta": "organs/aorta"}), CLASSES, FILE)
    for name in first.names:
        assert first.ids[name] == more.ids[name]


def test_a_pattern_that_matches_nothing_lists_near_names():
    _, problems = resolve(config({"kidney": "organs/kidny_left"}), CLASSES, FILE)
    (problem,) = problems
    assert problem.code is Code.PATTERN_UNMATCHED
    assert problem.column == "structures.kidney" and problem.value == "organs/kidny_left"
    assert "kidney_left" in problem.what


def test_a_class_in_two_structures_is_refused():
    _, problems = resolve(
        config({"left": "organs/kidney_left", "both": "organs/kidney_*"}), CLASSES, FILE
    )
    assert [p.code for p in problems] == [Code.CLASS_AMBIGUOUS]


@pytest.mark.parametrize(("count", "dtype"), [(252, np.uint8), (253, np.uint16)])
def test_uint8_while_ids_fit_and_uint16_beyond(count, dtype):
    names = {f"s{i}": i + 1 for i in range(count)}
    settings = config({n: f"given/{n}" for n in names}, segmenter_lesions={}).model_copy()
    scheme, problems = resolve(settings, {"given": names}, FILE)
    assert not problems
    assert scheme.ignore_id == 3 + count
    assert scheme.dtype == dtype


def test_as_many_labels_as_a_label_map_holds_with_ignore(monkeypatch):
    monkeypatch.setattr(scheme_resolve, "MOST_LABEL", 4)
    four = {"kidney": ["given/kidney", "organs/kidney_left"]}
    assert not problems_of(four)  # background, two targets, kidney; ignore is 4
    (problem,) = problems_of(four | {"spine": "organs/vertebrae_*"})
    assert problem.code is Code.CONFIG_INVALID and "4 fit" in str(problem)


def problems_of(structures, **compose):
    _, problems = resolve(config(structures, **compose), CLASSES, FILE)
    return problems


def test_a_segmenter_that_labels_lesions_itself_needs_a_rule():
    wild = {"kidney": "organs/kidney_*"}
    (problem,) = problems_of(wild, segmenter_lesions={})
    assert problem.code is Code.LESION_CLASS_UNRULED
    assert "kidney_cyst_left, kidney_cyst_right" in problem.what
    for rule, expected in (("kidney", "kidney"), ("ignore", "ignore"), ("background", None)):
        scheme, found = resolve(
            config(wild, segmenter_lesions={"organs/kidney_cyst_*": rule}), CLASSES, FILE
        )
        assert not found
        assert scheme.sources["organs"].get("kidney_cyst_left") == expected
        assert scheme.sources["organs"]["kidney_left"] == "kidney"
        lent = {"organs": ("kidney_cyst_left", "kidney_cyst_right")} if rule == "kidney" else {}
        assert scheme.lent == lent
    exact = {"cyst_left": "organs/kidney_cyst_left", "cyst_right": "organs/kidney_cyst_right"}
    assert not problems_of(exact, segmenter_lesions={})  # named one by one: that is the rule
    (wrong,) = problems_of(wild, segmenter_lesions={"organs/kidney_cyst_*": "kidny"})
    assert wrong.code is Code.PATTERN_UNMATCHED and "kidney" in wrong.what


DISEASE = {
    *("kidney_cyst_left", "kidney_cyst_right", "liver_tumor", "liver_lesions", "lung_nodules"),
    *("intracerebral_hemorrhage", "pleural_effusion", "pericardial_effusion", "brain_aneurysm"),
    *("Tumour", "GTV-1", "metastasis", "adrenal_mass"),
}


def test_classes_of_disease_are_told_from_those_of_anatomy():
    assert all(is_lesion(name) for name in DISEASE)
    for task in registry.TASKS:
        for name in registry.get_task_classes(task).values():
            assert is_lesion(name) == (name in DISEASE), name
    for name in ("metatarsal", "masseter_left", "cystic_duct", "sa_node"):
        assert not is_lesion(name), name


def test_exceptions_by_name_group_and_wildcard():
    structures = {
        "kidney": "organs/kidney_left",
        "aorta": "organs/aorta",
        "vein": "organs/inferior_vena_cava",
        "rib_1": "organs/rib_left_1",
        "rib_2": "organs/rib_left_2",
    }
    rules = [{"winner": "vessels", "loser": "tumor"}, {"winner": "rib_*", "loser": "kidney"}]
    scheme, problems = resolve(
        config(structures, groups={"vessels": ["aorta", "v*"]}, **{"except": rules}), CLASSES, FILE
    )
    assert not problems
    assert set(scheme.exceptions) == {
        ("aorta", "tumor"), ("vein", "tumor"), ("rib_1", "kidney"), ("rib_2", "kidney"),
    }  # fmt: skip
    (unknown,) = problems_of(structures, **{"except": [{"winner": "bones", "loser": "kidney"}]})
    assert unknown.code is Code.PATTERN_UNMATCHED
    circle = [("kidney", "aorta"), ("aorta", "vein"), ("vein", "kidney")]
    (round_,) = problems_of(
        structures, **{"except": [{"winner": a, "loser": b} for a, b in circle]}
    )
    assert round_.code is Code.CONFIG_INVALID and "cycle" in round_.what


def test_hosts_are_anatomy_unless_the_configuration_names_them():
    given_ = config({"liver": "organs/liver", "kidney": "given/kidney"}, hosts={"cyst": ["kid*"]})
    scheme, _ = resolve(given_, CLASSES, FILE)
    assert scheme.hosts == {"tumor": ("liver", "kidney"), "cyst": ("kidney",)}


def test_regions_nest_and_each_has_a_label_of_its_own():
    structures = {"kidney": "organs/kidney_left", "liver": "organs/liver"}
    regions = {"kidney_whole": ["kidney", "tumor", "cyst"], "disease": ["tumor", "cyst"]}
    scheme, problems = resolve(config(structures, emit="regions", regions=regions), CLASSES, FILE)
    assert not problems
    assert list(scheme.regions)[:2] == ["kidney_whole", "disease"]
    own = own_labels(scheme.regions)
    assert sorted(own.values()) == sorted(("tumor", "cyst", "kidney", "liver"))
    assert own["kidney_whole"] == "kidney"
    twice = {"a": ["kidney", "tumor"], "b": ["tumor", "kidney"]}
    assert problems_of(structures, emit="regions", regions=twice)


def test_nested_sets_share_the_targets_and_agree_with_each_other():
    structures = {"liver": "organs/liver", "aorta": "organs/aorta", "kidney": "given/kidney"}
    nested = ["kidney", "liver"]
    scheme, _ = resolve(config(structures, nested=nested), CLASSES, FILE)
    tables = [scheme.nested_table(k, keep_ignore=True) for k in range(3)]
    for k, table in enumerate(tables):
        assert table[1] == 1 and table[2] == 2 and table[0] == 0
        kept = [scheme.ids[name] for name in nested[:k]]
        assert [int(table[i]) for i in kept] == list(range(3, 3 + k))
        assert table[scheme.ids["aorta"]] == 0
        assert table[scheme.ignore_id] == (3 + k if k else 0)
    for smaller, larger in pairwise(tables):
        anatomy = [scheme.ids[name] for name in scheme.structures]
        both = [i for i in anatomy if smaller[i]]
        assert all(smaller[i] == larger[i] for i in both)


def scheme_of(targets, structures, nested=0):
    names = tuple(f"t{n}" for n in range(targets)), tuple(f"s{n}" for n in range(structures))
    given = {name: (number + 1,) for number, name in enumerate(names[0])}
    return Scheme(given, ("background", *names[0], *names[1]), {}, nested=names[1][:nested])


def test_labels_json_has_a_name_a_line():
    text = scheme_of(1, 1).to_json()
    assert text == '{\n "background": 0,\n "t0": 1,\n "s0": 2,\n "ignore": 3\n}\n'


@pytest.mark.parametrize(
    ("kept", "dtype"), [(5, np.uint8), (254, np.uint8), (255, np.uint16), (256, np.uint16)]
)
def test_nested_ids_are_as_wide_as_they_have_to_be(kept, dtype):
    scheme = scheme_of(2, 300, nested=kept - 2)
    table = scheme.nested_table(kept - 2, keep_ignore=True)
    assert table.dtype == dtype and len(table) == scheme.ignore_id + 1
    assert table[: kept + 1].tolist() == list(range(kept + 1))
    assert not table[kept + 1 : -1].any() and table[-1] == kept + 1
    assert scheme.nested_table(kept - 2, keep_ignore=False)[-1] == 0


def test_wildcards_skip_classes_with_a_lesion_rule():
    wild = {"kidney": "organs/kidney_*"}
    rule = {"organs/kidney_cyst_*": "background"}
    scheme, _ = resolve(config(wild, segmenter_lesions=rule), CLASSES, FILE)
    kidneys = {n for n in TOTAL if n.startswith("kidney_") and "cyst" not in n}
    assert {n for n, s in scheme.sources["organs"].items() if s == "kidney"} == kidneys


def test_a_problem_of_a_rule_is_said_once():
    rules = {"organs/kidney_cist_*": "background", "organs/kidney_cyst_*": "background"}
    problems = problems_of({"liver": "organs/liver"}, segmenter_lesions=rules)
    assert [p.value for p in problems] == ["organs/kidney_cist_*"]


def test_a_lesion_rule_is_proposed_for_the_first_class_without_one():
    (problem,) = problems_of({"liver": "organs/liver"}, segmenter_lesions={})
    assert "add `segmenter_lesions: {organs/kidney_cyst_left: …}`" in problem.remedy


def test_a_circle_of_exceptions_is_told_step_by_step():
    structures = {"kidney": "organs/kidney_left", "aorta": "organs/aorta"}
    pairs = [{"winner": "kidney", "loser": "aorta"}, {"winner": "aorta", "loser": "kidney"}]
    (problem,) = problems_of(structures, **{"except": pairs})
    assert problem.what in (
        "forms a cycle: kidney over aorta over kidney",
        "forms a cycle: aorta over kidney over aorta",
    )


def test_background_is_no_label_that_wins_or_loses():
    (problem,) = problems_of(
        {"liver": "organs/liver"}, **{"except": [{"winner": "background", "loser": "liver"}]}
    )
    assert problem.code is Code.PATTERN_UNMATCHED


@pytest.mark.parametrize(
    ("classes", "wanted", "shown"),
    [
        ({"kidney": 1}, "brain", "there are: kidney"),
        ({f"s{n}": n + 1 for n in range(6)}, "brain", "there are: s0, s1, s2, s3, s4, s5"),
        (
            {f"s{n}": n + 1 for n in range(7)},
            "brain",
            "there are: s0, s1, s2, s3, s4, s5, … (7 in all)",
        ),
        (
            {f"kidney_{n}": n + 1 for n in range(7)},
            "kidney*x",
            "near names: kidney_6, kidney_5, kidney_4, kidney_3",
        ),
        ({"kidney": 1, "spleen": 2}, "spln", "near names: spleen"),
    ],
)
def test_near_names_are_shown_or_the_first_few(classes, wanted, shown):
    _, problems = resolve(
        config({"a": f"given/{wanted}"}, segmenter_lesions={}), {"given": classes}, FILE
    )
    assert problems[0].what == f"matches no class of segmenter 'given'; {shown}"


@pytest.mark.parametrize(
    ("regions", "text"),
    [
        ({"a": ("x", "y"), "b": ("x", "y")}, "region 'a' has none of its own"),
        ({"a": ("x", "y", "z"), "b": ("x",)}, "region 'a' has y, z of its own"),
    ],
)
def test_a_region_needs_one_label_of_its_own(regions, text):
    with pytest.raises(ValueError, match=text):
        own_labels(regions)


@pytest.mark.parametrize(("count", "said"), [(65532, 0), (65533, 1)])
def test_at_most_65535_labels_fit(count, said):
    names = [f"s{n}" for n in range(count)]
    settings = config({"s": "given/kidney"}, segmenter_lesions={})
    nothing = Structure.model_construct(of=())
    many = settings.model_copy(update={"structures": dict.fromkeys(names, nothing)})
    _, problems = resolve(many, {"given": {"kidney": 1}}, FILE)
    assert [p.what for p in problems] == ["65536 labels"] * said
