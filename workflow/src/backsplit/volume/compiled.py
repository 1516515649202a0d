"""Loops over voxels, compiled by Numba at their first call."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Compiled(Generic[P, R]):
    """A function of arrays and numbers that runs as machine code, without holding other threads up.

    Numba is imported and the function compiled when it is first called, so that commands which
    need no such loop start quickly. The machine code is kept on disk where that can be written to
    (`NUMBA_CACHE_DIR` says where else); in a read-only container each job compiles again, which
    takes some seconds.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        self.function = function
        self.fast: Callable[P, R] | None = None
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it."""
        if self.fast is None:
            self.fast = self._compile()
        return self.fast(*args, **kwargs)

    def _compile(self) -> Callable[P, R]:
        import numba

        options: dict[str, Any] = {"nogil": True, "boundscheck": False}
        try:
            return numba.njit(self.function, cache=True, **options)  # type: ignore[no-any-return]
        except RuntimeError:  # no folder to keep it in
            return numba.njit(self.function, **options)  # type: ignore[no-any-return]
