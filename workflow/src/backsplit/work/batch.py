"""Work through a batch of cases: skip what is done, isolate what fails, lose nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from backsplit.cases.table import Case, Checked
from backsplit.errors import CaseError, Code, RunError
from backsplit.store.disk import disk_error
from backsplit.store.sidecars import Entry, discard, still_holds, write_sidecar
from backsplit.store.status import Outcome, Status
from backsplit.store.tsv import one_line

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class Stage(Protocol):
    """One kind of work that gives each case its own files."""

    name: str

    def outputs(self, case: Case) -> Mapping[str, Path]:
        """Files of a case by role; the sidecar lies beside the first."""

    def made_from(self, case: Case) -> Mapping[str, Any]:
        """Everything that the result depends on; raises CaseError when an input is not there."""

    def work(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Entry | CaseError]]:
        """Write the outputs of each case; yields every case once, in any order."""


class Progress(Protocol):
    """Is told of each finished case."""

    def __call__(self, outcome: Outcome, *, computed: bool) -> None:
        """Take note of one case; `computed` is False where the result was there already."""


def run_batch(
    stage: Stage, batch: Sequence[Checked], report: Progress, *, stop_on_bad_case: bool = False
) -> list[Outcome]:
    """Run one stage over a batch.

    Parameters
    ----------
    stage : the work
    batch : cases in the table's order; refused ones are passed on as refused
    report : called once a case
    stop_on_bad_case : end after the first case that fails

    Returns
    -------
    outcomes
        One for each case, in the batch's order.
    """
    outcomes: dict[int, Outcome] = {}
    made_from: dict[str, Mapping[str, Any]] = {}
    pending: list[Case] = []

    def settle(row: int, outcome: Outcome, *, computed: bool = True) -> None:
        outcomes[row] = outcome
        report(outcome, computed=computed)

    for checked in batch:
        case = checked.case
        if checked.status is not Status.OK:
            refused = Outcome(case.id, Status.REFUSED, checked.code, checked.message)
            settle(case.row, refused, computed=False)
            continue
        made = attempt(case, stage.made_from)
        if isinstance(made, CaseError):
            # what a run before made stays: when the input is back it may hold, and cost GPU time
            settle(case.row, failed(case, made))
            continue
        made_from[case.id] = made
        if still_holds(stage.outputs(case), made):
            settle(case.row, Outcome(case.id, Status.DONE), computed=False)
        else:
            pending.append(case)

    started = time.monotonic()
    for case, found in stage.work(pending) if pending else ():
        result = _hold_against_inputs(stage, case, found, made_from[case.id])
        if isinstance(result, CaseError):
            discard(stage.outputs(case))  # what was made before, from something else
            settle(case.row, failed(case, result))
            if stop_on_bad_case:
                break
            continue
        write_sidecar(stage.outputs(case), case.id, made_from[case.id], result)
        settle(case.row, Outcome(case.id, Status.DONE))
        log.info("%s %s done after %.1f s", stage.name, case.id, time.monotonic() - started)
        started = time.monotonic()
    for checked in batch:
        case = checked.case
        if case.row not in outcomes:
            reason = "an earlier case failed and run.on_bad_case is stop"
            outcomes[case.row] = Outcome(case.id, Status.FAILED, Code.INTERNAL, reason)
    return [outcomes[checked.case.row] for checked in batch]


def _hold_against_inputs(
    stage: Stage, case: Case, result: Entry | CaseError, before: Mapping[str, Any]
) -> Entry | CaseError:
    """Refuse a result whose inputs are no longer what they were before the work.

    A file that somebody writes while it is read would else be noted with a content that the
    result was not made from.
    """
    if isinstance(result, CaseError):
        return result
    after = attempt(case, stage.made_from)
    if after == before:
        return result
    if isinstance(after, CaseError):
        return after
    inputs = before.get("inputs", {}), after.get("inputs", {})
    changed = [role for role in inputs[0] | inputs[1] if inputs[0].get(role) != inputs[1].get(role)]
    return CaseError(
        Code.INPUT_CHANGED,
        f"{case.id}: {', '.join(changed) or 'what it is made from'} changed during the work",
        "run again when nothing writes to it any more",
    )


def one_by_one(
    cases: Sequence[Case], work: Callable[[Case], Result]
) -> Iterator[tuple[Case, Result | CaseError]]:
    """Apply `work` to each case so that no failure reaches another case."""
    for case in cases:
        yield case, attempt(case, work)


def attempt(case: Case, work: Callable[[Case], Result]) -> Result | CaseError:
    """Run `work`; whatever goes wrong with one case becomes a CaseError with a code."""
    try:
        return work(case)
    except CaseError as error:
        return error
    except RunError:
        raise  # what makes every case fail must not look like a bad case
    except MemoryError as error:
        log.exception("%s", case.id)
        return CaseError(
            Code.OUT_OF_MEMORY,
            f"{case.id} needs more memory than there is ({error})",
            "give the job more memory",
        )
    except OSError as error:
        if (told := disk_error(error, error.filename or "the results")) is not None:
            raise told from error
        log.exception("%s", case.id)
        return CaseError(Code.INTERNAL, f"{case.id}: {error}", "see the log")
    except (Exception, SystemExit) as error:
        log.exception("%s", case.id)
        if "out of memory" in str(error).lower():
            return CaseError(
                Code.OUT_OF_MEMORY,
                f"{case.id} does not fit into the device's memory",
                "use a GPU with more memory, or set run.device to cpu",
            )
        return CaseError(
            Code.INTERNAL,
            f"{case.id}: {type(error).__name__}: {error}",
            "see the log, and report this as a bug",
        )


def failed(case: Case, error: CaseError) -> Outcome:
    """The outcome of a case that failed."""
    return Outcome(case.id, Status.FAILED, str(error.code), one_line(error.message))
