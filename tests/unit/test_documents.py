"""Documents and code say the same: each name is explained in the entry that it belongs to."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import fields

import pandas as pd
from typer.main import get_command

from backsplit.cases.table import DRAWN_COLUMN
from backsplit.cli import app
from backsplit.config.quality import AnatomyRules
from backsplit.errors import Code
from backsplit.flow.gather import STATUS_OF_STRUCTURES
from backsplit.judge import cohort
from backsplit.judge import lesions as judge_lesions
from backsplit.judge.verdicts import DECISION_COLUMNS, SCORED_COLUMNS, VERDICT_COLUMNS
from backsplit.measure import agreement, lesions, parts
from backsplit.measure import table as measure
from backsplit.store.status import STATUS_COLUMNS
from backsplit.study import compare
from backsplit.study import table as study_table
from backsplit.study.false_alarms import FalseAlarms
from support.project import ROOT

KEYS = (ROOT / "config" / "README.md").read_text("utf-8")
TABLES = (ROOT / "docs" / "tables.md").read_text("utf-8")
CODES = (ROOT / "docs" / "codes.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
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


def explained_keys(text: str) -> dict[str, str]:
    """Key, with its section, to its entry; segmenters' and rules' by their kind."""
    told: dict[str, str] = {}
    for heading in ("Sections", "Running"):
        for cells in rows(section(text, heading)):
            parent = ""
            for key in quoted(cells[0]):
                path = parent + key if key.startswith(".") else key
                told[path] = cells[1]
                parent = path.rpartition(".")[0]
    kind = ""
    for first, entry in rows(section(text, "Segmenters")):
        if first.startswith("**"):
            kind = first.strip("*")
            told[f"segmenters.{kind}"] = entry
        told |= {f"segmenters.{kind}.{key}": entry for key in quoted(first)}
    rules = section(text, "Rules of anatomy")
    for kinds, keys, _ in rows(rules):
        for kind in quoted(kinds):
            told[f"qc.rules.{kind}"] = keys
            told |= dict.fromkeys(f"qc.rules.{kind}.{key}" for key in quoted(keys))
    before = rules[: rules.index("\n|")]
    told |= {f"qc.rules.*.{key}": before for key in quoted(before)}
    return told


def is_explained(key: str, told: dict[str, str]) -> bool:
    """Whether a key has an entry, or stands in an example `{key: …}` in its section's entry."""
    if key in told or re.sub(r"^(segmenters|qc\.rules)\.\w+", r"\1.*", key) in told:
        return True
    parent, _, name = key.rpartition(".")
    if key.startswith("segmenters.") and name == "kind":
        parent = "segmenters"
    examples = [code for code in quoted(told.get(parent) or "") if "{" in code]
    return any(re.search(rf"\b{name}:", code) for code in examples)


def keys_of(schema: dict, path: str = "") -> Iterator[str]:
    """Every key with its section, by kind for `segmenters`; a mere section is told by its keys."""
    if path and "$ref" not in schema:
        yield path
    for node in (schema, schema.get("items", {}), *schema.get("anyOf", ())):
        part = SCHEMA["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
        for name, value in part.get("properties", {}).items():
            yield from keys_of(value, f"{path}.{name}".lstrip("."))
        for kinds in part.get("patternProperties", {}).values():
            for entry in (kinds, *kinds.get("anyOf", ())):
                if "$ref" in entry:
                    yield from keys_of(entry, f"{path}.*")
            for kind, reference in kinds.get("discriminator", {}).get("mapping", {}).items():
                yield f"{path}.{kind}"
                yield from keys_of({"$ref": reference}, f"{path}.{kind}")


KNOWN_KEYS = list(dict.fromkeys(keys_of(SCHEMA)))


def unexplained(text: str) -> list[str]:
    told = explained_keys(text)
    return [key for key in KNOWN_KEYS if not is_explained(key, told)]


def test_each_key_of_the_configuration_is_explained_in_its_section():
    assert unexplained(KEYS) == []


def test_no_entry_explains_a_key_that_is_not_there():
    known = {re.sub(r"^(segmenters|qc\.rules)\.\w+", r"\1.*", key) for key in KNOWN_KEYS}
    known |= {*KNOWN_KEYS, *(f"qc.rules.*.{word}" for word in quoted(KEYS))}
    known |= {key.rpartition(".")[0] for key in KNOWN_KEYS}
    assert set(explained_keys(KEYS)) - known == set()


def test_a_key_whose_line_is_missing_is_noticed():
    """The test above can fail: no line that explains a key can go."""
    told = explained_keys(KEYS)
    for line in KEYS.splitlines(keepends=True):
        if line.startswith("| `"):
            without = KEYS.replace(line, "", 1)
            lost = set(told) - set(explained_keys(without))
            assert not lost & set(KNOWN_KEYS) or set(unexplained(without)), line


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
    told = quoted(section(README, "By hand"))
    named = {" ".join(re.findall(r"\b[a-z]+\b", code.removeprefix("backsplit "))) for code in told}
    assert verbs - named == set()


def test_every_document_that_is_linked_is_there():
    for path in [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")]:
        for link in re.findall(r"\]\((?!http)([^)#]+)", path.read_text("utf-8")):
            assert (path.parent / link).exists(), f"{path.name}: {link}"
