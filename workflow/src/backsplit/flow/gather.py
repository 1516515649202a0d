"""One table a batch of what its cases have in a file each: gathering a data set opens few files.

Each is written before its batch's status table, which says that the batch is whole. Where one is
not there it is made again from the cases' files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backsplit.cases.table import batches
from backsplit.config.model import Config
from backsplit.measure.rows import ENDING, FLAGS, TEXT, Columns, join_rows
from backsplit.store.disk import atomic_path
from backsplit.store.provenance import read_json
from backsplit.work.batch import Outcome

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

STATUS_OF_STRUCTURES = ("case", "structure", "status", "voxels", "sides", "reason")
"""Columns of `labels/status.parquet`."""


def gather_measures(
    config: Config, batch: str, outcomes: Sequence[Outcome], tables: Columns
) -> None:
    """Put the measures of a batch's cases into one file a table."""
    import pyarrow as pa

    folder = config.run.results / "qc" / "cases"
    done = [outcome.case for outcome in outcomes if outcome.status == "done"]
    for name, rows in join_rows((folder / f"{case}{ENDING}" for case in done), tables).items():
        table = pa.table({column: _arrow(column, values) for column, values in rows.items()})
        _write_tables([table], tables[name], _measures(config, name, batch))


def join_measures(
    config: Config, measured: pd.DataFrame, tables: Columns
) -> dict[str, pd.DataFrame]:
    """Write the tables of the data set, and give them.

    Parameters
    ----------
    config : the configuration
    measured : status of every case (case, status, code, message), in the table's order
    tables : what there is
    """
    import pandas as pd

    names = list(batches(len(measured), config.run.batch_size))
    for batch, outcomes in _by_batch(config, measured):
        if not all(_measures(config, name, batch).exists() for name in tables):
            gather_measures(config, batch, outcomes, tables)
    joined = {}
    for name, columns in tables.items():
        path = config.run.results / "qc" / f"{name}.parquet"
        _write_rows([_measures(config, name, batch) for batch in names], columns, path)
        joined[name] = pd.read_parquet(path, partitioning=None)
    return joined


def gather_statuses(
    config: Config, batch: str, outcomes: Sequence[Outcome], structures: Sequence[str]
) -> None:
    """Put what is known of every structure in a batch's cases into one file.

    Parameters
    ----------
    config : the configuration
    batch : its name
    outcomes : what became of its cases when they were composed
    structures : all of them; nothing is known of any in a case without a label map
    """
    rows: list[dict[str, object]] = []
    for outcome in outcomes:
        if outcome.status == "done":
            sidecar = read_json(config.run.results / "labels" / f"{outcome.case}.json")
            rows += [{"case": outcome.case, **known} for known in sidecar["structures"]]
            continue
        reason = f"{outcome.status}: {outcome.message} (code {outcome.code})"
        nothing = {"status": "unknown", "voxels": 0, "sides": "", "reason": reason}
        rows += [{"case": outcome.case, "structure": name, **nothing} for name in structures]
    with atomic_path(_statuses(config, batch)) as temporary:
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        temporary.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def join_statuses(config: Config, composed: pd.DataFrame, structures: Sequence[str]) -> None:
    """Write `labels/status.parquet`; `composed` is the status of every case after composing."""
    names = list(batches(len(composed), config.run.batch_size))
    for batch, outcomes in _by_batch(config, composed):
        if not _statuses(config, batch).exists():
            gather_statuses(config, batch, outcomes, structures)
    rows = [_read_statuses(_statuses(config, batch)) for batch in names]
    _write_tables(rows, STATUS_OF_STRUCTURES, config.run.results / "labels" / "status.parquet")


def _by_batch(config: Config, table: pd.DataFrame) -> Iterable[tuple[str, list[Outcome]]]:
    rows = [Outcome(*row) for row in table.itertuples(index=False, name=None)]
    for name, members in batches(len(rows), config.run.batch_size).items():
        yield name, rows[members.start : members.stop]


def _measures(config: Config, name: str, batch: str) -> Path:
    return config.run.results / "qc" / "tables" / name / f"{batch}.parquet"


def _statuses(config: Config, batch: str) -> Path:
    return config.run.results / "labels" / "tables" / f"{batch}.jsonl"


def _arrow(name: str, values: list[Any]) -> pa.Array:
    """A column; NaN becomes null, and what has no value in any case keeps its type."""
    import pyarrow as pa

    if name in TEXT:
        return pa.array(values, pa.string(), from_pandas=True)
    column = pa.array(values, from_pandas=True)
    empty = pa.types.is_null(column.type) and name not in FLAGS
    return column.cast(pa.float64()) if empty else column


def _read_statuses(path: Path) -> pa.Table:
    import pyarrow as pa
    from pyarrow import json as pa_json

    names = [name for name in STATUS_OF_STRUCTURES if name != "voxels"]
    schema = pa.schema([*((name, pa.string()) for name in names), ("voxels", pa.int64())])
    if not path.stat().st_size:
        return schema.empty_table()
    options = pa_json.ParseOptions(explicit_schema=schema)
    return pa_json.read_json(path, parse_options=options).select(STATUS_OF_STRUCTURES)


def _write_rows(parts: Iterable[Path], columns: Sequence[str], path: Path) -> None:
    """Write the rows of several parquet files as one, in their order."""
    import pyarrow.parquet as pq

    # `read_table` looks for a data set of many files around each, in three times the time
    def read(part: Path) -> pa.Table:
        with pq.ParquetFile(part) as file:
            return file.read(use_threads=False)

    _write_tables([read(part) for part in parts], columns, path)


def _write_tables(tables: Sequence[pa.Table], columns: Sequence[str], path: Path) -> None:
    """Write the rows of several tables to one file.

    A column that is empty in a table has no type there, and gets the one that it has in others.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    full = [table for table in tables if len(table)]
    rows = (
        pa.concat_tables(full, promote_options="permissive").replace_schema_metadata()
        if full
        else pa.table({name: pa.nulls(0) for name in columns})
    )
    with atomic_path(path) as temporary:
        pq.write_table(rows, temporary)
