"""A case table and a configuration for the phantoms, wherever they are."""

from __future__ import annotations

import json
from pathlib import Path

from backsplit.demo.phantoms import DEMO_CASES
from backsplit.store.disk import atomic_path
from backsplit.store.source import source_folder

CASES_LINE = "cases: config/cases.tsv"
"""What the demo's configuration in the repository says of its table."""


def write_project(folder: Path) -> Path:
    """Write `cases.tsv` and `config.yaml` beside the phantoms; files that exist are kept.

    Parameters
    ----------
    folder : where the phantoms are, relative to the folder in which the workflow will run

    Returns
    -------
    config
        The configuration: that of the repository, with this table.
    """
    rows = [f"{case}\t{case}/ct.nii.gz\t{case}/lesion.nii.gz" for case in DEMO_CASES]
    _write(folder / "cases.tsv", "\n".join(["case\timage_ct\tlesion", *rows, ""]))
    text = (source_folder() / "config" / "config.yaml").read_text("utf-8")
    _, _, text = text.partition("\n")  # the schema's path, which holds there alone
    table = json.dumps(str(folder / "cases.tsv"), ensure_ascii=False)
    _write(folder / "config.yaml", text.replace(CASES_LINE, f"cases: {table}"))
    return folder / "config.yaml"


def _write(path: Path, text: str) -> None:
    if not path.exists():
        with atomic_path(path) as temporary:
            temporary.write_text(text, "utf-8")
