"""Export label maps as segmentations with names: .seg.nrrd for 3D Slicer, DICOM-SEG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from backsplit import __version__
from backsplit.cases.table import Case
from backsplit.config.base import IGNORE
from backsplit.config.export import Segmentations
from backsplit.config.model import Config
from backsplit.config.segmenters import Files, Threshold
from backsplit.errors import CaseError, Code
from backsplit.export.dicom_seg import (
    NETWORK,
    RULES,
    THRESHOLD,
    require_highdicom,
    save_dicom_seg,
)
from backsplit.export.files import label_name
from backsplit.export.meanings import Concept, Meaning, meanings
from backsplit.export.nnunet import NnUNetDataset, datasets
from backsplit.export.slicer import save_slicer
from backsplit.scheme.colours import Named, named_labels
from backsplit.scheme.scheme import Scheme
from backsplit.store.disk import atomic_path
from backsplit.store.provenance import digest, file_sha256, plain, read_json, write_json
from backsplit.store.results import names_in
from backsplit.store.tsv import rows_as_text
from backsplit.volume import read_labels
from backsplit.volume.planes import is_dicom

ENDINGS: Mapping[Segmentations, str] = {"seg_nrrd": ".seg.nrrd", "dicom_seg": ".dcm"}
"""Ending of a case's file."""

Format = Literal["3D Slicer", "DICOM-SEG"]
FORMATS: Mapping[Segmentations, Format] = {"seg_nrrd": "3D Slicer", "dicom_seg": "DICOM-SEG"}
"""Names of the formats, for messages."""

NOTE = "files.json"
"""What each file was made from, and its SHA-256. While an export writes, it names every file that
may exist, so that the next export cleans up after a killed one and leaves foreign files alone."""
LEFT_OUT = "left_out.tsv"
"""Files that could not be written, and why; written last."""
COLUMNS = ["case", "kind", "code", "message"]

NOT_DICOM = "the image is not DICOM, and a DICOM-SEG refers to a DICOM series"


@dataclass(frozen=True)
class _Set:
    """What all cases of a data set share."""

    scheme: Scheme
    meanings: Mapping[str, Meaning]
    made_by: Mapping[str, Concept | None]

    def names(self, array: Any) -> Named:  # noqa: ANN401
        return named_labels(self.scheme.all_names, self.scheme, array)


def segmentations_folder(config: Config) -> Path:
    """Folder of the data set's segmentations."""
    only = config.export.only_unrestricted
    return config.results.segmentations(config.unrestricted_name if only else config.dataset.name)


def own_segmentations(root: Path) -> Iterator[Path]:
    """Files of a folder that an export wrote, their list (`NOTE`) last; no foreign files."""
    there = names_in(root)
    own = [LEFT_OUT, *sorted(_noted(root)), NOTE] if NOTE in there else []
    yield from (root / name for name in own if name in there)


def is_whole_segmentations(config: Config) -> bool:
    """Whether every segmentation that was written still exists."""
    if not config.export.segmentations:
        return True
    root = segmentations_folder(config)
    there = names_in(root)
    return {NOTE, LEFT_OUT} <= there and _noted(root).keys() <= there


def segmented_cases(config: Config) -> dict[Segmentations, int]:
    """Number of cases that have a segmentation, for each kind that is asked for."""
    noted = _noted(segmentations_folder(config))
    return {
        kind: sum(name.endswith(ENDINGS[kind]) for name in noted)
        for kind in config.export.segmentations
    }


def foreign_segmentations(config: Config) -> list[Path]:
    """Segmentations in the folder that no export wrote; none where none are asked for."""
    if not config.export.segmentations:
        return []
    root = segmentations_folder(config)
    own = _noted(root)
    endings = tuple(ENDINGS.values())
    return [root / n for n in sorted(names_in(root)) if n.endswith(endings) and n not in own]


def remove_segmentations(config: Config) -> None:
    """Remove the data set's segmentations if the configuration no longer asks for any."""
    root = segmentations_folder(config)
    if not config.export.segmentations and root.is_dir():
        for path in [*own_segmentations(root)]:
            path.unlink()
        if not any(root.iterdir()):
            root.rmdir()


