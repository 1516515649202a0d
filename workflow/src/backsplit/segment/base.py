"""What every kind of segmenter offers: what it can label, and the labels of a batch.

The module of a kind, `segment/<kind>.py`, has a function `build(section, inputs, run)` that makes
one; its section's model in `config/segmenters.py` answers what the configuration alone can tell.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from backsplit.cases.table import Case
from backsplit.errors import CaseError
from backsplit.segment.timing import Timings
from backsplit.store.disk import Link
from backsplit.volume import Array, Grid


@dataclass(frozen=True)
class Labelled:
    """A label map in a segmenter's own ids.

    Attributes
    ----------
    array : unsigned integers (z, y, x) on the case's grid
    grid : that grid
    overlaps : value to the values that share its voxels, where masks overlap
    unknown : classes that nobody could look for in this case, and why
    within : classes that were looked for in a part of the grid only, and the grid of that part
    notes : what a person should know, for the sidecar
    """

    array: Array
    grid: Grid
    overlaps: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    within: Mapping[str, Grid] = field(default_factory=dict)


class Commercial(StrEnum):
    """Whether labels may be used commercially."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Licence:
    """What a segmenter's labels may be used for.

    Attributes
    ----------
    name : licence as its SPDX id, or in words
    commercial : whether they may be used commercially
    terms : what that means, for a person
    source : who says so
    """

    name: str
    commercial: Commercial
    terms: str
    source: str

    @property
    def restricted(self) -> bool:
        """Whether commercial use is not known to be allowed."""
        return self.commercial is not Commercial.YES


class Segmenter(ABC):
    """Somebody who labels anatomy; one object serves a whole job and stays loaded."""

    timings: Timings

    @abstractmethod
    def classes(self) -> dict[str, int]:
        """What it can label: class name to id. Cheap: opens no weights."""

    @abstractmethod
    def licence(self) -> Licence:
        """What its labels may be used for. Cheap: opens no weights."""

    def weights(self) -> Sequence[Path]:
        """Files that decide what its networks do; raises where one is missing."""
        return ()

    def weights_root(self) -> Path:
        """Folder that names of weights are relative to; where it lies does not affect labels."""
        return Path()

    def own_files(self) -> Sequence[Path | Link]:
        """Files and folders that its labels depend on, beside the cases': a change starts a job.

        Cheap: looks at no contents. What is not there is left out, or raises RunError.
        """
        return self.weights()

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What its labels depend on beside files: versions, method. A change starts a job.

        Cheap: reads no file of the user's and starts no program.
        """

    def contents(self) -> dict[str, Any]:
        """What only a job looks at: contents of `own_files` that are not weights."""
        return {}

    @abstractmethod
    def inputs(self, case: Case) -> Mapping[str, Any]:
        """Files of a case that it reads, by role."""

    @abstractmethod
    def label(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Labelled | CaseError]]:
        """Label a batch; yields each case once; a bad case does not stop the others."""
