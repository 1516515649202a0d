"""Where weights lie, which of them may be loaded, and how TotalSegmentator's get there.

Loading a checkpoint runs code of whoever made it. So each file's SHA-256 is recorded: when
`backsplit weights get` downloads it, or when a person accepts it once by hand
(`backsplit weights accept`). A file that was never accepted, or changed since, is not opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path

from backsplit.errors import Code, RunError
from backsplit.store.provenance import file_sha256, read_json, write_json


class Trust(StrEnum):
    """What is known of a file of weights."""

    ACCEPTED = "accepted"
    UNKNOWN = "unknown"
    CHANGED = "changed"


def weights_home() -> Path:
    """Folder of downloaded weights: $BACKSPLIT_WEIGHTS, or ~/.backsplit/weights."""
    given = os.environ.get("BACKSPLIT_WEIGHTS")
    return Path(given) if given else Path.home() / ".backsplit" / "weights"


def demo_weights() -> Path:
    """Folder of the phantom network that ships with the package."""
    return Path(__file__).resolve().parents[1] / "demo" / "weights"


def trust(files: Iterable[Path]) -> dict[Path, Trust]:
    """Hold files of weights against what was recorded, by content first, by path second."""
    ledger = _ledger()
    known = {*ledger.values(), *_shipped(), *_own}
    return {
        path: Trust.ACCEPTED
        if file_sha256(path) in known
        else Trust.CHANGED
        if str(path.resolve()) in ledger
        else Trust.UNKNOWN
        for path in files
    }


def require_accepted(files: Iterable[Path], whose: str) -> None:
    """Refuse weights that nobody accepted.

    Parameters
    ----------
    files : files of weights
    whose : what `backsplit weights accept` takes: a segmenter and its configuration, or a folder

    Raises
    ------
    RunError
        WEIGHTS_UNKNOWN or WEIGHTS_CHANGED, naming the first such file.
    """
    command = f"backsplit weights accept {whose}"
    for path, verdict in trust(files).items():
        if verdict is Trust.UNKNOWN:
            raise RunError(
                Code.WEIGHTS_UNKNOWN,
                f"{path} was never accepted, and loading it runs code by whoever made it",
                f"if you trust where it comes from, run `{command}`",
            )
        if verdict is Trust.CHANGED:
            raise RunError(
                Code.WEIGHTS_CHANGED,
                f"{path} is not the file that was accepted (its sha256 is now {file_sha256(path)})",
                f"restore it, or, if you changed it yourself, run `{command}`",
            )


def accept(files: Iterable[Path]) -> None:
    """Record files of weights as trusted, by path and SHA-256."""
    ledger = {**_ledger(), **{str(path.resolve()): file_sha256(path) for path in files}}
    write_json(_ledger_path(), dict(sorted(ledger.items())))


_own: set[str] = set()


def trust_own(sha256: str) -> None:
    """Trust weights in this process that a study trained itself, and noted the SHA-256 of."""
    _own.add(sha256)


def files_of(folder: Path) -> list[Path]:
    """Files of a network that decide what it does: checkpoints and their descriptions."""
    return sorted(path for path in folder.rglob("*") if path.suffix in (".pth", ".json"))


def _ledger_path() -> Path:
    return weights_home() / "accepted.json"


def _ledger() -> Mapping[str, str]:
    """Absolute path to SHA-256 of every file that was accepted."""
    try:
        return read_json(_ledger_path())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RunError(
            Code.WEIGHTS_UNKNOWN,
            f"{_ledger_path()} cannot be read ({error})",
            "restore it or remove it",
        ) from None


def _shipped() -> set[str]:
    """SHA-256 of the demo's own files, recorded when they were trained."""
    return set(read_json(demo_weights() / "sha256.json").values())
