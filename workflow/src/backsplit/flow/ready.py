"""What can be known before any job starts, and would stop one later: hours later, on a GPU."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from backsplit.cases.labels import label_files
from backsplit.cases.table import Case
from backsplit.config.file import ConfigError
from backsplit.errors import BacksplitError, Code, Problem, RunError
from backsplit.export.dicom_seg import require_highdicom
from backsplit.flow.project import Project
from backsplit.flow.unrestricted import unrestricted
from backsplit.segment.device import require_device
from backsplit.store.disk import is_there, parts_of
from backsplit.store.results import VOLUME_ENDING

LABEL_MAP_SHARE = 0.15
"""Size of a written label map as a share of its image's file: on eight real CTs with pixels of 5 mm
seven organs took 1.7 %, a band of fat 12 %, the composed map of both 13 %."""

DICOM_SEG_SHARE = 0.6
"""Size of a DICOM-SEG as a share of its image's files: ten labels on a real CT of 48 slices."""

REST_MB = 2.0
"""What a case has beside label maps: sidecars, rows, pictures, its page (0.5 MB on those CTs,
more on larger ones)."""

SAMPLE = 200
"""Cases whose images are looked at for the estimate."""


def require_ready(project: Project, *, local: bool) -> None:
    """Refuse to start what would stop later.

    Parameters
    ----------
    project : the project
    local : whether the jobs run on this machine, whose GPU then counts

    Raises
    ------
    RunError
        With every problem found; DISK_FULL.
    """
    if problems := not_ready(project, local=local):
        raise ConfigError(problems)
    require_space(project)


def not_ready(project: Project, *, local: bool) -> list[Problem]:
    """Everything but the cases themselves that would stop a run.

    Parameters
    ----------
    project : the project
    local : whether the jobs run on this machine, whose GPU then counts
    """
    problems = project.weight_problems(hash_weights=True)
    problems += _decisions(project)
    problems += _files_of_no_case(project)
    problems += _packages(project)
    problems += _unrestricted(project)
    if local:
        problems += _device(project)
    return problems


def _decisions(project: Project) -> Iterator[Problem]:
    """Decisions that cannot be read."""
    path = project.config.decisions_path
    if not path.exists():
        return
    from backsplit.judge.verdicts import read_decisions

    try:
        read_decisions(path, project.table.ids)
    except RunError as error:
        what = error.what.removeprefix(f"{path}: ")
        yield Problem(error.code, str(path), what, error.remedy)


def _files_of_no_case(project: Project) -> Iterator[Problem]:
    """Segmenters none of whose label files is there for any case: a path with a slip."""
    cases: Sequence[Case] | None = None
    for name in project.config.used_segmenters:
        section = project.config.segmenters[name]
        paths = section.label_paths
        if not paths or section.lesion_column is not None:
            continue
        cases = project.table.cases(range(len(project.table))) if cases is None else cases
        try:
            if any(is_there(file) for case in cases for file in label_files(paths, case).values()):
                continue
            first = next(iter(label_files(paths, cases[0]).values()))
        except BacksplitError:
            continue  # a column that the table lacks is a problem of its own
        error = RunError(
            Code.FILE_MISSING,
            f"0 of {len(cases)} cases have such a file (looked for {first}, …)",
            f"correct `segmenters.{name}.path`; it is relative to the folder where you run, but "
            "paths from {columns} are relative to the table",
        )
        yield project.problem(error, name)


def _packages(project: Project) -> Iterator[Problem]:
    """Optional packages that the configuration needs and this environment lacks."""
    if "dicom_seg" in project.config.export.segmentations:
        try:
            require_highdicom()
        except RunError as error:
            key = "export.segmentations"
            yield Problem(error.code, str(project.path), error.what, error.remedy, column=key)


def _unrestricted(project: Project) -> Iterator[Problem]:
    """A data set without restricted segmenters that would have none left, or not be valid."""
    if project.config.export.only_unrestricted:
        try:
            unrestricted(project.config)
        except RunError as error:
            key = "export.only_unrestricted"
            yield Problem(error.code, str(project.path), error.what, error.remedy, column=key)


def _device(project: Project) -> Iterator[Problem]:
    """A processor that the configuration names and this machine does not have."""
    config = project.config
    if not any(config.segmenters[name].is_network for name in config.used_segmenters):
        return
    try:
        require_device(config.run.device)
    except RunError as error:
        yield Problem(error.code, str(project.path), error.what, error.remedy, column="run.device")


def require_space(project: Project) -> None:
    """Refuse to start where the results would not fit on their disk, by a rough estimate.

    Raises
    ------
    RunError
        DISK_FULL.
    """
    needed = needed_bytes(project)
    root = project.results.root.absolute()
    folder = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunError(
            Code.DISK_FULL,
            f"{root} would need about {needed / 1e9:.1f} GB more, but its disk has only "
            f"{free / 1e9:.1f} GB left",
            "free some space, set run.results to a folder on another disk, or set run.pictures to "
            "false",
        )


def needed_bytes(project: Project) -> int:
    """About how much the cases without a result would write, from the sizes of some images."""
    config, results, table = project.config, project.results, project.table
    left = [
        row
        for batch, rows in table.batches.items()
        if not results.labels.table(batch).exists()
        for row in rows
    ]
    sample = table.cases(left[:: max(1, len(left) // SAMPLE)])
    maps = len(config.used_segmenters) + (3 if config.export.only_unrestricted else 2)
    asked = config.export.segmentations
    maps += "seg_nrrd" in asked
    copied = config.export.nnunet.mode == "copy"
    sizes = []
    for case in sample:
        images = [(path, _size(path)) for path in case.images.values()]
        written = sum(
            size for path, size in images if copied or not path.name.endswith(VOLUME_ENDING)
        )
        grid = _size(case.images[config.dataset.grid_channel])
        labels = (maps * LABEL_MAP_SHARE + ("dicom_seg" in asked) * DICOM_SEG_SHARE) * grid
        sizes.append(labels + REST_MB * 1e6 + written)
    return round(sum(sizes) / max(1, len(sizes)) * len(left))


def _size(path: Path) -> int:
    """Bytes of an image; 0 where it cannot be read, which the check of its case says."""
    try:
        return sum(part.stat().st_size for part in parts_of(path))
    except (OSError, ValueError):
        return 0
