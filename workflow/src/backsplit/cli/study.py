"""Verbs of a study: what splitting the background brings on this data set."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backsplit.cli.common import DEFAULT_CONFIG, ConfigOption, LogOption, errors
from backsplit.cli.names import complete_arms

if TYPE_CHECKING:
    from backsplit.flow.study import StudyProject
    from backsplit.study.jobs import Job

app = typer.Typer(
    help="Train arms that differ only in their labels, and compare them.", no_args_is_help=True
)

ArmOption = Annotated[
    str | None, typer.Option(help="Only this arm. Default: all.", autocompletion=complete_arms)
]
FoldOption = Annotated[int | None, typer.Option(min=0, help="Only this fold. Default: all.")]
SeedOption = Annotated[int | None, typer.Option(min=0, help="Only this seed. Default: all.")]


def opened(config: Path) -> StudyProject:
    """The study of a configuration."""
    from backsplit.flow.project import open_project
    from backsplit.flow.study import StudyProject

    return StudyProject(open_project(config))


def chosen(
    config: Path, arm: str | None, fold: int | None, seed: int | None
) -> tuple[StudyProject, list[Job]]:
    """The study of a configuration, and its jobs of an arm, fold and seed; None: of all."""
    study = opened(config)
    return study, study.wanted(arm, fold, seed)


@app.command()
def plan(
    config: ConfigOption = DEFAULT_CONFIG,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Train a few steps first, and time them."),
    ] = False,
    log: LogOption = None,
) -> None:
    """Print the trainings, their cost and their progress."""
    from backsplit.flow.study_price import measure as measure_epoch
    from backsplit.flow.study_price import price

    with errors(log) as say:
        study = opened(config)
        if measure:
            with redirect_stdout(sys.stderr):  # what nnU-Net prints
                measure_epoch(study, say)
        lines = list(price(study))
    for line in lines:
        typer.echo(line)


@app.command()
def preprocess(
    config: ConfigOption = DEFAULT_CONFIG,
    processes: Annotated[int, typer.Option(min=1, help="Processes of nnU-Net.")] = 4,
    log: LogOption = None,
) -> None:
    """Make the plan that all arms share, and preprocess the images once."""
    from backsplit.flow.study import preprocess as run

    with errors(log) as say:
        run(opened(config), processes, say)


@app.command()
def labels(
    config: ConfigOption = DEFAULT_CONFIG, arm: ArmOption = None, log: LogOption = None
) -> None:
    """Make the data set of an arm; lesion voxels are the same in every arm."""
    from backsplit.flow.study import labels as run

    with errors(log) as say:
        run(opened(config), arm, say)


@app.command()
def train(
    config: ConfigOption = DEFAULT_CONFIG,
    arm: ArmOption = None,
    fold: FoldOption = None,
    seed: SeedOption = None,
    log: LogOption = None,
) -> None:
    """Train; an interrupted training resumes, a finished one is kept."""
    from backsplit.flow.study import train as run

    with errors(log) as say:
        run(*chosen(config, arm, fold, seed), say)


@app.command()
def predict(
    config: ConfigOption = DEFAULT_CONFIG,
    arm: ArmOption = None,
    fold: FoldOption = None,
    seed: SeedOption = None,
    log: LogOption = None,
) -> None:
    """Predict the cases that each training's fold validates."""
    from backsplit.flow.study_scores import predict as run

    with errors(log) as say:
        run(*chosen(config, arm, fold, seed), say)


@app.command()
def evaluate(
    config: ConfigOption = DEFAULT_CONFIG,
    arm: ArmOption = None,
    fold: FoldOption = None,
    seed: SeedOption = None,
    threads: Annotated[int, typer.Option(min=1, help="Cases scored in parallel.")] = 2,
    log: LogOption = None,
) -> None:
    """Score the predictions against the lesion files."""
    from backsplit.flow.study_scores import evaluate as run

    with errors(log) as say:
        run(*chosen(config, arm, fold, seed), threads, say)


@app.command()
def compare(config: ConfigOption = DEFAULT_CONFIG, log: LogOption = None) -> None:
    """Gather the scores of all trainings, and compare the arms."""
    from backsplit.flow.study_scores import compare as run

    with errors(log) as say:
        run(opened(config), say)


@app.command()
def advise(config: ConfigOption = DEFAULT_CONFIG, log: LogOption = None) -> None:
    """Print what is known about each structure, and whether it predicts a gain."""
    from backsplit.flow.project import open_project
    from backsplit.flow.study_advise import advise as run

    with errors(log) as say:
        typer.echo(run(open_project(config), say), nl=False)
