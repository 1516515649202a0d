"""The embedded demo: phantoms and their network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backsplit.cli.common import errors

app = typer.Typer(help="The embedded demo: phantoms and their network.", no_args_is_help=True)


@app.command("make")
def demo_make(
    folder: Annotated[Path, typer.Argument(help="Folder for the phantoms.")] = Path("demo"),
) -> None:
    """Make the six phantoms of the demo, with a case table and a configuration."""
    from backsplit.demo.phantoms import write_demo
    from backsplit.demo.project import write_project

    with errors(None):
        written = write_demo(folder)
        typer.echo(f"{len(written)} phantoms in {folder}; configuration: {write_project(folder)}")


@app.command("study")
def demo_study(
    folder: Annotated[Path, typer.Argument(help="Folder for the phantoms.")] = Path("demo/study"),
) -> None:
    """Make the phantoms of the embedded study, whose lesions look like nearby anatomy."""
    from backsplit.demo.confused import write_confused

    with errors(None):
        written = write_confused(folder)
        typer.echo(f"{len(written)} phantoms in {folder}")


@app.command("train")
def demo_train(
    out: Annotated[Path, typer.Argument(help="Where the weights folder goes.")],
    seed: Annotated[int, typer.Option(help="Seed of phantoms and network.")] = 0,
) -> None:
    """Train the phantom network again (CPU, minutes)."""
    from backsplit.demo.training import train

    with errors(None):
        train(out, seed=seed)


@app.command("evaluate")
def demo_evaluate(
    weights: Annotated[str, typer.Option(help="Folder of weights, or demo.")] = "demo",
) -> None:
    """Print the phantom network's Dice on phantoms that it has not seen."""
    from backsplit.demo.evaluation import evaluate

    with errors(None):
        table = evaluate(weights=weights)
        means = table.groupby(["kind", "name"], sort=False)["dice"].mean()
        typer.echo(means.round(3).to_string())
        typer.echo(f"mean over structures: {means['structure'].mean():.3f}")
