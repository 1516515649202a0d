"""What a person changes between two runs: every key, every column, every kind of file."""

from __future__ import annotations

import gzip
import random
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from pydantic import BaseModel

from backsplit.config.model import Config
from backsplit.errors import RunError
from backsplit.flow.project import open_project
from backsplit.judge.verdicts import read_decisions
from support.project import load, save
from support.tiny import SHAPE, Change, Tiny, edit_in_place, image, lesions, organs

Setup = Change
GONE = object()
"""Instead of a value: the key is taken out."""


def schema_keys(model: type[BaseModel] = Config, before: str = "") -> Iterator[str]:
    """Every key of the configuration's schema, the kinds of segmenters by their names."""
    for field, info in model.model_fields.items():
        key = before + (info.alias or field)
        yield key
        for section in _models(info.annotation):
            kind = section.model_fields.get("kind")
            word = f"{typing.get_args(kind.annotation)[0]}." if kind else ""
            yield from schema_keys(section, f"{key}.{word}")


def _models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in typing.get_args(annotation) for m in _models(part)]


def put(key: str, value: object) -> Change:
    """Give a key a value; of a list of rules the first is meant."""

    def change(tiny: Tiny) -> None:
        *way, last = key.split(".")
        section: Any = tiny.settings
        for name in way:
            section = (
                section.setdefault(name, {}) if isinstance(section, dict) else section[0][name]
            )
        if isinstance(section, list):
            section = section[0]
        if value is GONE:
            section.pop(last, None)
        else:
            section[last] = value

    return change


def both(*changes: Change) -> Change:
    """Several changes as one."""

    def change(tiny: Tiny) -> None:
        for one in changes:
            one(tiny)

    return change


def reorder(key: str) -> Change:
    """The entries of a mapping in the reverse order."""

    def change(tiny: Tiny) -> None:
        section: Any = tiny.settings
        for name in key.split("."):
            section = section[name]
        entries = list(section.items())
        section.clear()
        section.update(reversed(entries))

    return change


def rename(key: str, old: str, new: str) -> Change:
    """Another name for an entry, in its place; what is said of it elsewhere stays."""

    def change(tiny: Tiny) -> None:
        section: Any = tiny.settings
        for name in key.split("."):
            section = section[name]
        entries = [(new if name == old else name, value) for name, value in section.items()]
        section.clear()
        section.update(entries)

    return change


def rename_structure(tiny: Tiny) -> None:
    rename("structures", "spleen", "milt")(tiny)
    for named in tiny.settings["compose"].get("groups", {}).values():
        named[:] = ["milt" if name == "spleen" else name for name in named]


def rename_segmenter(tiny: Tiny) -> None:
    rename("segmenters", "organs", "viscera")(tiny)
    for name, sources in tiny.settings["structures"].items():
        if isinstance(sources, str):
            tiny.settings["structures"][name] = sources.replace("organs/", "viscera/")
        else:
            sources[:] = [source.replace("organs/", "viscera/") for source in sources]


def other_table(tiny: Tiny) -> None:
    tiny.settings["dataset"]["cases"] = "other.tsv"
    tiny.write()
    lines = (tiny.folder / "cases.tsv").read_text().splitlines(keepends=True)
    (tiny.folder / "other.tsv").write_text("".join([lines[0], *lines[:0:-1]]))


def off_grid(tiny: Tiny) -> None:
    """A lesion file that is drawn on the grid of another channel."""
    save(tiny.folder / "images" / "a_mr.nii.gz", image(5), (2.0, 2.0, 3.2))
    save(tiny.folder / "lesions" / "a.nii.gz", lesions(0), (2.0, 2.0, 3.2))


def decisions(text: str) -> Change:
    def change(tiny: Tiny) -> None:
        (tiny.folder / "other-decisions.tsv").write_text(text)
        tiny.settings["qc"]["decisions"] = "other-decisions.tsv"

    return change


RULE_CHANGES: Mapping[str, object] = {
    "severity": "review", "source": "another book", "of": "spleen", "low": 2.0, "high": 0.5,
    "left": "cord", "right": "liver", "factor": 1.01, "first_touches": "cord",
    "last_touches": "spleen", "to": "cord", "within_mm": 0.1, "most": 0.0,
}  # fmt: skip
NAMES = {"order": ["liver", "spleen", "cord"], "chain": ["liver", "cord"]}
NETWORK = (
    "of a network, which takes minutes: its key is held against its labels by a test of its own"
)


