"""A small engine in this process: it runs what keys and outputs say is due, as Snakemake does."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from backsplit.export.nnunet import dataset_folder
from backsplit.flow.engine import forget_incomplete, write_config
from backsplit.flow.plan import Plan
from backsplit.flow.project import Project, open_project
from support import flow

TIMES = ("provenance/", ".locks/", "datasets/export.key")
"""Where times and hosts are; nothing else differs between two runs. The key of the data sets holds
when a person's decisions changed, which a copy of them does not keep."""


def nothing(_text: str) -> None:
    """Nobody reads what is said."""


@dataclass(frozen=True)
class Job:
    """What a rule of the workflow says: outputs, key, the outputs that it reads, and the work."""

    outputs: Sequence[Path]
    key: str
    needs: Sequence[Path]
    work: Callable[[], None]


class Engine:
    """Runs a project again and again in one folder.

    A job is due where an output is not there, its key is another one than when it ran last, or
    what it reads has run or has other contents: Snakemake's triggers `params`, `input`, `mtime`.
    """

    def __init__(self, config: Path) -> None:
        self.config = config
        self.noted: dict[Path, tuple[str, Mapping[Path, str]]] = {}

    def run(self) -> int:
        """Run what is due; returns the number of jobs."""
        project = open_project(self.config)
        plan, results = Plan(project), project.results
        write_config(project.config, results.config)
        forget_incomplete(plan)
        ran: set[Path] = set()
        for job in jobs(self.config, project, plan):
            first = job.outputs[0]
            seen = {path: _sha256(path) for path in job.needs}
            whole = all(path.exists() for path in job.outputs)
            if whole and self.noted.get(first) == (job.key, seen) and not ran & set(job.needs):
                continue
            for path in job.outputs:  # as Snakemake does
                path.unlink(missing_ok=True)
                path.parent.mkdir(parents=True, exist_ok=True)
            job.work()
            assert all(path.exists() for path in job.outputs), job.outputs
            self.noted[first] = job.key, seen
            ran.update(job.outputs)
        return len(ran)


def jobs(config: Path, project: Project, plan: Plan) -> Iterator[Job]:
    """The rules of the workflow, in an order in which they can run."""
    results, used = project.results, project.config.used_segmenters
    batches = list(plan.batches)
    checks = [results.check.table(batch) for batch in batches]
    for batch, table in zip(batches, checks, strict=True):
        work = partial(flow.check, config, batch, 1, nothing)
        yield Job([table], plan.check_key(batch), [], work)
    cases = [results.cases, results.label_ids]
    yield Job(cases, plan.cases_key(), checks, partial(flow.cases, project, nothing))
    for batch, check in zip(batches, checks, strict=True):
        layers = [results.segment(name).table(batch) for name in used]
        for name, table in zip(used, layers, strict=True):
            work = partial(flow.segment, project, name, batch, nothing)
            yield Job([table], plan.segment_key(name, batch), [check], work)
        labels, needs = results.labels.table(batch), [*layers, check]
        work = partial(flow.compose, project, batch, nothing)
        yield Job([labels], plan.compose_key(batch), needs, work)
        if project.config.export.only_unrestricted:
            work = partial(flow.compose_unrestricted, project, batch, nothing)
            table = results.unrestricted.table(batch)
            yield Job([table], plan.unrestricted_key(batch), needs, work)
        work = partial(flow.measure, project, batch, nothing)
        yield Job([results.measures.table(batch)], plan.measure_key(batch), [labels], work)
    tables = [results.quality(name) for name in ("measures", "lesions", "agreement")]
    judged = [results.verdicts, results.flags, results.burden, results.structure_status, *tables]
    needs = [*(results.measures.table(batch) for batch in batches), results.cases]
    yield Job(judged, plan.judge_key(), needs, partial(flow.judge, project, nothing))
    limited = project.config.export.only_unrestricted
    composed = results.unrestricted if limited else results.labels
    exported = dataset_folder(project.config) / "dataset.json"
    needs = [results.verdicts, results.label_ids, *(composed.table(batch) for batch in batches)]
    yield Job([exported], plan.export_key(), needs, partial(flow.export, project, nothing))
    needs = [exported, results.verdicts, results.cases]
    yield Job(
        [results.manifest], plan.manifest_key(), needs, partial(flow.manifest, project, nothing)
    )
    needs = [results.verdicts, results.flags, *tables, results.cases]
    work = partial(flow.pages, project, 1, nothing)
    yield Job([results.page_status], plan.report_key(), needs, work)
    report = [results.report, results.distributions, results.overruled, results.lesions]
    needs = [*needs[:3], results.cases, results.page_status, exported]
    yield Job(report, plan.report_key(), needs, partial(flow.report, project, nothing))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def contents(results: Path) -> Mapping[str, str]:
    """Every file of the results with its SHA-256."""
    return {
        name: _sha256(path)
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