def export_segmentations(config: Config, scheme: Scheme, cases: Sequence[Case]) -> Iterator[str]:
    """Write the segmentations of each case; unchanged files stay.

    Parameters
    ----------
    config : the configuration; without `export.segmentations` nothing is written
    scheme : names and ids
    cases : the cases of the data set, whose nnU-Net files are already written

    Yields
    ------
    line
        How many segmentations there are, and how many cases have none.

    Raises
    ------
    RunError
        PACKAGE_MISSING, DISK_FULL or RESULTS_READ_ONLY.
    """
    kinds = config.export.segmentations
    if not kinds:
        return
    if "dicom_seg" in kinds:
        require_highdicom()
    root, dataset = segmentations_folder(config), datasets(config)[0]
    before = _noted(root)
    wanted = {f"{case.id}{ENDINGS[kind]}" for case in cases for kind in kinds}
    (root / LEFT_OUT).unlink(missing_ok=True)  # not whole until it is there again
    write_json(root / NOTE, {name: {} for name in sorted(wanted)} | before)
    for name in before.keys() - wanted:
        (root / name).unlink(missing_ok=True)
    of_all = _Set(scheme, meanings(scheme), _made_by(config, scheme))
    now: dict[str, dict[str, str]] = {}
    left_out: list[list[str]] = []
    for case in cases:
        for kind in kinds:
            target = root / f"{case.id}{ENDINGS[kind]}"
            try:
                now[target.name] = _place(
                    target, case.images[config.dataset.grid_channel], dataset, case, of_all,
                    before.get(target.name, {}), kind,
                )  # fmt: skip
            except CaseError as error:
                target.unlink(missing_ok=True)
                left_out.append([case.id, kind, error.code, error.message])
    write_json(root / NOTE, now)
    with atomic_path(root / LEFT_OUT) as temporary:
        temporary.write_text(rows_as_text(COLUMNS, left_out), "utf-8")
    counts = [f"{sum(n.endswith(ENDINGS[kind]) for n in now)} {ENDINGS[kind]}" for kind in kinds]
    yield f"{', '.join(counts)} in {root}"
    if left_out:
        for kind in kinds:
            if number := sum(row[1] == kind for row in left_out):
                have = "case has" if number == 1 else "cases have"
                yield f"{number} {have} no {FORMATS[kind]} file; {root / LEFT_OUT} says why"


def _place(
    target: Path,
    image: Path,
    dataset: NnUNetDataset,
    case: Case,
    of_all: _Set,
    before: Mapping[str, str],
    kind: Segmentations,
) -> dict[str, str]:
    """Write a case's file unless it is up to date; returns its entry in `NOTE`."""
    if kind == "dicom_seg" and not is_dicom(image):
        raise CaseError(
            Code.DICOM_MISSING, f"{case.id}: {NOT_DICOM} ({image})", "use the .seg.nrrd instead"
        )
    source = dataset.labels / label_name(case.id)
    parts = [kind, __version__, file_sha256(source), plain(of_all.meanings), plain(of_all.made_by)]
    mark = digest([*parts, file_sha256(image) if kind == "dicom_seg" else ""])
    same = before.get("made_from") == mark and target.is_file()
    if same and before["sha256"] == file_sha256(target):
        return dict(before)
    labels = read_labels(source)
    names = of_all.names(labels.array)
    save = (
        partial(save_slicer, labels=labels, names=names, meanings=of_all.meanings)
        if kind == "seg_nrrd"
        else partial(
            save_dicom_seg, image=image, array=labels.array, names=names,
            meanings=of_all.meanings, made_by=of_all.made_by, mark=mark,
        )
    )  # fmt: skip
    target.unlink(missing_ok=True)
    with atomic_path(target) as temporary:
        save(temporary)
    return {"made_from": mark, "sha256": file_sha256(target)}


def _made_by(config: Config, scheme: Scheme) -> dict[str, Concept | None]:
    """What made each label; None for targets and for labels that come from label files only."""
    found: dict[str, Concept | None] = {
        **dict.fromkeys((*scheme.targets, *scheme.structures)),
        IGNORE: RULES,
    }
    for segmenter, labels in scheme.sources.items():
        section = config.segmenters[segmenter]
        for label in labels.values():
            if isinstance(section, Threshold):
                found[label] = found.get(label) or THRESHOLD
            elif not isinstance(section, Files):
                found[label] = NETWORK
    return found


def _noted(root: Path) -> dict[str, dict[str, str]]:
    """What `NOTE` says about each file; empty if no export has written it."""
    try:
        noted = read_json(root / NOTE)
    except (OSError, ValueError):
        return {}
    return {n: row for n, row in noted.items() if Path(n).name == n and isinstance(row, dict)}
