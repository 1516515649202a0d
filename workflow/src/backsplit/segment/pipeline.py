"""Three steps that overlap: prepare case n+1, run the network on case n, finish case n-1.

One thread prepares, the caller's thread runs the network, one thread finishes. At most one case
is in each step, so that memory stays bounded whatever the number of cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from backsplit.cases.table import Case
from backsplit.errors import CaseError
from backsplit.work.batch import attempt

Prepared = TypeVar("Prepared")
Predicted = TypeVar("Predicted")
Result = TypeVar("Result")
Given = TypeVar("Given")


@dataclass(frozen=True)
class Steps(Generic[Prepared, Predicted, Result]):
    """What is done with each case; each step runs in a thread of its own."""

    prepare: Callable[[Case], Prepared]
    run: Callable[[Prepared], Predicted]
    finish: Callable[[Predicted], Result]


def overlap(
    cases: Sequence[Case], steps: Steps[Prepared, Predicted, Result]
) -> Iterator[tuple[Case, Result | CaseError]]:
    """Work through cases with the three steps overlapping; yields them in order.

    A step that fails makes its case a CaseError and the others go on. What makes every case fail
    (RunError, a full disk) is raised here.
    """
    with ThreadPoolExecutor(1) as before, ThreadPoolExecutor(1) as after:
        preparing = [before.submit(attempt, case, steps.prepare) for case in cases[:1]]
        finishing: list[tuple[Case, Future[Result | CaseError]]] = []
        for number, case in enumerate(cases):
            ready = preparing.pop().result()
            if number + 1 < len(cases):
                preparing.append(before.submit(attempt, cases[number + 1], steps.prepare))
            predicted = _go_on(case, ready, steps.run)
            del ready
            for done, future in finishing:
                yield done, future.result()
            finishing = [(case, after.submit(_go_on, case, predicted, steps.finish))]
            del predicted
        for done, future in finishing:
            yield done, future.result()


def _go_on(
    case: Case, given: Given | CaseError, step: Callable[[Given], Result]
) -> Result | CaseError:
    """Take the next step, unless the case has failed before."""
    if isinstance(given, CaseError):
        return given
    return attempt(case, lambda _: step(given))
