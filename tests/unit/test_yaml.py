"""A configuration is YAML where Snakemake, which reads the same file, says so: PyYAML's parser."""

from __future__ import annotations

import random
import string

import pytest
import yaml

from backsplit.config.file import ConfigError, read_yaml
from support.project import ROOT

DISPUTED = [
    "a: {kind: files, labels:{liver: 1}}",
    "a: {liver:[x, y]}",
    "a: [given/rib_?, b]",
    "a: {b: ?x}",
    "a: |#\n  text",
    "a: >#\n  text",
    "a:\t1",
    "a: b\ufeffc",
    "\ufeffa: 1",
    "%YAML 1.3\n---\na: 1",
    "a: [b\n  c: d",
    "a: %b",
    "- a\n b: 1",
    "a: 'x",
    "a: 1\n---\nb: 2",
    "a: &x {b: 1}\nc:\n  <<: *x\n  d: 2",
    "a: !x 1",
    "a: *b",
    "? [a]\n: 1",
]


def snakemake_reads(text: str):
    """What PyYAML makes of a text, or the row of its complaint."""
    try:
        return yaml.load(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return yaml.YAMLError, mark and mark.line + 1


def we_read(path, text: str):
    path.write_text(text, "utf-8")
    try:
        return read_yaml(path)[0]
    except ConfigError as error:
        return yaml.YAMLError, error.problems[0].row


@pytest.mark.parametrize("text", DISPUTED)
def test_what_parsers_dispute_is_read_as_by_snakemake(tmp_path, text):
    assert we_read(tmp_path / "c.yaml", text) == snakemake_reads(text)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_configurations_are_read_or_refused_as_by_snakemake(tmp_path, seed):
    draw = random.Random(seed)
    whole = (ROOT / "config" / "config.yaml").read_text("utf-8").splitlines(keepends=True)
    path = tmp_path / "c.yaml"
    for _ in range(60):
        start = draw.randrange(len(whole))
        text = "".join(whole[start : start + draw.randint(1, 8)])
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(text) + 1)
            new = draw.choice([*"\t?|>:,[]{}#&*!%@`'\"-\n ", "", "\ufeff", string.ascii_letters])
            text = text[:at] + new + text[at + draw.randint(0, 2) :]
        try:
            expected = snakemake_reads(text)
        except ValueError:
            continue  # a date that is none
        assert we_read(path, text) == expected, text


def test_each_row_is_that_of_the_file(tmp_path):
    (tmp_path / "c.yaml").write_text("a: 1\nb:\n  c: 2\n", "utf-8")
    _, root = read_yaml(tmp_path / "c.yaml")
    assert [(key.value, key.start_mark.line) for key, _ in root.value] == [("a", 0), ("b", 1)]
