"""Measures against SimpleITK's own statistics; flags and verdicts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from backsplit.qc.judge import flag_absences, flag_failures, verdicts
from backsplit.qc.measure import measure


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint8])
def test_measures_equal_simpleitk_s(dtype):
    rng = np.random.default_rng(3)
    image = rng.normal(100, 30, (20, 30, 40)).clip(0, 255).astype(dtype)
    labels = rng.integers(0, 6, image.shape).astype(np.uint8)
    labels[labels == 4] = 0
    names = ["background", "a", "b", "c", "empty", "d"]
    itk = sitk.LabelIntensityStatisticsImageFilter()
    pixels, mask = sitk.GetImageFromArray(image), sitk.GetImageFromArray(labels)
    for one in (pixels, mask):
        one.SetSpacing((0.7, 0.8, 2.5))
    itk.Execute(mask, pixels)
    found = {m.structure: m for m in measure(image, labels, names, 0.7 * 0.8 * 2.5 / 1000)}
    for value, name in enumerate(names):
        if value in (0, 4):
            continue
        assert found[name].voxels == itk.GetNumberOfPixels(value)
        assert found[name].volume_ml == pytest.approx(itk.GetPhysicalSize(value) / 1000)
        assert found[name].mean == pytest.approx(itk.GetMean(value), rel=1e-6)
        population = itk.GetStandardDeviation(value) * np.sqrt(1 - 1 / found[name].voxels)
        assert found[name].sd == pytest.approx(population, rel=1e-5)
    assert found["empty"].voxels == 0 and np.isnan(found["empty"].mean)


def _status(rows):
    return pd.DataFrame(rows, columns=["case", "status", "code", "message"])


def test_every_case_has_a_verdict_and_the_first_failure_is_the_reason():
    check = _status(
        [("a", "ok", "", ""), ("b", "refused", "GRID_MISMATCH", "off"), ("c", "ok", "", "")]
    )
    organs = _status(
        [
            ("a", "failed", "OUT_OF_MEMORY", "too big"),
            ("b", "refused", "GRID_MISMATCH", "off"),
            ("c", "done", "", ""),
        ]
    )
    compose = _status(
        [
            ("a", "done", "", ""),
            ("b", "refused", "GRID_MISMATCH", "off"),
            ("c", "failed", "PROMISE_BROKEN", "x"),
        ]
    )
    flags = flag_failures({"check": check, "segment organs": organs, "compose": compose})
    result = verdicts(["a", "b", "c"], flags).set_index("case")
    assert result["verdict"].to_dict() == {"a": "review", "b": "reject", "c": "reject"}
    assert result["rules"].to_dict() == {
        "a": "OUT_OF_MEMORY",
        "b": "GRID_MISMATCH",
        "c": "PROMISE_BROKEN",
    }


def test_a_structure_that_nobody_has_is_one_fault_of_the_mapping():
    measures = pd.DataFrame(
        [
            {"case": c, "structure": s, "voxels": v}
            for c, liver in (("a", 10), ("b", 0))
            for s, v in (("liver", liver), ("spleen", 0))
        ]
    )
    flags = flag_absences(measures, ["liver", "spleen"])
    mapping = flags[flags["case"] == ""]
    assert list(mapping["subject"]) == ["spleen"] and list(mapping["severity"]) == ["review"]
    single = flags[flags["case"] != ""]
    assert list(single["case"]) == ["b"] and list(single["severity"]) == ["info"]
    assert set(verdicts(["a", "b"], flags)["verdict"]) == {"accept"}
