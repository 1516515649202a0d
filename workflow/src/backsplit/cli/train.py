"""Verbs of training on the label maps, and of what came out of it."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from backsplit.cli.common import DEFAULT_CONFIG, ConfigOption, errors

app = typer.Typer(help="Train on the label maps, predict, and score.", no_args_is_help=True)


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Folder of predicted label maps.")],
    config: ConfigOption = DEFAULT_CONFIG,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the tables. Default: evaluation/NAME in the results."),
    ] = None,
    tolerance_mm: Annotated[
        float, typer.Option("--tolerance-mm", min=0.0, help="Tolerance of NSD, in mm.")
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
        str, typer.Option(help="nnU-Net's planner, such as nnUNetPlannerResEncM.")
    ] = "ExperimentPlanner",
    configuration: Annotated[
        list[str] | None, typer.Option(help="nnU-Net configuration. Default: 3d_fullres.")
    ] = None,
    preprocessed: Annotated[
        Path | None,
        typer.Option(help="Folder. Default: $nnUNet_preprocessed, else training/preprocessed."),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes of nnU-Net.")] = 4,
) -> None:
    """Make one nnU-Net plan for all data sets, and preprocess their images once."""
    from backsplit.flow.project import open_project
    from backsplit.flow.training import plan_all

    with errors(None) as say:
        chosen = configuration or ["3d_fullres"]
        plan_all(open_project(config), planner, chosen, preprocessed, processes, say)


@app.command()
def predict(
    model: Annotated[
        Path, typer.Argument(help="Trained-model folder of nnU-Net: Trainer__Plans__Configuration.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the label maps.")],
    config: ConfigOption = DEFAULT_CONFIG,
    images: Annotated[
        Path | None, typer.Option(help="Folder of CASE_0000.nii.gz instead of the case table.")
    ] = None,
    fold: Annotated[list[int] | None, typer.Option(help="Folds to average. Default: 0.")] = None,
    checkpoint: Annotated[str, typer.Option(help="File of a fold.")] = "checkpoint_final.pth",
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=0.999,
            help="Probability above which a voxel is a target. Default: the most probable class.",
        ),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write CASE_TARGET.nii.gz too.")
    ] = False,
    mirroring: Annotated[
        bool, typer.Option(help="Mirror at test time, where the model allows it.")
    ] = True,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
) -> None:
    """Predict the targets only; memory does not grow with the number of classes."""
    from backsplit.flow.predict import predict_all
    from backsplit.train.predict import Predicting

    with errors(None) as say:
        folds = tuple(fold or (0,))
        how = Predicting(model, folds, checkpoint, threshold, mirroring, probabilities)
        predict_all(how, out, images, config, device, say)


@app.command()
def trainers() -> None:
    """Print the folder in which nnU-Net finds our trainers: for nnUNet_extTrainer."""
    from backsplit.train.nnunet import TRAINERS

    typer.echo(str(TRAINERS))


@app.command()
def extend(
    model: Annotated[
        Path, typer.Argument(help="Trained-model folder of nnU-Net: Trainer__Plans__Configuration.")
    ],
    dataset: Annotated[str, typer.Argument(help="Data set with anatomy: its id or name.")],
    fold: Annotated[int, typer.Option(min=0, help="Fold of model and data set.")] = 0,
    checkpoint: Annotated[str, typer.Option(help="File of the fold.")] = "checkpoint_final.pth",
    plans: Annotated[
        str | None, typer.Option(help="Plans of the data set. Default: named as the model's.")
    ] = None,
    trainer: Annotated[
        str | None,
        typer.Option(
            help="Trainer. Default: the model's if it is ours, else nnUNetTrainerBackSplit."
        ),
    ] = None,
) -> None:
    """Add the classes of a data set to a network trained on lesions only."""
    from backsplit.train.binary import Binary
    from backsplit.train.extend import write_extended

    with errors(None) as say:
        binary = Binary(model, fold, checkpoint)
        with redirect_stdout(sys.stderr):  # what nnU-Net prints; ours are the commands alone
            made = write_extended(binary, dataset, say, plans_name=plans, trainer=trainer)
        parts = ", ".join(f"{name} {part:.3g}" for name, part in made.share.items())
        say(f"[backsplit] extend: shares of what was background: {parts}")
        say(
            f"[backsplit] extend: {made.checkpoint}; probabilities of kept classes differ by "
            f"{made.change:.1e} at most, on {made.case}"
        )
        for command in made.commands:
            typer.echo(command)


@app.command()
def pack(
    model: Annotated[
        Path, typer.Argument(help="Trained-model folder: nnUNetTrainerBackSplit__Plans__….")
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the packed model.")],
    fold: Annotated[
        list[int] | None, typer.Option(help="Folds. Default: all that were trained to the end.")
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="File of a fold.")] = "checkpoint_final.pth",
) -> None:
    """Write a trained model as a folder that nnU-Net runs without backsplit."""
    from backsplit.train.pack import pack as write

    with errors(None):
        typer.echo(str(write(model, out, fold, checkpoint)))
