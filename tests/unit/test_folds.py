"""Folds that the case table gives, and our own where it gives none."""

from __future__ import annotations

import json

import pytest

from backsplit.errors import Code, RunError
from backsplit.export.folds import cross_validation, splits
from backsplit.flow.check import check
from support.cases import read_cases


def cases_of(project, configured, folds: dict[str, str], patients: dict[str, str] | None = None):
    for case, fold in folds.items():
        project.add(case, fold=fold, patient=(patients or {}).get(case, ""))
    return read_cases(configured())


def test_given_folds_are_kept(project, configured):
    cases = cases_of(project, configured, {"a": "1", "b": "0", "c": "", "d": "1"})
    assert splits(cases) == [
        {"train": ["a", "c", "d"], "val": ["b"]},
        {"train": ["b", "c"], "val": ["a", "d"]},
    ]


def test_without_the_column_folds_are_our_own(project, configured):
    cases = cases_of(project, configured, {"a": "", "b": "", "c": ""}, {"a": "p", "b": "p"})
    assert splits(cases) == cross_validation(["a", "b", "c"], {"a": "p", "b": "p", "c": "c"})


def test_a_fold_without_training_cases_is_none(project, configured):
    assert splits(cases_of(project, configured, {"a": "0", "b": "0"})) == []


@pytest.mark.parametrize(
    ("folds", "said"),
    [
        ({"a": "0", "b": "first"}, "row 3 of the case table has 'first' in `fold`"),
        ({"a": "0", "b": "-1"}, "'-1'"),
        ({"a": "0", "b": "1"}, "p has the cases a (row 2, fold 0) and b (row 3, fold 1)"),
        ({"a": "0", "b": ""}, "fold none"),
    ],
)
def test_folds_that_would_leak_or_are_none_are_refused(project, configured, folds, said):
    cases = cases_of(project, configured, folds, {"a": "p", "b": "p"})
    with pytest.raises(RunError) as caught:
        splits(cases)
    assert caught.value.code is Code.FOLD_INVALID and said in caught.value.what
    (problem,) = check(project.folder / "config.yaml").fatal  # and before any work is done
    assert problem.code is Code.FOLD_INVALID


def test_given_folds_reach_the_data_set(project):
    for case, fold in {"a": "0", "b": "", "c": "1"}.items():
        project.add(case, fold=fold)
    project.write()
    for verb in (["check"], ["cases"], ["segment", "tissue"], ["compose"], ["measure"], ["judge"]):
        project.run(*verb)
    project.run("export")
    (written,) = project.results.glob("datasets/nnunet/*/splits_final.json")
    assert [split["val"] for split in json.loads(written.read_text())] == [["a"], ["c"]]
    listed = json.loads((project.results / "datasets/monai/datalist.json").read_text())
    assert {item["case"]: item.get("fold") for item in listed["training"]} == {
        "a": 0, "b": None, "c": 1,
    }  # fmt: skip
