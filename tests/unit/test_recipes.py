"""What `docs/segmenters.md` shows is a configuration that is taken."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from pydantic import TypeAdapter

from backsplit.cases.table import Case
from backsplit.config.segmenters import SegmenterConfig
from backsplit.config.structures import StructureConfig
from support.command import labelled
from support.documents import blocks as code_blocks
from support.project import save
from support.recipes import blocks, sections


@pytest.mark.parametrize(("name", "section"), sections())
def test_a_recipe_is_a_section(name, section):
    found = TypeAdapter(SegmenterConfig).validate_python(section)
    assert found.kind == section["kind"]
    if found.kind == "command":  # what tells one version of it from another
        script = any(part.startswith("./") for part in found.command)  # hashed itself
        assert found.version_command or found.container or script or name == "synthseg"


@pytest.mark.usefixtures("temporary")
def test_the_program_that_is_shown_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = [block.code for block in code_blocks("python") if block.code.startswith("# label.py")]
    (tmp_path / "label.py").write_text(code)
    shown = next(section for name, section in sections() if name == "ours")
    command = [sys.executable, *shown["command"][1:]]
    image = np.full((12, 20, 24), 40, np.int16)
    image[:, :2] = image[4:6, 8:12, 4:8] = image[6:8, 8:12, 14:20] = -1000
    image[3, 5:9, 3:9] = 300
    image[10, 15, 15] = 300
    path = save(tmp_path / "ct.nii.gz", image)
    case = Case("a", 2, {"ct": path}, {}, {}, tmp_path)
    found = labelled([case], command=command, labels=shown["labels"])["a"]
    expected = np.zeros(image.shape)
    expected[3, 5:9, 3:9] = 1
    expected[4:6, 8:12, 4:8] = expected[6:8, 8:12, 14:20] = 2
    np.testing.assert_array_equal(found.array, expected)


def test_the_ways_of_combining_are_taken():
    (structures,) = [block["structures"] for block in blocks() if "structures" in block]
    found = TypeAdapter(dict[str, StructureConfig]).validate_python(structures)
    assert found["kidney"].by is None and found["kidney"].segmenters == ("given", "organs")
    assert found["liver"].by == "majority" and found["pancreas"].disagree == "ignore"
