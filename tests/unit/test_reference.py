"""The reference of the configuration: every key, as the models take it."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from functools import reduce

import pytest
import yaml

from backsplit.config.file import ConfigError, parse_config
from support.changes.keys import key_changes, schema_keys
from support.project import ROOT

SCHEMA = json.loads((ROOT / "config" / "config.schema.json").read_text("utf-8"))
DOCUMENT = (ROOT / "docs" / "configuration.md").read_text("utf-8")
ROWS = {
    row[0]: row[1:]
    for row in re.findall(r"^\| `(.+?)` \| (.*?) \| (.*?) \| (.*) \|$", DOCUMENT, re.M)
}


def test_every_key_has_a_row_or_a_heading():
    headings = re.findall(r"^## `(.+)`$", DOCUMENT, re.M)
    told = {key.rpartition(".")[2].removesuffix("[]") for key in (*ROWS, *headings)}
    sections = [SCHEMA, *SCHEMA["$defs"].values()]
    assert {name for one in sections for name in one.get("properties", ())} - told == set()


def test_every_key_has_its_change_between_two_runs():
    """`make test-incremental` makes them."""
    assert set(schema_keys()) - set(key_changes()) == set(), "add it to tests/support/changes"
    assert set(key_changes()) - set(schema_keys()) == set()


def test_a_key_without_words_of_its_own_is_in_a_section_that_explains_it():
    for key, (_, _, text) in ROWS.items():
        section = key.rpartition(".")[0].removesuffix("[]").removesuffix(".*")
        assert text or ROWS[section][2], key


def test_rows_say_what_a_value_is_and_what_it_is_otherwise():
    assert ROWS["dataset.id"][:2] == ("whole number, at least 1, at most 999", "")
    assert ROWS["compose.unknown"][:2] == ("`ignore` or `background` or `drop`", '`"ignore"`')
    assert ROWS["compose.except[].winner"][0] == "text"
    assert ROWS["segmenters.threshold.bands"][0] == "{name: [number or null, number or null]}"
    assert ROWS["export.bids"][:2] == ("section or null", "`null`")


CONFIG = {
    "dataset": {"name": "A", "id": 1, "cases": "cases.tsv"},
    "targets": {"tumor": 1},
    "segmenters": {"tissue": {"kind": "threshold", "bands": {"fat": [-190, -30]}}},
    "structures": {"fat": "tissue/fat"},
}


@pytest.mark.parametrize(
    "key",
    [
        key
        for key, row in ROWS.items()
        if row[1] and not re.search(r"[\[*]|^segm|^study|^export\.bids\.", key)
    ],
)
def test_a_default_is_what_the_key_has_when_it_is_left_out(key, tmp_path):
    """Said with its default, a configuration is the one in which the key is not said."""
    said = deepcopy(CONFIG)
    *sections, name = key.split(".")
    section = reduce(lambda node, part: node.setdefault(part, {}), sections, said)
    section[name] = yaml.safe_load(ROWS[key][1].strip("`"))
    path = tmp_path / "config.yaml"
    assert parse_config(said, path) == parse_config(CONFIG, path)


@pytest.mark.parametrize("key", ["dataset.name", "dataset.id", "dataset.cases"])
def test_a_key_without_a_default_is_required(key, tmp_path):
    assert not ROWS[key][1]
    lacking = deepcopy(CONFIG)
    section, name = key.split(".")
    del lacking[section][name]
    with pytest.raises(ConfigError, match=name):
        parse_config(lacking, tmp_path / "config.yaml")
