"""The command `backsplit`: one verb per stage, thin around the package."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from backsplit.errors import BacksplitError, CaseError, Code

app = typer.Typer(
    help="Split the background of lesion data sets into anatomy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
demo_app = typer.Typer(help="The embedded demo: phantoms and their network.", no_args_is_help=True)
weights_app = typer.Typer(help="Weights of networks.", no_args_is_help=True)
app.add_typer(demo_app, name="demo")
app.add_typer(weights_app, name="weights")

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="Configuration (YAML).", show_default=True)
]
BatchOption = Annotated[
    str | None, typer.Option("--batch", help="Only this batch of cases. Default: all of them.")
]
LogOption = Annotated[Path | None, typer.Option("--log", help="File for all that libraries print.")]
DEFAULT_CONFIG = Path("config/config.yaml")


@contextmanager
def _errors(log: Path | None) -> Iterator[Callable[[str], None]]:
    """Turn our errors into one clear message and exit status 1."""
    from backsplit.disk import disk_error
    from backsplit.progress import output_to

    try:
        with output_to(log) as terminal:
            logging.basicConfig(
                level=logging.INFO if log else logging.WARNING,
                stream=sys.stderr,
                format="%(levelname)s %(name)s: %(message)s",
            )
            try:
                yield partial(print, file=terminal, flush=True)
            except (BacksplitError, CaseError) as error:
                if log is not None:  # the terminal is told below
                    logging.error("%s", error)
                raise
    except OSError as error:
        told = disk_error(error, error.filename or "the results")
        if told is None:
            raise
        typer.echo(f"backsplit: {told}", err=True)
        raise typer.Exit(1) from None
    except (BacksplitError, CaseError) as error:
        typer.echo(f"backsplit: {error}", err=True)
        raise typer.Exit(1) from None


@app.command()
def check(
    config: ConfigOption = DEFAULT_CONFIG,
    batch: BatchOption = None,
    threads: Annotated[int, typer.Option(min=1, help="Files read at the same time.")] = 4,
    log: LogOption = None,
) -> None:
    """Check a configuration and its case table; say all that is wrong at once."""
    from backsplit import flow

    with _errors(log) as say:
        flow.check(config, batch, threads, say)


@app.command()
def cases(config: ConfigOption = DEFAULT_CONFIG, log: LogOption = None) -> None:
    """Gather what `check` said of each batch: results/cases.tsv and labels.json."""
    from backsplit import flow

    with _errors(log) as say:
        flow.cases(config, say)


@app.command()
def segment(
    segmenter: Annotated[str, typer.Argument(help="Name of a segmenter of the configuration.")],
    config: ConfigOption = DEFAULT_CONFIG,
    batch: BatchOption = None,
    timings: Annotated[
        Path | None, typer.Option(help="File for where the time went, as JSON.")
    ] = None,
    log: LogOption = None,
) -> None:
    """Label cases with one segmenter; networks load once."""
    from backsplit import flow

    with _errors(log) as say:
        flow.segment(config, segmenter, batch, say, timings)


UnrestrictedOption = Annotated[
    bool,
    typer.Option(
        "--only-unrestricted", help="Without segmenters that may not be used commercially."
    ),
]


@app.command()
def compose(
    config: ConfigOption = DEFAULT_CONFIG,
    batch: BatchOption = None,
    only_unrestricted: UnrestrictedOption = False,
    log: LogOption = None,
) -> None:
    """Put lesions and anatomy on one label map per case."""
    from backsplit import flow

    with _errors(log) as say:
        if only_unrestricted:
            flow.compose_unrestricted(config, batch, say)
        else:
            flow.compose(config, batch, say)


@app.command()
def measure(
    config: ConfigOption = DEFAULT_CONFIG, batch: BatchOption = None, log: LogOption = None
) -> None:
    """Measure every structure of each case and draw a picture of it."""
    from backsplit import flow

    with _errors(log) as say:
        flow.measure(config, batch, say)


@app.command()
def judge(config: ConfigOption = DEFAULT_CONFIG, log: LogOption = None) -> None:
    """Gather measures, flag what is wrong, give every case a verdict."""
    from backsplit import flow

    with _errors(log) as say:
        flow.judge(config, say)


@app.command()
def export(
    config: ConfigOption = DEFAULT_CONFIG,
    only_unrestricted: UnrestrictedOption = False,
    log: LogOption = None,
) -> None:
    """Write the data set in the trainers' own layouts."""
    from backsplit import flow

    with _errors(log) as say:
        flow.export(config, say, only_unrestricted=only_unrestricted)


