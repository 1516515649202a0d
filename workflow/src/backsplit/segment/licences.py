"""Licences of the segmenters: what may be done with labels that they made.

A network's weights, and label files, have their own licences. Training on labels is a use of them,
so a data set may be used commercially only if every segmenter that shaped it allows that. What
nobody has said is treated as restricted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from backsplit.config.model import Config
from backsplit.config.segmenters import Files, NnUNet, SegmenterConfig, Threshold, TotalSegmentator


class Commercial(StrEnum):
    """Whether labels may be used commercially."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Licence:
    """What a segmenter's labels may be used for.

    Attributes
    ----------
    name : licence as its SPDX id, or in words
    commercial : whether they may be used commercially
    terms : what that means, for a person
    source : who says so
    """

    name: str
    commercial: Commercial
    terms: str
    source: str

    @property
    def restricted(self) -> bool:
        """Whether commercial use is not known to be allowed."""
        return self.commercial is not Commercial.YES


STATED_ELSEWHERE = {
    "brain_aneurysm": "CC BY-NC 4.0",
}
"""Tasks for which the installed TotalSegmentator asks for no licence, but whose weights are said to
have a non-commercial one (docs/auto-segmentation.md of alexprotom/rust-dicom-station). They count
as unknown."""

_OWN = Licence("Apache-2.0", Commercial.YES, "free for any use", "ships with backsplit")


def licence_of(segmenter: SegmenterConfig) -> Licence:
    """Licence of a segmenter: what its section says, or else what its package says."""
    if isinstance(segmenter, Threshold):
        return Licence("none", Commercial.YES, "intensities of the image itself", "no weights")
    if segmenter.licence or segmenter.commercial != "unknown":
        return _as_stated(segmenter)
    if isinstance(segmenter, TotalSegmentator):
        return _OWN if segmenter.weights == "demo" else _of_task(segmenter.task)
    terms = "nobody has said; set `licence` and `commercial` of this segmenter"
    return Licence("unknown", Commercial.UNKNOWN, terms, "nobody")


def licences(config: Config) -> dict[str, Licence]:
    """Licence of every segmenter that a structure asks for."""
    return {name: licence_of(config.segmenters[name]) for name in config.used_segmenters}


def restricted_segmenters(config: Config) -> tuple[str, ...]:
    """Segmenters whose labels are not known to be free for commercial use."""
    return tuple(name for name, licence in licences(config).items() if licence.restricted)


def _as_stated(segmenter: TotalSegmentator | NnUNet | Files) -> Licence:
    said = {True: Commercial.YES, False: Commercial.NO, "unknown": Commercial.UNKNOWN}
    commercial = said[segmenter.commercial]
    terms = {
        Commercial.YES: "free for commercial use",
        Commercial.NO: "not for commercial use",
        Commercial.UNKNOWN: "whether it allows commercial use was not said",
    }[commercial]
    return Licence(segmenter.licence or "unknown", commercial, terms, "the configuration")


def _of_task(task: str) -> Licence:
    """Licence of a task as the installed TotalSegmentator states it."""
    from totalsegmentator import registry

    source = f"TotalSegmentator {registry.package_version()}, registry.requires_license"
    if registry.requires_license(task):
        return Licence(
            "TotalSegmentator licence",
            Commercial.NO,
            "weights are free for non-commercial use with a licence number "
            "(https://backend.totalsegmentator.com/license-academic/); commercial use needs a "
            "licence from its authors",
            source,
        )
    if task in STATED_ELSEWHERE:
        terms = "the package asks for no licence; elsewhere its weights are called non-commercial"
        return Licence(STATED_ELSEWHERE[task], Commercial.UNKNOWN, terms, source)
    return Licence("Apache-2.0", Commercial.YES, "open for any use", source)
