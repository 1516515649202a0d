"""Turn a lesion data set into a BackSplit data set: the background split into anatomy."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backsplit.flow.script import (
        compose_case,
        load_config,
        measure_case,
        open_project,
        read_volume,
    )

__version__ = "0.1.0"

__all__ = ["compose_case", "load_config", "measure_case", "open_project", "read_volume"]


def __getattr__(name: str) -> object:
    """One of the functions for scripts, imported when it is first asked for."""
    if name in __all__:
        return getattr(import_module("backsplit.flow.script"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
