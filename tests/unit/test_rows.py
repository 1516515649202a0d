"""A case's rows: what is written is read, and columns keep their types over cases and batches."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from backsplit.errors import Code, RunError
from backsplit.flow.engine import MEASURED
from backsplit.flow.gather import gather_measures, join_measures
from backsplit.measure.rows import join_rows, write_rows
from backsplit.measure.stage import TABLES
from backsplit.store.results import ROWS_ENDING, Results
from backsplit.store.status import Outcome, Status

COLUMNS = {
    "lesions": ("case", "host", "volume_ml", "voxels", "touches_border"),
    "agreement": ("case", "dice"),
}


def rows(host, volume, voxels, touches):
    table = {"host": [host], "volume_ml": [volume], "voxels": [voxels], "touches_border": [touches]}
    return {"lesions": table, "agreement": {}}


def test_rows_of_several_cases_come_back_in_order(tmp_path):
    for case, volume in (("a", 1.5), ("b", np.nan)):
        write_rows(tmp_path / f"{case}{ROWS_ENDING}", case, rows("liver", volume, 7, True), COLUMNS)
    joined = join_rows([tmp_path / f"{case}{ROWS_ENDING}" for case in "ba"], COLUMNS)
    assert joined["lesions"]["case"] == ["b", "a"] and joined["agreement"]["dice"] == []
    assert np.isnan(joined["lesions"]["volume_ml"][0]) and joined["lesions"]["volume_ml"][1] == 1.5


def test_the_same_rows_are_the_same_bytes(tmp_path):
    for name in "ab":
        write_rows(tmp_path / f"{name}{ROWS_ENDING}", "x", rows(None, np.inf, 7, False), COLUMNS)
    assert (tmp_path / f"a{ROWS_ENDING}").read_bytes() == (
        tmp_path / f"b{ROWS_ENDING}"
    ).read_bytes()


def test_all_null_columns_keep_their_dtype(project):
    results = Results(project.results)
    folder = project.results / "qc" / "cases"
    write_rows(folder / f"a{ROWS_ENDING}", "a", rows(None, np.nan, 3, None), COLUMNS)
    write_rows(folder / f"b{ROWS_ENDING}", "b", rows("liver", 2.0, 4, True), COLUMNS)
    measured = [Outcome(case, Status.DONE) for case in "ab"]
    found = join_measures(results, 1, measured, COLUMNS)["lesions"]
    assert found["volume_ml"].dtype == float and found["voxels"].tolist() == [3, 4]
    assert pd.isna(found.loc[0, ["host", "volume_ml", "touches_border"]]).all()
    assert found.loc[1, ["host", "volume_ml", "touches_border"]].tolist() == ["liver", 2.0, True]
    schema = pq.read_schema(project.results / "qc" / "lesions.parquet")
    types = [str(schema.field(name).type) for name in COLUMNS["lesions"]]
    assert types == ["string", "string", "double", "int64", "bool"]
    nulls = pq.read_table(project.results / "qc" / "lesions.parquet")["volume_ml"].null_count
    assert nulls == 1  # NaN is no value for whoever reads it elsewhere


@pytest.mark.parametrize("content", [None, b"", b"\x1f\x8b\x08", b"no gzip"])
def test_missing_or_damaged_rows_have_a_code_and_a_remedy(project, content):
    path = project.results / "qc" / "cases" / f"a{ROWS_ENDING}"
    path.parent.mkdir(parents=True)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError) as caught:
        gather_measures(Results(project.results), "00001", [Outcome("a", Status.DONE)], COLUMNS)
    assert caught.value.code is Code.FILE_MISSING and "backsplit measure" in caught.value.message


def test_a_batch_is_measured_again_where_any_of_its_tables_is_gone():
    """A version before had fewer: what it measured is not enough to judge."""
    assert set(MEASURED) == set(TABLES)