@app.command()
def licences(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Print the licence of each segmenter, and whether its labels may be used commercially."""
    from backsplit.config_file import load_config
    from backsplit.licences import licences as licences_of

    with _errors(None):
        for name, licence in licences_of(load_config(config)).items():
            typer.echo(
                f"{name}\t{licence.name}\tcommercial use: {licence.commercial}\t"
                f"{licence.terms} (source: {licence.source})"
            )


@app.command()
def pages(
    config: ConfigOption = DEFAULT_CONFIG,
    threads: Annotated[int, typer.Option(min=1, help="Cases drawn at the same time.")] = 1,
    log: LogOption = None,
) -> None:
    """Write a page for each case to review or rejected: pictures, reasons, decisions."""
    from backsplit import flow

    with _errors(log) as say:
        flow.pages(config, threads, say)


@app.command()
def report(config: ConfigOption = DEFAULT_CONFIG, log: LogOption = None) -> None:
    """Write the report: one page that opens offline."""
    from backsplit import flow

    with _errors(log) as say:
        flow.report(config, say)


@app.command()
def labels(
    segmenter: Annotated[
        str | None, typer.Argument(help="List what this segmenter can label.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Print what a segmenter can label, or the resolved ids of the data set."""
    from backsplit.check import load_scheme
    from backsplit.config_file import load_config
    from backsplit.segment import build

    with _errors(None):
        settings = load_config(config)
        if segmenter is None:
            scheme, _ = load_scheme(settings, config)
            for name, label in scheme.ids.items():
                sources = [
                    f"{s}/{c}" for s, m in scheme.sources.items() for c, n in m.items() if n == name
                ]
                typer.echo(f"{label}\t{name}\t{', '.join(sources)}")
            return
        if segmenter not in settings.segmenters:
            raise BacksplitError(
                Code.CONFIG_INVALID,
                f"{config} has no segmenter {segmenter!r}; it has {', '.join(settings.segmenters)}",
            )
        for name, label in build(settings, segmenter).classes().items():
            typer.echo(f"{label}\t{name}")


@app.command()
def status(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Print how many cases each stage has done; works while jobs run anywhere."""
    from backsplit import flow
    from backsplit.config_file import load_config

    with _errors(None):
        for line in flow.status(load_config(config)):
            typer.echo(line)


@app.command()
def retry(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Let the next run try failed cases again, where the reason has gone."""
    from backsplit import flow
    from backsplit.config_file import load_config

    with _errors(None) as say:
        removed = flow.retry(load_config(config))
        for table in removed:
            typer.echo(str(table))
        say(f"[backsplit] retry: {len(removed)} batches with failed cases are due again")


@app.command()
def explain(
    case: Annotated[str, typer.Argument(help="Id of a case.")],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Print what happened to a case at each stage, and what its results were made from."""
    from backsplit.config_file import load_config
    from backsplit.explain import explain as lines

    with _errors(None):
        for line in lines(load_config(config), case):
            typer.echo(line)


@app.command()
def manifest(config: ConfigOption = DEFAULT_CONFIG, log: LogOption = None) -> None:
    """Write the manifest of the exported data set: sources, versions, licences, every file."""
    from backsplit import flow

    with _errors(log) as say:
        flow.manifest(config, say)


@app.command()
def verify(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Hold every file of the data set, and its inputs, against the manifest."""
    from backsplit.config_file import load_config
    from backsplit.verify import verify as verified

    with _errors(None) as say:
        found = verified(load_config(config))
        for line in found.wrong:
            typer.echo(line)
        say(f"[backsplit] verify: {found.files} files, {len(found.wrong)} differ")
    if found.wrong:
        raise typer.Exit(1)


class Schema(StrEnum):
    """What there is a schema of."""

    CONFIG = "config"
    MANIFEST = "manifest"


@app.command()
def schema(
    of: Annotated[Schema, typer.Argument(help="Of the configuration, or of the manifest.")] = (
        Schema.CONFIG
    ),
) -> None:
    """Print a JSON schema."""
    from backsplit.config_file import config_schema
    from backsplit.manifest import manifest_schema

    typer.echo(config_schema() if of is Schema.CONFIG else manifest_schema(), nl=False)


@demo_app.command("make")
def demo_make(
    folder: Annotated[Path, typer.Argument(help="Where the phantoms go.")] = Path("demo"),
) -> None:
    """Make the six phantoms of the demo."""
    from backsplit.demo.phantoms import write_demo

    with _errors(None):
        written = write_demo(folder)
        typer.echo(f"{len(written)} phantoms in {folder}")


@demo_app.command("train")
def demo_train(
    out: Annotated[Path, typer.Argument(help="Where the weights folder goes.")],
    seed: Annotated[int, typer.Option(help="Seed of phantoms and network.")] = 0,
) -> None:
    """Train the phantom network again (CPU, minutes)."""
    from backsplit.demo.training import train

    with _errors(None):
        train(out, seed=seed)


@demo_app.command("evaluate")
def demo_evaluate(
    weights: Annotated[str, typer.Option(help="Folder of weights, or demo.")] = "demo",
) -> None:
    """Print the phantom network's Dice on phantoms that it has not seen."""
    from backsplit.demo.evaluation import evaluate

    with _errors(None):
        table = evaluate(weights=weights)
        means = table.groupby(["kind", "name"], sort=False)["dice"].mean()
        typer.echo(means.round(3).to_string())
        typer.echo(f"mean over structures: {means['structure'].mean():.3f}")


@weights_app.command("list")
def weights_list(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """List the weights of a configuration's segmenters, and whether each may be loaded."""
    from backsplit.config_file import load_config
    from backsplit.segment import build
    from backsplit.segment.weights import trust

    with _errors(None):
        settings = load_config(config)
        for name in settings.segmenters:
            for path, verdict in trust(build(settings, name).weights()).items():
                typer.echo(f"{name}\t{verdict}\t{path}")


@weights_app.command("verify")
def weights_verify(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Fail unless every file of weights is the one that was accepted."""
    from backsplit.config_file import load_config
    from backsplit.segment import build
    from backsplit.segment.weights import require_accepted

    with _errors(None):
        settings = load_config(config)
        for name in settings.segmenters:
            require_accepted(build(settings, name).weights())


@weights_app.command("accept")
def weights_accept(
    segmenter: Annotated[str, typer.Argument(help="Name of a segmenter of the configuration.")],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Record the weights of a segmenter as trusted: loading them runs code of their maker."""
    from backsplit.config_file import load_config
    from backsplit.provenance import file_sha256
    from backsplit.segment import build
    from backsplit.segment.weights import accept

    with _errors(None):
        settings = load_config(config)
        if segmenter not in settings.segmenters:
            raise BacksplitError(
                Code.CONFIG_INVALID,
                f"{config} has no segmenter {segmenter!r}; it has {', '.join(settings.segmenters)}",
            )
        files = build(settings, segmenter).weights()
        accept(files)
        for path in files:
            typer.echo(f"{file_sha256(path)}  {path}")


@weights_app.command("get")
def weights_get(
    task: Annotated[str, typer.Argument(help="Task of TotalSegmentator.")],
    fast: Annotated[bool, typer.Option("--fast", help="The 3 mm network.")] = False,
    fastest: Annotated[bool, typer.Option("--fastest", help="The 6 mm network.")] = False,
) -> None:
    """Download the weights of a TotalSegmentator task (needs internet)."""
    from backsplit.segment.weights import download

    with _errors(None):
        for folder in download(task, fast=fast, fastest=fastest):
            typer.echo(str(folder))
