"""A BIDS data set: images as raw data, label maps as derivatives, a set of labels in each.

Names and fields are of the Brain Imaging Data Structure 1.10 (bids-specification.readthedocs.io).
It has no name for CT, and asks of PET what a case table does not know (tracer, dose, times): their
images lie where its users put them, and `.bidsignore` names them. Images and label maps are those
of the nnU-Net data set beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from backsplit import __version__
from backsplit.cases import Case, write_rows
from backsplit.config import Config
from backsplit.config_export import BIDS_TYPES, BidsExport
from backsplit.disk import atomic_path
from backsplit.export.bids_names import Member, data_type, members_of
from backsplit.export.nnunet import (
    FILE_ENDING,
    NnUNetDataset,
    datasets,
    folds,
    image_name,
    label_name,
    label_names,
    link_or_copy,
)
from backsplit.provenance import read_json, write_json
from backsplit.scheme import BACKGROUND, IGNORE, Scheme

VERSION = "1.10.0"
NOT_VALIDATED = ("ct", "pet")
LABELS = "dseg"
"""Suffix of a discrete segmentation."""

OURS = ("sub-*", "derivatives/backsplit*")
"""Folders in which every file is of the export."""

TEXTS = ("README.md", ".bidsignore", "participants.tsv", "sourcedata/cases.tsv")


def bids_folder(config: Config) -> Path:
    """The data set's folder."""
    only = config.export.only_unrestricted
    name = config.unrestricted_name if only else config.dataset.name
    return config.run.results / "datasets" / "bids" / name


def bids_sets(config: Config) -> dict[Path, NnUNetDataset]:
    """Folders of label maps, with every label first, each with the data set it comes from."""
    if config.export.bids is None:
        return {}
    root = bids_folder(config) / "derivatives"
    return {
        root / ("backsplit" if d.nested is None else f"backsplit-nested{d.nested}"): d
        for d in datasets(config)
    }


def description_path(folder: Path) -> Path:
    """What describes a data set, or a set of label maps; written last."""
    return folder / "dataset_description.json"


def bids_files(config: Config) -> Iterator[Path]:
    """Every file that the data set has on the disk, other people's additions left aside."""
    root = bids_folder(config)
    texts = (root / name for name in (*TEXTS, "dataset_description.json"))
    yield from (path for path in texts if path.is_file())
    for top in sorted(path for pattern in OURS for path in root.glob(pattern)):
        yield from (p for p in sorted(top.rglob("*")) if p.is_symlink() or not p.is_dir())


def is_whole(folder: Path, dataset: NnUNetDataset) -> bool:
    """Whether a set of label maps is described, and has as many as the data set it comes from."""
    if not (description_path(folder).exists() and dataset.json.exists()):
        return False
    maps = sum(path.exists() for path in folder.rglob(f"sub-*_{LABELS}{FILE_ENDING}"))
    return bool(maps == read_json(dataset.json)["numTraining"])


def remove_bids(config: Config) -> None:
    """Take back that the data set is whole, for its files are about to change.

    Where `export.bids` is not set, all of ours goes.
    """
    root = bids_folder(config)
    for folder in (root, *root.glob("derivatives/backsplit*")):
        description_path(folder).unlink(missing_ok=True)
    if config.export.bids is None:
        _keep_only(config, set())


def export_bids(config: Config, scheme: Scheme, cases: Sequence[Case]) -> None:
    """Write the data set; what a run before left there and is no longer part of it goes.

    There are `sub-*/[ses-*/]{anat,ct,pet}/*_SUFFIX.nii.gz`, and for each set of labels
    `derivatives/backsplit*/sub-*/[ses-*/]anat/*_dseg.nii.gz` and `dseg.tsv`. Which case became
    which subject, and its fold of cross-validation, stand in `sourcedata/cases.tsv`.

    Parameters
    ----------
    config : the configuration; with `export.bids` unset nothing is written
    scheme : names and ids
    cases : the cases that are part of it, written for nnU-Net before
    """
    section = config.export.bids
    if section is None:
        return
    root = bids_folder(config)
    members = members_of(cases)
    main = datasets(config)[0]
    written = set()
    for member in members:
        for number, image in enumerate(_images(member, config, section).values()):
            source = main.folder / "imagesTr" / image_name(member.case, number)
            written.add(_place(root / image, source, section, config.run.results))
    for folder, dataset in bids_sets(config).items():
        written |= set(_label_maps(folder, dataset, config, members, section))
        written |= set(_label_texts(folder, dataset, config, scheme))
    written |= set(_texts(root, config, members, section))
    _keep_only(config, written)
    for folder in (*bids_sets(config), root):
        write_json(description_path(folder), _description(folder, config, section))


def _images(member: Member, config: Config, section: BidsExport) -> dict[str, Path]:
    """Image of each channel of a case, from the data set's folder."""
    suffixes = {channel: section.suffix(channel) for channel in config.dataset.channels}
    return {c: member.path(data_type(s), s, FILE_ENDING) for c, s in suffixes.items()}


