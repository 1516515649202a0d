"""Licences of the segmenters: what may be done with labels that they made.

A network's weights, and label files, have their own licences. Training on labels is a use of them,
so a data set may be used commercially only if every segmenter that shaped it allows that. What
nobody has said is treated as restricted.
"""

from __future__ import annotations

from backsplit.config.kind import Licensed
from backsplit.config.model import Config
from backsplit.segment import build
from backsplit.segment.base import Commercial, Licence

UNSTATED = Licence(
    "unknown",
    Commercial.UNKNOWN,
    "not stated; set `licence` and `commercial` of this segmenter",
    "nobody",
)


def licences(config: Config) -> dict[str, Licence]:
    """Licence of every segmenter that a structure asks for."""
    return {name: build(config, name).licence() for name in config.used_segmenters}


def restricted_segmenters(config: Config) -> tuple[str, ...]:
    """Segmenters whose labels are not known to be free for commercial use."""
    return tuple(name for name, licence in licences(config).items() if licence.restricted)


def stated_licence(section: Licensed) -> Licence | None:
    """Licence that a segmenter's section states; None where it says nothing."""
    if section.licence is None and section.commercial == "unknown":
        return None
    said = {True: Commercial.YES, False: Commercial.NO, "unknown": Commercial.UNKNOWN}
    commercial = said[section.commercial]
    terms = {
        Commercial.YES: "free for commercial use",
        Commercial.NO: "not for commercial use",
        Commercial.UNKNOWN: "whether it allows commercial use is not stated",
    }[commercial]
    return Licence(section.licence or "unknown", commercial, terms, "the configuration")
