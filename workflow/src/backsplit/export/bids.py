"""A BIDS data set: images as raw data, label maps as derivatives, a set of labels in each.

Names and fields are of the Brain Imaging Data Structure 1.10
(https://bids-specification.readthedocs.io). It has no name for CT, and asks of PET what a case
table does not know (tracer, dose, times): their images lie where its users put them, and
`.bidsignore` names them. Images and label maps are those of the nnU-Net data set beside it.

People add to a data set of BIDS (sidecars, phenotypes, derivatives of their own). So the export
notes in `sourcedata/files.txt` which files are its own, and touches no others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from backsplit import __version__
from backsplit.cases.table import Case
from backsplit.config.base import BACKGROUND, IGNORE
from backsplit.config.export import BIDS_TYPES, BidsExport
from backsplit.config.model import Config
from backsplit.export.bids_names import Member, data_type, members_of
from backsplit.export.files import image_name, label_name, link_or_copy
from backsplit.export.nnunet import NnUNetDataset, datasets, folds, label_names
from backsplit.scheme.colours import as_hex, colours_of
from backsplit.scheme.scheme import Scheme
from backsplit.store.disk import atomic_path, disk_errors
from backsplit.store.provenance import read_json
from backsplit.store.results import VOLUME_ENDING
from backsplit.store.tsv import rows_as_text

VERSION = "1.10.0"
NOT_VALIDATED = ("ct", "pet")
LABELS = "dseg"
"""Suffix of a discrete segmentation."""

RECORD = Path("sourcedata") / "files.txt"
DESCRIPTION = "dataset_description.json"

Contents = Mapping[Path, Path | str]
"""Path from the data set's folder to the file that it is, or to its text."""


def bids_folder(config: Config) -> Path:
    """The data set's folder."""
    only = config.export.only_unrestricted
    name = config.unrestricted_name if only else config.dataset.name
    return config.results.bids(name)


def bids_sets(config: Config) -> dict[Path, NnUNetDataset]:
    """Folders of label maps, with every label first, each with the data set it comes from."""
    if config.export.bids is None:
        return {}
    root = bids_folder(config)
    return {root / _name_of_set(dataset): dataset for dataset in datasets(config)}


def bids_description(config: Config) -> Path | None:
    """What describes the data set, written last of all; None where none is asked for."""
    return None if config.export.bids is None else bids_folder(config) / DESCRIPTION


def bids_files(config: Config) -> Iterator[Path]:
    """Every file of the data set that is the export's own, and the note of them."""
    yield from sorted(own_files(bids_folder(config)))


def own_files(root: Path) -> Iterator[Path]:
    """Every file of a data set that an export wrote, the note of them last; of others none."""
    own = sorted(_recorded(root) - {RECORD})
    yield from (path for name in [*own, RECORD] if os.path.lexists(path := root / name))


def bids_strangers(config: Config) -> Iterator[Path]:
    """Volumes among those of the export that are not its own: a trainer would read them too."""
    if config.export.bids is None:
        return
    root = bids_folder(config)
    own = _recorded(root)
    tops = [*root.glob("sub-*"), *bids_sets(config)]
    for path in (path for top in sorted(tops) for path in sorted(top.rglob(f"*{VOLUME_ENDING}"))):
        if path.relative_to(root) not in own:
            yield path


def is_whole_bids(config: Config) -> bool:
    """Whether the data set is described, with the folder of every subject where it should be.

    Looks at no file of a subject: that would take as many listings as there are cases, at each
    start of a workflow. `backsplit verify` looks at each.
    """
    description = bids_description(config)
    if description is None:
        return True
    root = bids_folder(config)
    subjects: dict[Path, set[str]] = {}
    for path in _recorded(root):
        depth = next((i for i, part in enumerate(path.parts) if part.startswith("sub-")), None)
        if depth is None:
            subjects.setdefault(path.parent, set()).add(path.name)
        else:
            subjects.setdefault(Path(*path.parts[:depth]), set()).add(path.parts[depth])
    return (
        description.exists()
        and (root / RECORD).exists()
        and all(
            (root / folder).is_dir() and names <= {path.name for path in (root / folder).iterdir()}
            for folder, names in subjects.items()
        )
    )


def remove_bids(config: Config) -> None:
    """Take back that the data set is whole, for its files are about to change.

    Where `export.bids` is not set, all of ours goes.
    """
    root = bids_folder(config)
    with disk_errors(root):
        for path in _recorded(root):
            if path.name == DESCRIPTION:
                (root / path).unlink(missing_ok=True)
        if config.export.bids is None and (root / RECORD).exists():
            _remove(root, _recorded(root))
            _remove(root, {RECORD})


