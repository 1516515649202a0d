"""A project that was written and read, for tests of its cases."""

from __future__ import annotations

import tempfile
import zipfile

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


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Temporary files of a test have a folder, in which nothing may stay."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="session")
def sts(tmp_path_factory, shared):
    """A real CT series and the RTSTRUCT drawn on it, of a soft-tissue sarcoma."""
    folder = tmp_path_factory.mktemp("sts")
    packed = shared / "data" / "sts" / "STS_002" / "CT_dicom_and_rtstruct.zip"
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(folder)
    (structures,) = folder.rglob("RS*.dcm")
    return next(p.parent for p in folder.rglob("*.dcm") if p != structures), structures
