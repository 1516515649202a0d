"""Score a folder of predictions, and write what came out."""

from __future__ import annotations

from pathlib import Path

from backsplit.config.slices import lesion_values
from backsplit.errors import LONGEST_SHOWN, Code, RunError, shown
from backsplit.flow.project import Project
from backsplit.store.disk import atomic_path
from backsplit.store.status import Outcome, Status, write_outcomes
from backsplit.train.evaluation import Evaluation, Options, evaluate, predictions_in
from backsplit.train.lesionwise import RULES
from backsplit.train.summary import summary
from backsplit.work.progress import Say


def evaluate_folder(
    project: Project,
    predictions: Path,
    out: Path | None,
    tolerance_mm: float,
    rule: str,
    threads: int,
    say: Say,
) -> str:
    """Score each case of the table that has a prediction; returns the summary.

    Writes `cases.parquet`, `lesions.parquet`, `status.tsv` and `summary.md`.

    Raises
    ------
    RunError
        FILE_MISSING without predictions of any case; CONFIG_INVALID for an unknown rule.
    """
    if rule not in RULES:
        raise RunError(
            Code.CONFIG_INVALID, f"unknown rule {shown(rule)!r}", f"use {', '.join(RULES)}"
        )
    found = predictions_in(predictions)
    cases = project.table.with_ids(found)
    if not cases:
        raise RunError(
            Code.FILE_MISSING,
            f"none of the {len(found)} label maps in {predictions} has the name of a case "
            f"({next(iter(found.values())).name}, …)",
            "name them CASE.nii.gz, as nnU-Net does",
        )
    without = [case for case in project.table.ids if case not in found]
    others = sorted(found.keys() - set(project.table.ids))
    for names, what in (
        (without, "without a prediction"),
        (others, "of no case in the table, left out"),
    ):
        if names:
            say(f"[backsplit] evaluate: {len(names)} {what}: {', '.join(names)[:LONGEST_SHOWN]}")
    options = Options(tolerance_mm, RULES[rule], threads)

    def tell(outcome: Outcome) -> None:
        if outcome.status is Status.FAILED:
            say(f"[backsplit] evaluate: {outcome.case}: {outcome.message}")

    scored = evaluate(cases, lesion_values(project.config), found, options, tell)
    folder = out or project.results.evaluation(predictions.resolve().name)
    text = summary(scored, tolerance_mm)
    _write(scored, text, folder)
    failed = sum(outcome.status is Status.FAILED for outcome in scored.outcomes)
    say(f"[backsplit] evaluate: {len(cases)} cases, {failed} failed, tables in {folder}")
    return text


def _write(scored: Evaluation, text: str, folder: Path) -> None:
    for name, table in (("cases", scored.cases), ("lesions", scored.lesions)):
        with atomic_path(folder / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False)
    write_outcomes(scored.outcomes, folder / "status.tsv")
    with atomic_path(folder / "summary.md") as temporary:
        temporary.write_text(text, "utf-8")
