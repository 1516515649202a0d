"""Weights of networks: which there are, and which may be loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backsplit.cli.common import DEFAULT_CONFIG, ConfigOption, errors
from backsplit.cli.names import complete_segmenters

app = typer.Typer(help="Download, accept and list weights of networks.", no_args_is_help=True)


@app.command("list")
def weights_list(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """List the weights of a configuration's segmenters, and whether each may be loaded."""
    from backsplit.flow.project import open_project
    from backsplit.segment.weights import trust

    with errors(None):
        project = open_project(config)
        for name in project.config.segmenters:
            for path, verdict in trust(project.segmenter(name).weights()).items():
                typer.echo(f"{name}\t{verdict}\t{path}")


@app.command("verify")
def weights_verify(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Fail unless every file of weights is the one that was accepted."""
    from backsplit.flow.project import open_project
    from backsplit.segment.weights import require_accepted

    with errors(None):
        project = open_project(config)
        for name in project.config.segmenters:
            require_accepted(project.segmenter(name).weights(), name)


@app.command("accept")
def weights_accept(
    segmenter: Annotated[
        str,
        typer.Argument(
            help="A segmenter of the configuration, or a trained-model folder.",
            autocompletion=complete_segmenters,
        ),
    ],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Record the weights of a segmenter as trusted: loading them runs code by whoever made them."""
    from backsplit.flow.project import open_project
    from backsplit.segment.weights import accept, files_of
    from backsplit.store.provenance import file_sha256

    with errors(None):
        folder = Path(segmenter)
        if folder.is_dir():
            files = files_of(folder)
        else:
            files = list(open_project(config).segmenter(segmenter).weights())
        accept(files)
        for path in files:
            typer.echo(f"{file_sha256(path)}  {path}")


@app.command("get")
def weights_get(
    task: Annotated[str, typer.Argument(help="Task of TotalSegmentator.")],
    fast: Annotated[bool, typer.Option("--fast", help="The 3 mm network.")] = False,
    fastest: Annotated[bool, typer.Option("--fastest", help="The 6 mm network.")] = False,
) -> None:
    """Download the weights of a TotalSegmentator task (needs internet)."""
    from backsplit.segment.totalseg.download import download

    with errors(None):
        for folder in download(task, fast=fast, fastest=fastest):
            typer.echo(str(folder))
