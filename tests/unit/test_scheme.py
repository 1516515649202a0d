"""Names to ids: by name, wildcards, near names, stable order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from totalsegmentator import registry

from backsplit.config import Config
from backsplit.errors import Code
from backsplit.scheme import resolve

TOTAL = {name: value for value, name in registry.get_task_classes("total").items()}
FILE = Path("config.yaml")


def config(structures, targets=None):
    return Config.model_validate(
        {
            "dataset": {"name": "a", "id": 1, "cases": "c.tsv"},
            "targets": targets or {"tumor": 2, "cyst": 3},
            "segmenters": {
                "organs": {"kind": "totalsegmentator"},
                "given": {"kind": "files", "path": "{lesion}", "labels": {"kidney": 1}},
            },
            "structures": structures,
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
    assert scheme.dtype is np.uint8
    vertebrae = [name for name in TOTAL if name.startswith("vertebrae_")]
    assert [n for n, s in scheme.sources["organs"].items() if s == "spine"] == vertebrae
    table = scheme.layer_table("organs", TOTAL)
    assert {int(table[TOTAL[n]]) for n in vertebrae} == {4}
    assert table[TOTAL["kidney_left"]] == 3 and table[TOTAL["kidney_right"]] == 0
    assert np.count_nonzero(table) == len(vertebrae) + 1
    lesion = scheme.lesion_table()
    assert (lesion[2], lesion[3]) == (1, 2) and np.count_nonzero(lesion) == 2


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
    assert "kidney_left" in problem.message


def test_a_class_in_two_structures_is_refused():
    _, problems = resolve(
        config({"left": "organs/kidney_left", "both": "organs/kidney_*"}), CLASSES, FILE
    )
    assert [p.code for p in problems] == [Code.CLASS_AMBIGUOUS]


@pytest.mark.parametrize(("count", "dtype"), [(252, np.uint8), (253, np.uint16)])
def test_uint8_while_ids_fit_and_uint16_beyond(count, dtype):
    names = {f"s{i}": i + 1 for i in range(count)}
    settings = config({n: f"given/{n}" for n in names}).model_copy()
    scheme, problems = resolve(settings, {"organs": TOTAL, "given": names}, FILE)
    assert not problems
    assert scheme.ignore_id == 3 + count
    assert scheme.dtype is dtype