def key_changes() -> dict[str, Change | str | tuple[Setup, Change]]:
    """Dotted key to its change, with what has to be so before; or why there is none."""
    found: dict[str, Change | str | tuple[Setup, Change]] = {
        "dataset": both(put("dataset.name", "Other"), put("dataset.id", 20)),
        "dataset.name": put("dataset.name", "Other"),
        "dataset.id": put("dataset.id", 20),
        "dataset.cases": other_table,
        "dataset.channels": put("dataset.channels", ["mr", "ct"]),
        "dataset.grid": put("dataset.grid", "mr"),
        "dataset.other_grids": (off_grid, put("dataset.other_grids", "refuse")),
        "targets": put("targets", {"cyst": 2, "tumor": 1}),
        "segmenters": reorder("segmenters"),
        "segmenters.files.licence": put("segmenters.organs.licence", "MIT"),
        "segmenters.files.commercial": put("segmenters.organs.commercial", False),
        "segmenters.files.kind": put(
            "segmenters.masks",
            {"kind": "threshold", "bands": {"kidney": [20, 30], "liver": [30, 45]}},
        ),
        "segmenters.files.path": put("segmenters.masks.path", "masks/b/{name}.nii.gz"),
        "segmenters.files.labels": put(
            "segmenters.organs.labels", {"liver": 2, "spleen": 1, "cord": 3}
        ),
        "segmenters.files.missing": put("segmenters.masks.missing", "absent"),
        "segmenters.threshold.kind": put(
            "segmenters.tissue",
            {"kind": "files", "path": "organs/{case}.nii.gz", "labels": {"fat": 1, "soft": 2}},
        ),
        "segmenters.threshold.channel": put("segmenters.tissue.channel", "mr"),
        "segmenters.threshold.bands": put(
            "segmenters.tissue.bands", {"soft": [-190, -30], "fat": [-30, 250]}
        ),
        "segmenters.threshold.within": put("segmenters.tissue.within", "image"),
        "segmenters.threshold.body_above": put("segmenters.tissue.body_above", 0.0),
        "structures": reorder("structures"),
        "compose": put("compose", {}),
        "compose.order": put("compose.order", ["targets", "tissue", "masks", "organs"]),
        "compose.groups": (
            put("compose.hosts", {"tumor": ["solid"]}),
            put("compose.groups", {"solid": ["soft"]}),
        ),
        "compose.except": put("compose.except", [{"winner": "soft", "loser": "liver"}]),
        "compose.except.winner": (
            put("compose.except", [{"winner": "soft", "loser": "liver"}]),
            put("compose.except", [{"winner": "kidney", "loser": "liver"}]),
        ),
        "compose.except.loser": (
            put("compose.except", [{"winner": "soft", "loser": "liver"}]),
            put("compose.except", [{"winner": "soft", "loser": "spleen"}]),
        ),
        "compose.segmenter_lesions": (
            both(
                put("segmenters.organs.labels", {"liver": 1, "spleen": 2, "tumour": 3}),
                put("structures.cord", GONE),
                put("qc.rules", {}),
                put("compose.segmenter_lesions", {"organs/tumour": "background"}),
            ),
            put("compose.segmenter_lesions", {"organs/tumour": "liver"}),
        ),
        "compose.hosts": put("compose.hosts", {"tumor": ["spleen"]}),
        "compose.repair": put("compose.repair", {"rim_mm": 5, "over": ["soft"]}),
        "compose.repair.rim_mm": (
            put("compose.repair", {"rim_mm": 2, "over": ["soft"]}),
            put("compose.repair", {"rim_mm": 9, "over": ["soft"]}),
        ),
        "compose.repair.holes": put("compose.repair", {"holes": True, "over": ["soft"]}),
        "compose.repair.over": (
            put("compose.repair", {"rim_mm": 5}),
            put("compose.repair", {"rim_mm": 5, "over": ["fat", "soft"]}),
        ),
        "compose.unknown": put("compose.unknown", "drop"),
        "compose.emit": put("compose.emit", "regions"),
        "compose.regions": (
            both(put("compose.emit", "regions"), put("compose.regions", {"all": ["*"]})),
            put("compose.regions", {"body": ["solid", "cord"], "all": ["*"]}),
        ),
        "compose.nested": put("compose.nested", ["spleen"]),
        "qc": put("qc", {}),
        "qc.rules": put("qc.rules", {}),
        "qc.off": put("qc.off", ["volume:*"]),
        "qc.cohort": put("qc.cohort", {"limit": 2, "fewest": 6}),
        "qc.cohort.limit": (many_cases, put("qc.cohort", {"limit": 0.2})),
        "qc.cohort.fewest": put("qc.cohort", {"fewest": 5}),
        "qc.groups": put("qc.groups", ["patient"]),
        "qc.least_dice": put("qc.least_dice", 0.0),
        "qc.decisions": decisions("case\tdecision\tnote\na\treject\tno\n"),
        "export": put("export", {}),
        "export.nnunet": put("export.nnunet", {"mode": "copy"}),
        "export.nnunet.mode": put("export.nnunet", {"mode": "copy"}),
        "export.monai": put("export.monai", None),
        "export.bids": put("export.bids", GONE),
        "export.bids.mode": put("export.bids.mode", "copy"),
        "export.bids.suffixes": put("export.bids.suffixes", {"mr": "T2w"}),
        "export.bids.description": put("export.bids.description", {"Authors": ["me"]}),
        "export.only_unrestricted": put("export.only_unrestricted", True),
        "run": put("run", {"batch_size": 3, "pictures": False, "device": "cpu"}),
        "run.results": put("run.results", "results-elsewhere"),
        "run.batch_size": put("run.batch_size", 1),
        "run.device": put("run.device", "auto"),
        "run.case_minutes": put("run.case_minutes", 5),
        "run.pictures": put("run.pictures", True),
        "run.on_bad_case": put("run.on_bad_case", "stop"),
    }
    for key in schema_keys():
        way = key.split(".")
        if way[:1] == ["segmenters"] and way[1:2] in (["totalsegmentator"], ["nnunet"]):
            found[key] = NETWORK
        elif way[:2] == ["qc", "rules"] and len(way) == 3:
            found[key] = put(key, [])
        elif way[:2] == ["qc", "rules"] and len(way) == 4:
            kind, field = way[2:]
            change = put(key, NAMES[kind] if field == "names" else RULE_CHANGES[field])
            # a breach that only informs says the same of an unnamed rule; a review shows
            found[key] = (put(f"qc.rules.{kind}.severity", "warn"), change)
    return found