def _label_maps(
    folder: Path,
    dataset: NnUNetDataset,
    config: Config,
    members: Sequence[Member],
    section: BidsExport,
) -> Iterator[Path]:
    """Write the label maps of a set, and beside each which images it lies on."""
    results = config.run.results
    for member in members:
        target = folder / member.path("anat", LABELS, FILE_ENDING)
        yield _place(
            target, dataset.folder / "labelsTr" / label_name(member.case), section, results
        )
        uris = {
            channel: f"bids:raw:{path.as_posix()}"
            for channel, path in _images(member, config, section).items()
        }
        about = folder / member.path("anat", LABELS, ".json")
        write_json(
            about,
            {
                "Case": member.case,
                "Sources": list(uris.values()),
                "SpatialReference": uris[config.dataset.grid_channel],
            },
        )
        yield about


def _label_texts(
    folder: Path, dataset: NnUNetDataset, config: Config, scheme: Scheme
) -> Iterator[Path]:
    """Write what the labels of a set are."""
    described = read_json(dataset.json)["labels"]
    names = [*label_names(scheme, dataset.nested), *([IGNORE] if IGNORE in described else [])]
    kinds = {BACKGROUND: BACKGROUND, IGNORE: IGNORE, **dict.fromkeys(scheme.targets, "target")}
    rows = [[str(i), name, kinds.get(name, "structure")] for i, name in enumerate(names)]
    table = folder / f"{LABELS}.tsv"
    write_rows(["index", "name", "kind"], rows, table)
    yield table
    regions = {name: ids for name, ids in described.items() if isinstance(ids, list)}
    about = folder / f"{LABELS}.json"
    write_json(
        about,
        {
            "Description": "Lesions and the anatomy around them, one label a voxel.",
            "kind": {"Description": "target (a lesion), structure (anatomy), background, ignore"},
            **({"Regions": regions} if regions else {}),
        },
    )
    yield about
    yield _write(
        folder / "README.md",
        f"# Label maps of {config.dataset.name}\n\n"
        "One label a voxel, on the grid of the image that `SpatialReference` names; `dseg.tsv` has "
        "the names.\nVoxels of the label `ignore`, if there are any, are unknown: leave them out "
        "of the loss.\nThe licences of the segmenters stand in `manifest.json` of the results.\n",
    )


def _texts(
    root: Path, config: Config, members: Sequence[Member], section: BidsExport
) -> Iterator[Path]:
    """Write what tells people and programs how to read the data set."""
    suffixes = [section.suffix(channel).rpartition("_")[2] for channel in config.dataset.channels]
    ignored = [f"**/{suffix}" for suffix in NOT_VALIDATED if suffix in suffixes]
    ignored += [f"*_{suffix}{FILE_ENDING}" for suffix in suffixes if suffix not in BIDS_TYPES]
    yield _write(root / ".bidsignore", "".join(f"{pattern}\n" for pattern in ignored))
    subjects = sorted({f"sub-{member.subject}" for member in members})
    yield _write(root / "participants.tsv", "\n".join(["participant_id", *subjects]) + "\n")
    fold = folds(datasets(config)[0])
    names = root / "sourcedata" / "cases.tsv"
    write_rows(
        ["case", "patient", "participant_id", "session_id", "fold"],
        [
            [
                *(member.case, member.patient, f"sub-{member.subject}"),
                f"ses-{member.session}" if member.session else "",
                str(fold.get(member.case, "")),
            ]
            for member in members
        ],
        names,
    )
    yield names
    yield _write(root / "README.md", _readme(config, ignored))


def _readme(config: Config, ignored: Sequence[str]) -> str:
    lines = [
        f"# {config.dataset.name}",
        "",
        "Images with label maps of lesions and the anatomy around them, composed by backsplit.",
        "",
        "- `derivatives/backsplit`: the label maps; `dseg.tsv` there names each label.",
        "- `derivatives/backsplit-nestedN`, where there is one: with the first N structures.",
        "- `sourcedata/cases.tsv`: which case of the source is which subject and session, and",
        "  its fold. Leave it out when you share the data set if names there tell who it is.",
    ]
    if ignored:
        lines += [
            f"- `.bidsignore` names {', '.join(f'`{pattern}`' for pattern in ignored)}: BIDS has",
            "  no name for these images, or asks of them what is not known here.",
        ]
    lines += ["", "Each export writes all of this anew: keep a copy if you edit it.", ""]
    return "\n".join(lines)


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


def _place(target: Path, source: Path, section: BidsExport, results: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    link_or_copy(target, source, link=section.mode == "symlink", inside=results)
    return target


def _write(path: Path, text: str) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_text(text, "utf-8")
    return path


def _keep_only(config: Config, written: set[Path]) -> None:
    """Remove files of ours that are no longer part of the data set, and folders left empty."""
    root = bids_folder(config)
    for path in set(bids_files(config)) - written:
        path.unlink()
        for folder in path.parents:
            if not folder.is_relative_to(root) or any(folder.iterdir()):
                break
            folder.rmdir()
