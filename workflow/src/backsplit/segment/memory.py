"""How much memory a job may fill with cases that are in work at the same time."""

from __future__ import annotations

import os
from pathlib import Path

from backsplit.segment.pipeline import Limits
from backsplit.volume.threads import job_cores

SHARE = 0.5
"""Of the memory that the job has left when its networks are loaded. The rest is for what libraries
take for a moment, and for who else is on the machine."""

UNKNOWN_BYTES = 8 << 30
"""Taken for what is left where the system does not say (macOS)."""


def limits() -> Limits:
    """How much a job may have in work: a helper for each core, and `memory_for_cases`."""
    return Limits(job_cores(), memory_for_cases())


def memory_for_cases() -> int:
    """Bytes that cases in work may take together: half of what the job has left now.

    What is left is the least of what the machine has available, what the job's control group
    allows (containers, Slurm), and Slurm's own figure for the job.
    """
    left = [value for value in (_machine(), _control_group(), _slurm()) if value is not None]
    return int(SHARE * max(0, min(left, default=UNKNOWN_BYTES)))


def _machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) << 10 if found else None


def _control_group(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> int | None:
    """What the job's group (version 2) and those that it lies in leave; None without a limit."""
    try:
        lines = own.read_text("utf-8").splitlines()
    except OSError:
        return None
    name = next((line[3:].strip("/") for line in lines if line.startswith("0::")), "")
    group = root / name
    folders = [group, *group.parents]
    found = [_left(folder) for folder in folders if folder == root or root in folder.parents]
    return min((left for left in found if left is not None), default=None)


def _left(group: Path) -> int | None:
    try:
        limit = (group / "memory.max").read_text("utf-8").strip()
        used = (group / "memory.current").read_text("utf-8").strip()
    except OSError:
        return None
    return int(limit) - int(used) if limit.isdigit() else None


def _slurm() -> int | None:
    megabytes = os.environ.get("SLURM_MEM_PER_NODE", "")
    return int(megabytes) << 20 if megabytes.isdigit() and int(megabytes) else None
