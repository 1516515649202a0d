"""Loops over pieces of a volume, on all cores that the job has."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

PIECES_PER_CORE = 4
"""So that a core that gets its pieces done early takes one of another's."""


@lru_cache(maxsize=1)
def job_cores() -> int:
    """Cores that this job may use.

    Those that the kernel lets it run on, and no more than `OMP_NUM_THREADS`, which Snakemake sets
    to the threads of the rule.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        allowed = os.cpu_count() or 1
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return max(1, min(allowed, int(told))) if told.isdigit() and int(told) else allowed


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(job_cores(), thread_name_prefix="piece")


def in_pieces(work: Callable[[int, int], object], count: int, least: int = 1) -> None:
    """Call `work(start, stop)` for ranges that together are `range(count)`.

    Parameters
    ----------
    work : releases the interpreter while it runs (a `Compiled` does), and calls this not again
    count : how many there are, such as planes of a volume
    least : no fewer in a range, but for the last one
    """
    size = max(least, -(-count // (PIECES_PER_CORE * job_cores())))
    starts = range(0, count, size)
    if job_cores() == 1 or len(starts) < 2:
        for start in starts:
            work(start, min(start + size, count))
        return
    waiting = [_pool().submit(work, start, min(start + size, count)) for start in starts]
    for done in waiting:
        done.result()
