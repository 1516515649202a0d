"""Which processor the networks run on; several jobs on one machine take different GPUs."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from pathlib import Path

from filelock import FileLock

from backsplit.errors import Code, RunError

log = logging.getLogger(__name__)

POLL_S = 2.0
_claimed: dict[int, FileLock] = {}
"""Locks that this process holds, until it ends."""


def choose_device(wanted: str) -> str:
    """Turn `auto | cpu | cuda | cuda:N | mps` into a device that is there.

    `auto` and `cuda` take a GPU that no other job of ours has, and wait for one where all are
    taken; `cuda:N` takes that one, whoever else has it.

    Raises
    ------
    RunError
        As `require_device`.
    """
    require_device(wanted)
    import torch

    count = _gpus()
    if wanted == "auto" and not count:
        return "mps" if torch.backends.mps.is_available() else "cpu"
    return f"cuda:{claim_gpu(count)}" if wanted in ("auto", "cuda") else wanted


def require_device(wanted: str) -> None:
    """Refuse a device that this machine does not have; takes none.

    Raises
    ------
    RunError
        DEVICE_MISSING: nothing falls back to the CPU in silence, that would cost days.
    """
    if wanted in ("auto", "cpu"):
        return
    import torch

    if wanted.startswith("cuda"):
        count = _gpus()
        if int(wanted.partition(":")[2] or 0) >= count:
            raise RunError(
                Code.DEVICE_MISSING,
                f"run.device is {wanted} but this machine has {count} CUDA devices",
                "use auto or cpu, or give the job a GPU",
            )
    elif not torch.backends.mps.is_available():
        raise RunError(
            Code.DEVICE_MISSING, "run.device is mps but this machine has none", "use auto or cpu"
        )


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def gpu_name(device: str) -> str:
    """Name of a device as CUDA_VISIBLE_DEVICES has it, for a process of its own.

    Parameters
    ----------
    device : as `choose_device` gives it

    Returns
    -------
    name
        The entry of CUDA_VISIBLE_DEVICES where the job has that, else the number; empty for what
        is no GPU of CUDA, so that the process sees none.
    """
    if not device.startswith("cuda"):
        return ""
    index = int(device.partition(":")[2] or 0)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return visible.split(",")[index].strip() if visible else str(index)


def claim_gpu(count: int) -> int:
    """Take one of `count` GPUs by a lock that ends with the process; wait while all are taken.

    What CUDA_VISIBLE_DEVICES hides is not there to be taken: Slurm's choice is kept, and the lock
    carries the visible device's own name. Where Slurm confines its jobs (ConstrainDevices), each
    job on a node sees a device 0 that is another one: the lock carries the job's number too.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else [str(i) for i in range(count)]
    job = os.environ.get("SLURM_JOB_ID", "")
    if visible and job:  # Slurm gave them to this job alone
        names = [f"{job}-{name.strip()}" for name in names]
    told = False
    while True:
        for index, name in enumerate(names[:count]):
            if index in _claimed or _try_lock(index, name.strip()):
                return index
        if not told:
            log.warning("all %d GPUs are taken by other jobs; waiting for one", count)
            told = True
        time.sleep(POLL_S)


def _try_lock(index: int, name: str) -> bool:
    path = Path(tempfile.gettempdir()) / f"backsplit-gpu-{os.getuid()}-{name.replace('/', '_')}"
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except OSError:  # taken, or not to be locked
        return False
    _claimed[index] = lock
    return True
