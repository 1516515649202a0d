"""Hooks of MkDocs (mkdocs.yml): pages from elsewhere in the repository, and their links.

In the repository links lead to files, on the site to pages.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = PurePosixPath("docs")

PAGES = {
    "README.md": "index.md",
    "config/README.md": "configure.md",
    "profiles/README.md": "profiles.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
"""File of the repository to its page."""

LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)")
"""Target of a link or a picture, without its anchor."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are elsewhere in the repository."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to pages; MkDocs then reports those that lead to a file without one."""
    sources = {target: source for source, target in PAGES.items()}
    here = PurePosixPath(sources.get(page.file.src_uri, DOCS / page.file.src_uri))

    def target(match: re.Match[str]) -> str:
        path = os.path.normpath(here.parent / match[1])
        if path in PAGES:
            return PAGES[path]
        return os.path.relpath(path, DOCS)

    return LINK.sub(target, markdown)
