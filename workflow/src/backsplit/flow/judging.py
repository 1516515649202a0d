"""Judging all cases together, and the numbers behind what is said of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from backsplit.cases.table import batches
from backsplit.errors import Code, RunError
from backsplit.flow.absent import why_absent
from backsplit.flow.project import Project
from backsplit.store.status import Outcome, Status, read_outcomes
from backsplit.store.tsv import write_tsv
from backsplit.work.jobs import job
from backsplit.work.progress import Say

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 15
"""So many comparisons of a case are printed."""


def not_judged(project: Project, path: Path) -> RunError:
    """Say that a table of the stage `judge` is not there yet."""
    remedy = f"run {project.command('judge')} first"
    return RunError(Code.FILE_MISSING, f"{path} does not exist", remedy)


def judge(project: Project, say: Say) -> None:
    """Write measures.parquet, flags.tsv and verdicts.tsv."""
    with job(project.results, "judge", say):
        _judge(project, say)


def _judge(project: Project, say: Say) -> None:
    from backsplit.flow.gather import join_measures, join_statuses
    from backsplit.judge.verdicts import below_the_line
    from backsplit.measure.lesions import burden
    from backsplit.measure.stage import TABLES

    results = project.results
    stages = _outcomes(project)
    measured = stages["measure"]
    done = [row.case for row in measured if row.status is Status.DONE]
    size = project.config.run.batch_size
    tables = join_measures(results, size, measured, TABLES)
    join_statuses(results, size, stages["compose"], project.scheme.structures)
    flags, result = _judged(project, stages, tables)
    write_tsv(flags, results.flags)
    write_tsv(burden(tables["lesions"], done, list(project.scheme.targets)), results.burden)
    write_tsv(result, results.verdicts)
    counts = result["verdict"].value_counts().to_dict()
    say("[backsplit] judge: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()))
    below = below_the_line(flags, result)
    if below:
        say(f"[backsplit] judge: accepted with flags that rank below the review budget: {below}")


def _judged(
    project: Project, stages: Mapping[str, Sequence[Outcome]], tables: Mapping[str, pd.DataFrame]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Flags and verdicts of what was measured."""
    import pandas as pd

    from backsplit.judge.flags import all_flags, without_off
    from backsplit.judge.hosts import with_lesions
    from backsplit.judge.lesions import flag_lesions
    from backsplit.judge.verdicts import (
        flag_absences,
        flag_failures,
        flag_missing_targets,
        read_decisions,
        settled,
        verdicts,
    )

    config, scheme, measures = project.config, project.scheme, tables["measures"]
    done = [row.case for row in stages["measure"] if row.status is Status.DONE]
    composed = measures[measures["source"] == "labels"]
    lesions = flag_lesions(tables["drawn"], tables["lesions"], measures)
    anatomy = with_lesions(measures, tables["lesions"], scheme.sources)
    flags = pd.concat(
        [
            flag_failures(stages),
            without_off(lesions, config.qc.off),
            flag_absences(composed, scheme.structures, partial(why_absent, project, cases=done)),
            flag_missing_targets(composed, list(scheme.targets)),
            all_flags(
                anatomy, tables["agreement"], scheme.sources, _groups(project, done), config.qc,
                list(scheme.targets), tables["parts"],
            ),
        ]
    )  # fmt: skip
    everyone = [row.case for row in stages["check"]]
    decisions = read_decisions(config.decisions_path, everyone)
    result = verdicts(everyone, flags, decisions, config.qc.review)
    return settled(flags, result, decisions, config.qc.review), result


def _outcomes(project: Project) -> dict[str, list[Outcome]]:
    """Status of every case after each stage, in order of the flow.

    Raises
    ------
    RunError
        FILE_MISSING when a stage has not finished its batches.
    """
    found = {"check": read_outcomes(project.results.cases, "cases")}
    names = batches(len(found["check"]), project.config.run.batch_size)
    for stage, folder in project.results.stages(project.config.used_segmenters).items():
        found[stage] = [row for batch in names for row in read_outcomes(folder.table(batch), stage)]
    return found


def _groups(project: Project, done: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Cases by what the columns of `qc.groups` say of them."""
    groups: dict[str, dict[str, list[str]]] = {name: {} for name in project.config.qc.groups}
    cases = project.table.with_ids(done)
    for column, values in groups.items():
        for case in cases:
            values.setdefault(case.columns.get(column, ""), []).append(case.id)
    return groups


def numbers_behind(project: Project, case: str) -> Iterator[str]:
    """Lines: how a case ranks, what was flagged, and the comparisons in which it is oddest.

    Raises
    ------
    RunError
        FILE_MISSING when nothing was judged; TABLE_INVALID when there is no such case.
    """
    import pandas as pd

    from backsplit.judge.evidence import Scale, numbers
    from backsplit.judge.flags import compared_cases, cubes_of
    from backsplit.judge.hosts import with_lesions
    from backsplit.measure.lesions import COLUMNS as LESIONS
    from backsplit.measure.table import COLUMNS
    from backsplit.store.tsv import read_tsv

    results, config, scheme = project.results, project.config, project.scheme
    for path in (results.verdicts, results.quality("measures")):
        if not path.exists():
            raise not_judged(project, path)
    verdict, flags = read_tsv(results.verdicts), read_tsv(results.flags)
    mine = verdict[verdict["case"] == case].to_dict("records")
    if not mine:
        raise RunError(
            Code.TABLE_INVALID,
            f"{results.verdicts} has no case {case!r}",
            "name a case that the table lists and the checks accept",
        )
    row = mine[0]
    ordinary = 10 ** float(row["score"])
    odd = f"one ordinary case in {ordinary:.3g} is as odd" if ordinary >= 2 else "an ordinary case"
    yield (
        f"{case}: {row['verdict']}, by {row['by']}; rank {row['rank']} of {len(verdict)}, "
        f"score {row['score']} ({odd})"
    )
    for flag in flags[flags["case"] == case].to_dict("records"):
        score = f", score {flag['score']}" if flag.get("score") else ""
        yield f"  {flag['severity']}: {flag['message']} ({flag['rule']}{score})"
    measures = with_lesions(
        pd.read_parquet(results.quality("measures"), columns=list(COLUMNS)),
        pd.read_parquet(results.quality("lesions"), columns=list(LESIONS)),
        scheme.sources,
    )
    done = list(dict.fromkeys(measures["case"]))
    compared = compared_cases(
        cubes_of(measures, list(scheme.targets)), scheme.sources, _groups(project, done), config.qc
    )
    if not compared:
        yield f"no comparison: fewer than {config.qc.cohort.fewest} cases were measured"
        return
    scale = Scale.of(compared)
    yield (
        f"comparisons, the least likely first; a case goes through about {scale.looks:.0f} "
        f"independent ones, and the scores of this cohort are divided by {scale.stretch:.2f}:"
    )
    for chance, subject, rule, found, usual in numbers(compared, case, SHOWN):
        worth = f"chance {chance:.2g}, score {scale.score(chance):.2f}"
        yield f"  {subject}: {found}; usual {usual} ({rule}, {worth})"
