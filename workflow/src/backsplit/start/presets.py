"""Configurations of well-known data sets, commented and whole: `backsplit init --preset kits23`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backsplit.start.found import Found
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
    """

    layouts: Sequence[str]
    template: str
    title: str
    number: int


PRESETS: Mapping[str, Preset] = {
    "kits19": Preset(["kits"], "kits", "KiTS19", 507),
    "kits21": Preset(["kits"], "kits", "KiTS21", 508),
    "kits23": Preset(["kits"], "kits", "KiTS23", 501),
    "panther": Preset(["panther"], "panther", "PANTHER", 502),
    "nsclc": Preset(["nbia"], "nsclc", "NSCLC_Radiomics", 504),
    "autopet": Preset(["autopet", "autopet3"], "autopet", "AutoPET", 505),
    "mswal": Preset(["mswal"], "mswal", "MSWAL", 506),
    "lits": Preset(["lits", "msd"], "lits", "LiTS", 509),
}


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
