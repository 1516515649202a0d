"""Predict the cases of a table or of a folder."""

from __future__ import annotations

from pathlib import Path

from backsplit.cases.table import load_checked
from backsplit.config.model import Run
from backsplit.errors import Code, RunError
from backsplit.flow.project import open_project
from backsplit.store.status import Outcome, Status, write_outcomes
from backsplit.train.predict import Predicting, cases_in, predict
from backsplit.work.progress import Say


def predict_all(
    how: Predicting,
    into: Path,
    images: Path | None,
    config: Path,
    device: str,
    say: Say,
) -> None:
    """Predict every case; what failed is named at the end, and in `status.tsv`.

    Raises
    ------
    RunError
        The code of the first case when none could be predicted, and what `train.predict` raises.
    """
    if images is not None:
        cases, channels = cases_in(images)
        run = Run(device=device)
    else:
        project = open_project(config)
        cases = [c.case for c in load_checked(project.table) if c.status is Status.OK]
        channels = list(project.config.dataset.channels)
        run = project.config.run.model_copy(update={"device": device})
    outcomes = []
    for case, error in predict(cases, channels, run, how, into):
        if error is None:
            outcomes.append(Outcome(case.id, Status.DONE))
        else:
            outcomes.append(Outcome(case.id, Status.FAILED, str(error.code), str(error)))
            say(f"[backsplit] predict: {case.id}: {error}")
    outcomes.sort(key=lambda outcome: outcome.case)  # they come as they are done
    write_outcomes(outcomes, into / "status.tsv")
    failed = [outcome for outcome in outcomes if outcome.status is Status.FAILED]
    say(f"[backsplit] predict: {len(outcomes)} cases, {len(failed)} failed, in {into}")
    if failed and len(failed) == len(outcomes):
        raise RunError(Code(failed[0].code), "no case could be predicted", failed[0].message)
