"""Which processor the networks run on."""

from __future__ import annotations

from backsplit.errors import BacksplitError, Code


def choose_device(wanted: str) -> str:
    """Turn `auto | cpu | cuda | cuda:N | mps` into a device that is there.

    Raises
    ------
    BacksplitError
        DEVICE_MISSING: nothing falls back to the CPU in silence, that would cost days.
    """
    import torch

    if wanted == "auto":
        if torch.cuda.is_available():
            return "cuda:0"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if wanted.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = int(wanted.partition(":")[2] or 0)
        if index >= count:
            raise BacksplitError(
                Code.DEVICE_MISSING,
                f"run.device is {wanted} but this machine has {count} CUDA devices; "
                "use auto or cpu, or give the job a GPU",
            )
        return f"cuda:{index}"
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise BacksplitError(
            Code.DEVICE_MISSING, "run.device is mps but this machine has none; use auto or cpu"
        )
    return wanted
