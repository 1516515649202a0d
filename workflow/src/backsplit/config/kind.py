"""What the section of every kind of segmenter answers from the configuration alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import Field

from backsplit.config.base import LabelValue, Section

PATH_FIELD = re.compile(r"[^.\[\]{}!:]+")
"""What may stand between the braces of a path: a name, and no way into Python's objects."""

LESION_PATH = re.compile(r"\{(lesion(?:_[^{}]+)?)\}")
"""Path of label files that are lesion files themselves: `{lesion}`, `{lesion_tumor}`."""


@dataclass(frozen=True)
class LabelPath:
    """Where a label file of each case lies.

    Attributes
    ----------
    pattern : path with {case}, {column} of the table, and the names of `fields`
    fields : what else stands in braces, and what it stands for
    """

    pattern: str
    fields: Mapping[str, str] = field(default_factory=dict)


class SegmenterSection(Section):
    """What a section of any kind answers from the configuration alone.

    What takes more than that (classes, weights, licence, labels) its kind's module answers, as
    `segment.base.Segmenter` has it.
    """

    is_network: ClassVar[bool] = False
    """Whether a network labels: it takes a GPU, and cores that prepare cases ahead."""
    is_anatomy: ClassVar[bool] = True
    """Whether its classes are anatomy that lesions lie in, and no mere bands of intensity."""

    places: ClassVar[tuple[str, ...]] = ()
    """Keys that only say where weights are: labels depend on what the weights contain."""

    def input_channels(self, channels: tuple[str, ...]) -> tuple[str, ...]:
        """Channels that it reads, where the data set has these; none unless a kind says so."""
        return ()

    @property
    def label_paths(self) -> Mapping[str, LabelPath]:
        """Label files of each case that it reads, by role."""
        return {}

    @property
    def lesion_column(self) -> str | None:
        """Column of lesion files that are its label files; None where it has files of its own."""
        found = [LESION_PATH.fullmatch(path.pattern) for path in self.label_paths.values()]
        return next((match[1] for match in found if match), None)

    @property
    def lesion_values(self) -> Mapping[LabelValue, str]:
        """Values of the lesion file that it reads as anatomy, with their names."""
        return {}

    @property
    def label_values(self) -> Mapping[str, LabelValue]:
        """Class to the value, or name, that it has in the one file of all classes."""
        return {}

    def what_labels(self) -> dict[str, Any]:
        """The part of the section that its labels depend on: a change starts a job."""
        return self.model_dump(mode="json")

    def what_decides(self) -> dict[str, Any]:
        """That part without `places`: what a fingerprint holds of the section."""
        return {key: value for key, value in self.what_labels().items() if key not in self.places}


class Licensed(SegmenterSection):
    """Whose labels somebody has rights to; nothing here changes a label."""

    licence: str | None = Field(
        default=None,
        min_length=1,
        description="Licence of the labels: an SPDX id or a few words. Default: what the "
        "installed TotalSegmentator says about its task; for other kinds, unknown.",
    )
    commercial: bool | Literal["unknown"] = Field(
        default="unknown",
        description="Whether the labels may be used commercially. `unknown` counts as no.",
    )

    def what_labels(self) -> dict[str, Any]:
        """The part of the section that its labels depend on: not what may be done with them."""
        return self.model_dump(mode="json", exclude=set(Licensed.model_fields))
