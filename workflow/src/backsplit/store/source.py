"""Where the workflow's own files are: Snakefile, rules, profiles, environments, configuration."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def source_folder() -> Path:
    """Folder of the workflow: in the package of an installed wheel, else the checkout."""
    packaged = PACKAGE / "snakemake"
    return packaged if packaged.is_dir() else PACKAGE.parents[2]
