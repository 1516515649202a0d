"""Lesions are tissue of the organs that they lie in."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from backsplit.config.quality import Quality
from backsplit.judge.flags import all_flags
from backsplit.judge.hosts import with_lesions
from backsplit.judge.ranking import NOTABLE
from backsplit.measure.agreement import COLUMNS as AGREEMENT
from support.cohort import changed, cohort

NONE = pd.DataFrame(columns=list(AGREEMENT))


def lesions(*rows):
    return pd.DataFrame(rows, columns=["case", "host", "volume_ml"])


@pytest.mark.parametrize("explained", [True, False])
def test_a_tumour_takes_nothing_from_its_host(explained):
    """A kidney of which a tumour has left half, and its remaining half is a shell."""
    half = {"volume_ml": 75.0, "compactness": 0.25, "axis_3_mm": 5.0, "blunt_left": 2.0}
    table = changed(cohort(40), ["c07"], "kidney_left", half)
    found = lesions(("c07", "kidney_left", 80.0)) if explained else lesions(("c07", None, 80.0))
    flags = all_flags(with_lesions(table, found, {}), NONE, {}, {}, Quality(off=("too_few",)))
    mine = flags[(flags["case"] == "c07") & (flags["score"] > NOTABLE)]
    assert mine.empty == explained


def test_volumes_are_those_with_lesions_and_small_ones_change_no_shape():
    table = cohort(3, names=("liver", "spleen"))
    classes = table.assign(source="organs", structure=table["structure"].replace("liver", "big"))
    both = pd.concat([table, classes], ignore_index=True)
    found = lesions(("c00", "liver", 900.0), ("c00", "liver", 100.0), ("c01", "liver", 20.0),
                    ("c02", None, 9.0))  # fmt: skip
    after = with_lesions(both, found, {"organs": {"big": "liver"}})
    np.testing.assert_allclose(
        (after["volume_ml"] - both["volume_ml"])[after["source"] == "labels"],
        [1000, 0, 20, 0, 0, 0], atol=1e-9,
    )  # fmt: skip
    assert (after["volume_ml"] == both["volume_ml"])[after["source"] == "organs"].all()
    unknown = after[after["compactness"].isna()]
    assert unknown[["case", "structure"]].to_numpy().tolist() == [["c00", "liver"], ["c00", "big"]]
    assert with_lesions(both, found[found["host"].isna()], {}) is both
