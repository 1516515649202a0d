"""The configuration: what is wrong is said with its row; what is right survives a round trip."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from snakemake.common.configfile import load_configfile

from backsplit.config.file import (
    ConfigError,
    config_schema,
    dump_config,
    load_config,
    located,
    parse_config,
    read_yaml,
)
from backsplit.errors import Code, Problem
from support.project import ROOT

GOOD = """\
dataset:
  name: KiTS
  id: 501
  cases: cases.tsv
targets: {tumor: 2, cyst: 3}
segmenters:
  organs: {kind: totalsegmentator, task: total}
  given: {kind: files, path: "{lesion}", labels: {kidney: 1}}
structures:
  kidney: [given/kidney, organs/kidney_left, organs/kidney_right]
  liver: organs/liver
"""
TWICE = "  liver: organs/liver\n  liver: organs/liver"


def _load(tmp_path: Path, text: str):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return load_config(path)


def test_defaults_and_order(tmp_path):
    config = _load(tmp_path, GOOD)
    assert config.layers == ("organs", "given")  # the order of the file, no order being given
    assert config.structures["liver"].of == ("organs/liver",)
    assert config.compose.unknown == "ignore"


def test_dump_reads_back_as_the_same(tmp_path):
    config = _load(tmp_path, GOOD)
    path = tmp_path / "dumped.json"
    path.write_text(dump_config(config))
    assert load_config(path) == config


@pytest.mark.parametrize(
    ("old", "new", "row", "column", "needle"),
    [
        ("  id: 501", "  id: 5010", 3, "dataset.id", "999"),
        ("  id: 501", "  identity: 501", 3, "dataset.identity", "unknown key"),
        ("task: total", "task: total, fats: true", 7, "segmenters.organs.fats", "unknown key"),
        ("kind: files", "kind: file", 8, "segmenters.given", "totalsegmentator"),
        ("  liver: organs/liver", "  liver: organ/liver", 11, "structures.liver", "'organ/liver'"),
        ("  liver: organs/liver", "  tumor: organs/liver", 11, "structures.tumor", "also a target"),
        ("cyst: 3", "cyst: [3, 3]", 5, "targets.cyst", "lists a value twice"),
        ("cyst: 3", "cyst: 0", 5, "targets.cyst", "0 is the background"),
        ("cyst: 3", "background: 3", 5, "targets.background", "reserved"),
        ("  liver: organs/liver", TWICE, 12, "structures.liver", "twice"),
        ("  liver: organs/liver", "  a b: organs/liver", 11, "structures.a b", "a letter"),
        ("  organs: {", "  on: {", 6, "segmenters", "YAML reads it as true"),
    ],
)
def test_each_fault_is_named_with_its_row(tmp_path, old, new, row, column, needle):
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, GOOD.replace(old, new))
    hit = [p for p in caught.value.problems if needle in p.what]
    assert hit, caught.value.problems
    assert hit[0].code is Code.CONFIG_INVALID
    assert (hit[0].row, hit[0].column) == (row, column)


PYTHON = re.compile(
    r"\bNone\b|\bTrue\b|tuple|\bdict|\bstr\b|\bint\b|\bfloat\b|bool|literal|pydantic|constrained|"
    r"function|[Ii]nput should|object|instance|\bvalid (?:string|integer|number|dict|list)|\[key\]"
)
"""Words that nobody knows who does not program; `description` may hold a JSON object."""

WRONG = (5, -1, 2.5, "a b", "", True, None, [], [[1]], {}, {"a b": 1}, ["x", 5], 10**30, "\u00e9/x")


def places(node, path=()):
    """Every key and entry of plain data."""
    if path:
        yield path
    for key, value in (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    ):
        yield from places(value, (*path, key))


def with_value(node, path, value):
    if not path:
        return value
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[path[0]] = with_value(node[path[0]], path[1:], value)
    return copy


def test_no_word_of_python_is_in_a_message_whatever_is_wrong(tmp_path):
    """Each key is given values of every kind, each of which fits few keys."""
    text = GOOD + "compose: {order: [targets, given, organs]}\n"
    whole = json.loads(dump_config(_load(tmp_path, text)))
    whole["segmenters"]["masks"] = {
        "kind": "files",
        "path": "{case}/{name}.nii.gz",
        "labels": ["a", "b"],
        "licence": "MIT",
    }
    whole["segmenters"]["tissue"] = {"kind": "threshold", "bands": {"fat": [-190, -30]}}
    whole["segmenters"]["ours"] = {
        "kind": "command",
        "command": ["label", "{image}", "{output}"],
        "labels": {"bone": 1},
        "devices": {"cpu": ["--cpu"]},
        "container": {"image": "ours.sif"},
    }
    whole["segmenters"]["net"] = {"kind": "nnunet", "model": "m", "folds": [0, "all"]}
    whole["export"]["bids"] = {"suffixes": {"ct": "T1w"}}
    refused = 0
    for path in places(whole):
        for value in WRONG:
            try:
                parse_config(with_value(whole, path, value), Path("config.yaml"))
            except ConfigError as error:
                refused += 1
                for problem in error.problems:
                    said = f"{problem.column}: {problem.what}; {problem.remedy}"
                    assert not PYTHON.search(said), (path, value, said)
                    if problem.column is not None and "missing" not in problem.what:
                        key = problem.column.split(".")
                        assert set(key) <= {str(k) for k in (*flat(whole), "a b")}, (path, said)
    assert refused > 500


def flat(node):
    """Every key of plain data, and the numbers of entries."""
    for path in places(node):
        yield from path


def test_what_a_list_of_patterns_names_wrongly_has_the_row_of_its_entry(tmp_path):
    path = tmp_path / "config.yaml"
    lines = GOOD.replace(
        " [given/kidney, organs/kidney_left, organs/kidney_right]",
        "\n    - given/kidney\n    - given/kidny\n",
    )
    path.write_text(lines)
    column, value = "structures.kidney", "given/kidny"
    problem = Problem(Code.PATTERN_UNMATCHED, str(path), "x", "y", column=column, value=value)
    (found,) = located([problem], path)
    assert lines.splitlines()[found.row - 1].strip() == "- given/kidny"


@pytest.mark.parametrize("name", ["off", "no", "yes", "On", "12", "null"])
def test_a_name_that_yaml_takes_for_something_else_is_refused_and_quoted_taken(tmp_path, name):
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, f"{GOOD}  {name}: organs/spleen\n")
    assert {(p.row, p.column, p.remedy) for p in caught.value.problems} == {
        (9, "structures", "put it in quotes")
    }
    if name.isalpha():
        config = _load(tmp_path, f"{GOOD}  '{name}': organs/spleen\n")
        assert config.structures[name].of == ("organs/spleen",)


COMMAND = """\
segmenters:
  organs: {kind: totalsegmentator, task: total}
  given: {kind: files, path: "{lesion}", labels: {kidney: 1}}
  ours:
    kind: command
    command: [label, "{image}", "{output}"]
    labels: {bone: 1, lung: 2}
