"""Print what the changelog says of a release; fail unless tag, package and citation agree.

python .github/release_notes.py v0.1.0
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WHERE = {
    "workflow/src/backsplit/__init__.py": r'^__version__ = "(.+)"$',
    "CITATION.cff": r"^version: (.+)$",
}
"""File to the line that has the version."""


def notes(tag: str) -> str:
    """Lines of the changelog about the version of a tag.

    Raises
    ------
    SystemExit
        When a file has another version, or the changelog has no lines about this one.
    """
    version = tag.removeprefix("v")
    for name, line in WHERE.items():
        found = re.findall(line, (ROOT / name).read_text("utf-8"), re.MULTILINE)
        if found != [version]:
            sys.exit(f"{name} has version {', '.join(found)}, the tag is {tag}")
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    section = re.search(
        rf"^## {re.escape(version)}$\n(.+?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL
    )
    if section is None:
        sys.exit(f"CHANGELOG.md has no section {version}")
    return section[1].strip()


if __name__ == "__main__":
    print(notes(sys.argv[1]))  # noqa: T201
