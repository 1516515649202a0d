"""The verb with which everything starts."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from backsplit.cli.common import errors
from backsplit.errors import Code, RunError

app = typer.Typer()


class Layout(StrEnum):
    """Layouts that are known."""

    NNUNET = "nnunet"
    MSD = "msd"
    KITS = "kits"
    AUTOPET = "autopet"
    BIDS = "bids"


@app.command()
def init(
    root: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    into: Annotated[Path, typer.Option(help="Folder for both files.")] = Path("mine"),
    layout: Annotated[
        Layout | None,
        typer.Option(help="How the folder is laid out (config/README.md). Default: what fits."),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(help="CHANNEL=PATTERN, as ct={case}/ct.nii.gz; for any other layout."),
    ] = None,
    lesion: Annotated[
        str | None, typer.Option(help="Pattern of lesion files, as {case}/lesion.nii.gz.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the data set. Default: the folder's.")] = "",
    number: Annotated[int, typer.Option("--id", min=1, max=999, help="nnU-Net's id.")] = 501,
) -> None:
    """Write a case table and a first configuration for a folder of images."""
    from backsplit.start.init import find
    from backsplit.start.init import init as write

    with errors(None) as say:
        patterns = dict(_pattern(text) for text in image or ())
        if (layout is not None and patterns) or (lesion is not None and not patterns):
            raise RunError(
                Code.LAYOUT_UNKNOWN,
                "--lesion belongs to --image, and --layout to neither",
                "give patterns of both images and lesions, or a layout",
            )
        found = find(root, None if layout is None else layout.value, patterns, lesion)
        write(root, into, name, number, found, say)


def _pattern(text: str) -> tuple[str, str]:
    channel, separator, pattern = text.partition("=")
    if not separator or not channel.isidentifier():
        raise RunError(
            Code.LAYOUT_UNKNOWN,
            f"--image {text!r} is not CHANNEL=PATTERN",
            "write it as ct={case}/ct.nii.gz",
        )
    return channel, pattern