"""


@pytest.mark.parametrize(("line", "place", "what", "remedy"), [
    ("    labels: {left lung: 1}", "labels.left lung", "must be a letter", "change it"),
    ("    labels: {1: bone, 2: lung}", "labels", "has values before names",
     "write {bone: 1, lung: 2}"),
    ("    labels: {'0': background, '1': bone}", "labels", "has values before names",
     "write {bone: 1}"),
    ("    labels: {background: 0, bone: 1}", "labels.background", "0 is the background",
     "use a value in 1..65535, or leave it out"),
    ("    command: [label, {image}]", "command.1", "must be text, but YAML reads {image}",
     'put it in quotes: "{image}"'),
    ("    command: label {image}", "command", "must be a list", "write a list: [first, second]"),
    ("    labels: {bone: 1}\n    depends_on: net.pt", "depends_on", "must be a list",
     "write a list: [first, second]"),
    ("    labels: {0: background}", "labels", "a name is text", "put it in quotes"),
    ("    labels: {bone: 1}\n    version_command: 0", "version_command", "must be a list",
     "write a list: [first, second]"),
    ("    labels: {bone: 1}\n    device: cpu", "device", "is an unknown key",
     "remove it or correct its spelling"),
])  # fmt: skip
def test_what_is_wrong_with_a_program_s_section_is_said_at_its_own_key(
    tmp_path, line, place, what, remedy
):
    """The kind has the name of one of its keys."""
    key = line.split(":")[0]
    given = "\n".join(line if old.startswith(key) else old for old in COMMAND.splitlines())
    text = GOOD.replace(GOOD[GOOD.index("segmenters:") : GOOD.index("structures:")], f"{given}\n")
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    (problem,) = caught.value.problems
    assert (problem.column, problem.remedy) == (f"segmenters.ours.{place}", remedy)
    assert problem.what.startswith(what)
    row = text.splitlines()[problem.row - 1].strip()
    assert row.startswith(f"{place.split('.')[0]}:")


def test_the_key_off_needs_no_quotes(tmp_path):
    for key in ("off", "'off'"):
        config = _load(tmp_path, f"{GOOD}qc:\n  {key}: [side]\n")
        assert config.qc.off == ("side",)


def test_values_mean_what_they_mean_to_snakemake_which_reads_the_same_file(tmp_path):
    """YAML 1.1 of PyYAML, in which `y` and `1e3` are text."""
    values = "yes no on off y n 010 0o10 1e3 1.0e+3 1_000 12:30 ~ 'no'"
    path = tmp_path / "config.yaml"
    path.write_text("".join(f"k{i}: {value}\n" for i, value in enumerate(values.split())))
    data, _ = read_yaml(path)
    assert data == load_configfile(str(path))
    assert list(data.values()) == [
        *(True, False, True, False, "y", "n", 8, "0o10", "1e3", 1000.0, 1000, 750, None, "no")
    ]


def test_all_faults_are_said_at_once(tmp_path):
    text = GOOD.replace("id: 501", "id: 0").replace("task: total", "tusk: total")
    text = text.replace("name: KiTS", "name: 'Ki TS'")
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert {p.column for p in caught.value.problems} == {
        "dataset.id",
        "dataset.name",
        "segmenters.organs.tusk",
    }


@pytest.mark.parametrize(
    "text", ["", "- 1\n- 2\n", "a: [1, 2\n", "\x00", "!!python/object:os.x {}"]
)
def test_what_is_no_mapping_is_a_clear_error(tmp_path, text):
    with pytest.raises(ConfigError):
        _load(tmp_path, text)


def test_order_must_begin_with_targets_and_name_every_layer(tmp_path):
    for order in ("[organs, targets, given]", "[targets, organs]", "[targets, organs, organs]"):
        with pytest.raises(ConfigError):
            _load(tmp_path, f"{GOOD}compose: {{order: {order}}}\n")
    config = _load(tmp_path, f"{GOOD}compose: {{order: [targets, given, organs]}}\n")
    assert config.layers == ("given", "organs")


def test_bands_that_overlap_or_are_empty_are_refused(tmp_path):
    for bands in ("{a: [0, 10], b: [5, 20]}", "{a: [5, 5]}", "{a: [null, 3], b: [null, 1]}"):
        text = GOOD.replace(
            "segmenters:\n", f"segmenters:\n  t: {{kind: threshold, bands: {bands}}}\n"
        )
        with pytest.raises(ConfigError):
            _load(tmp_path, text)


def test_schema_in_the_repository_is_current_and_accepts_the_demo():
    text = (ROOT / "config" / "config.schema.json").read_text()
    assert text == config_schema(), "run: make schema"
    schema = json.loads(text)
    demo = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    assert set(demo) <= set(schema["properties"])
