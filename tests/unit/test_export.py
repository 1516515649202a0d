"""nnU-Net's layout: folds, names, and what a second export leaves behind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backsplit.export.nnunet import cross_validation


@given(st.lists(st.integers(0, 30), min_size=2, max_size=60))
def test_folds_cover_every_case_once_and_never_split_a_patient(patients):
    cases = [f"c{i:03d}" for i in range(len(patients))]
    groups = {case: f"p{patient}" for case, patient in zip(cases, patients, strict=True)}
    folds = cross_validation(cases, groups)
    count = len(set(patients))
    assert len(folds) == (min(5, count) if count > 1 else 0)
    if folds:
        assert sorted(c for fold in folds for c in fold["val"]) == cases
    for fold in folds:
        assert fold["val"] and fold["train"]
        assert sorted(fold["train"] + fold["val"]) == cases
        assert not {groups[c] for c in fold["train"]} & {groups[c] for c in fold["val"]}
    assert folds == cross_validation(list(reversed(cases)), groups)
