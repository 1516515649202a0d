"""Commands in the documents exist with their options, configurations in them are valid."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.metadata import entry_points

import pytest
import yaml
from pydantic import TypeAdapter
from snakemake.cli import get_argument_parser
from typer.main import get_command

from backsplit.cli import app
from backsplit.config.model import Config
from backsplit.config.segmenters import SegmenterConfig
from support.documents import COMMAND, Block, blocks, shown
from support.project import ROOT

SHELL = {
    "source",
    "export",
    "cd",
    "git",
    "pip",
    "docker",
    "apptainer",
    "id",
    "python",
    "kits23_download_data",
    "du",
    "scontrol",
}
"""Programs that are not ours, and that a test cannot ask for their options."""

PLUGINS = ("--googlebatch", "--kubernetes", "--container-image", "--slurm", "--default-storage")
"""Options that Snakemake has with a plugin only."""


def stripped(words: list[str]) -> list[str]:
    """A command without the variables set before it."""
    while words and re.match(r"\w+=", words[0]):
        words = words[1:]
    return words


OURS = get_command(app)
SNAKEMAKE = get_argument_parser()


def check_ours(words: list[str], whole: bool) -> None:
    """Find a command of ours, and parse its options and arguments."""
    command, words = OURS, list(words)
    while words and hasattr(command, "commands") and re.match(r"[a-z]", words[0]):
        command = command.commands[words.pop(0)]
    context = command.context_class(command, **command.context_settings)
    given, rest, _ = command.make_parser(context).parse_args([w for w in words if w != "COMMAND"])
    if context.ignore_unknown_options:  # `backsplit run` passes them on
        check_snakemake(rest)
    else:
        assert not rest or hasattr(command, "commands"), rest
    needed = {p.name for p in command.params if p.required and p.param_type_name == "argument"}
    assert not whole or needed <= {name for name, value in given.items() if value}


def check_snakemake(words: list[str]) -> None:
    known = SNAKEMAKE._option_string_actions
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert {name for name in options if not name.startswith(PLUGINS)} <= set(known)


def check_make(words: list[str]) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    assert {word for word in words if "=" not in word and word != "..."} <= targets


def check(line: str, whole: bool = True) -> None:
    """Fail for a command that does not exist so; within a sentence arguments may be left out."""
    if "…" in line or line.endswith("..."):
        line = re.sub(r" (…|\.\.\.).*", "", line)
    words = stripped(shlex.split(line, comments=True))
    if not words:
        return
    program = words[0]
    if program == "backsplit":
        check_ours(words[1:], whole)
    elif program == "snakemake":
        check_snakemake(words[1:])
    elif program == "make":
        check_make(words[1:])
    elif program.startswith("nnUNetv2_"):
        assert program in entry_points(group="console_scripts").names
    else:
        assert program in SHELL, program
        for path in words[1:]:
            if program == "python" and path.endswith(".py"):
                assert (ROOT / path).exists(), path


@pytest.mark.parametrize("document", sorted({command.document for command in shown()}))
def test_commands_in_a_document_exist_with_their_options(document):
    for command in shown():
        if command.document == document:
            check(command.line, command.whole)


@pytest.mark.parametrize(
    "line",
    [
        "backsplit chekc",
        "backsplit run --confg mine/config.yaml",
        "backsplit explain",
        "backsplit weights get total --slow",
        "snakemake --cors 2",
        "make everything",
        "nnUNetv2_learn 501",
        "rm -r results",
    ],
)
def test_a_command_that_does_not_exist_is_noticed(line):
    with pytest.raises(Exception):  # noqa: B017 (each parser has its own)
        check(line)


def test_every_block_with_commands_is_marked_as_one():
    unmarked = [
        str(block)
        for block in blocks("")
        if any(COMMAND.match(line.strip()) for line in block.code.splitlines())
    ]
    assert unmarked == []


def sections(block: Block) -> Iterator[tuple[str, object]]:
    """Sections of a configuration, also of one within another workflow's."""
    given = yaml.safe_load(block.code.replace("\n  …\n", "\n"))
    yield from given.get("backsplit", given).items()


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_a_configuration_in_a_document_is_valid(block):
    for name, given in sections(block):
        if name in Config.model_fields:
            field = Config.model_fields[name]
            TypeAdapter(field.annotation).validate_python(given)
        else:
            TypeAdapter(SegmenterConfig).validate_python(given)


def test_the_first_configuration_is_valid_as_a_whole():
    (whole,) = [
        block
        for block in blocks("yaml")
        if block.document == "docs/own-data.md" and "dataset:" in block.code
    ]
    assert Config.model_validate(yaml.safe_load(whole.code)).dataset.id == 501


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_in_a_document_compiles(block):
    compile(block.code, str(block), "exec")