def many_cases(tiny: Tiny) -> None:
    for number, case in enumerate(("d", "e"), start=3):
        tiny.new_case(case, number)
    tiny.settings["qc"]["cohort"] = {"limit": 4.5, "fewest": 5}


def add_case(tiny: Tiny) -> None:
    if all(row["case"] != "d" for row in tiny.rows):
        tiny.new_case("d", 4)


def add_case_first(tiny: Tiny) -> None:
    add_case(tiny)
    tiny.rows.insert(0, tiny.rows.pop())


def remove_case(case: str, tiny: Tiny) -> None:
    tiny.rows = [row for row in tiny.rows if row["case"] != case]


def rename_case(tiny: Tiny) -> None:
    """Another id for the same files."""
    for row in tiny.rows:
        if row["case"] == "c":
            row["case"] = "renamed"
            organ = tiny.folder / "organs" / "c.nii.gz"
            if organ.exists():
                organ.with_name("renamed.nii.gz").write_bytes(organ.read_bytes())


def exchange_ids(tiny: Tiny) -> None:
    for row in tiny.rows:
        row["case"] = {"a": "c", "c": "a"}.get(row["case"], row["case"])


def reverse_rows(tiny: Tiny) -> None:
    tiny.rows.reverse()


def cell(case: str, column: str, value: str) -> Change:
    def change(tiny: Tiny) -> None:
        for row in tiny.rows:
            if row["case"] == case:
                row[column] = value

    return change


def every_cell(column: str, value: str) -> Change:
    def change(tiny: Tiny) -> None:
        for row in tiny.rows:
            row[column] = value

    return change


def without_column(column: str) -> Change:
    def change(tiny: Tiny) -> None:
        for row in tiny.rows:
            row.pop(column, None)

    return change


def reverse_columns(tiny: Tiny) -> None:
    tiny.rows = [dict(reversed(row.items())) for row in tiny.rows]


