"""A project that was written and read, for tests of its cases."""

from __future__ import annotations

import pytest

from backsplit.config.model import Config


@pytest.fixture
def configured(project, monkeypatch):
    """Write the project and read its configuration, as it is seen from its folder."""
    monkeypatch.chdir(project.folder)

    def read(**sections):
        project.write(**sections)
        return Config.model_validate(project.settings)

    return read
