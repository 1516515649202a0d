"""Documents and code say the same: each name is explained in the entry that it belongs to."""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest
from typer.main import get_command

from backsplit.cases.table import DRAWN_COLUMN
from backsplit.cli import app
from backsplit.config.quality import AnatomyRules
from backsplit.config.reference import keys, reference
from backsplit.errors import Code
from backsplit.flow.gather import STATUS_OF_STRUCTURES
from backsplit.judge import cohort
from backsplit.judge import lesions as judge_lesions
from backsplit.judge.verdicts import DECISION_COLUMNS, SCORED_COLUMNS, VERDICT_COLUMNS
from backsplit.measure import agreement, lesions, parts
from backsplit.measure import table as measure
from backsplit.start.layouts import LAYOUTS
from backsplit.store.status import STATUS_COLUMNS
from backsplit.study import compare
from backsplit.study import table as study_table
from backsplit.study.false_alarms import FalseAlarms
from support.document_commands import (
    COMPLETED,
    ELSEWHERE,
    HERE,
    NOT_RUN,
    OTHER_BLOCKS,
    RUN_BY,
    STARTS,
    SUBPROCESS,
    WHOLE,
    commands,
)
from support.documents import DOCUMENTS, every_block
from support.project import ROOT

README = (ROOT / "README.md").read_text("utf-8")
SEGMENTERS = (ROOT / "docs" / "segmenters.md").read_text("utf-8")
KEYS = (ROOT / "config" / "README.md").read_text("utf-8")
TABLES = (ROOT / "docs" / "tables.md").read_text("utf-8")
CODES = (ROOT / "docs" / "codes.md").read_text("utf-8")
COMMANDS = (ROOT / "docs" / "commands.md").read_text("utf-8")
SCHEMA = json.loads((ROOT / "config" / "config.schema.json").read_text())


def section(text: str, heading: str) -> str:
    """What stands under a heading."""
    (found,) = re.findall(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.M | re.S)
    return found


def rows(text: str) -> Iterator[list[str]]:
    """Cells of the rows of the tables in a text, heads left out."""
    lines = text.splitlines()
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("|") and not any(re.match(r"\|[-:|]+$", one) for one in (line, after)):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# the keys of the configuration


def test_each_key_of_the_configuration_has_a_description():
    assert [key.path for key in keys(SCHEMA) if len(key.text.split()) < 2] == []


def test_the_reference_is_that_of_the_models():
    """`make schema` writes it."""
    assert (ROOT / "docs" / "configuration.md").read_text("utf-8") == reference(SCHEMA)


def kinds_in(text: str, column: int) -> set[str]:
    """Kinds of segmenters in a column of the tables of a text."""
    return {kind for cells in rows(text) for kind in quoted(cells[column])}


def test_exactly_the_kinds_of_segmenters_are_explained():
    kinds = {key.path.split(".")[1] for key in keys(SCHEMA) if key.path.endswith(".kind")}
    assert len(kinds) >= 6
    assert kinds_in(section(README, "Segmenters"), 0) == kinds
    assert kinds_in(SEGMENTERS.partition("\n## ")[0], 1) == kinds
    assert set(re.findall(r"\*\*(\w+)\*\*", section(KEYS, "Segmenters"))) == kinds


def test_exactly_the_layouts_are_explained():
    told = rows(section(KEYS, "Starting from a folder").partition("--preset")[0])
    assert {name for cells in told for name in quoted(cells[0])} == set(LAYOUTS)


def test_exactly_the_kinds_of_rules_are_explained():
    told = [cells for cells in rows(section(KEYS, "Rules of anatomy")) if cells[0] != "kind"]
    known = {f"{key.path}." for key in keys(SCHEMA) if key.path.startswith("qc.rules.")}
    kinds = {kind: quoted(named) for cells, named, _ in told for kind in quoted(cells)}
    assert set(kinds) == set(AnatomyRules.model_fields)
    for kind, named in kinds.items():
        assert {f"qc.rules.{kind}[].{key}." for key in named} <= known


# the columns of the tables


def explained_columns(name: str, text: str = TABLES) -> list[str]:
    """Columns of a table: of its own section, or of its row under `Others`."""
    if f"## `{name}`" in text:
        return [word for cells in rows(section(text, f"`{name}`")) for word in quoted(cells[0])]
    for first, entry in rows(section(text, "Others")):
        if first == f"`{name}`":
            return quoted(re.sub(r"\(.*?\)", "", entry))  # values stand in brackets
    return []


