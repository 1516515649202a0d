"""One table a batch of what its cases have in a file each: gathering a data set opens few files.

Each is written before its batch's status table, which says that the batch is whole. Where one is
not there it is made again from the cases' files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backsplit.cases.table import batches
from backsplit.measure.rows import FLAGS, TEXT, Columns, join_rows
from backsplit.store.disk import atomic_path
from backsplit.store.results import Results
from backsplit.store.sidecars import ComposeSidecar, Known, read_sidecar
from backsplit.store.status import Outcome, Status

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

STATUS_OF_STRUCTURES = ("case", "structure", "status", "voxels", "sides", "reason")
"""Columns of `labels/status.parquet`."""


def gather_measures(
    results: Results, batch: str, outcomes: Sequence[Outcome], tables: Columns
) -> None:
    """Put the measures of a batch's cases into one file a table."""
    import pyarrow as pa

    done = [outcome.case for outcome in outcomes if outcome.status is Status.DONE]
    for name, rows in join_rows(map(results.measures.output, done), tables).items():
        table = pa.table({column: _arrow(column, values) for column, values in rows.items()})
        _write_tables([table], tables[name], results.batch_quality(name, batch))


def join_measures(
    results: Results, batch_size: int, measured: Sequence[Outcome], tables: Columns
) -> dict[str, pd.DataFrame]:
    """Write the tables of the data set, and give them.

    Parameters
    ----------
    results : where the results lie
    batch_size : cases a batch
    measured : what became of every case, in the table's order
    tables : what there is
    """
    import pandas as pd

    joined = {}
    for name, columns in tables.items():
        parts = [
            _read_or_make(
                partial(_read_rows, results.batch_quality(name, batch)),
                partial(gather_measures, results, batch, outcomes, tables),
            )
            for batch, outcomes in _by_batch(batch_size, measured)
        ]
        path = results.quality(name)
        _write_tables(parts, columns, path)
        joined[name] = pd.read_parquet(path, partitioning=None)
    return joined


def gather_statuses(
    results: Results, batch: str, outcomes: Sequence[Outcome], structures: Sequence[str]
) -> None:
    """Put what is known of every structure in a batch's cases into one file.

    Parameters
    ----------
    results : where the results lie
    batch : its name
    outcomes : what became of its cases when they were composed
    structures : all of them; nothing is known of any in a case without a label map
    """
    rows: list[dict[str, object]] = []
    for outcome in outcomes:
        if outcome.status is Status.DONE:
            sidecar = read_sidecar(results.labels.sidecar(outcome.case), ComposeSidecar)
            rows += [{"case": outcome.case, **known.model_dump()} for known in sidecar.structures]
            continue
        reason = f"{outcome.status}: {outcome.reason}"
        nothing = {"status": Known.UNKNOWN, "voxels": 0, "sides": "", "reason": reason}
        rows += [{"case": outcome.case, "structure": name, **nothing} for name in structures]
    with atomic_path(results.batch_structure_status(batch)) as temporary:
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        temporary.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def join_statuses(
    results: Results, batch_size: int, composed: Sequence[Outcome], structures: Sequence[str]
) -> None:
    """Write `labels/status.parquet`; `composed` is what became of every case in composing."""
    parts = [
        _read_or_make(
            partial(
                _read_statuses,
                results.batch_structure_status(batch),
                len(outcomes) * len(structures),
            ),
            partial(gather_statuses, results, batch, outcomes, structures),
        )
        for batch, outcomes in _by_batch(batch_size, composed)
    ]
    _write_tables(parts, STATUS_OF_STRUCTURES, results.structure_status)


def _read_or_make(read: Callable[[], pa.Table], make: Callable[[], None]) -> pa.Table:
    """Read a batch's table; one that is gone or damaged is made again from its cases' files."""
    import pyarrow as pa

    try:
        return read()
    except (OSError, pa.ArrowException):
        make()
        return read()


def _by_batch(
    batch_size: int, outcomes: Sequence[Outcome]
) -> Iterable[tuple[str, Sequence[Outcome]]]:
    for name, rows in batches(len(outcomes), batch_size).items():
        yield name, outcomes[rows.start : rows.stop]


def _arrow(name: str, values: list[Any]) -> pa.Array:
    """A column; NaN becomes null, and what has no value in any case keeps its type."""
    import pyarrow as pa

    if name in TEXT:
        return pa.array(values, pa.string(), from_pandas=True)
    column = pa.array(values, from_pandas=True)
    empty = pa.types.is_null(column.type) and name not in FLAGS
    return column.cast(pa.float64()) if empty else column


def _read_statuses(path: Path, count: int) -> pa.Table:
    """Read a batch's rows; a file that was cut off between two of them is damaged too."""
    import pyarrow as pa
    from pyarrow import json as pa_json

    names = [name for name in STATUS_OF_STRUCTURES if name != "voxels"]
    schema = pa.schema([*((name, pa.string()) for name in names), ("voxels", pa.int64())])
    if not path.stat().st_size and not count:
        return schema.empty_table()
    options = pa_json.ParseOptions(explicit_schema=schema)
    table = pa_json.read_json(path, parse_options=options).select(STATUS_OF_STRUCTURES)
    if len(table) != count:
        raise pa.ArrowInvalid(f"{path} has {len(table)} rows, not {count}")
    return table


def _read_rows(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    # `read_table` looks for a data set of many files around each, in three times the time
    with pq.ParquetFile(path) as file:
        return file.read(use_threads=False)


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
