"""Steps of cases that overlap, so that the network has a case ready whenever it is free.

One thread runs networks. As many threads as the job has cores prepare and finish cases. Whatever is
furthest on goes first, so that cases leave before others enter, and of two that are as far the one
that came first. The caller's thread, which writes what is done, holds nobody up.

What keeps memory bounded is who may enter: as many cases as there are threads and two more (one in
the network, one ready for it), and only as long as all that are in work fit into the memory for
them (`memory.py`), by an estimate of each. One case may always enter.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from backsplit.cases.table import Case
from backsplit.errors import CaseError
from backsplit.work.batch import attempt

Step = Callable[[Any], Any]


@dataclass(frozen=True)
class Size:
    """Estimate of the bytes that a case takes.

    Attributes
    ----------
    own : at most, as long as it is in work
    network : in addition, while it is in the network; one case at a time is
    """

    own: int = 0
    network: int = 0


@dataclass(frozen=True)
class Steps:
    """What is done with each case.

    Attributes
    ----------
    chain : the first step gets the case, each other one what the step before gave; the second,
        fourth … run the network, the others prepare and finish
    size : of a case; may look at its files
    """

    chain: tuple[Step, ...]
    size: Callable[[Case], Size] = lambda _: Size()


@dataclass(frozen=True)
class Limits:
    """How much is in work at the same time.

    Attributes
    ----------
    workers : threads that prepare and finish
    bytes : that all cases in work may take together
    """

    workers: int
    bytes: int


@dataclass(order=True)
class _Item:
    """A case in work; of several that wait the least goes first."""

    left: int
    row: int
    case: Case = field(compare=False)
    given: Any = field(compare=False)
    size: Size = field(compare=False)


class _Work:
    """The state that all threads share.

    Attributes
    ----------
    changed : guards all else; told of when there is something to do
    entering : cases that have not begun, the next one last
    next_size : of the next one, once somebody has looked
    inside : cases in work by row
    waiting : items that wait for the network (True) or for another thread (False)
    done : what the caller has not taken yet
    """

    def __init__(self, cases: Sequence[Case], steps: Steps, limits: Limits) -> None:
        self.steps = steps
        self.limits = limits
        self.changed = threading.Condition()
        self.entering = list(enumerate(cases))[::-1]
        self.next_size: Size | None = None
        self.somebody_looks = False
        self.inside: dict[int, Size] = {}
        self.waiting: dict[bool, list[_Item]] = {False: [], True: []}
        self.done: SimpleQueue[_Item | BaseException] = SimpleQueue()
        self.stopped = False

    def leave(self, item: _Item) -> None:
        """A case is done and its result taken."""
        with self.changed:
            del self.inside[item.row]
            self.changed.notify_all()

    def stop(self) -> None:
        """Begin no further step."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()

    def run_networks(self) -> None:
        """Take what waits for the network, one item after the other."""
        waiting = self.waiting[True]
        while True:
            with self.changed:
                self.changed.wait_for(lambda: waiting or self.stopped)
                if self.stopped:
                    return
                item = heapq.heappop(waiting)
            self._go_on(item)
            del item  # what is in work elsewhere is not held here

    def help(self) -> None:
        """Finish and prepare; let a case in where there is nothing else to do."""
        waiting = self.waiting[False]
        while True:
            with self.changed:
                self.changed.wait_for(lambda: waiting or self.stopped or self._may_enter())
                if self.stopped:
                    return
                if waiting:
                    item = heapq.heappop(waiting)
                elif self.next_size is None:
                    self.somebody_looks = True
                    item = None
                else:
                    item = self._enter(self.next_size)
            if item is None:
                self._look()
            else:
                self._go_on(item)
            del item

    def _may_enter(self) -> bool:
        """Whether a helper may look at the next case, or take it in."""
        if not self.entering or self.somebody_looks or len(self.inside) >= self._most:
            return False
        if self.next_size is None or not self.inside:
            return True
        sizes = [*self.inside.values(), self.next_size]
        total = sum(size.own for size in sizes) + max(size.network for size in sizes)
        return total <= self.limits.bytes

    @property
    def _most(self) -> int:
        return self.limits.workers + 2

    def _look(self) -> None:
        """Estimate the next case; without holding the others up, files may be slow."""
        _, case = self.entering[-1]
        try:
            size = attempt(case, self.steps.size)
        except BaseException as error:
            self.done.put(error)
            return
        with self.changed:
            # what is wrong with its files is told when they are read
            self.next_size = Size() if isinstance(size, CaseError) else size
            self.somebody_looks = False
            self.changed.notify_all()

    def _enter(self, size: Size) -> _Item:
        row, case = self.entering.pop()
        self.next_size = None
        self.inside[row] = size
        return _Item(len(self.steps.chain), row, case, case, size)

    def _go_on(self, item: _Item) -> None:
        """Take the next step of a case."""
        step = self.steps.chain[-item.left]
        given, item.given = item.given, None
        try:
            result = attempt(item.case, lambda _: step(given))
        except BaseException as error:  # what makes every case fail is the caller's
            self.done.put(error)
            return
        item.given = result
        item.left -= 1
        if item.left == 0 or isinstance(result, CaseError):
            self.done.put(item)
            return
        with self.changed:
            for_network = (len(self.steps.chain) - item.left) % 2 == 1
            heapq.heappush(self.waiting[for_network], item)
            self.changed.notify_all()


def overlap(
    cases: Sequence[Case], steps: Steps, limits: Limits
) -> Iterator[tuple[Case, Any | CaseError]]:
    """Work through cases with their steps overlapping; yields each as soon as it is done.

    A step that fails makes its case a CaseError and the others go on. What makes every case fail
    (RunError, a full disk) is raised here.
    """
    work = _Work(cases, steps, limits)
    targets = [work.run_networks, *[work.help] * limits.workers]
    threads = [threading.Thread(target=target, daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    try:
        for _ in cases:
            item = work.done.get()
            if isinstance(item, BaseException):
                raise item
            yield item.case, item.given
            item.given = None
            work.leave(item)
    finally:
        work.stop()
        for thread in threads:
            thread.join()