def columns_of_tables() -> dict[str, list[str]]:
    burden = lesions.burden(pd.DataFrame(columns=lesions.COLUMNS), ["a"], ["tumor"])
    return {
        "qc/measures.parquet": list(measure.COLUMNS),
        "qc/lesions.parquet": list(lesions.COLUMNS),
        "qc/agreement.parquet": list(agreement.COLUMNS),
        "qc/drawn.parquet": list(lesions.DRAWN),
        "qc/parts.parquet": list(parts.COLUMNS),
        "qc/burden.tsv": list(burden.columns),
        "qc/flags.tsv": list(SCORED_COLUMNS),
        "qc/verdicts.tsv": list(VERDICT_COLUMNS),
        "qc/decisions.tsv": list(DECISION_COLUMNS),
        "labels/status.parquet": list(STATUS_OF_STRUCTURES),
        "study/report/arms.tsv": [f.name for f in fields(compare.Comparison)],
        "study/report/patients.tsv": [*compare.KEYS, *compare.PATIENT],
        "study/report/seeds.tsv": [*compare.KEYS, *compare.TRAINING],
        "study/report/left_out.tsv": list(compare.LEFT_OUT),
        "study/report/false_alarms.tsv": [f.name for f in fields(FalseAlarms)],
        "cases.tsv": [*STATUS_COLUMNS, DRAWN_COLUMN],
        "study/scores.parquet": list(study_table.SCORES),
        "study/lesions.parquet": list(study_table.LESIONS),
        "study/curves.parquet": list(study_table.CURVES),
        "study/noise.parquet": list(study_table.NOISE),
        "study/jobs.tsv": list(study_table.JOBS),
    }


def test_each_table_is_explained_with_exactly_its_columns():
    columns = columns_of_tables()
    assert {name: sorted(explained_columns(name)) for name in columns} == {
        name: sorted(some) for name, some in columns.items()
    }


def test_exactly_the_rules_that_can_be_turned_off_are_listed():
    listed = quoted(TABLES[TABLES.index("Rules in `flags.tsv`") :].partition("systematic_")[0])
    found = {f.name for f in vars(cohort).values() if isinstance(f, cohort.Feature)}
    kinds = set(AnatomyRules.model_fields) - {
        "several", "paired", "uneven", "midline", "sexed", "removable",  # say, flag nothing
    }  # fmt: skip
    kinds |= set(re.findall(r'"(lesion_[a-z]+)"', inspect.getsource(judge_lesions)))
    others = {"agreement", "too_few", "flags.tsv", "qc.off", "systematic_"}
    assert found | kinds <= set(listed)
    assert {word for word in listed if not word.startswith("cohort_")} <= kinds | others


# codes, verbs, links


def test_each_code_is_explained():
    told = re.findall(r"^\| `([A-Z_0-9]+)` \|", CODES, re.M)
    assert sorted(told) == sorted(Code)


def test_each_verb_is_named_where_verbs_are_listed():
    verbs = set()
    for name, command in get_command(app).commands.items():
        verbs |= {f"{name} {verb}" for verb in getattr(command, "commands", ())} or {name}
    told = quoted(COMMANDS)
    named = {" ".join(re.findall(r"\b[a-z]+\b", code.removeprefix("backsplit "))) for code in told}
    assert verbs - named == set()


def anchors(path: Path) -> set[str]:
    """Addresses of a document's headings, as the forge and the site make them."""
    found = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in found}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_document_heading_and_picture_that_is_linked_is_there(path):
    for link, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", path.read_text("utf-8")):
        target = (path.parent / link).resolve() if link else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), f"{link}#{anchor}"


# the lists of what runs each command, tests/support/document_commands.py


def test_every_list_is_of_commands_that_are_shown():
    lines = {command.line for command in commands()}
    assert ELSEWHERE.keys() & NOT_RUN.keys() == set()
    assert (ELSEWHERE.keys() | NOT_RUN.keys() | COMPLETED.keys()) - lines == set()
    assert WHOLE.keys() - {command.document for command in commands()} == set()


def test_a_command_without_an_entry_can_run_where_the_others_do():
    """In tests/integration/test_document_commands.py, which knows names for some placeholders."""
    for line in HERE:
        assert line.startswith(("backsplit ", *SUBPROCESS)), f"say in NOT_RUN why not: {line}"
        assert re.findall(r"\b[A-Z][A-Z_]+\b", line) == [], f"a name for PLACEHOLDERS: {line}"


@pytest.mark.parametrize("test", sorted({*RUN_BY, *WHOLE.values(), *OTHER_BLOCKS.values(), STARTS}))
def test_a_test_that_runs_commands_is_there_and_has_their_verbs(test):
    path, _, name = test.partition("::")
    text = (ROOT / path).read_text("utf-8")
    if name:
        assert f"\ndef {name}(" in text
    if ".md" in text:  # it reads the commands in the document
        return
    if "snakemake" in text:
        text += "".join(rules.read_text() for rules in (ROOT / "rules").glob("*.smk"))
    for line in RUN_BY.get(test, ()):
        words = line.split()[1:3] if line.startswith("backsplit ") else ()
        verbs = [word for word in words if re.fullmatch("[a-z]+", word)]
        assert [verb for verb in verbs if f'"{verb}"' not in text and f" {verb} " not in text] == []


def test_every_block_is_run_or_held_against_what_it_shows():
    """Commands run, configurations are validated by tests/unit/test_document_blocks.py."""
    counts = Counter((block.document, block.language) for block in every_block())
    others = {(*key, count) for key, count in counts.items() if key[1] not in ("bash", "yaml")}
    assert others == OTHER_BLOCKS.keys()