def export_bids(config: Config, scheme: Scheme, cases: Sequence[Case]) -> None:
    """Write the data set; what a run before left there and is no longer part of it goes.

    There are `sub-*/[ses-*/]{anat,ct,pet}/*_SUFFIX.nii.gz`, and for each set of labels
    `derivatives/backsplit*/sub-*/[ses-*/]anat/*_dseg.nii.gz` and `dseg.tsv`. Which case became
    which subject, and its fold of cross-validation, are in `sourcedata/cases.tsv`.

    Parameters
    ----------
    config : the configuration; with `export.bids` unset nothing is written
    scheme : names and ids
    cases : the cases that are part of it, written for nnU-Net before

    Raises
    ------
    RunError
        DISK_FULL, RESULTS_READ_ONLY or LINKS_UNSUPPORTED.
    """
    section = config.export.bids
    if section is None:
        return
    root = bids_folder(config)
    contents = _contents(config, section, scheme, members_of(cases))
    before = _recorded(root)
    _write_record(root, before | set(contents))
    with disk_errors(root):
        _remove(root, before - set(contents))  # first: `sub-A` may be `sub-a` to the disk
        for path, content in contents.items():
            _place(root / path, content, section, config.run.results)
    _write_record(root, set(contents))


def _contents(
    config: Config, section: BidsExport, scheme: Scheme, members: Sequence[Member]
) -> Contents:
    """Every file of the data set, descriptions last, of which the whole's is the very last."""
    main = datasets(config)[0]
    contents: dict[Path, Path | str] = {}
    for member in members:
        for number, path in enumerate(_images(member, config, section).values()):
            contents[path] = main.images / image_name(member.case, number)
    for folder, dataset in bids_sets(config).items():
        name = folder.relative_to(bids_folder(config))
        labels = _label_texts(dataset, config, scheme)
        for member in members:
            source = dataset.labels / label_name(member.case)
            labels[member.path("anat", LABELS, VOLUME_ENDING)] = source
            labels[member.path("anat", LABELS, ".json")] = _about(member, config, section)
        contents |= {name / path: content for path, content in labels.items()}
    contents |= _texts(config, members, section)
    for folder in (*bids_sets(config), bids_folder(config)):
        path = folder.relative_to(bids_folder(config)) / DESCRIPTION
        contents[path] = _json(_description(folder, config, section))
    return contents


def _images(member: Member, config: Config, section: BidsExport) -> dict[str, Path]:
    """Image of each channel of a case, from the data set's folder."""
    suffixes = {channel: section.suffix(channel) for channel in config.dataset.channels}
    return {c: member.path(data_type(s), s, VOLUME_ENDING) for c, s in suffixes.items()}


def _about(member: Member, config: Config, section: BidsExport) -> str:
    """Text beside a label map: which images it lies on."""
    uris = {
        channel: f"bids:raw:{path.as_posix()}"
        for channel, path in _images(member, config, section).items()
    }
    reference = uris[config.dataset.grid_channel]
    return _json({"Sources": list(uris.values()), "SpatialReference": reference})


def _label_texts(dataset: NnUNetDataset, config: Config, scheme: Scheme) -> dict[Path, Path | str]:
    """What the labels of a set are, from its own folder."""
    described = read_json(dataset.json)["labels"]
    names = [*label_names(scheme, dataset.nested), *([IGNORE] if IGNORE in described else [])]
    kinds = {BACKGROUND: BACKGROUND, IGNORE: IGNORE, **dict.fromkeys(scheme.targets, "target")}
    rows = [
        [str(i), name, kinds.get(name, "structure"), as_hex(colour)]
        for i, (name, colour) in enumerate(zip(names, colours_of(names, scheme), strict=True))
    ]
    regions = {name: ids for name, ids in described.items() if isinstance(ids, list)}
    about = {
        "Description": "Lesions and the anatomy around them, one label a voxel.",
        "kind": {"Description": "target (a lesion), structure (anatomy), background, ignore"},
        "color": {"Description": "as the report draws it"},
        **({"Regions": regions} if regions else {}),
    }
    return {
        Path(f"{LABELS}.tsv"): rows_as_text(["index", "name", "kind", "color"], rows),
        Path(f"{LABELS}.json"): _json(about),
        Path("README.md"): f"# Label maps of {config.dataset.name}\n\n"
        "One label a voxel, on the grid of the image that `SpatialReference` names; `dseg.tsv` has "
        "the names.\nVoxels of the label `ignore`, if there are any, are unknown: leave them out "
        "of the loss.\nThe licences of the segmenters are in `manifest.json` of the results.\n",
    }


