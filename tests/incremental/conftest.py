"""One project for all tests of a process: each begins from a clean run of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.tiny import Tiny


@pytest.fixture(scope="session")
def one_tiny() -> Iterator[Tiny]:
    """In memory where that is possible: nothing here is about disks."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    before = Path.cwd()
    os.chdir(folder)
    yield Tiny(folder)
    os.chdir(before)
    shutil.rmtree(folder)


@pytest.fixture
def tiny(one_tiny) -> Tiny:
    one_tiny.fresh()
    return one_tiny
