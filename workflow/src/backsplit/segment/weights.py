"""Where weights lie, and how TotalSegmentator's get there."""

from __future__ import annotations

import os
from pathlib import Path

from backsplit.errors import BacksplitError, Code


def weights_home() -> Path:
    """Folder of downloaded weights: $BACKSPLIT_WEIGHTS, or ~/.backsplit/weights."""
    given = os.environ.get("BACKSPLIT_WEIGHTS")
    return Path(given) if given else Path.home() / ".backsplit" / "weights"


def demo_weights() -> Path:
    """Folder of the phantom network that ships with the package."""
    return Path(__file__).resolve().parents[1] / "demo" / "weights"


def download(task: str, *, fast: bool = False, fastest: bool = False) -> list[Path]:
    """Download the networks of a TotalSegmentator task with its own downloader.

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
    BacksplitError
        WEIGHTS_MISSING when the download fails.
    """
    from backsplit.config import TotalSegmentator
    from backsplit.segment import totalsegmentator as ts

    config = TotalSegmentator(kind="totalsegmentator", task=task, fast=fast, fastest=fastest)
    home = weights_home()
    home.mkdir(parents=True, exist_ok=True)
    folders = []
    with ts.private_home(home):
        from totalsegmentator.libs import download_pretrained_weights

        for task_id in ts.needed_ids(config):
            try:
                download_pretrained_weights(task_id)
            except (Exception, SystemExit) as error:
                raise BacksplitError(
                    Code.WEIGHTS_MISSING,
                    f"the weights of task {task!r} (network {task_id}) could not be downloaded to "
                    f"{home} ({type(error).__name__}: {error}); try on a machine with internet",
                ) from None
            found = ts.find_dataset(home, task_id)
            if found is not None:
                folders.append(found)
    return folders
