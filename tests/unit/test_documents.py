"""Documents and code say the same."""

from __future__ import annotations

import json
import re

from typer.main import get_command

from backsplit.cli import app
from backsplit.config.quality import AnatomyRules
from backsplit.errors import Code
from backsplit.flow.gather import STATUS_OF_STRUCTURES
from backsplit.judge import cohort
from backsplit.judge.verdicts import DECISION_COLUMNS, FLAG_COLUMNS, VERDICT_COLUMNS
from backsplit.measure import agreement, lesions
from backsplit.measure import table as measure
from support.project import ROOT

TEXTS = "\n".join(
    path.read_text("utf-8")
    for path in [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")]
)


def test_each_code_is_explained():
    told = re.findall(r"^\| `([A-Z_0-9]+)` \|", (ROOT / "docs" / "codes.md").read_text(), re.M)
    assert sorted(told) == sorted(Code)


def test_each_key_of_the_configuration_is_explained():
    schema = json.loads((ROOT / "config" / "config.schema.json").read_text())
    sections = [schema, *schema["$defs"].values()]
    keys = {name for section in sections for name in section.get("properties", {})}
    told = (ROOT / "config" / "README.md").read_text()
    assert {key for key in keys if not re.search(rf"\b{re.escape(key)}\b", told)} == set()


def test_each_column_of_the_tables_is_explained():
    told = set(re.findall(r"`([a-z_0-9]+)`", (ROOT / "docs" / "tables.md").read_text()))
    tables = (measure.COLUMNS, lesions.COLUMNS, agreement.COLUMNS, STATUS_OF_STRUCTURES)
    assert {column for table in tables for column in table} - told == set()
    assert {*FLAG_COLUMNS, *VERDICT_COLUMNS, *DECISION_COLUMNS} - told == set()
    cohort_rules = {f.name for f in vars(cohort).values() if isinstance(f, cohort.Feature)}
    assert cohort_rules | set(AnatomyRules.model_fields) - {"several", "paired", "midline"} <= told


def test_each_verb_is_named():
    verbs = set(get_command(app).commands)
    assert {verb for verb in verbs if f"backsplit {verb}" not in TEXTS} == set()


def test_every_document_that_is_linked_is_there():
    for path in [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")]:
        for link in re.findall(r"\]\((?!http)([^)#]+)", path.read_text("utf-8")):
            assert (path.parent / link).exists(), f"{path.name}: {link}"
