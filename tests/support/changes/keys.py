"""Changes of every key of the configuration."""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from backsplit.config.model import Config
from support.changes.table import many_cases
from support.project import save
from support.tiny import Change, Tiny, edit_in_place, image, lesions

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
            sources = sources["of"] if isinstance(sources, dict) else sources  # noqa: PLW2901
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


def unlooked(tiny: Tiny) -> None:
    """Slices of a lesion file where nobody looked."""
    array = lesions(0)
    array[6:] = 9
    save(tiny.folder / "lesions" / "a.nii.gz", array)


LABELLER = [sys.executable, str(Path(__file__).parents[1] / "labeller.py")]


def program(**keys: object) -> Change:
    """A program that labels, and a structure from it."""
    section = {
        "kind": "command",
        "command": [*LABELLER, "{image}", "{output}"],
        "labels": {"body": 1, "hard": 2},
    }
    return both(put("segmenters.program", section | keys), put("structures.hard", "program/hard"))


def program_changes() -> dict[str, tuple[Setup, Change] | str]:
    """Changes of the keys of a `command`, with one that is there before."""
    changed = {
        "licence": "MIT",
        "commercial": True,
        "command": [*LABELLER, "{image}", "{output}", "--how", "well"],
        "labels": {"body": 2, "hard": 1},
        "channel": "mr",
        "input": "image-{case}.nii.gz",
        "output": "outputs/{case}_labels.nii.gz",
        "devices": {"cpu": "none"},
        "missing": "absent",
        "version_command": [*LABELLER, "--version"],
        "depends_on": ["organs/a.nii.gz"],
        "timeout_minutes": 5,
    }
    found: dict[str, tuple[Setup, Change] | str] = {
        f"segmenters.command.{key}": (program(), put(f"segmenters.program.{key}", value))
        for key, value in changed.items()
    }
    bands = {"kind": "threshold", "bands": {"body": [-500, 250], "hard": [250, None]}}
    found["segmenters.command.kind"] = (program(), put("segmenters.program", bands))
    folders = [*LABELLER, "{images}", "{outputs}"]
    found["segmenters.command.batch"] = (program(), program(command=folders, batch="folder"))
    for key in ("container", "container.image", "container.engine"):
        found[f"segmenters.command.{key}"] = CONTAINER
    return found


OWN = "organs/labeller.py"
OWN_PROGRAM = {
    "command": [sys.executable, OWN, "{image}", "{output}"],
    "depends_on": ["organs/weights"],
}


def own_file(name: str, old: str, new: str) -> Change:
    """Another text in a file that labels depend on, as long as before and with its time."""

    def change(tiny: Tiny) -> None:
        path = tiny.folder / name
        edit_in_place(path, path.read_text().replace(old, new).encode())

    return change


def own_files(tiny: Tiny) -> None:
    """A program of the project's own, and its weights."""
    (tiny.folder / OWN).write_text(Path(LABELLER[1]).read_text())
    (tiny.folder / "organs" / "weights").write_text("weights 1")
    program(**OWN_PROGRAM)(tiny)


def own_file_changes() -> dict[str, tuple[Setup, Change]]:
    """Changes of the files that a segmenter's labels depend on beside the cases'."""
    return {
        "program replaced": (own_files, own_file(OWN, "image > 250", "image > 500")),
        "weights replaced": (own_files, own_file("organs/weights", "weights 1", "weights 2")),
    }


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
STUDY = "of the study, of which a run makes nothing: tests/integration/test_study_whole.py"
NETWORK = (
    "of a network, which takes minutes: its key is held against its labels by a test of its own"
)


NETWORKS = (["totalsegmentator"], ["nnunet"], ["monai_bundle"])
CONTAINER = "of a container, which takes an engine: what is called is held by tests of its own"


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
        "ignore": (unlooked, put("ignore", 9)),
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
        "structures.of": put("structures.liver", {"of": ["masks/liver", "organs/liver"]}),
        "structures.by": put(
            "structures.liver", {"of": ["organs/liver", "masks/liver"], "by": "union"}
        ),
        "structures.disagree": put(
            "structures.liver", {"of": ["organs/liver", "masks/liver"], "disagree": "ignore"}
        ),
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
        "qc.review": (many_cases, put("qc.review", 0.6)),
        "qc.cohort": put("qc.cohort", {"fewest": 6}),
        "qc.cohort.fewest": put("qc.cohort", {"fewest": 5}),
        "qc.groups": put("qc.groups", ["patient"]),
        "qc.least_dice": put("qc.least_dice", 0.0),
        "qc.decisions": decisions("case\tdecision\tnote\na\treject\tno\n"),
        "export": put("export", {}),
        "export.nnunet": put("export.nnunet", {"mode": "copy"}),
        "export.nnunet.mode": put("export.nnunet", {"mode": "copy"}),
        "export.nnunet.channel_names": put("export.nnunet", {"channel_names": {"mr": "CT"}}),
        "export.monai": put("export.monai", None),
        "export.bids": put("export.bids", GONE),
        "export.bids.mode": put("export.bids.mode", "copy"),
        "export.bids.suffixes": put("export.bids.suffixes", {"mr": "T2w"}),
        "export.bids.description": put("export.bids.description", {"Authors": ["me"]}),
        "export.segmentations": put("export.segmentations", GONE),
        "export.only_unrestricted": put("export.only_unrestricted", True),
        "run": put("run", {"batch_size": 3, "pictures": False, "device": "cpu"}),
        "run.results": put("run.results", "results-elsewhere"),
        "run.batch_size": put("run.batch_size", 1),
        "run.device": put("run.device", "auto"),
        "run.case_minutes": put("run.case_minutes", 5),
        "run.pictures": put("run.pictures", True),
        "run.pages": put("run.pages", "all"),
        "run.on_bad_case": put("run.on_bad_case", "stop"),
    }
    found |= program_changes()
    for key in schema_keys():
        way = key.split(".")
        if way[0] == "study":
            found[key] = STUDY
        elif way[:1] == ["segmenters"] and way[1:2] in NETWORKS:
            found[key] = NETWORK
        elif way[:2] == ["qc", "rules"] and len(way) == 3:
            found[key] = put(key, [])
        elif way[:2] == ["qc", "rules"] and len(way) == 4:
            kind, field = way[2:]
            change = put(key, NAMES[kind] if field == "names" else RULE_CHANGES[field])
            # a breach that only informs says the same of an unnamed rule; a review shows
            found[key] = (put(f"qc.rules.{kind}.severity", "warn"), change)
    return found
