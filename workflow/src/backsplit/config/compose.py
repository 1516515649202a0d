"""The section `compose`: how the layers become one label map."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Literal, Self

from pydantic import Field, model_validator

from backsplit.config.base import Name, OneOrMore, Section


class PairRule(Section):
    """An exception from the order: on voxels that both claim, the winner is kept."""

    winner: str = Field(description="Label, group or wildcard that wins.")
    loser: str = Field(description="Label, group or wildcard that yields to it.")


HOLES_WITHIN_MM = 3.0
"""Holes are filled as far from the lesion where no rim is asked for."""


class Repair(Section):
    """Which voxels around a lesion go to its host."""

    rim_mm: float = Field(
        default=0.0,
        ge=0,
        le=20,
        description="Unlabelled voxels this close to both the lesion and its host go to the host.",
    )
    holes: bool = Field(
        default=False,
        description="Unlabelled cavities enclosed by lesion and host go to the host, as far as "
        f"rim_mm from the lesion ({HOLES_WITHIN_MM:g} mm where rim_mm is 0).",
    )
    over: tuple[str, ...] = Field(
        default=(),
        description="Structures that count as unlabelled here (intensity bands such as fat).",
    )

    @property
    def is_on(self) -> bool:
        """Whether anything is to be repaired."""
        return self.rim_mm > 0 or self.holes


class Compose(Section):
    """How the layers become one label map."""

    order: tuple[str, ...] | None = Field(
        default=None,
        description="Layers by precedence, the first wins. Default: targets, then the segmenters "
        "in the order of the file. `targets` comes first.",
    )
    groups: dict[Name, OneOrMore] = Field(
        default={}, description="{name: labels or wildcards}, for use in `except` and `regions`."
    )
    except_: tuple[PairRule, ...] = Field(
        default=(),
        alias="except",
        description="Exceptions from the order, for pairs of labels: [{winner: …, loser: …}].",
    )
    segmenter_lesions: dict[str, str] = Field(
        default={},
        description="{segmenter/class, * and ? are wildcards: a structure, `background` or "
        "`ignore`}: what becomes of lesions that a segmenter labels itself.",
    )
    hosts: dict[Name, OneOrMore] = Field(
        default={},
        description="{target: structures or wildcards that its lesions can lie in}. Default: "
        "every structure that does not come from intensity bands alone.",
    )
    repair: Repair = Repair()
    unknown: Literal["ignore", "background", "drop"] = Field(
        default="ignore",
        description="Where a structure could not be labelled for a case: write `ignore` on the "
        "voxels of the body where it could be, leave them unlabelled, or drop the case.",
    )
    emit: Literal["flat", "regions"] = Field(
        default="flat", description="nnU-Net's labels as flat ids or as overlapping regions."
    )
    regions: dict[Name, OneOrMore] = Field(
        default={},
        description="{region: labels, groups or wildcards}; labels in no "
        "region are regions of their own.",
    )
    nested: tuple[str, ...] = Field(
        default=(),
        description="Also emit label sets with the first 0, 1, 2, … of these structures.",
    )

    def named(self, patterns: Iterable[str], among: Iterable[str]) -> tuple[str, ...]:
        """Names that names, groups and wildcards mean, in the order of `among`."""
        wanted = [part for pattern in patterns for part in self.groups.get(pattern, (pattern,))]
        return tuple(name for name in among if any(fnmatchcase(name, part) for part in wanted))

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.regions and self.emit != "regions":
            raise ValueError("regions are given but emit is flat; set emit: regions")
        if len(set(self.nested)) != len(self.nested):
            raise ValueError("nested lists a structure twice")
        return self
