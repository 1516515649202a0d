"""Status tables: what became of each case of a batch in a stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from backsplit.errors import Code, RunError
from backsplit.store.tsv import read_rows, write_rows

STATUS_COLUMNS = ("case", "status", "code", "message")


class Status(StrEnum):
    """What became of a case."""

    OK = "ok"
    """`check` found nothing wrong."""
    REFUSED = "refused"
    """`check` found something wrong: no stage touches the case."""
    DONE = "done"
    """The stage has its result."""
    FAILED = "failed"
    """The stage has none."""


@dataclass(frozen=True)
class Outcome:
    """What became of one case in one stage: done, failed, or refused before.

    Attributes
    ----------
    case : its id
    status : what became of it
    code, message : why; empty where it is done
    """

    case: str
    status: Status
    code: str = ""
    message: str = ""

    @property
    def reason(self) -> str:
        """Message and code, for the user."""
        return f"{self.message} (code {self.code})"


def write_outcomes(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write the status table of a batch: case, status, code, message."""
    write_rows(STATUS_COLUMNS, ((o.case, o.status, o.code, o.message) for o in outcomes), path)


def outcomes_in(path: Path) -> Iterator[Outcome]:
    """Rows of a status table that is there; further columns are left aside."""
    for row in read_rows(path):
        yield Outcome(row["case"], Status(row["status"]), row["code"], row["message"])


def read_outcomes(path: Path, verb: str) -> list[Outcome]:
    """Rows of a status table.

    Raises
    ------
    RunError
        FILE_MISSING when the verb has not written it.
    """
    if not path.exists():
        raise RunError(Code.FILE_MISSING, f"{path} does not exist", f"run `backsplit {verb}` first")
    return list(outcomes_in(path))


def failures(path: Path, verb: str) -> Mapping[str, str]:
    """Cases of a batch that failed in a stage, with the reason; raises as `read_outcomes`."""
    return {o.case: o.reason for o in read_outcomes(path, verb) if o.status is Status.FAILED}
