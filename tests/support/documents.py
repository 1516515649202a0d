"""The documents of the repository, and the blocks of code in them."""

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


def blocks(*languages: str) -> list[Block]:
    """Every block of the documents in one of these languages."""
    return [block for path in DOCUMENTS for block in of(path) if block.language in languages]


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
