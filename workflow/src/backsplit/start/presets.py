"""Configurations of well-known data sets, commented and whole: `backsplit init --preset kits23`."""

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
    """

    layouts: Sequence[str]
    template: str
    title: str
    number: int
    cases: str
    tasks: Sequence[tuple[str, str, int]] = ()

    def named(self, found: Found) -> tuple[str, int]:
        """Name and id of the data set, or of the part that all cases are of."""
        for pattern, title, number in self.tasks:
            if all(re.fullmatch(pattern, case.id) for case in found.cases):
                return title, number
        return self.title, self.number


PRESETS: Mapping[str, Preset] = {
    "kits19": Preset(["kits"], "kits", "KiTS19", 507, r"case_\d{5}"),
    "kits21": Preset(["kits"], "kits", "KiTS21", 508, r"case_\d{5}"),
    "kits23": Preset(["kits"], "kits", "KiTS23", 501, r"case_\d{5}"),
    "panther": Preset(
        ["panther"], "panther", "PANTHER", 502, r"\d{5}(_\d{4})?",
        [(r"\d{5}_\d{4}", "PANTHER1", 502), (r"\d{5}", "PANTHER2", 503)],
    ),
    "nsclc": Preset(["nbia"], "nsclc", "NSCLC_Radiomics", 504, r"LUNG1-\d+"),
    "autopet": Preset(["autopet", "autopet3"], "autopet", "AutoPET", 505, r"(PETCT|fdg|psma)_.+"),
    "mswal": Preset(["mswal"], "mswal", "MSWAL", 506, r"MSWAL_\d+"),
    "lits": Preset(["lits"], "lits", "LiTS", 509, r"volume-\d+"),
}  # fmt: skip


def doubts(preset: Preset, found: Found) -> list[str]:
    """What speaks against the cases being of the preset's data set."""
    others = [case.id for case in found.cases if not re.fullmatch(preset.cases, case.id)]
    if not others:
        return []
    number = counted(len(others), "case")
    return [f"names unlike those of {preset.title} in {number} ({few(others)}): is it that one?"]


def preset_text(preset: Preset, found: Found, summary: Summary, where: Where) -> str:
    """The configuration of a preset as YAML, for cases that were found."""
    return render(
        f"preset/{preset.template}.yaml.j2",
        found=found,
        labels=found.labels,
        summary=summary,
        where=where,
        preset=preset,
    )
