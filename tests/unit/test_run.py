"""`backsplit run`: what Snakemake is called with, and what the exit status says."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from backsplit.cli import app
from backsplit.cli import run as verb
from backsplit.flow.plan import Plan
from backsplit.flow.project import open_project
from backsplit.flow.summary import losses, summary
from backsplit.flow.watch import Job, Watch
from backsplit.store.status import Outcome, Status, write_outcomes
from support import flow


@pytest.fixture
def called(project, monkeypatch):
    """A data set with a case that failed; Snakemake itself is not started."""
    monkeypatch.chdir(project.folder)
    project.add("a")
    config = project.write()
    plan = Plan(open_project(config))
    failed = Outcome("a", Status.FAILED, "OUT_OF_MEMORY", "no memory")
    write_outcomes([failed], plan.project.results.labels.table("00001"))
    commands: list[list[str]] = []
    monkeypatch.setattr(verb, "_status_of", lambda command: commands.append(command) or 0)

    def call(*options: str) -> tuple[int, list[str]]:
        result = CliRunner().invoke(app, ["run", "-c", "config.yaml", *options])
        return result.exit_code, commands[-1] if commands else []

    return call


@pytest.mark.parametrize("option", ["-n", "-np", "-nq", "-Fn", "--dry-run", "--dryrun"])
def test_a_dry_run_loses_nothing(called, option):
    assert called(option)[0] == 0


@pytest.mark.parametrize("options", [(), ("--cores", "2"), ("--notemp",), ("-R", "compose")])
def test_a_case_that_failed_is_lost(called, options):
    assert called(*options)[0] == 3


def test_a_target_is_no_second_configuration(called):
    _, command = called("results/report/index.html", "--cores", "1")
    assert command[-2:] == ["--configfile", "config.yaml"]
    assert "results/report/index.html" in command and command.count("--configfile") == 1


@pytest.mark.parametrize("option", ["--configfile=b.yaml", "--configfile", "--configfiles"])
def test_no_other_configuration_is_run_than_the_one_that_is_reported(called, option):
    status, command = called(option, "b.yaml")
    assert status == 2 and command == []


def test_cases_that_only_the_unrestricted_labels_lose_are_lost(project, monkeypatch):
    """The data set is made from those."""
    monkeypatch.chdir(project.folder)
    project.add("a")
    failed = Outcome("a", Status.FAILED, "NOTHING_LABELLED", "every segmenter failed")
    for wanted, expected in (
        (False, {}),
        (True, {("failed in compose unrestricted", "NOTHING_LABELLED"): ["a"]}),
    ):
        plan = Plan(open_project(project.write(export={"only_unrestricted": wanted})))
        write_outcomes([failed], plan.project.results.unrestricted.table("00001"))
        assert losses(plan) == expected


def test_a_run_of_a_part_does_not_say_that_all_is_done(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    project.add("a")
    config = project.write()
    flow.check(config, None, 1, print)
    plan = Plan(open_project(config))
    first, last = summary(plan, Watch(plan, print), whole=True)
    assert first == "[backsplit] 1 cases in cases.tsv"
    assert "NOT up to date" in last and last.endswith(f"next: `backsplit run -c {config}`")


def test_status_says_what_decisions_and_verdicts_have_overtaken(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    project.add("a")
    config = project.write()
    opened = project.to_verdicts()
    flow.export(opened, print)
    flow.report(opened, print)

    def due() -> list[str]:
        lines = (line.split(": ", 1) for line in flow.status(open_project(config)))
        return [name for name, text in lines if text.startswith("out of date")]

    def said() -> str:
        plan = Plan(open_project(config))
        return "\n".join(summary(plan, Watch(plan, print), whole=True))

    assert due() == [] and "exported: 1 of 1 cases" in said()
    opened.config.decisions_path.write_text("case\tdecision\na\treject\n")
    assert due() == ["judge", "export", "report"]
    flow.judge(opened, print)
    assert due() == ["export", "report"]  # the data set still holds the case
    flow.report(opened, print)
    assert due() == ["export"]
    assert "exported" not in said() and "NOT up to date" in said()
    flow.export(open_project(config), print)
    assert due() == []
    project.write(qc={"review": 0.5})
    assert due() == ["export"]


@pytest.mark.parametrize(
    ("cases", "added", "of_stage", "of_run"),
    [(4, 1, False, False), (4, 4, True, False), (12, 5, False, False), (12, 10, True, True)],
)
def test_what_more_cases_would_take_is_said_after_most_of_them_and_enough_only(
    project, monkeypatch, cases, added, of_stage, of_run
):
    """A few cases take the time of starting jobs, and of the stages that look at all of them."""
    monkeypatch.chdir(project.folder)
    for number in range(cases):
        project.add(f"case{number}")
    plan = Plan(open_project(project.write(run={"batch_size": cases})))
    lines: list[str] = []
    watch = Watch(plan, lines.append)
    (batch,) = plan.batches
    job = Job("compose", batch, None, None)
    watch.started(job)
    record = plan.project.results.job_record("compose", batch)
    record.parent.mkdir(parents=True)
    made = [json.dumps({"event": "case", "case": f"case{n}"}) for n in range(added)]
    record.write_text("\n".join(made) + "\n")
    watch.finished(job)
    assert (watch.seconds_for(100) is not None) is of_run
    assert lines[-1].startswith("[backsplit] compose:") and ("per case" in lines[-1]) is of_stage


@pytest.mark.parametrize(
    ("command", "first"),
    [
        ("compose", "check"), ("measure", "check"), ("judge", "cases"),
        ("judge --explain a", "judge"), ("export", "judge"), ("pages", "check"),
        ("manifest", "export"), ("verify", "manifest"), ("train plan", "export"),
    ],
)  # fmt: skip
def test_a_command_that_comes_too_early_names_the_one_to_run_first(
    project, monkeypatch, command, first
):
    monkeypatch.chdir(project.folder)
    project.add("a")
    project.write()
    done = CliRunner().invoke(app, [*command.split(), "-c", "config.yaml"])
    assert done.exit_code == 1 and "does not exist; run " in done.stderr
    assert f"`backsplit {first}" in done.stderr and "bug" not in done.stderr
