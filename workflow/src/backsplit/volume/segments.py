"""Files that hold named segments; each is put on an image's grid."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backsplit.config.base import MOST_LABEL
from backsplit.errors import CaseError, Code
from backsplit.volume.drawn import Drawn
from backsplit.volume.grid import Array, Grid


@dataclass(frozen=True)
class SegmentName:
    """A segment or region.

    Attributes
    ----------
    number : in label maps
    name : one of its own; the second that the file calls `GTV` is `GTV (2)`
    own : as the file has it
    """

    number: int
    name: str
    own: str


@dataclass(frozen=True)
class Segment:
    """A segment on an image's grid.

    Attributes
    ----------
    mask : bool (z, y, x)
    drawn : what the file itself says of it
    notes : what is worth a word about it
    """

    mask: Array
    drawn: Drawn
    notes: tuple[str, ...] = ()


class SegmentFile(ABC):
    """A file with segments; each is put on the grid only when it is asked for.

    Parameters
    ----------
    path : the file
    given : numbers and names of its segments, as the file has them
    """

    def __init__(self, path: Path, given: Sequence[tuple[int, str]]) -> None:
        self.path = path
        self.segments = tuple(_named(given))
        self._numbers = [number for number, _ in given]
        self._doubled = {n for n, count in Counter(self._numbers).items() if count > 1}

    def read(self, segment: SegmentName, grid: Grid) -> Segment:
        """One segment on a grid.

        Raises
        ------
        CaseError
            FILE_UNREADABLE, and what the kind of file has codes for.
        """
        number = self._numbers[self.segments.index(segment)]
        try:
            if number in self._doubled:
                raise ValueError(f"several of its segments have the number {number}")
            return self._read(number, segment.name, grid)
        except CaseError:
            raise
        except Exception as error:
            raise unreadable(self.path, error) from None

    def target_grid(self, grid: Grid) -> Grid:
        """The grid to read segments on, for an image on `grid`: that one, if they can be."""
        return grid

    @abstractmethod
    def _read(self, number: int, name: str, grid: Grid) -> Segment:
        """One segment, by the file's own number."""


def unreadable(path: Path, error: Exception) -> CaseError:
    """Say that a file is damaged, with the reader's own reason."""
    reason = str(error).strip().splitlines()
    return CaseError(
        Code.FILE_UNREADABLE,
        f"{path} cannot be read as DICOM-SEG, RTSTRUCT or .seg.nrrd "
        f"({(reason[-1] if reason else type(error).__name__)[:200]})",
        "export it again",
    )


def _named(given: Sequence[tuple[int, str]]) -> Iterator[SegmentName]:
    """Numbers that fit a label map, the file's own where they do; names that differ."""
    numbers = [number for number, _ in given]
    own = len(set(numbers)) == len(numbers) and all(1 <= n <= MOST_LABEL for n in numbers)
    seen: dict[str, int] = {}
    for position, (number, name) in enumerate(given, start=1):
        seen[name] = seen.get(name, 0) + 1
        shown = name if seen[name] == 1 else f"{name} ({seen[name]})"
        yield SegmentName(number if own else position, shown, name)
