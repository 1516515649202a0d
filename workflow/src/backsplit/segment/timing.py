"""Where the time of a job goes: seconds by phase, and the share in which the network runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PHASES = ("load", "read", "prepare", "network", "labels", "write")


class Timings:
    """Seconds by phase, summed over cases; phases of different cases may overlap in time."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.cases = 0
        self._lock = threading.Lock()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of a block for a phase."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[name] += time.perf_counter() - begun

    def count_case(self) -> None:
        """One more case is done."""
        with self._lock:
            self.cases += 1

    def summary(self) -> dict[str, float]:
        """Wall time since the start, seconds by phase, share of the network, cases."""
        wall = time.perf_counter() - self.started
        return {
            "wall_s": wall,
            **{f"{name}_s": self.seconds[name] for name in PHASES},
            "network_share": self.seconds["network"] / wall,
            "cases": self.cases,
        }
