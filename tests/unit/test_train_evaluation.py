"""Predictions in a folder, scored against the lesions of the table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from support.project import ct_like, load, save

SHAPE = ct_like().shape


@pytest.fixture
def predicted(project):
    """Three cases with predictions: perfect, half of one lesion, a false alarm; and one without."""
    for case in "abcd":
        project.add(case)
    project.rows[2]["lesion"] = "none"
    project.write()
    truth = load(project.folder / "lesions" / "a.nii.gz")
    organ = np.where(truth == 0, 3, truth).astype(np.uint8)
    save(project.folder / "predicted" / "a.nii.gz", organ)
    half = load(project.folder / "lesions" / "b.nii.gz")
    half[:, 10:] = 0
    save(project.folder / "predicted" / "b.nii.gz", half)
    alarm = np.zeros(SHAPE, np.uint8)
    alarm[5, 5:7, 5] = 2
    save(project.folder / "predicted" / "c.nii.gz", alarm)
    save(project.folder / "predicted" / "stranger.nii.gz", alarm)
    return project


def rows(project, name="predicted"):
    table = pd.read_parquet(project.results / "evaluation" / name / "cases.parquet")
    return table.set_index(["case", "target"])


def test_each_target_of_each_case_is_scored(predicted):
    done = predicted.run("train", "evaluate", "predicted")
    found = rows(predicted)
    assert sorted({case for case, _ in found.index}) == ["a", "b", "c"]
    perfect = found.loc[("a", "tumor")]
    assert (perfect["dice"], perfect["nsd"], perfect["hd95_mm"]) == (1, 1, 0)
    assert (perfect["lesions"], perfect["found"], perfect["invented"]) == (1, 1, 0)
    half = found.loc[("b", "tumor")]
    assert half["predicted_ml"] == pytest.approx(half["reference_ml"] / 2)
    assert half["dice"] == pytest.approx(2 / 3)
    free = found.loc[("c", "cyst")]
    assert np.isnan(free["dice"]) or free["dice"] == 0
    assert (free["reference_ml"], free["invented"]) == (0, 1)
    assert free["false_positive_ml"] == pytest.approx(2 * 12 / 1000)
    assert "1 without a prediction: d" in done.stdout + done.stderr
    assert "1 of no case in the table, left out: stranger" in done.stdout + done.stderr
    assert "any target" in done.stdout and "Cases without the target" in done.stdout
    summary = predicted.results / "evaluation" / "predicted" / "summary.md"
    assert summary.read_text() == done.stdout


def test_instances_of_the_lesion_file_are_lesions_of_their_own(predicted):
    values = load(predicted.folder / "lesions" / "a.nii.gz")
    values[values == 2] = 0
    values[6, 8:12] *= 5  # a second lesion that touches the first
    save(predicted.folder / "lesions" / "a.nii.gz", values)
    predicted.write(targets={"tumor": [1, 5]})
    (predicted.folder / "predicted" / "b.nii.gz").unlink()
    (predicted.folder / "predicted" / "c.nii.gz").unlink()
    predicted.run("train", "evaluate", "predicted")
    assert rows(predicted).loc[("a", "tumor"), "lesions"] == 2
    predicted.run("train", "evaluate", "predicted", "--rule", "brats-met", "--out", "brats")
    table = pd.read_parquet(predicted.folder / "brats" / "cases.parquet")
    assert table["lesions"].tolist() == [1]  # BraTS tells lesions apart by where they lie


def test_a_bad_prediction_is_named_and_the_others_are_scored(predicted):
    other = (4.0, 4.0, 3.0)
    save(predicted.folder / "predicted" / "b.nii.gz", np.zeros(SHAPE, np.uint8), other)
    (predicted.folder / "predicted" / "c.nii.gz").write_bytes(b"none")
    done = predicted.run("train", "evaluate", "predicted")
    said = done.stdout + done.stderr
    assert "b:" in said and "GRID_MISMATCH" in said and "FILE_UNREADABLE" in said
    assert {case for case, _ in rows(predicted).index} == {"a"}
    status = predicted.results / "evaluation" / "predicted" / "status.tsv"
    table = pd.read_csv(status, sep="\t").set_index("case")
    assert table["status"].to_dict() == {"a": "done", "b": "failed", "c": "failed"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nowhere"], "FILE_MISSING"),
        (["images"], ""),
        (["predicted", "--rule", "none"], "CONFIG_INVALID"),
    ],
)
def test_what_can_not_be_scored_is_said(predicted, arguments, code):
    if code:
        done = predicted.run("train", "evaluate", *arguments, ok=False)
        assert f"(code {code})" in done.stderr
        return
    for case in "abcd":
        path = predicted.folder / "images" / f"{case}.nii.gz"
        path.rename(path.with_name(f"other_{case}.nii.gz"))
    done = predicted.run("train", "evaluate", *arguments, ok=False)
    assert "has the name of a case" in done.stderr
