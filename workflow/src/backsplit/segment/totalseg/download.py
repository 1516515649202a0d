"""Weights of TotalSegmentator tasks from the internet."""

from __future__ import annotations

from pathlib import Path

from backsplit.errors import Code, RunError
from backsplit.segment.weights import accept, files_of, weights_home


def download(task: str, *, fast: bool = False, fastest: bool = False) -> list[Path]:
    """Download the networks of a TotalSegmentator task with its own downloader; record them.

    Parameters
    ----------
    task : its name
    fast, fastest : the 3 mm or 6 mm form

    Returns
    -------
    folders
        The Dataset… folders, in `weights_home()`.

    Raises
    ------
    RunError
        WEIGHTS_MISSING when the download fails.
    """
    from backsplit.config.segmenters import TotalSegmentator
    from backsplit.segment.totalseg import tasks as ts

    config = TotalSegmentator(kind="totalsegmentator", task=task, fast=fast, fastest=fastest)
    home = weights_home()
    home.mkdir(parents=True, exist_ok=True)
    folders = []
    with ts.private_home(home):
        from totalsegmentator.libs import download_pretrained_weights

        for task_id in ts.needed_ids(config):
            there = ts.find_dataset(home, task_id)
            try:
                download_pretrained_weights(task_id)
            except (Exception, SystemExit) as error:
                raise RunError(
                    Code.WEIGHTS_MISSING,
                    f"the weights of task {task!r} (network {task_id}) could not be downloaded to "
                    f"{home} ({type(error).__name__}: {error})",
                    "try on a machine with internet",
                ) from None
            found = ts.find_dataset(home, task_id)
            if found is None:
                continue
            if there is None:  # what lay there before is for a person to accept
                accept(files_of(found))
            folders.append(found)
    return folders
