"""Measures of a data set as arrays of (case, structure), and robust statistics over cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from backsplit.volume import Array

MAD_TO_SD = 1.4826
"""Median absolute deviation of normal data to their standard deviation."""


@dataclass(frozen=True)
class Cube:
    """What one source of labels measures, by case and structure.

    Attributes
    ----------
    cases, structures : what the first and the second axis stand for
    columns : names along the last axis of `values`
    values : (case, structure, column), NaN where a case has no such row; truth values are 0 and 1
    """

    cases: tuple[str, ...]
    structures: tuple[str, ...]
    columns: tuple[str, ...]
    values: Array

    @classmethod
    def of(cls, measures: pd.DataFrame) -> Cube:
        """Take rows of `measures.parquet` of one source; background is left out."""
        rows = measures[measures["structure"] != "background"]
        case, cases = pd.factorize(rows["case"])
        structure, structures = pd.factorize(rows["structure"])
        columns = [name for name in rows.columns if name not in ("case", "source", "structure")]
        values = np.full((len(cases), len(structures), len(columns)), np.nan)
        values[case, structure] = rows[columns].to_numpy(float)
        return cls(tuple(cases), tuple(structures), tuple(columns), values)

    def __getitem__(self, column: str) -> Array:
        """One measure, (case, structure)."""
        return np.asarray(self.values[:, :, self.columns.index(column)])

    def several(self, columns: Sequence[str]) -> Array:
        """Some measures, (case, structure, measure)."""
        return np.asarray(self.values[:, :, [self.columns.index(name) for name in columns]])

    def records(self, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
        """Each case with its structures that have a voxel, as {structure: {column: value}}."""
        table, there = self.several(columns), self.there
        for i, case in enumerate(self.cases):
            rows = table[i].tolist()
            yield (
                case,
                {
                    self.structures[j]: dict(zip(columns, rows[j], strict=True))
                    for j in np.flatnonzero(there[i]).tolist()
                },
            )

    def of_cases(self, cases: Sequence[str]) -> Cube:
        """Only some of the cases."""
        chosen = np.isin(np.array(self.cases, object), list(cases))
        kept = tuple(case for case, keep in zip(self.cases, chosen, strict=True) if keep)
        return Cube(kept, self.structures, self.columns, self.values[chosen])

    def aligned(self, cases: Sequence[str]) -> Cube:
        """The same for these cases in this order, NaN where one was not measured."""
        rows = {case: i for i, case in enumerate(self.cases)}
        values = np.full((len(cases), *self.values.shape[1:]), np.nan)
        for i, case in enumerate(cases):
            if case in rows:
                values[i] = self.values[rows[case]]
        return Cube(tuple(cases), self.structures, self.columns, values)

    @property
    def there(self) -> Array:
        """Whether a structure has a voxel, (case, structure)."""
        return np.asarray(self["voxels"] > 0)

    @property
    def whole(self) -> Array:
        """Whether a structure is there and the field of view does not cut it off."""
        return np.asarray(self.there & (self["touches_border"] == 0))


def where(chosen: Array, values: Array) -> Array:
    """NaN in place of values, (case, structure, …), that are not chosen, (case, structure)."""
    wide = chosen.reshape(chosen.shape + (1,) * (values.ndim - chosen.ndim))
    return np.asarray(np.where(wide, values, np.nan))


def median(values: Array) -> Array:
    """Median over cases, the first axis, of what is no NaN; NaN where nothing is left."""
    return quantile(values, 0.5)


def quantile(values: Array, share: float) -> Array:
    """Quantile over cases, the first axis, of what is no NaN, linear; NaN where nothing is left."""
    # NaN are sorted last; numpy's own way takes each column by itself and as many times as long
    ordered = np.moveaxis(np.sort(np.moveaxis(values, 0, -1), axis=-1), -1, 0)
    at = share * np.maximum(np.isfinite(ordered).sum(axis=0)[None] - 1, 0)
    low = np.floor(at).astype(np.intp)
    high = np.ceil(at).astype(np.intp)
    below, above = (np.take_along_axis(ordered, index, axis=0)[0] for index in (low, high))
    return np.asarray(below + (above - below) * (at - low)[0])


def spread(values: Array, middle: Array) -> Array:
    """Robust standard deviation over cases round the middle (1.4826 MAD)."""
    return np.asarray(MAD_TO_SD * median(np.abs(values - middle)))


def counts(values: Array) -> Array:
    """How many cases have a value."""
    return np.asarray(np.isfinite(values).sum(axis=0))
