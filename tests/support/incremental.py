"""A small engine in this process: it runs what keys and outputs say is due, as Snakemake does."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from backsplit import flow
from backsplit.export.nnunet import dataset_folder
from backsplit.flow.engine import forget_incomplete, write_config
from backsplit.flow.plan import Plan
from backsplit.flow.project import open_project

TIMES = ("provenance/", ".locks/")
"""Where times and hosts are; nothing else differs between two runs."""


def nothing(_text: str) -> None:
    """Nobody reads what is said."""


class Engine:
    """Runs a project again and again in one folder.

    A job is due where its output is not there, its key is another one than when it ran last, or a
    job that it depends on has run: Snakemake's triggers `input` and `params`.
    """

    def __init__(self, config: Path) -> None:
        self.config = config
        self.keys: dict[Path, str] = {}
        self.ran: set[Path] = set()

    def run(self) -> int:
        """Run what is due; returns the number of jobs."""
        project = open_project(self.config)
        plan, results = Plan(project), project.results
        write_config(project.config, results.config)
        forget_incomplete(plan)
        self.ran = set()
        checks, measured, composed = [], [], []
        for batch in plan.batches:
            check = results.check.table(batch)
            checks.append(check)
            self._job(
                check,
                plan.check_key(batch),
                [],
                lambda batch=batch: flow.check(self.config, batch, 1, nothing),
            )
        self._job(results.cases, plan.cases_key(), checks, lambda: flow.cases(project, nothing))
        for batch, check in zip(plan.batches, checks, strict=True):
            layers = [check]
            for name in project.config.used_segmenters:
                table = results.segment(name).table(batch)
                layers.append(table)
                self._job(
                    table,
                    plan.segment_key(name, batch),
                    [check],
                    lambda name=name, batch=batch: flow.segment(project, name, batch, nothing),
                )
            labels = results.labels.table(batch)
            self._job(
                labels,
                plan.compose_key(batch),
                layers,
                lambda batch=batch: flow.compose(project, batch, nothing),
            )
            if project.config.export.only_unrestricted:
                unrestricted = results.unrestricted.table(batch)
                composed.append(unrestricted)
                self._job(
                    unrestricted,
                    plan.unrestricted_key(batch),
                    layers,
                    lambda batch=batch: flow.compose_unrestricted(project, batch, nothing),
                )
            measures = results.measures.table(batch)
            measured.append(measures)
            self._job(
                measures,
                plan.measure_key(batch),
                [labels],
                lambda batch=batch: flow.measure(project, batch, nothing),
            )
        judged = [*measured, results.cases]
        self._job(results.verdicts, plan.judge_key(), judged, lambda: flow.judge(project, nothing))
        exported = dataset_folder(project.config) / "dataset.json"
        self._job(
            exported,
            plan.export_key(),
            [results.verdicts, *composed],
            lambda: flow.export(project, nothing),
        )
        self._job(
            results.manifest,
            plan.manifest_key(),
            [exported],
            lambda: flow.manifest(project, nothing),
        )
        self._job(
            results.page_status,
            plan.report_key(),
            [results.verdicts],
            lambda: flow.pages(project, 1, nothing),
        )
        self._job(
            results.report,
            plan.report_key(),
            [results.page_status, exported],
            lambda: flow.report(project, nothing),
        )
        return len(self.ran)

    def _job(self, output: Path, key: str, needs: list[Path], work: Callable[[], None]) -> None:
        if output.exists() and self.keys.get(output) == key and not self.ran & set(needs):
            return
        work()
        assert output.exists(), output
        self.keys[output] = key
        self.ran.add(output)


def contents(results: Path) -> Mapping[str, str]:
    """Every file of the results with its SHA-256."""
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(results.rglob("*"))
        if path.is_file() and not (name := path.relative_to(results).as_posix()).startswith(TIMES)
    }


def differing(config: Path) -> list[str]:
    """Files in which the results differ from those of a clean run in the same folder."""
    results = open_project(config).results.root
    found, aside = contents(results), results.with_name("aside")
    results.rename(aside)
    decisions = aside / "qc" / "decisions.tsv"
    if decisions.exists():  # a person's, not a result
        (results / "qc").mkdir(parents=True)
        shutil.copy2(decisions, results / "qc" / "decisions.tsv")
    Engine(config).run()
    clean = contents(results)
    shutil.rmtree(results)
    aside.rename(results)
    return [name for name in sorted(found.keys() | clean) if found.get(name) != clean.get(name)]
