"""The verb with which everything starts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from backsplit.cli.common import errors
from backsplit.errors import Code, RunError

app = typer.Typer()


class Layout(StrEnum):
    """Layouts that are known (`start.layouts`)."""

    NNUNET = "nnunet"
    MSD = "msd"
    UNDESCRIBED = "undescribed"
    KITS = "kits"
    AUTOPET = "autopet"
    LONGITUDINAL = "longitudinal"
    LITS = "lits"
    ATLAS = "atlas"
    BIDS = "bids"
    NBIA = "nbia"


class PresetName(StrEnum):
    """Data sets with a configuration of their own (`start.presets`)."""

    KITS19 = "kits19"
    KITS21 = "kits21"
    KITS23 = "kits23"
    PANTHER = "panther"
    NSCLC = "nsclc"
    AUTOPET = "autopet"
    MSWAL = "mswal"
    LITS = "lits"


class DrawnAs(StrEnum):
    """Objects of DICOM that lesions are drawn in."""

    RTSTRUCT = "RTSTRUCT"
    SEG = "SEG"


PATTERNS = "Patterns"


@app.command()
def init(
    context: typer.Context,
    root: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    into: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("mine"),
    layout: Annotated[
        Layout | None,
        typer.Option(help="Layout of the folder (nnunet, kits, bids, …). Default: recognised."),
    ] = None,
    preset: Annotated[
        PresetName | None,
        typer.Option(help="Write the configuration of a well-known data set."),
    ] = None,
    study: Annotated[
        bool,
        typer.Option("--study", help="With --preset: the paper's protocol (docs/study.md)."),
    ] = False,
    image: Annotated[
        list[str] | None,
        typer.Option(
            help="CHANNEL=PATTERN, such as ct={case}/ct.nii.gz; for any other layout.",
            rich_help_panel=PATTERNS,
        ),
    ] = None,
    lesion: Annotated[
        list[str] | None,
        typer.Option(
            help="Pattern of lesion files, such as {case}/lesion.nii.gz or "
            "{case}/{name}.nii.gz; TARGET=PATTERN for one file per target.",
            rich_help_panel=PATTERNS,
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=PATTERN of hand-drawn anatomy: given={case}/organs.nii.gz, or "
            "given={case}/seg/{name}.nii.gz for one binary file per class; also with --layout.",
            rich_help_panel=PATTERNS,
        ),
    ] = None,
    segmenter: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FOLDER of a trained nnU-Net model that labels anatomy, in place of "
            "TotalSegmentator."
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=VALUE in the label files, such as tumor=2; names tell lesions from anatomy.",
            rich_help_panel=PATTERNS,
        ),
    ] = None,
    patient: Annotated[
        str,
        typer.Option(
            help="Regular expression for the patient's part of a case's name: its first group, or "
            "the whole match."
        ),
    ] = "",
    drawn: Annotated[
        DrawnAs | None,
        typer.Option(
            "--from", help="Read lesions from these files where a TCIA download has both."
        ),
    ] = None,
    split: Annotated[
        bool,
        typer.Option(help="Write each channel of a multi-channel image to its own file."),
    ] = False,
    update: Annotated[
        bool,
        typer.Option(
            help="Only add rows for new cases to the table in --into; nothing else changes."
        ),
    ] = False,
    name: Annotated[
        str, typer.Option(help="Name of the data set. Default: the folder's, or the preset's.")
    ] = "",
    number: Annotated[
        int,
        typer.Option(
            "--id",
            min=0,
            max=999,
            show_default=False,
            help="nnU-Net's id. Default: 501, or the preset's.",
        ),
    ] = 0,
) -> None:
    """Write a case table and a first configuration for a folder of images."""
    from backsplit.start.init import Target, Wanted, find
    from backsplit.start.init import init as write
    from backsplit.start.layouts import LAYOUTS
    from backsplit.start.models import find_model
    from backsplit.start.patterns import Patterns, with_anatomy
    from backsplit.start.presets import PRESETS
    from backsplit.start.update import update_table

    with errors(None) as say:
        patterned = bool(image)
        if patterned + (layout is not None) + (preset is not None) > 1:
            raise _wrong("--image, --layout and --preset cannot be combined", "give one of them")
        if lesion and not patterned:
            raise _wrong("--lesion needs --image", "give --image too")
        if (labels or label or segmenter) and preset is not None:
            raise _wrong(
                "--labels, --label and --segmenter cannot be combined with --preset",
                "leave them out, and edit the configuration that --preset writes",
            )
        if label and not (labels or patterned):
            raise _wrong("--label needs --image or --labels", "give one of them too")
        targets = [text for text in lesion or () if NAMED.match(text)]
        plain = [text for text in lesion or () if not NAMED.match(text)]
        if len(plain) > 1:
            raise _wrong(
                f"--lesion is given {len(plain)} times without a target",
                "name each: --lesion tumor='{case}/tumor.nii.gz' --lesion cyst='…'",
            )
        drawn_anatomy = _pairs("labels", labels or (), "given={case}/seg/{name}.nii.gz")
        values = _values(label or ())
        patterns = Patterns(
            _pairs("image", image or (), "ct={case}/ct.nii.gz"),
            "".join(plain),
            _pairs("lesion", targets, "tumor={case}/tumor.nii.gz"),
            drawn_anatomy,
            values,
        )
        folders = _pairs("segmenter", segmenter or (), "net=MODEL_FOLDER")
        if twice := set(folders) & set(drawn_anatomy):
            raise _wrong(f"--labels and --segmenter both name {min(twice)}", "rename one")
        models = {name: find_model(name, folder) for name, folder in folders.items()}
        chosen = None if preset is None else PRESETS[preset.value]
        if study and (chosen is None or chosen.sources is None):
            known = ", ".join(key for key, each in PRESETS.items() if each.sources is not None)
            raise _wrong("--study needs a data set of the paper", f"--preset {known}")
        layouts = tuple(LAYOUTS) if layout is None else (layout.value,)
        wanted = Wanted(
            layouts,
            patterns if patterned else None,
            patient,
            None if drawn is None else drawn.value,
        )
        found = find(root, wanted)
        if drawn_anatomy and not patterned:
            found = with_anatomy(root, found, drawn_anatomy, values)
        if chosen is not None and found.layout not in chosen.layouts:
            raise _wrong(
                f"{root} is not a {chosen.title} folder: it was recognised as {found.layout}",
                "give the folder of that data set, or leave --preset out",
            )
        if update:
            update_table(_table_of(into), found, say)
            return
        target = Target(into, name, number, chosen, study, models, _command(context))
        write(root, target, found, say, split=split)


def _table_of(into: Path) -> Path:
    """The case table of a configuration that `init` wrote."""
    from backsplit.config.file import load_config

    return load_config(into / "config.yaml").dataset.cases


def _command(context: typer.Context) -> str:
    """What was typed, as a line that can be pasted."""
    words = ["backsplit", "init"]
    for parameter in context.command.params:
        given = context.params.get(str(parameter.name))
        if not given or given == parameter.default:
            continue
        for value in given if isinstance(given, list | tuple) else [given]:
            if parameter.param_type_name == "option":
                words.append(max(parameter.opts, key=len))
            if value is not True:
                words.append(str(value))
    return shlex.join(words)


NAMED = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*=")


def _pairs(option: str, texts: Iterable[str], example: str) -> dict[str, str]:
    """NAME=PATTERN as a mapping."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, separator, pattern = text.partition("=")
        fits = name.isidentifier() if option == "image" else NAMED.fullmatch(f"{name}=")
        if not separator or not fits or not pattern:
            raise _wrong(f"--{option} {text!r} is not NAME=PATTERN", f"write it as {example}")
        if name in pairs:
            raise _wrong(f"--{option} names {name} twice", "give each its own name")
        pairs[name] = pattern
    return pairs


def _values(texts: Iterable[str]) -> dict[str, int]:
    """NAME=VALUE as a mapping."""
    pairs = _pairs("label", texts, "tumor=2")
    for name, value in pairs.items():
        if not (value.isascii() and value.isdigit() and 0 < int(value[:6]) < 65536):
            raise _wrong(
                f"--label {name}={value}: the value is not a whole number above 0", "tumor=2"
            )
    return {name: int(value) for name, value in pairs.items()}


def _wrong(what: str, remedy: str) -> RunError:
    return RunError(Code.LAYOUT_UNKNOWN, what, remedy)
