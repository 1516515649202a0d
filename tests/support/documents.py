"""The documents of the repository, the blocks of code and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from support.project import ROOT

DOCUMENTS = (
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
    *(ROOT / folder / "README.md" for folder in ("config", "profiles")),
)


PROGRAMS = r"backsplit|snakemake|make|nnUNetv2_\w+|python|pip|git|docker|apptainer|du|scontrol"
COMMAND = re.compile(rf"^({PROGRAMS})( |$)")
"""Inline code that is a command, or names a program."""


@dataclass(frozen=True)
class Command:
    """A command that a document shows.

    Attributes
    ----------
    where : the document, with the line of its block
    line : without its comment; continued lines joined
    whole : in a block; within a sentence arguments may be left out
    """

    where: str
    line: str
    whole: bool

    @property
    def document(self) -> str:
        return self.where.partition(":")[0]


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes
    ----------
    document : from the root of the repository
    line : of its first line of code
    language : as written after the fence; empty for listings
    code : without the indentation that all lines share
    """

    document: str
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def commands(self) -> Iterator[list[str]]:
        """Words of each command, comments left out and continued lines joined."""
        for line in self.code.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def shown() -> Iterator[Command]:
    """Every command of bash blocks and of inline code, and those within `$(…)`."""
    for block in blocks("bash"):
        for line in block.code.replace("\\\n", " ").splitlines():
            for found in (line, *re.findall(r"\$\(([^()]+)\)", line)):
                if command := " ".join(re.sub(r"(^|\s)#.*", "", found).split()):
                    yield Command(str(block), command, whole=True)
    for path in DOCUMENTS:
        if path.name == "CHANGELOG.md":  # tells of options that are gone
            continue
        text = re.sub(r"^ *```.*?^ *```$", "", path.read_text("utf-8"), flags=re.M | re.S)
        for code in re.findall(r"`([^`]+)`", text):
            line = " ".join(code.split())
            if COMMAND.match(line):
                yield Command(path.relative_to(ROOT).as_posix(), line, whole=False)


def every_block() -> list[Block]:
    """Every block of the documents, in whatever language."""
    return [block for path in DOCUMENTS for block in of(path)]


def blocks(*languages: str) -> list[Block]:
    """Every block of the documents in one of these languages."""
    return [block for block in every_block() if block.language in languages]


def of(path: Path) -> Iterator[Block]:
    """The blocks of a document."""
    text = path.read_text("utf-8")
    name = path.relative_to(ROOT).as_posix()
    for found in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.M | re.S):
        line = text.count("\n", 0, found.start(3)) + 1
        yield Block(name, line, found[2], dedent(found[3]))


def commands(name: str) -> list[str]:
    """The command lines of a document's bash blocks, in order, without comments."""
    mine = (block for block in blocks("bash") if block.document == name)
    return [shlex.join(words) for block in mine for words in block.commands]
