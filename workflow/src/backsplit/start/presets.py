"""Configurations of well-known data sets, commented and whole: `backsplit init --preset kits23`.

With `--study` the data sets of the paper (BackSplit, arXiv 2511.19394) get its protocol as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backsplit.start.found import Found
from backsplit.start.names import counted, few
from backsplit.start.proposal import Summary, Where, render


@dataclass(frozen=True)
class Preset:
    """A data set whose configuration is known.

    Attributes
    ----------
    layouts : readers that find its cases
    template : of its configuration
    title : name of the data set
    number : nnU-Net's id, unless another one is asked for
    cases : pattern of its cases' names
    tasks : (pattern, title, number) of its parts, where they are data sets of their own
    sources : further sources of anatomy that the paper compared on it, each a configuration of its
        own; None: the paper did not use it
    """

    layouts: Sequence[str]
    template: str
    title: str
    number: int
    cases: str
    tasks: Sequence[tuple[str, str, int]] = ()
    sources: Sequence[str] | None = None

    def named(self, found: Found) -> tuple[str, int]:
        """Name and id of the data set, or of the part that all cases are of."""
        for pattern, title, number in self.tasks:
            if all(re.fullmatch(pattern, case.id) for case in found.cases):
                return title, number
        return self.title, self.number


@dataclass(frozen=True)
class Protocol:
    """A configuration of the paper's protocol.

    Attributes
    ----------
    source : of the anatomy; empty for the main one
    trained : folder of the networks, which the configurations of a data set share
    """

    source: str
    trained: str


PRESETS: Mapping[str, Preset] = {
    "kits19": Preset(["kits"], "kits", "KiTS19", 507, r"case_\d{5}"),
    "kits21": Preset(["kits"], "kits", "KiTS21", 508, r"case_\d{5}"),
    "kits23": Preset(["kits"], "kits", "KiTS23", 501, r"case_\d{5}",
                     sources=["interactive"]),
    "panther": Preset(
        ["panther"], "panther", "PANTHER", 502, r"\d{5}(_\d{4})?",
        [(r"\d{5}_\d{4}", "PANTHER1", 502), (r"\d{5}", "PANTHER2", 503)],
        sources=[],
    ),
    "nsclc": Preset(["nbia"], "nsclc", "NSCLC_Radiomics", 504, r"LUNG1-\d+", sources=[]),
    "autopet": Preset(["autopet", "autopet3"], "autopet", "AutoPET", 505, r"(PETCT|fdg|psma)_.+",
                      sources=["abdomenatlas", "vibesegmentator"]),
    "mswal": Preset(["mswal"], "mswal", "MSWAL", 506, r"MSWAL_\d+", sources=[]),
    "lits": Preset(["lits"], "lits", "LiTS", 509, r"volume-\d+"),
}  # fmt: skip


def doubts(preset: Preset, found: Found) -> list[str]:
    """What speaks against the cases being of the preset's data set."""
    others = [case.id for case in found.cases if not re.fullmatch(preset.cases, case.id)]
    if not others:
        return []
    number = counted(len(others), "case")
    return [
        f"names unlike those of {preset.title} in {number} ({few(others)}): is it that data set?"
    ]


def preset_text(
    preset: Preset, found: Found, summary: Summary, where: Where, paper: Protocol | None = None
) -> str:
    """The configuration of a preset as YAML, for cases that were found.

    Parameters
    ----------
    paper : write the paper's protocol
    """
    return render(
        f"preset/{'paper/' if paper else ''}{preset.template}.yaml.j2",
        found=found,
        labels=found.labels,
        summary=summary,
        where=where,
        preset=preset,
        paper=paper,
    )
