"""What `docs/segmenters.md` shows is a configuration that is taken."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from backsplit.config.segmenters import SegmenterConfig
from backsplit.config.structures import StructureConfig
from support.recipes import blocks, sections


@pytest.mark.parametrize(("name", "section"), sections())
def test_a_recipe_is_a_section(name, section):
    found = TypeAdapter(SegmenterConfig).validate_python(section)
    assert found.kind == section["kind"]
    if found.kind == "command":  # what tells one version of it from another
        assert found.version_command or found.container or name == "synthseg"


def test_the_ways_of_combining_are_taken():
    (structures,) = [block["structures"] for block in blocks() if "structures" in block]
    found = TypeAdapter(dict[str, StructureConfig]).validate_python(structures)
    assert found["kidney"].by is None and found["kidney"].segmenters == ("given", "organs")
    assert found["liver"].by == "majority" and found["pancreas"].disagree == "ignore"
