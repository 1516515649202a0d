"""A first configuration for what was found: valid, commented, and to be read by a person."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from backsplit.config.base import BACKGROUND
from backsplit.start.anatomy import holder, structures_for
from backsplit.start.found import Found, Labelling
from backsplit.start.models import Model
from backsplit.start.names import lesions_and_anatomy, unlike
from backsplit.start.region import Part, View

MR = re.compile(r"(^|_)(mri?|t1|t2|pd|flair|dwi|adc|dce)", re.IGNORECASE)

PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./*-]*")

LONG_LINE = 100_000

WORDS = {"y", "n", "yes", "no", "true", "false", "on", "off", "null"}
"""What YAML takes for something else than text."""


@dataclass(frozen=True)
class Where:
    """What a data set is called, and where its files go.

    Attributes
    ----------
    name, number : of the data set
    cases, results : paths of the case table, and of the folder for all outputs
    command : that made them, where it is known
    """

    name: str
    number: int
    cases: str
    results: str
    command: str = ""


@dataclass(frozen=True)
class Summary:
    """What a person is told, in this order.

    Attributes
    ----------
    found, left_out, decide : what was found, what of the folder is not used and why, and what has
        to be decided
    """

    found: Sequence[str] = ()
    left_out: Sequence[str] = ()
    decide: Sequence[str] = ()


@dataclass(frozen=True)
class Proposal:
    """What the configuration is made of.

    Attributes
    ----------
    targets, anatomy : name to value, of the lesion files
    channel_names : channel to its name for nnU-Net, where that means something else
    channel : the one that is segmented
    grid : the one on whose grid the label maps are
    on_mr, on_ct : what it is
    structures : name to `segmenter/class`, or wildcards of it
    given : the segmenter that reads anatomy from the lesion files
    cysts : side to what becomes of kidney cysts that TotalSegmentator labels itself
    models : segmenter to a trained model that a person named
    organs, tissue : what TotalSegmentator and the bands of intensity are called
    """

    targets: Mapping[str, Labelling]
    anatomy: Mapping[str, Labelling]
    channel_names: Mapping[str, str]
    channel: str
    grid: str
    on_mr: bool
    on_ct: bool
    structures: Mapping[str, Sequence[str]]
    given: str = "given"
    cysts: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, Model] = field(default_factory=dict)
    organs: str = "organs"
    tissue: str = "tissue"

    @property
    def task(self) -> str:
        """Task of TotalSegmentator."""
        return "total_mr" if self.on_mr else "total"


def propose(
    found: Found, view: View, drawn_on: str = "", models: Mapping[str, Model] | None = None
) -> Proposal:
    """Propose targets, segmenters and structures.

    Anatomy that somebody drew comes before what a network sees, and stands alone: the network's
    label of the same structure would undo its border.

    Parameters
    ----------
    found : what the folder holds
    view : what part of the body its images show
    drawn_on : the channel on whose grid the lesions are, where that is known
    models : segmenter to a trained model; where there are some, TotalSegmentator is not proposed
    """
    models = models or {}
    targets, anatomy = lesions_and_anatomy(found.labels, found.lesions)
    if found.own_files:
        targets = {**dict.fromkeys(found.own_files, 1), **targets}
    mr = [channel for channel in found.channels if MR.search(channel)]
    ct = [channel for channel in found.channels if channel.split("_")[0].lower() == "ct"]
    channel = [*ct, *mr, found.channels[0]][0]
    own = unlike("given", [*found.given, *models])
    taken = [*found.given, *models, own]
    organs, tissue = unlike("organs", taken), unlike("tissue", taken)
    drawn = dict.fromkeys(anatomy, own)
    for segmenter, given in found.given.items():
        drawn |= {name: segmenter for name in given.names if name not in drawn}
    structures = {name: [f"{segmenter}/{name}"] for name, segmenter in drawn.items()}
    structures = {n: s for n, s in structures.items() if n not in targets}
    for segmenter, model in models.items():
        free_ = model.structures([*targets, *structures])
        structures |= {name: [f"{segmenter}/{name}"] for name in free_}
    if not models:
        classes_of = structures_for(view.parts, mr=channel in mr, taken=[*targets, *drawn])
        for name, classes in classes_of.items():
            free = unlike(name, [*structures, *targets])
            structures[free] = [f"{organs}/{each}" for each in classes]
    brain = set(view.parts) == {Part.HEAD}
    if channel in ct and not brain and not {"fat"} & {n.lower() for n in (*targets, *structures)}:
        structures["fat"] = [f"{tissue}/fat"]
    cysts = {}
    if channel not in mr:
        for side in ("right", "left"):
            kidney = f"{organs}/kidney_{side}"
            cysts[side] = holder(structures, kidney) or BACKGROUND
    return Proposal(
        targets or {"lesion": 1},
        anatomy,
        {**{c: "CT" for c in ct if c.lower() != "ct"}, **found.channel_names},
        channel,
        drawn_on or channel,
        channel in mr,
        channel in ct,
        structures,
        own,
        cysts,
        models,
        organs,
        tissue,
    )


def config_text(
    found: Found, proposal: Proposal, view: View, summary: Summary, where: Where
) -> str:
    """The configuration as YAML."""
    drawn = {name: sources[0].partition("/")[0] for name, sources in proposal.structures.items()}
    given = {proposal.given, *found.given}
    return render(
        "config.yaml.j2",
        found=found,
        proposal=proposal,
        command=where.command,
        view=view,
        summary=summary,
        where=where,
        drawn=[name for name, segmenter in drawn.items() if segmenter in given],
        uses=set(drawn.values()),
    )


def render(template: str, **values: Any) -> str:  # noqa: ANN401 (what a template asks for)
    """A template of this package with its values."""
    environment = Environment(
        loader=PackageLoader("backsplit", "start"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 (YAML: the filter `yaml` quotes)
    )
    environment.filters["yaml"] = quoted
    environment.filters["comment"] = _commented
    return environment.get_template(template).render(**values)


def quoted(value: Labelling) -> str:
    """A value as YAML has it, on one line and free of anything but ASCII where it needs quotes."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(quoted, value))}]"
    if isinstance(value, int):
        return str(value)
    if PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    return yaml.safe_dump(value, default_style='"', width=LONG_LINE).strip()


def _commented(text: str) -> str:
    """Text that stays within a comment."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
