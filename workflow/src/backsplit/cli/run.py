"""The verb that does everything: it runs the workflow; its exit status says how that ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from backsplit.cli.common import ACTION_NEEDED, CASES_LOST, DEFAULT_CONFIG, ConfigOption, errors

app = typer.Typer()

DRY = re.compile(r"--dry-?run|-[Ffkpqr]*n[Ffkpqr]*")
"""Also among other letters, as in -np."""
PROFILES = ("--workflow-profile", "--profile")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def run(context: typer.Context, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run every step that is missing or out of date, from the checks to the report.

    All other options go to Snakemake: -n shows what would run, --cores 8 limits the cores,
    --workflow-profile profiles/slurm submits jobs to a cluster.

    Exit status: 0 finished; 3 finished, but cases were refused or failed; 1 not finished.
    """
    from backsplit.flow.engine import profile, snakefile
    from backsplit.flow.plan import Plan
    from backsplit.flow.project import open_project
    from backsplit.flow.summary import losses

    if any(option.startswith("--configfile") for option in context.args):
        raise typer.BadParameter(
            "use -c FILE, not --configfile: the summary needs the configuration too"
        )
    with errors(None):
        plan = Plan(open_project(config))
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile())]
        if not any(option.startswith(PROFILES) for option in context.args):
            command += ["--workflow-profile", str(profile("default"))]
        # --configfile takes all that follows it: a target would be read as a configuration
        command += [*context.args, "--configfile", str(config)]
        if _status_of(command):
            raise typer.Exit(ACTION_NEEDED)
        if not any(map(DRY.fullmatch, context.args)) and losses(plan):
            raise typer.Exit(CASES_LOST)


def _status_of(command: Sequence[str]) -> int:
    """Run a command and give its exit status; what interrupts us interrupts it, and it ends."""
    process = subprocess.Popen(command, env=_environment())  # noqa: S603
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the terminal sends it to both
            continue


def _environment() -> dict[str, str]:
    """Our own environment, in which the rules find this very `backsplit`."""
    folder = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}
