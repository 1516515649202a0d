"""Compiled loops: lazily, with and without a place to keep the machine code."""

from __future__ import annotations

import subprocess
import sys

import numba
import numpy as np
import pytest

from backsplit.compose.passes import relabel
from backsplit.volume.compiled import Compiled


def double(values, out):
    for i in range(len(values)):
        out[i] = 2 * values[i]


def test_loops_compile_without_a_writable_cache(monkeypatch):
    real = numba.njit

    def read_only(function, *, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(function, **options)

    monkeypatch.setattr(numba, "njit", read_only)
    out = np.zeros(3, np.uint8)
    Compiled(double)(np.array([1, 2, 3], np.uint8), out)
    assert out.tolist() == [2, 4, 6]


def test_commands_that_need_no_loop_do_not_wait_for_numba():
    code = "import sys, backsplit.flow; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_relabel_is_a_lookup(dtype):
    values = np.random.default_rng(0).integers(0, 200, 10_000).astype(dtype)
    table = np.random.default_rng(1).integers(0, 250, 200).astype(np.uint8)
    out = np.empty(len(values), np.uint8)
    relabel(values, table, out)
    np.testing.assert_array_equal(out, table[values])
    relabel(values, table, values)
    np.testing.assert_array_equal(out, values)
