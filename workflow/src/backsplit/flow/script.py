"""What `import backsplit` gives to scripts and notebooks: nothing here writes a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backsplit.cases.table import Case
from backsplit.config.file import load_config as _load_config
from backsplit.config.model import Config
from backsplit.errors import Code, RunError, shown
from backsplit.flow.batches import composing, measuring, segmenting_failures
from backsplit.flow.project import Project
from backsplit.flow.project import open_project as _open_project
from backsplit.store.status import failures
from backsplit.volume import Volume
from backsplit.volume import read_volume as _read_volume

if TYPE_CHECKING:
    import pandas as pd

    from backsplit.compose.case import ComposedCase


def load_config(path: str | Path) -> Config:
    """Read a configuration; paths in it start at the working folder.

    Raises
    ------
    ConfigError
        With every problem found.
    """
    return _load_config(Path(path))


def open_project(path: str | Path) -> Project:
    """Open a configuration with its case table, names and segmenters.

    Raises
    ------
    ConfigError
        With every problem found.
    """
    return _open_project(Path(path))


def read_volume(path: str | Path) -> Volume:
    """Read an image: NIfTI, NRRD, MetaImage, or a folder with one DICOM series.

    Returns
    -------
    volume
        `array` (z, y, x), and `grid`: spacing and origin (x, y, z) in mm, direction, LPS.

    Raises
    ------
    CaseError
        When it cannot be read.
    """
    return _read_volume(Path(path))


def compose_case(project: Project, case: str) -> ComposedCase:
    """Compose the label map of one case in memory, as `backsplit compose` does.

    Parameters
    ----------
    project : from `open_project`; its segmenters have labelled the case (`backsplit segment`)
    case : the id in the case table

    Returns
    -------
    composed
        `labels` (z, y, x), with ids as `project.scheme.ids` names them; `lesions`, each with its
        host; `overruled`, the voxels that one layer claimed and another got.

    Raises
    ------
    RunError
        TABLE_INVALID when the table has no such case.
    CaseError
        When a file cannot be read, or every segmenter failed.
    """
    from backsplit.compose.stage import ComposeStage

    row, batch = _find(project, case)
    failed = segmenting_failures(project, batch)
    stage = ComposeStage(composing(project), project.results, failed, project.results.labels)
    return stage.compose(row).composed


def measure_case(project: Project, case: str) -> dict[str, pd.DataFrame]:
    """Measure the label map of one case, as `backsplit measure` does.

    Parameters
    ----------
    project : from `open_project`; the case is composed (`backsplit compose`)
    case : the id in the case table

    Returns
    -------
    tables
        `measures`, `lesions`, `agreement`, `drawn` and `parts`, with the columns of docs/tables.md.

    Raises
    ------
    RunError
        TABLE_INVALID when the table has no such case.
    CaseError
        When the image or the label map cannot be read.
    """
    import pandas as pd

    from backsplit.measure.stage import MeasureStage

    row, batch = _find(project, case)
    failed = failures(project.results.labels.table(batch), "compose")
    stage = MeasureStage(measuring(project), project.results, failed, None, 0)
    tables = stage.tables(row, *stage.read(row))
    return {name: pd.DataFrame(columns) for name, columns in tables.items()}


def _find(project: Project, case: str) -> tuple[Case, str]:
    """The row of a case, and its batch."""
    table = project.table
    positions = [at for at, name in enumerate(table.ids) if name == case]
    if len(positions) != 1:
        raise RunError(
            Code.TABLE_INVALID,
            f"{project.config.dataset.cases} has {len(positions)} rows of case {shown(case)!r}",
            "name a case that has exactly one row",
        )
    (at,) = positions
    (batch,) = (name for name, rows in table.batches.items() if at in rows)
    return table.cases([at])[0], batch