def _texts(
    config: Config, members: Sequence[Member], section: BidsExport
) -> dict[Path, Path | str]:
    """What tells people and programs how to read the data set."""
    suffixes = [section.suffix(channel).rpartition("_")[2] for channel in config.dataset.channels]
    ignored = [f"**/{suffix}" for suffix in NOT_VALIDATED if suffix in suffixes]
    ignored += [f"*_{suffix}{VOLUME_ENDING}" for suffix in suffixes if suffix not in BIDS_TYPES]
    subjects = sorted({f"sub-{member.subject}" for member in members})
    fold = folds(datasets(config)[0])
    rows = [
        [
            *(member.case, member.patient, f"sub-{member.subject}"),
            f"ses-{member.session}" if member.session else "",
            str(fold.get(member.case, "")),
        ]
        for member in members
    ]
    names = ["case", "patient", "participant_id", "session_id", "fold"]
    texts: dict[Path, Path | str] = {
        Path(".bidsignore"): "".join(f"{pattern}\n" for pattern in ignored),
        Path("sourcedata", "cases.tsv"): rows_as_text(names, rows),
        Path("README.md"): _readme(config, ignored),
    }
    if subjects:
        texts[Path("participants.tsv")] = "\n".join(["participant_id", *subjects]) + "\n"
    return texts


def _readme(config: Config, ignored: Sequence[str]) -> str:
    lines = [
        f"# {config.dataset.name}",
        "",
        "Images with label maps of lesions and the anatomy around them, composed by backsplit.",
        "",
        "- `derivatives/backsplit`: the label maps; `dseg.tsv` there names each label.",
        "- `derivatives/backsplit-nestedN`, where there is one: with the first N structures.",
        "- `sourcedata/cases.tsv`: which case of the source is which subject and session, and",
        "  its fold of cross-validation.",
        "- `sourcedata/files.txt`: the files that each export rewrites. It leaves others",
        "  alone: add sidecars, or derivatives of your own.",
        "",
        "Subjects and sessions are called after the source's patients and cases. If those names",
        "tell who somebody is, give others in the case table before you share this.",
    ]
    if len(config.dataset.channels) > 1:
        lines += [
            "",
            f"Images that were on another grid than {config.dataset.grid_channel}'s have been put",
            "on it, so that every image of a case fits its label map.",
        ]
    if ignored:
        lines += [
            "",
            f"`.bidsignore` names {', '.join(f'`{pattern}`' for pattern in ignored)}: BIDS has no",
            "name for these images, or asks of them what is not known here.",
        ]
    return "\n".join([*lines, ""])


def _description(folder: Path, config: Config, section: BidsExport) -> dict[str, object]:
    raw = folder == bids_folder(config)
    return {
        "Name": config.dataset.name if raw else f"{config.dataset.name}: {folder.name}",
        "BIDSVersion": VERSION,
        "DatasetType": "raw" if raw else "derivative",
        "GeneratedBy": [{"Name": "backsplit", "Version": __version__}],
        **({} if raw else {"DatasetLinks": {"raw": "../.."}}),
        **section.description,
    }


def _name_of_set(dataset: NnUNetDataset) -> Path:
    nested = "" if dataset.nested is None else f"-nested{dataset.nested}"
    return Path("derivatives", f"backsplit{nested}")


def _json(content: Mapping[str, object]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _place(path: Path, content: Path | str, section: BidsExport, results: Path) -> None:
    """Write a file unless it is as it should be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        link_or_copy(path, content, link=section.mode == "symlink", inside=results)
    elif path.is_symlink() or not path.is_file() or path.read_text("utf-8") != content:
        _write(path, content)


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, "utf-8")


def _recorded(root: Path) -> set[Path]:
    """Files of the export, from the data set's folder; of a killed one, some are not there."""
    try:
        lines = (root / RECORD).read_text("utf-8").splitlines()
    except FileNotFoundError:
        return set()
    return {path for path in map(Path, lines) if not path.is_absolute() and ".." not in path.parts}


def _write_record(root: Path, files: set[Path]) -> None:
    _write(root / RECORD, "".join(f"{line}\n" for line in sorted(p.as_posix() for p in files)))


def _remove(root: Path, files: set[Path]) -> None:
    """Remove files, and the folders that this leaves empty."""
    for path in files:
        (root / path).unlink(missing_ok=True)
        for folder in (root / path).parents:
            if not (folder.is_relative_to(root) and folder.is_dir()) or any(folder.iterdir()):
                break
            folder.rmdir()
