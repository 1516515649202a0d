"""What the configuration names and no case has: a slip, or labels that a network never sees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from backsplit.cases.labels import label_files
from backsplit.cases.table import Case, Checked, excluded
from backsplit.errors import BacksplitError, CaseError, Code, Problem, shown
from backsplit.flow.project import Project
from backsplit.store.disk import is_there
from backsplit.store.status import Status
from backsplit.volume import read_labels
from backsplit.volume.labels import segment_file
from backsplit.volume.pieces import values_in
from backsplit.volume.planes import is_dicom

COST_OF_UNKNOWN = (
    "nnU-Net's own trainer learns nothing there, not even that they are not a lesion: train with "
    "nnUNetTrainerBackSplit (docs/training.md)"
)


def lacking(project: Project, checked: Sequence[Checked]) -> Iterator[Problem]:
    """Targets, files and values that no sound case has.

    Parameters
    ----------
    project : the project
    checked : every case, as `check` found it
    """
    sound = [found for found in checked if found.status is Status.OK]
    if sound:
        yield from _targets(project, sound)
        yield from _not_dicom(project, sound)
        for name in project.config.used_segmenters:
            yield from _labels(project, name, [found.case for found in sound])


def partly_known(project: Project, checked: Sequence[Checked]) -> list[str]:
    """Sound cases that leave structures out: by the table, or for want of a label file."""
    wanted: dict[str, list[tuple[str, set[str]]]] = {}
    for segmenter, classes in project.resolved.scheme.sources.items():
        for structure in dict.fromkeys(classes.values()):
            mine = {name for name, of in classes.items() if of == structure}
            wanted.setdefault(structure, []).append((segmenter, mine))
    return [
        found.case.id
        for found in checked
        if found.status is Status.OK
        and (excluded(found.case) or _leaves_out(project, found.case, wanted.values()))
    ]


def _leaves_out(
    project: Project, case: Case, wanted: Iterable[Sequence[tuple[str, set[str]]]]
) -> bool:
    """Whether some structure has no source that has files of all its classes in a case.

    Parameters
    ----------
    project : the project
    case : whose files
    wanted : of each structure its segmenters, with their classes of it
    """
    lost = {name: _lost(project, name, case) for name in project.config.used_segmenters}
    return any(all(lost[name] & mine for name, mine in sources) for sources in wanted)


def _lost(project: Project, segmenter: str, case: Case) -> set[str]:
    """Classes of a segmenter that nobody looked for in a case, as far as files tell."""
    section = project.config.segmenters[segmenter]
    try:
        files = label_files(section.label_paths, case)
    except BacksplitError:
        return set()  # said already
    gone = {role for role, path in files.items() if not is_there(path)}
    classes = set(project.resolved.classes.get(segmenter, ()))
    if not gone <= classes:  # one file of all classes
        return classes
    is_absent = getattr(section, "missing", "unknown") == "absent" and len(gone) < len(files)
    return set() if is_absent else gone


def _targets(project: Project, sound: Sequence[Checked]) -> Iterator[Problem]:
    for target, values in project.config.targets.items():
        drawn = (part for found in sound for part in found.drawn.split("; "))
        if not any(p.startswith(f"{target}: ") and not p.endswith(": nothing") for p in drawn):
            listed = ", ".join(map(str, values))
            what = f"0 of {len(sound)} sound cases have a voxel of it (value {listed})"
            yield _problem(
                project, f"targets.{target}", what, "correct its value, or remove the target"
            )


def _not_dicom(project: Project, sound: Sequence[Checked]) -> Iterator[Problem]:
    """Cases of which no DICOM-SEG can be written, where they are asked for."""
    config = project.config
    if "dicom_seg" not in config.export.segmentations:
        return
    channel = config.dataset.grid_channel
    without = [f.case.id for f in sound if not is_dicom(f.case.images[channel])]
    if without:
        named = f"{', '.join(without[:3])}{', …' if len(without) > 3 else ''}"
        yield Problem(
            Code.DICOM_MISSING,
            str(project.path),
            f"the image of {len(without)} of {len(sound)} sound cases ({named}) is not DICOM; "
            "they are exported without a DICOM-SEG, which would refer to it",
            f"give their DICOM series as image_{channel}, or use seg_nrrd",
            column="export.segmentations",
        )


def _labels(project: Project, segmenter: str, cases: Sequence[Case]) -> Iterator[Problem]:
    """Classes of label files that no case has, with the structures that wait for them."""
    section = project.config.segmenters[segmenter]
    if section.lesion_column is not None or not section.label_paths:
        return
    values = {v: name for name, v in section.label_values.items() if isinstance(v, int)}
    open_files, open_values = set(section.label_paths), set(values)
    seen: set[int] = set()
    for case in cases:
        if not open_files and not open_values:
            return
        try:
            files = label_files(section.label_paths, case)
        except BacksplitError:
            return  # said already
        there = {role: path for role, path in files.items() if is_there(path)}
        open_files -= set(there)
        if open_values:
            for path in there.values():
                found = _values(path, open_values)
                seen |= found
                open_values -= found
    if len(open_files) == len(section.label_paths):
        return  # none at all: said already
    for role in sorted(open_files):
        what = f"0 of {len(cases)} sound cases have a file of {role}"
        yield _missing(project, segmenter, role, what)
    for value in sorted(open_values):
        others = shown(", ".join(map(str, sorted(seen))) or "no label")
        what = f"0 of {len(cases)} sound cases have its value {value} (they have {others})"
        yield _missing(project, segmenter, values[value], what)


def _values(path: Path, wanted: set[int]) -> set[int]:
    """Values of a label file; those that are wanted where that cannot be known."""
    try:
        if segment_file(path) is not None:
            return wanted  # segments that a case lacks are noted there
        return set(values_in(read_labels(path).array))
    except (CaseError, OSError, ValueError):
        return set()  # the check of the case says what is wrong


def _missing(project: Project, segmenter: str, label: str, what: str) -> Problem:
    scheme = project.resolved.scheme
    structure = scheme.sources.get(segmenter, {}).get(label)
    effect = f": {structure} is unknown or empty in all of them" if structure else ""
    column = f"segmenters.{segmenter}.labels.{label}"
    remedy = f"correct `segmenters.{segmenter}`, or remove the structure"
    return _problem(project, column, what + effect, remedy)


def _problem(project: Project, column: str, what: str, remedy: str) -> Problem:
    return Problem(Code.LABEL_ABSENT, str(project.path), what, remedy, column=column)
