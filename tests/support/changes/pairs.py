"""Changes of several things at once, and pairs of changes drawn at random."""

from __future__ import annotations

import random

from backsplit.errors import RunError
from backsplit.flow.project import open_project
from backsplit.judge.verdicts import read_decisions
from support.changes.files import file_changes
from support.changes.keys import (
    GONE,
    both,
    key_changes,
    put,
    rename,
    rename_segmenter,
    rename_structure,
    reorder,
)
from support.changes.table import TABLE_CHANGES
from support.tiny import Change, Tiny


def more_changes() -> dict[str, Change]:
    """Of keys that hold several things, what else may change in them."""
    return {
        "structure renamed": rename_structure,
        "structure removed": both(put("structures.cord", GONE), put("qc.rules", {})),
        "structure added": both(
            put("segmenters.tissue.bands.soft", [-30, 99]),
            put("segmenters.tissue.bands.hard", [99, 900]),
            put("structures.hard", "tissue/hard"),
        ),
        "structure's sources reversed": put("structures.liver", ["masks/liver", "organs/liver"]),
        "structure's sources fewer": put("structures.liver", "organs/liver"),
        "segmenter renamed": rename_segmenter,
        "segmenter removed": both(
            put("segmenters.tissue", GONE),
            put("structures.fat", GONE),
            put("structures.soft", GONE),
        ),
        "segmenter unused": both(put("structures.fat", GONE), put("structures.soft", GONE)),
        "bands reordered": reorder("segmenters.tissue.bands"),
        "labels reordered": reorder("segmenters.organs.labels"),
        "mask names reordered": put("segmenters.masks.labels", ["liver", "kidney"]),
        "target renamed": rename("targets", "cyst", "zyste"),
        "targets as instances": put("targets", {"tumor": [1], "cyst": [2, 3]}),
        "target gone": put("targets", {"tumor": [1, 2]}),
        "a segmenter of the lesion file": both(
            put("targets", {"tumor": 1}),
            put("segmenters.own", {"kind": "files", "path": "{lesion}", "labels": {"cyst": 2}}),
            put("structures.cyst", "own/cyst"),
        ),
        "groups reordered": put("compose.groups", {"solid": ["spleen", "liver"]}),
        "nested reordered": put("compose.nested", ["kidney", "liver"]),
        "nested none": put("compose.nested", []),
        "unknown as background": put("compose.unknown", "background"),
        "regions": both(
            put("compose.emit", "regions"), put("compose.regions", {"all": ["*"], "in": ["solid"]})
        ),
        "regions reordered": both(
            put("compose.emit", "regions"), put("compose.regions", {"in": ["solid"], "all": ["*"]})
        ),
        "one channel": both(put("dataset.channels", ["ct"]), put("export.bids", {})),
        "masks restricted": both(
            put("export.only_unrestricted", True), put("segmenters.masks.commercial", True)
        ),
        "pictures and one batch": both(put("run.pictures", True), put("run.batch_size", 9)),
    }  # fmt: skip


def all_changes() -> dict[str, Change]:
    """Every change by a name, those of keys with what has to be so before."""
    keys = {
        key: both(*change) if isinstance(change, tuple) else change
        for key, change in key_changes().items()
        if not isinstance(change, str)
    }
    rules = {k: c for k, c in keys.items() if k.startswith("qc.rules.")}
    few = {k: c for n, (k, c) in enumerate(sorted(rules.items())) if n % 8 == 0}
    other = {k: c for k, c in keys.items() if k not in rules}
    return {**other, **few, **TABLE_CHANGES, **file_changes(), **more_changes()}


def pair(tiny: Tiny, seed: int) -> list[Change]:
    """Two changes drawn at random which leave a project that can be run."""
    changes, draw = all_changes(), random.Random(seed)
    while True:
        drawn = [changes[name] for name in draw.sample(sorted(changes), 2)]
        try:
            both(*drawn)(tiny)
            project = open_project(tiny.write())
            read_decisions(project.config.decisions_path, project.table.ids)
            if not project.resolved.problems:
                return drawn
        except (RunError, KeyError, AttributeError, FileNotFoundError):
            continue  # one takes away what the other changes
        finally:
            tiny.back()
            tiny.write()


def pair_holds(tiny: Tiny, seed: int) -> None:
    """Run after each of two changes, and after both are taken back: as clean runs would end."""
    for change in pair(tiny, seed):
        change(tiny)
        tiny.run()
    assert tiny.differing() == []
    tiny.back()
    tiny.run()
    assert tiny.differing_from_first() == []
