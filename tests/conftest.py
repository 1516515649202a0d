"""Fixtures for every test: a project in a folder; where the shared inputs lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.project import SHARED, Project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SHARED.is_dir():
        return
    absent = pytest.mark.skip(reason=f"the shared inputs are not at {SHARED}")
    for item in items:
        if item.get_closest_marker("shared"):
            item.add_marker(absent)


@pytest.fixture(scope="session")
def shared() -> Path:
    return SHARED


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture(scope="session")
def project_in() -> Callable[[Path], Project]:
    return Project
