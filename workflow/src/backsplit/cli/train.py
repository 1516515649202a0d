"""Verbs of training on the label maps, and of what came out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backsplit.cli.common import DEFAULT_CONFIG, ConfigOption, errors

app = typer.Typer(help="Train on the label maps, and see what it brought.", no_args_is_help=True)


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Folder of predicted label maps.")],
    config: ConfigOption = DEFAULT_CONFIG,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the tables. Default: evaluation/NAME in the results."),
    ] = None,
    tolerance_mm: Annotated[
        float, typer.Option("--tolerance-mm", min=0.0, help="Tolerance of NSD.")
    ] = 2.0,
    rule: Annotated[
        str, typer.Option(help="Which lesions count: plain, or brats-gli, -ssa, -ped, -men, -met.")
    ] = "plain",
    threads: Annotated[int, typer.Option(min=1, help="Cases scored at the same time.")] = 2,
) -> None:
    """Score predictions against the lesions as they were drawn."""
    from backsplit.flow.evaluate import evaluate_folder
    from backsplit.flow.project import open_project

    with errors(None) as say:
        project = open_project(config)
        text = evaluate_folder(project, predictions, out, tolerance_mm, rule, threads, say)
        typer.echo(text, nl=False)


@app.command()
def plan(
    config: ConfigOption = DEFAULT_CONFIG,
    planner: Annotated[
        str, typer.Option(help="nnU-Net's planner, as nnUNetPlannerResEncM.")
    ] = "ExperimentPlanner",
    configuration: Annotated[
        list[str] | None, typer.Option(help="To preprocess. Default: 3d_fullres.")
    ] = None,
    preprocessed: Annotated[
        Path | None,
        typer.Option(help="Default: $nnUNet_preprocessed, else training/preprocessed."),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes of nnU-Net.")] = 4,
) -> None:
    """Make one nnU-Net plan for all data sets, and preprocess their images once."""
    from backsplit.flow.project import open_project
    from backsplit.flow.training import plan_all

    with errors(None) as say:
        chosen = configuration or ["3d_fullres"]
        plan_all(open_project(config), planner, chosen, preprocessed, processes, say)
