"""Verbs that tell: what there is, what happened, what is wrong."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from backsplit.cli.common import DEFAULT_CONFIG, ConfigOption, errors
from backsplit.cli.names import complete_cases, complete_segmenters

app = typer.Typer()


@app.command()
def labels(
    segmenter: Annotated[
        str | None,
        typer.Argument(
            help="List what this segmenter can label.", autocompletion=complete_segmenters
        ),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Print what a segmenter can label, or the resolved ids of the data set."""
    from backsplit.flow.project import open_project

    with errors(None):
        project = open_project(config)
        if segmenter is None:
            scheme = project.scheme
            for name, label in scheme.ids.items():
                sources = [
                    f"{s}/{c}" for s, m in scheme.sources.items() for c, n in m.items() if n == name
                ]
                typer.echo(f"{label}\t{name}\t{', '.join(sources)}")
            return
        for name, label in project.segmenter(segmenter).classes().items():
            typer.echo(f"{label}\t{name}")


@app.command()
def status(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Print the progress of each stage, also while jobs run elsewhere."""
    from backsplit.flow import status
    from backsplit.flow.project import open_project

    with errors(None):
        for line in status.status(open_project(config)):
            typer.echo(line)


@app.command()
def retry(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Let the next run retry failed cases, once the cause is fixed."""
    from backsplit.flow import dataset
    from backsplit.flow.project import open_project

    with errors(None) as say:
        removed = dataset.retry(open_project(config))
        for table in removed:
            typer.echo(str(table))
        say(f"[backsplit] retry: {len(removed)} batches with failed cases will be rerun")


@app.command()
def clean(
    config: ConfigOption = DEFAULT_CONFIG,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them.")] = False,
) -> None:
    """List leftover result files and why each is one; --yes removes them."""
    from backsplit.flow import leftovers
    from backsplit.flow.project import open_project

    with errors(None) as say:
        found = leftovers.clean(open_project(config), yes=yes)
        for left in found:
            typer.echo(f"{left.path}\t{left.why}")
        done = "removed" if yes else "--yes removes them"
        say(f"[backsplit] clean: {leftovers.summary(found)}" + (f"; {done}" if found else ""))


@app.command()
def explain(
    case: Annotated[str, typer.Argument(help="Id of a case.", autocompletion=complete_cases)],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Print what happened to a case at each stage, and what its results were made from."""
    from backsplit.flow.project import open_project
    from backsplit.record.explain import explain as lines

    with errors(None):
        for line in lines(open_project(config).config, case):
            typer.echo(line)


@app.command()
def verify(
    config: ConfigOption = DEFAULT_CONFIG,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Check all label maps, not a sample of 20."),
    ] = False,
) -> None:
    """Check every file against the manifest, and label maps against the segmenters' own maps."""
    from backsplit.flow.project import open_project
    from backsplit.record.verify import verify as verified

    with errors(None) as say:
        project = open_project(config)
        found = verified(project.config, project.scheme, deep=deep)
        for line in found.wrong:
            typer.echo(line)
        say(
            f"[backsplit] verify: {found.files} files, {found.cases} label maps checked by name, "
            f"{len(found.wrong)} differ"
        )
    if found.wrong:
        raise typer.Exit(1)


@app.command()
def licences(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Print the licence of each segmenter, and whether its labels may be used commercially."""
    from backsplit.flow.project import open_project
    from backsplit.segment.licences import licences as licences_of

    with errors(None):
        for name, licence in licences_of(open_project(config).config).items():
            typer.echo(
                f"{name}\t{licence.name}\tcommercial use: {licence.commercial}\t"
                f"{licence.terms} (source: {licence.source})"
            )


class Schema(StrEnum):
    """What there is a schema of; of the configuration also a reference for people."""

    CONFIG = "config"
    MANIFEST = "manifest"
    REFERENCE = "reference"


@app.command()
def schema(
    of: Annotated[
        Schema,
        typer.Argument(
            help="config, manifest: as JSON schema; reference: every key of config, as Markdown."
        ),
    ] = Schema.CONFIG,
) -> None:
    """Print the schema of the configuration or of the manifest."""
    from backsplit.config.file import config_schema
    from backsplit.config.reference import reference
    from backsplit.record.manifest import manifest_schema

    if of is Schema.MANIFEST:
        text = manifest_schema()
    else:
        text = config_schema()
        text = reference(json.loads(text)) if of is Schema.REFERENCE else text
    typer.echo(text, nl=False)
