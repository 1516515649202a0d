"""Verbs that work: one per stage. Rules call them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backsplit.cli.common import (
    CASES_LOST,
    DEFAULT_CONFIG,
    BatchOption,
    ConfigOption,
    LogOption,
    errors,
)
from backsplit.cli.names import complete_cases, complete_segmenters

app = typer.Typer()

UnrestrictedOption = Annotated[
    bool,
    typer.Option(
        "--only-unrestricted",
        help="Leave out segmenters whose labels are not known to be free for commercial use.",
    ),
]


@app.command()
def check(
    config: ConfigOption = DEFAULT_CONFIG,
    batch: BatchOption = None,
    threads: Annotated[int, typer.Option(min=1, help="Files read at the same time.")] = 4,
    log: LogOption = None,
) -> None:
    """Check the configuration, the case table and the files; report all problems at once.

    Exit status: 0 no problem found; 3 a run would leave out cases or labels; 1 a run would not
    start. With --batch, problems of cases do not count: they are written to the table.
    """
    from backsplit.flow import checking

    with errors(log) as say:
        problems = checking.check(config, batch, threads, say)
    if problems and batch is None:
        raise typer.Exit(CASES_LOST)


@app.command()
def cases(config: ConfigOption = DEFAULT_CONFIG, log: LogOption = None) -> None:
    """Gather what `check` said of each batch: results/cases.tsv and labels.json."""
    from backsplit.flow import checking
    from backsplit.flow.project import open_project

    with errors(log) as say:
        checking.cases(open_project(config), say)


@app.command()
def segment(
    segmenter: Annotated[
        str,
        typer.Argument(
            help="Name of a segmenter of the configuration.", autocompletion=complete_segmenters
        ),
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    batch: BatchOption = None,
    timings: Annotated[Path | None, typer.Option(help="Write timings to this JSON file.")] = None,
    log: LogOption = None,
) -> None:
    """Label cases with one segmenter; networks load once."""
    from backsplit.flow import batches
    from backsplit.flow.project import open_project

    with errors(log) as say:
        batches.segment(open_project(config), segmenter, batch, say, timings)


@app.command()
def compose(
    config: ConfigOption = DEFAULT_CONFIG,
    batch: BatchOption = None,
    only_unrestricted: UnrestrictedOption = False,
    log: LogOption = None,
) -> None:
    """Merge lesions and anatomy into one label map per case."""
    from backsplit.flow import batches
    from backsplit.flow.project import open_project

    with errors(log) as say:
        if only_unrestricted:
            batches.compose_unrestricted(open_project(config), batch, say)
        else:
            batches.compose(open_project(config), batch, say)


@app.command()
def measure(
    config: ConfigOption = DEFAULT_CONFIG, batch: BatchOption = None, log: LogOption = None
) -> None:
    """Measure every structure of each case and draw a picture of it."""
    from backsplit.flow import batches
    from backsplit.flow.project import open_project

    with errors(log) as say:
        batches.measure(open_project(config), batch, say)


@app.command()
def judge(
    config: ConfigOption = DEFAULT_CONFIG,
    log: LogOption = None,
    explain: Annotated[
        str | None,
        typer.Option(
            "--explain",
            help="Only print the numbers behind this case's rank.",
            autocompletion=complete_cases,
        ),
    ] = None,
) -> None:
    """Gather measures, flag what is wrong, rank the cases, give every case a verdict."""
    from backsplit.flow import judging
    from backsplit.flow.project import open_project

    with errors(log) as say:
        if explain is None:
            judging.judge(open_project(config), say)
            return
        for line in judging.numbers_behind(open_project(config), explain):
            typer.echo(line)


@app.command()
def export(
    config: ConfigOption = DEFAULT_CONFIG,
    only_unrestricted: UnrestrictedOption = False,
    log: LogOption = None,
) -> None:
    """Write the data set in the trainers' own layouts."""
    from backsplit.flow import dataset
    from backsplit.flow.project import open_project

    with errors(log) as say:
        dataset.export(open_project(config), say, only_unrestricted=only_unrestricted)


@app.command()
def pages(
    config: ConfigOption = DEFAULT_CONFIG,
    threads: Annotated[int, typer.Option(min=1, help="Cases drawn at the same time.")] = 1,
    log: LogOption = None,
) -> None:
    """Write a page with viewer and flags for each case to review or rejected (run.pages)."""
    from backsplit.flow import dataset
    from backsplit.flow.project import open_project

    with errors(log) as say:
        dataset.pages(open_project(config), threads, say)


@app.command()
def report(config: ConfigOption = DEFAULT_CONFIG, log: LogOption = None) -> None:
    """Write the report: one page that opens offline."""
    from backsplit.flow import dataset
    from backsplit.flow.project import open_project

    with errors(log) as say:
        dataset.report(open_project(config), say)


@app.command()
def manifest(config: ConfigOption = DEFAULT_CONFIG, log: LogOption = None) -> None:
    """Write the manifest of the exported data set: sources, versions, licences, every file."""
    from backsplit.flow import dataset
    from backsplit.flow.project import open_project

    with errors(log) as say:
        dataset.manifest(open_project(config), say)