TABLE_CHANGES: Mapping[str, Change] = {
    "case added": add_case,
    "case added first": add_case_first,
    "case removed": partial(remove_case, "a"),
    "last case removed": partial(remove_case, "c"),
    "case renamed": rename_case,
    "ids exchanged": exchange_ids,
    "rows reversed": reverse_rows,
    "id twice": cell("c", "case", "b"),
    "id invalid": cell("c", "case", "../c"),
    "columns reversed": reverse_columns,
    "image_ct": cell("a", "image_ct", "images/b.nii.gz"),
    "image_ct empty": cell("a", "image_ct", ""),
    "image_mr": cell("a", "image_mr", "images/b_mr.nii.gz"),
    "lesion": cell("a", "lesion", "lesions/b.nii.gz"),
    "lesion none": cell("a", "lesion", "none"),
    "lesion empty": cell("a", "lesion", ""),
    "patient": cell("a", "patient", "p1"),
    "patient gone": without_column("patient"),
    "exclude": cell("a", "exclude", "liver; cord"),
    "exclude unknown": cell("a", "exclude", "nothing"),
    "exclude gone": without_column("exclude"),
    "site": cell("a", "site", "s1"),
    "site gone": without_column("site"),
    "masks": cell("a", "masks", "masks/c"),
    "masks nowhere": cell("a", "masks", "masks/nowhere"),
    "a column more": every_cell("scanner", "x"),
}  # fmt: skip


def write_volume(name: str, array: Callable[[], np.ndarray]) -> Change:
    def change(tiny: Tiny) -> None:
        save(tiny.folder / name, array())

    return change


def same_size(name: str) -> Change:
    """Another content of the same length, with the time of the one before."""

    def change(tiny: Tiny) -> None:
        path = tiny.folder / name
        before = path.read_bytes()
        array = load(path)
        save(path, np.ascontiguousarray(array[:, :, ::-1]))
        flipped = gzip.decompress(path.read_bytes())
        path.write_bytes(before)
        data = gzip.compress(flipped, 9, mtime=0)
        # NIfTI in gzip may have bytes after it: both are as long as the longer one
        edit_in_place(path, data + b"\0" * (len(before) - len(data)))

    return change


def gone(name: str) -> Change:
    def change(tiny: Tiny) -> None:
        (tiny.folder / name).unlink(missing_ok=True)

    return change


def cut(name: str) -> Change:
    def change(tiny: Tiny) -> None:
        path = tiny.folder / name
        if path.exists():
            path.write_bytes(path.read_bytes()[:-20])

    return change


def touched(name: str) -> Change:
    def change(tiny: Tiny) -> None:
        path = tiny.folder / name
        if path.exists():
            path.write_bytes(path.read_bytes())

    return change


def text(name: str, content: str) -> Change:
    def change(tiny: Tiny) -> None:
        (tiny.folder / name).write_text(content)

    return change


FILES: Mapping[str, tuple[str, Callable[[], np.ndarray]]] = {
    "image": ("images/a.nii.gz", lambda: image(7)),
    "other channel": ("images/a_mr.nii.gz", lambda: image(8)),
    "lesion": ("lesions/a.nii.gz", lambda: lesions(1)),
    "multilabel": ("organs/a.nii.gz", lambda: organs(1)),
    "binary": ("masks/a/kidney.nii.gz", lambda: (organs(0) == 2).astype(np.uint8)),
}


def file_changes() -> dict[str, Change]:
    found: dict[str, Change] = {}
    for kind, (name, other) in FILES.items():
        found[f"{kind} edited"] = write_volume(name, other)
        found[f"{kind} edited, same size and time"] = same_size(name)
        found[f"{kind} removed"] = gone(name)
        found[f"{kind} cut"] = cut(name)
        found[f"{kind} touched"] = touched(name)
        found[f"{kind} on another grid"] = write_volume(name, lambda o=other: o()[:-1])
    found["binary file added"] = write_volume(
        "masks/b/liver.nii.gz", lambda: (organs(0) == 1).astype(np.uint8)
    )
    undeclared = np.zeros(SHAPE, np.uint8)
    undeclared[3, 3, 3] = 9
    found["lesion with an undeclared value"] = write_volume("lesions/a.nii.gz", lambda: undeclared)
    found["multilabel with another value"] = write_volume("organs/a.nii.gz", lambda: undeclared)
    found["binary not binary"] = write_volume("masks/a/kidney.nii.gz", lambda: organs(0))
    header = "case\tdecision\tnote\n"
    for name, rows in {
        "edited": "a\treject\tno\n", "one more": "b\treview\tlook\na\treview\tlook\n",
        "note": "b\treview\tsee\n", "other": "c\treview\tlook\n",
    }.items():  # fmt: skip
        found[f"decisions {name}"] = text("decisions.tsv", header + rows)
    found["decisions removed"] = gone("decisions.tsv")
    found["decisions same size and time"] = lambda tiny: edit_in_place(
        tiny.folder / "decisions.tsv", (header + "c\treview\tlook\n").encode()
    )
    return found


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
        except (RunError, KeyError, AttributeError):
            continue  # one takes away what the other changes
        finally:
            tiny.back()
            tiny.write()
